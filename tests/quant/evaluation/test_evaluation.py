"""Statistics of records and forecasts: published examples, and implementations that share nothing with ours."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ots_quant.evaluation import (
    Sharpe,
    brier,
    brier_score,
    calibration_bins,
    clustered_mean,
    day_bootstrap,
    day_bootstraps,
    deflated_sharpe,
    drawdown,
    expected_maximum_sharpe,
    log_loss,
    minimum_track_record,
    probabilistic_sharpe,
    profit_factor,
    sharpe,
    signals_needed,
    skill,
    wilson,
)

# ---- a share


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_in_newcombes_table(hits, trials, low, high):
    """R. Newcombe, Statistics in Medicine 17 (1998), table I, method 3."""
    found = wilson(hits, trials)
    assert found[0] == pytest.approx(low, abs=5e-5)
    assert found[1] == pytest.approx(high, abs=5e-5)


def test_wilson_as_scipy_has_it():
    for k, n in ((0, 7), (3, 7), (7, 7), (500, 1000)):
        ci = stats.binomtest(k, n).proportion_ci(0.9, method="wilson")
        assert (float(wilson(k, n, 0.9)[0]), float(wilson(k, n, 0.9)[1])) == pytest.approx((ci.low, ci.high), abs=1e-12)
    assert (float(wilson(0, 0)[0]), float(wilson(0, 0)[1])) == (0.0, 1.0)
    with pytest.raises(ValueError, match="hits"):
        wilson(3, 2)


# ---- clusters


def clustered(days=40, seed=1, shared=1.0, own=1.0):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, days)
    day = np.repeat(np.arange(days), sizes)
    return own * rng.standard_normal(len(day)) + shared * rng.standard_normal(days)[day], day


def test_the_clustered_error_is_that_of_a_regression_on_a_constant():
    """(X'X)^-1 (sum over clusters of X_g' u_g u_g' X_g) (X'X)^-1, written out with matrices."""
    x, day = clustered()
    ones = np.ones((len(x), 1))
    bread = np.linalg.inv(ones.T @ ones)
    u = x - x.mean()
    meat = sum((s := ones[day == d].T @ u[day == d])[:, None] @ s[None, :] for d in np.unique(day))
    expected = np.sqrt((bread @ meat @ bread)[0, 0] * 40 / 39)
    found = clustered_mean(x, day)
    assert found.error == pytest.approx(expected, rel=1e-12)
    assert found.bound(0.975) == pytest.approx(x.mean() - stats.t.ppf(0.975, 39) * expected, rel=1e-12)
    assert (found.n, found.clusters) == (len(x), 40)


def test_one_observation_a_cluster_is_the_plain_error_and_counts_in_full():
    x = np.random.default_rng(2).standard_normal(50)
    found = clustered_mean(x, np.arange(50))
    assert found.error == pytest.approx(stats.sem(x), rel=1e-12)
    assert found.design_effect == pytest.approx(1.0)
    assert found.effective == pytest.approx(50.0)


def test_signals_that_repeat_each_other_count_once():
    x, copies = np.random.default_rng(3).standard_normal(60), 5
    found = clustered_mean(np.repeat(x, copies), np.repeat(np.arange(60), copies))
    alone = clustered_mean(x, np.arange(60))
    assert found.error == pytest.approx(alone.error, rel=1e-12)
    assert found.effective == pytest.approx(60.0, rel=0.02)


def test_the_lower_bound_covers_as_it_says():
    misses = [clustered_mean(*clustered(seed=s)).bound(0.95) > 0.0 for s in range(400)]
    assert 0.02 < np.mean(misses) < 0.09  # 5 %, with a standard error of 1.1 %


def test_the_bootstrap_draws_whole_days():
    x, day = clustered()
    rng = np.random.default_rng(99)
    parts = [x[day == d] for d in range(40)]
    means = []
    for _ in range(4000):
        drawn = [parts[d] for d in rng.integers(0, 40, 40)]
        means.append(np.concatenate(drawn).mean())
    low, high = np.quantile(means, [0.025, 0.975])
    found = day_bootstrap(x, day, draws=4000)
    width = high - low
    assert found.low == pytest.approx(low, abs=0.06 * width)
    assert found.high == pytest.approx(high, abs=0.06 * width)
    assert found == day_bootstrap(x, day, draws=4000)
    assert found != day_bootstrap(x, day, draws=4000, seed=1)
    single = day_bootstrap(x, np.arange(len(x)), draws=4000)
    assert single.high - single.low < 0.8 * width  # as if independent: too sure
    assert np.isnan(day_bootstrap(x, np.zeros(len(x))).low)


def test_columns_together_are_as_each_alone_and_what_is_missing_is_left_out():
    x, day = clustered()
    other = np.where(np.random.default_rng(4).random(len(x)) < 0.3, np.nan, 2.0 * x)
    gone = np.where(day < 20, np.nan, x)
    found = day_bootstraps(np.column_stack((x, other, gone, np.full(len(x), np.nan))), day)
    assert found[0] == pytest.approx(day_bootstrap(x, day), rel=1e-9)
    known = np.isfinite(other)
    assert len(np.unique(day[known])) == 40
    assert found[1] == pytest.approx(day_bootstrap(other[known], day[known]), rel=1e-9)
    assert found[2] == pytest.approx(day_bootstrap(x[day >= 20], day[day >= 20]), rel=1e-9)
    assert np.isnan(found[3]).all()


# ---- Sharpe ratios


def test_the_deflated_ratio_of_the_papers_example():
    """Bailey and Lopez de Prado (2014): 2.5 a year from 1,250 days, the best of 100 trials whose variance is 1/2."""
    measured = Sharpe(1250, 2.5 / np.sqrt(250), -3.0, 10.0)
    assert expected_maximum_sharpe(100, 0.5 / 250) == pytest.approx(0.1132, abs=5e-5)
    assert deflated_sharpe(measured, 100, 0.5 / 250) == pytest.approx(0.9004, abs=5e-5)
    assert deflated_sharpe(measured, 46, 0.5 / 250) == pytest.approx(0.9505, abs=5e-5)


@pytest.mark.parametrize(("a_year", "years"), [(252, 2.73), (52, 2.83), (12, 3.24)])
def test_the_track_record_of_the_papers_example(a_year, years):
    """Bailey and Lopez de Prado (2012): a Sharpe ratio of 2 a year above 1 at 95 %, normal returns."""
    measured = Sharpe(0, 2.0 / np.sqrt(a_year), 0.0, 3.0)
    needed = minimum_track_record(measured, 1.0 / np.sqrt(a_year))
    assert needed / a_year == pytest.approx(years, abs=0.006)


def test_a_record_of_the_minimum_length_is_just_enough():
    measured = Sharpe(0, 0.1, -1.2, 7.0)
    needed = minimum_track_record(measured, 0.02, 0.95)
    assert probabilistic_sharpe(measured._replace(n=needed), 0.02) == pytest.approx(0.95, abs=1e-9)
    assert minimum_track_record(measured, 0.2) == np.inf


def test_the_expected_maximum_is_that_of_simulated_trials():
    rng = np.random.default_rng(5)
    for trials in (10, 100, 500):
        simulated = rng.standard_normal((4000, trials)).max(axis=1).mean()
        assert expected_maximum_sharpe(trials, 1.0) == pytest.approx(simulated, abs=0.05)
    assert expected_maximum_sharpe(1, 1.0) == 0.0


def test_the_moments_are_scipys():
    x = np.random.default_rng(6).gamma(2.0, size=300) - 1.5
    found = sharpe(x)
    assert found.ratio == pytest.approx(x.mean() / x.std(ddof=1))
    assert found.skewness == pytest.approx(stats.skew(x))
    assert found.kurtosis == pytest.approx(stats.kurtosis(x, fisher=False))
    assert np.isnan(sharpe(np.full(10, 0.1)).ratio)


def test_the_best_of_many_without_an_edge_is_rejected():
    rng = np.random.default_rng(8)
    passed = 0
    for _ in range(60):
        table = rng.standard_normal((500, 63))
        best = table[np.argmax(table.mean(axis=1) / table.std(axis=1, ddof=1))]
        assert probabilistic_sharpe(sharpe(best)) > 0.95  # looked at alone it convinces
        passed += deflated_sharpe(sharpe(best), 500) > 0.95
    assert passed <= 6


# ---- plain figures


def test_profit_factor_and_drawdown():
    assert profit_factor([0.3, -0.1, 0.2, -0.1]) == pytest.approx(2.5)
    assert profit_factor([0.1]) == np.inf
    assert np.isnan(profit_factor([0.0]))
    assert drawdown([0.3, -0.1, -0.3, 0.5, -0.2]) == pytest.approx(0.4)
    assert drawdown([-0.2, 0.1]) == pytest.approx(0.2)
    assert drawdown([]) == 0.0


# ---- forecasts


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
def test_briers_parts_are_murphys(seed, n):
    """Forecasts of a few values, a bin each: Murphy's sums written out, and nothing is left within the bins."""
    rng = np.random.default_rng(seed)
    p = rng.choice([0.1, 0.4, 0.7], n)
    y = (rng.random(n) < p).astype(float)
    found = brier(p, y, bins=n)
    reliability = sum((p == f).sum() * (f - y[p == f].mean()) ** 2 for f in np.unique(p)) / n
    resolution = sum((p == f).sum() * (y[p == f].mean() - y.mean()) ** 2 for f in np.unique(p)) / n
    assert found.reliability == pytest.approx(reliability, abs=1e-12)
    assert found.resolution == pytest.approx(resolution, abs=1e-12)
    assert found.uncertainty == pytest.approx(y.var(), abs=1e-12)
    assert found.within == pytest.approx(0.0, abs=1e-12)
    assert found.score == pytest.approx(np.mean((p - y) ** 2))


