"""Each compiled recursion against a plain statement of what it means."""

import numpy as np
import pytest
from scipy import stats

from ots_quant.kernels import patterns as kernels
from ots_quant.patterns import Study, price_bars
from ots_quant.patterns.flags import LEAST_BARS, MOST_BARS, MOST_RETRACED, POLE_ATR, POLE_BARS
from ots_quant.patterns.pivots import find_pivots
from pattern_series import first, random_walk

SEEDS = range(12)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("tick", [0.0, 1.0])
def test_pivots_are_what_they_are_said_to_be(seed, tick):
    bars = random_walk(seed, 600, tick=tick)
    study = Study(bars)
    pivots = study.pivots
    assert len(pivots.at) > 20
    assert (np.diff(pivots.confirmed) > 0).all()
    assert (pivots.kind[1:] == -pivots.kind[:-1]).all()
    reversal = np.maximum(2.0 * study.atr, 1e-6 * bars.close)
    for i, (at, price, kind, confirmed) in enumerate(zip(*pivots, strict=True)):
        distance = kind * (price - bars.close)
        assert distance[confirmed] >= reversal[confirmed]
        edge = bars.high if kind > 0 else bars.low
        assert price == edge[at] or (price == bars.close[at] and at == pivots.confirmed[i - 1] == pivots.at[i - 1])
        # from the bar after it to its confirmation nothing was further out, and no close came back so far sooner
        between = slice(at + 1, confirmed + 1)
        assert (kind * edge[between] <= kind * price).all()
        assert not (distance[at + 1 : confirmed] >= reversal[at + 1 : confirmed]).any() or (
            i and pivots.confirmed[i - 1] > at
        )


def test_a_bar_at_a_time_gives_the_same_pivots():
    bars = random_walk(3, 300)
    whole = Study(bars).pivots
    for cut in range(300):
        prefix = Study(first(bars, cut)).pivots
        known = whole.confirmed < cut
        for a, b in zip(prefix, whole, strict=True):
            np.testing.assert_array_equal(a, b[known])


def test_a_pivot_confirmed_on_its_own_bar_is_followed_by_its_close():
    flat = [*[100.0] * 20, 80.0, *[100.0] * 9]
    close = [*flat, 100.0, 130.0, 100.0, 101.0, 110.0]
    high = [*(c + 1 for c in flat), 101.0, 160.0, 120.0, 102.0, 111.0]
    low = [*(c - 1 for c in flat), 99.0, 100.0, 99.0, 100.0, 101.0]
    bars = price_bars(close, high, low, close, [1.0] * len(close))
    atr = np.where(np.arange(len(close)) < 14, np.nan, 5.0)
    pivots = find_pivots(bars, atr)
    spike = int(np.flatnonzero(pivots.at == 31)[-1])
    assert (pivots.price[spike], pivots.kind[spike], pivots.confirmed[spike]) == (160.0, 1, 31)


def test_nothing_moves_nothing_turns():
    close = np.full(500, 10.0)
    pivots = Study(price_bars(close, close, close, close, close)).pivots
    assert len(pivots.at) == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_the_first_close_outside_two_lines(seed):
    chance = np.random.default_rng(seed)
    close = np.cumsum(chance.normal(size=400)) + 50
    m = 80
    opened = chance.integers(0, 400, m)
    expires = opened + chance.integers(0, 60, m)
    anchor = opened - chance.integers(0, 20, m)
    upper, lower = close[opened] + chance.normal(2, 2, m), close[opened] - chance.normal(2, 2, m)
    slopes = chance.normal(0, 0.05, (2, m))
    side, bar = np.empty(m, np.int64), np.empty(m, np.int64)
    kernels.resolve(close, opened, expires, anchor, upper, slopes[0], lower, slopes[1], side, bar)
    for i in range(m):
        t = np.arange(opened[i], min(expires[i], 399) + 1)
        above = close[t] > upper[i] + slopes[0, i] * (t - anchor[i])
        below = close[t] < lower[i] + slopes[1, i] * (t - anchor[i])
        if not (above | below).any():
            assert (side[i], bar[i]) == (0, -1)
        else:
            where = int(np.argmax(above | below))
            assert (side[i], bar[i]) == (1 if above[where] else -1, t[where])


def test_windows_of_values():
    values = np.random.default_rng(1).lognormal(size=300)
    mean, spread = np.empty(300), np.empty(300)
    kernels.mean_before(values, 20, mean)
    kernels.deviation(values, 20, spread)
    windows = np.lib.stride_tricks.sliding_window_view(values, 20)
    np.testing.assert_allclose(mean[20:], windows[:-1].mean(axis=1), rtol=1e-13)
    np.testing.assert_allclose(spread[19:], windows.std(axis=1), rtol=1e-12)
    assert np.isnan(mean[:20]).all()
    assert np.isnan(spread[:19]).all()


