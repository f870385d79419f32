"""Correlation, beta and volatility cones against numpy, scipy and pandas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from ots_quant.return_statistics import CONE_LEVELS, betas, correlation_matrix, log_returns, volatility_cone
from real_daily import adjusted_daily

RNG = np.random.default_rng(20190211)
MARKET = RNG.standard_t(4, 500) * 0.01
RETURNS = np.outer([1.3, 0.7, -0.2, 0.0], MARKET) + RNG.normal(0.0002, 0.012, (4, 500))


def test_correlation_is_numpys():
    found = correlation_matrix(RETURNS)
    assert found == pytest.approx(np.corrcoef(RETURNS), abs=1e-14)
    assert (np.diagonal(found) == 1.0).all()
    assert (found == found.T).all()


def test_what_does_not_move_has_no_correlation():
    found = correlation_matrix(np.vstack([RETURNS[:2], np.full(500, 0.003)]))
    assert np.isnan(found[2]).all()
    assert np.isnan(found[:, 2]).all()
    assert found[:2, :2] == pytest.approx(np.corrcoef(RETURNS[:2]), abs=1e-14)


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.float64, (3, 12), elements=st.floats(-0.5, 0.5, allow_subnormal=False)))
def test_correlations_stay_between_minus_one_and_one(returns):
    found = correlation_matrix(returns)
    known = found[np.isfinite(found)]
    assert (np.abs(known) <= 1.0).all()


def test_beta_is_that_of_scipys_regression():
    found = betas(RETURNS, MARKET)
    assert found.observations == 500
    for row in range(len(RETURNS)):
        line = stats.linregress(MARKET, RETURNS[row])
        assert found.beta[row] == pytest.approx(line.slope, abs=1e-13)
        assert found.alpha[row] == pytest.approx(line.intercept, abs=1e-15)
        assert found.standard_error[row] == pytest.approx(line.stderr, rel=1e-11)
        assert found.r_squared[row] == pytest.approx(line.rvalue**2, abs=1e-12)


def test_beta_to_oneself_and_to_what_does_not_move():
    to_itself = betas(MARKET[None], MARKET)
    assert to_itself.beta[0] == pytest.approx(1.0, abs=1e-14)
    assert to_itself.r_squared[0] == 1.0
    assert to_itself.standard_error[0] == pytest.approx(0.0, abs=1e-8)
    assert np.isnan(betas(RETURNS, np.full(500, 0.001)).beta).all()
    still = betas(np.full((1, 500), 0.001), MARKET)
    assert still.beta[0] == pytest.approx(0.0, abs=1e-14)
    assert np.isnan(still.r_squared[0])


def test_the_cone_is_that_of_pandas():
    close = 100 * np.exp(np.cumsum(MARKET))
    lengths = (10, 20, 60, 120)
    found = volatility_cone(close, lengths, 252)
    returns = pd.Series(np.diff(np.log(close)))
    assert found.levels.tolist() == list(CONE_LEVELS)
    for row, length in enumerate(lengths):
        rolling = (returns.rolling(length).std() * np.sqrt(252)).dropna()
        assert found.windows[row] == len(rolling) == 499 - length + 1
        assert found.independent[row] == 499 // length
        assert found.quantiles[row] == pytest.approx(rolling.quantile(list(CONE_LEVELS)).to_numpy(), rel=1e-9)
        assert found.current[row] == pytest.approx(rolling.iloc[-1], rel=1e-9)
        assert found.share_below[row] == (rolling.iloc[:-1] < rolling.iloc[-1]).mean()


@pytest.mark.parametrize(("bars", "windows"), [(10, (0, 0)), (11, (1, 0)), (12, (2, 0)), (21, (11, 1))])
def test_a_window_that_does_not_fit_is_nan(bars, windows):
    found = volatility_cone(100 + np.sin(np.arange(bars)), (10, 20), 252)
    assert found.windows == windows
    assert np.isnan(found.quantiles).all(axis=1).tolist() == [n == 0 for n in windows]
    assert np.isnan(found.current).tolist() == [n == 0 for n in windows]
    assert np.isnan(found.share_below).tolist() == [n < 2 for n in windows]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: log_returns([1.0, 0.0]), "close must be above zero"),
        (lambda: log_returns([1.0, np.inf]), "close must be above zero"),
        (lambda: correlation_matrix([0.1, 0.2, 0.3]), "returns must have 2 dimensions"),
        (lambda: correlation_matrix([[0.1, 0.2]]), "returns must hold three returns"),
        (lambda: correlation_matrix([[0.1, np.nan, 0.3]]), "returns must be finite"),
        (lambda: betas([[0.1, 0.2, 0.3]], [0.1, 0.2, 0.3, 0.4]), "returns has 3 columns"),
        (lambda: betas([[0.1, 0.2, 0.3]], [[0.1, 0.2, 0.3]]), "benchmark must have 1 dimensions"),
        (lambda: volatility_cone([1.0, 2.0, 3.0], (1,), 252), "period"),
    ],
)
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_ten_years_of_real_days(real_data):
    """QQQ and AAPL against SPY, the splits of AAPL taken out: what scipy finds, and nothing absurd."""
    prices = {
        name: dict(zip(*(a.tolist() for a in _closes(real_data, name)), strict=True)) for name in ("AAPL", "QQQ", "SPY")
    }
    common = sorted(set.intersection(*(set(p) for p in prices.values())))[-2520:]
    aapl, qqq, spy = (log_returns([prices[name][t] for t in common]) for name in ("AAPL", "QQQ", "SPY"))
    found = betas(np.vstack([aapl, qqq]), spy)
    for row, own in enumerate((aapl, qqq)):
        line = stats.linregress(spy, own)
        assert found.beta[row] == pytest.approx(line.slope, rel=1e-11)
        assert found.standard_error[row] == pytest.approx(line.stderr, rel=1e-9)
    assert 0.9 < found.beta[1] < 1.2
    assert 1.0 < found.beta[0] < 1.3
    assert correlation_matrix(np.vstack([aapl, qqq, spy]))[1, 2] > 0.85


def _closes(real_data, symbol):
    starts, bars = adjusted_daily(real_data, symbol)
    return starts, bars.close