def test_a_forecast_that_is_never_wrong_and_one_that_knows_nothing():
    y = np.array([1.0, 0.0, 1.0, 1.0])
    assert brier_score(y, y) == 0.0
    assert log_loss(y, y) < 2e-6
    assert log_loss(np.full(4, 0.5), y) == pytest.approx(np.log(2.0))
    nothing = brier(np.full(4, 0.75), y)
    assert (nothing.reliability, nothing.resolution) == (0.0, 0.0)
    assert skill(np.full(4, 0.75), 0.75, y, np.arange(4))[0] == 0.0
    assert skill(y, 0.75, y, np.arange(4))[0] == 1.0
    assert np.isfinite(log_loss([0.0], [1.0]))


def test_bins_hold_all_forecasts_once_and_equal_ones_together():
    rng = np.random.default_rng(9)
    p = np.round(rng.random(1000), 2)
    y = (rng.random(1000) < p).astype(float)
    found = calibration_bins(p, y)
    assert found.size.sum() == 1000
    assert (np.diff(found.forecast) > 0.0).all()
    assert ((found.low <= found.share) & (found.share <= found.high)).all()
    assert (found.size * found.share).sum() == y.sum()
    assert len(calibration_bins(np.full(50, 0.3), np.ones(50)).size) == 1
    with pytest.raises(ValueError, match="between 0 and 1"):
        calibration_bins([1.2], [1.0])