def test_regression_is_scipys_and_the_t_value_that_of_the_mean_step():
    values = np.cumsum(np.random.default_rng(2).normal(0.05, 1, 200))
    slope, fit, spread, t_value = (np.empty(200) for _ in range(4))
    kernels.regression(values, 50, slope, fit, spread, t_value)
    for t in range(49, 200, 13):
        window = values[t - 49 : t + 1]
        line = stats.linregress(np.arange(50), window)
        assert slope[t] == pytest.approx(line.slope, rel=1e-10)
        assert fit[t] == pytest.approx(line.rvalue**2, rel=1e-10)
        residuals = window - line.intercept - line.slope * np.arange(50)
        assert spread[t] == pytest.approx(np.sqrt((residuals**2).sum() / 48), rel=1e-10)
        assert t_value[t] == pytest.approx(stats.ttest_1samp(np.diff(window), 0).statistic, rel=1e-10)
    still = np.ones(60)
    kernels.regression(still, 50, *(column[:60] for column in (slope, fit, spread, t_value)))
    assert [column[59] for column in (slope, fit, spread, t_value)] == [0, 0, 0, 0]


@pytest.mark.parametrize("seed", SEEDS)
def test_states_last_until_they_do_not(seed):
    chance = np.random.default_rng(seed)
    stays = chance.integers(-1, 2, 200)
    enters = np.where(chance.random(200) < 0.3, stays, 0)
    began, state = np.empty(200, np.int64), np.empty(200, np.int64)
    count = kernels.enter_states(enters, stays, began, state)
    now, expected = 0, []
    for t in range(200):
        now = now if now and stays[t] == now else 0
        if now == 0 and enters[t]:
            now = enters[t]
            expected.append(t)
        assert state[t] == now
    assert began[:count].tolist() == expected


def flags_in_words(bars, atr):
    """The state machine of flags, with numpy's line fit in place of running sums."""
    found, t, n = [], POLE_BARS + 1, len(bars.close)
    top = base = None
    while t < n:
        if top is not None:
            age = t - top
            pole = bars.high[top] - bars.low[base]
            broke = False
            if age > LEAST_BARS:
                x = np.arange(top + 1, t)
                slope, level = np.polyfit(x - t, bars.high[x] - bars.high[top], 1)
                broke = bars.close[t] > bars.high[top] + level
                if broke and slope <= 0:
                    found.append((base, top, t))
            over = broke or age >= MOST_BARS or bars.close[t] < bars.high[top] - MOST_RETRACED * pole
            if not over and (age > LEAST_BARS or bars.high[t] <= bars.high[top]):
                t += 1
                continue
            top = None
        window = slice(t - POLE_BARS, t)
        lows = bars.low[window]
        start = t - 1 - int(np.argmin(lows[::-1]))
        if bars.high[t] > bars.high[window].max() and bars.high[t] - bars.low[start] >= POLE_ATR * atr[start - 1]:
            top, base = t, start
        t += 1
    return found


@pytest.mark.parametrize("seed", range(30))
def test_flags_are_those_of_the_plain_machine(seed):
    bars = random_walk(seed, 800, gaps=0.2, flat=0.0)
    atr = Study(bars).atr
    n = len(bars)
    base, top, broke = (np.empty(n, np.int64) for _ in range(3))
    line, floor = np.empty(n), np.empty(n)
    count = kernels.flags(
        bars.high, bars.low, bars.close, atr, POLE_BARS, LEAST_BARS, MOST_BARS, POLE_ATR, MOST_RETRACED,
        base, top, broke, line, floor,
    )  # fmt: skip
    found = list(zip(base[:count].tolist(), top[:count].tolist(), broke[:count].tolist(), strict=True))
    assert found == flags_in_words(bars, atr)
    for i, (_, high, at) in enumerate(found):
        assert floor[i] == bars.low[high + 1 : at + 1].min()


def test_islands_by_their_definition():
    made = 0
    for seed in range(200):
        bars = random_walk(seed, 300, gaps=0.4, flat=0.0)
        gaps = np.flatnonzero(bars.low[1:] > bars.high[:-1]) + 1
        gapped, left, bottom = np.empty(300, np.int64), np.empty(300, np.int64), np.empty(300)
        count = kernels.islands(bars.high, bars.low, gaps, 20, gapped, left, bottom)
        expected = []
        for g in gaps.tolist():
            for t in range(g + 1, min(g + 21, 300)):
                lowest = bars.low[g:t].min()
                if bars.high[t] < lowest and lowest > bars.high[g - 1]:
                    expected.append((g, t, lowest))
                    break
        found = list(zip(gapped[:count].tolist(), left[:count].tolist(), bottom[:count].tolist(), strict=True))
        assert found == expected
        made += count
    assert made > 20