def test_skill_has_an_interval_by_days():
    rng = np.random.default_rng(10)
    p = rng.random(600)
    y = (rng.random(600) < p).astype(float)
    value, interval = skill(p, 0.5, y, np.arange(600) // 10)
    assert interval.low < value < interval.high
    assert interval.low > 0.2
    assert skill(np.full(600, 0.5), p, y, np.arange(600) // 10)[1].high < 0.0


# ---- power


def test_the_textbooks_number():
    """Half a standard deviation, 5 % one-sided, 80 %: (1.645 + 0.842)^2 / 0.25 = 24.7."""
    assert signals_needed(0.5, 1.0) == 25
    assert signals_needed(0.5, 1.0, design_effect=2.0) == 50
    assert signals_needed(0.5, 1.0, tests=12) > 25
    assert signals_needed(0.5, 1.0, hurdle=1.6) == pytest.approx(((1.6 + 1.645 + 0.842) / 0.5) ** 2, abs=1)


def test_losses_that_are_rare_and_large_ask_for_more():
    """Of simulated bracket returns, six a day: the deflated ratio passes as often as was asked, or more."""
    rng = np.random.default_rng(12)

    def days(number):
        return np.where(rng.random((number, 6)) < 0.8, 0.075, -0.3).mean(axis=1) + 0.04

    spread, luck = sharpe(days(4000)).spread, expected_maximum_sharpe(12, 1.0)
    assert spread > 1.1
    n = signals_needed(0.04, 0.15, hurdle=luck, hurdle_level=0.05, spread=spread)
    found = np.mean([deflated_sharpe(sharpe(days(round(n / 6))), 12) > 0.95 for _ in range(300)])
    assert 0.72 < found < 0.95


def test_so_many_signals_find_the_edge_as_often_as_was_asked():
    n = signals_needed(0.04, 0.3, power=0.8)
    days, each = n // 4, 4
    rng = np.random.default_rng(11)
    found = 0
    for _ in range(300):
        x = 0.04 + 0.3 * rng.standard_normal(days * each)
        found += clustered_mean(x, np.arange(days * each) // each).bound(0.95) > 0.0
    assert found / 300 == pytest.approx(0.8, abs=0.08)
