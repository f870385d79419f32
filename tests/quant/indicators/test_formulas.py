"""What TA-Lib has not, against its definition written out in numpy, bar by bar, without a running sum."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indicator_bars import histories, history
from ots_quant import indicators

NAN = math.nan
YEAR = 252.0


def close_enough(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def windows(period, *arrays):
    """Each window of ``period`` bars that is full, with the index of its last bar."""
    for i in range(period - 1, len(arrays[0])):
        yield (i, *(array[i - period + 1 : i + 1] for array in arrays))


@given(bars=histories(least=2), period=st.integers(2, 20))
@settings(max_examples=30, deadline=None)
def test_realised_volatilities(bars, period):
    o, h, low, c = bars.open, bars.high, bars.low, bars.close
    expected = {name: np.full(len(c), NAN) for name in ("cc", "park", "gk", "rs", "yz")}
    k = 0.34 / (1.34 + (period + 1) / (period - 1))
    for i, wo, wh, wl, wc in windows(period, o, h, low, c):
        rs = (np.log(wh / wc) * np.log(wh / wo) + np.log(wl / wc) * np.log(wl / wo)).mean()
        gk = (0.5 * np.log(wh / wl) ** 2 - (2 * math.log(2) - 1) * np.log(wc / wo) ** 2).mean()
        expected["park"][i] = math.sqrt((np.log(wh / wl) ** 2).mean() / (4 * math.log(2)) * YEAR)
        expected["gk"][i] = math.sqrt(max(gk, 0) * YEAR)
        expected["rs"][i] = math.sqrt(max(rs, 0) * YEAR)
        if i >= period:
            before = c[i - period : i]
            expected["cc"][i] = math.sqrt(np.log(wc / before).var(ddof=1) * YEAR)
            yz = np.log(wo / before).var(ddof=1) + k * np.log(wc / wo).var(ddof=1) + (1 - k) * rs
            expected["yz"][i] = math.sqrt(max(yz, 0) * YEAR)
    # variances agree to 1e-15; the root of one that is zero up to rounding is only known to 1e-7
    for found, name in (
        (indicators.close_to_close(c, period, YEAR), "cc"),
        (indicators.parkinson(h, low, period, YEAR), "park"),
        (indicators.garman_klass(o, h, low, c, period, YEAR), "gk"),
        (indicators.rogers_satchell(o, h, low, c, period, YEAR), "rs"),
        (indicators.yang_zhang(o, h, low, c, period, YEAR), "yz"),
    ):
        np.testing.assert_allclose(found**2, expected[name] ** 2, rtol=1e-9, atol=1e-12)


def test_estimators_agree_on_a_diffusion_of_known_volatility():
    """Bars of 390 steps of a Brownian motion of 20 % a year: each estimator finds it within its sampling error."""
    chance = np.random.default_rng(41)
    steps = chance.normal(0, 0.2 / math.sqrt(252 * 390), (5000, 390)).cumsum(axis=1)
    start = np.concatenate(([0.0], steps[:-1, -1].cumsum()))
    path = np.exp(np.concatenate((np.zeros((5000, 1)), steps), axis=1) + start[:, None]) * 100
    o, h, low, c = path[:, 0], path.max(axis=1), path.min(axis=1), path[:, -1]
    assert indicators.close_to_close(c, 4999, YEAR)[-1] == pytest.approx(0.2, rel=0.03)
    # a discrete path has smaller extremes than a continuous one: those that use them are low by some per cent
    for found in (
        indicators.parkinson(h, low, 4999, YEAR),
        indicators.garman_klass(o, h, low, c, 4999, YEAR),
        indicators.rogers_satchell(o, h, low, c, 4999, YEAR),
        indicators.yang_zhang(o, h, low, c, 4999, YEAR),
    ):
        assert 0.185 < found[-1] < 0.203


@given(bars=histories(least=1), conversion=st.integers(2, 5), more=st.tuples(st.integers(1, 5), st.integers(1, 9)))
@settings(max_examples=30, deadline=None)
def test_ichimoku(bars, conversion, more):
    base, span, displacement = conversion + more[0], conversion + sum(more), more[1]
    found = indicators.ichimoku(bars.high, bars.low, conversion, base, span, displacement)

    def middle(i, period):
        first = i - period + 1
        return (bars.high[first : i + 1].max() + bars.low[first : i + 1].min()) / 2 if first >= 0 else NAN

    for i in range(len(bars.close)):
        then = i - (displacement - 1)
        expected = (
            middle(i, conversion),
            middle(i, base),
            (middle(then, conversion) + middle(then, base)) / 2,
            middle(then, span),
            (middle(i, conversion) + middle(i, base)) / 2,
            middle(i, span),
        )
        close_enough([line[i] for line in found], expected)


def test_hull_by_its_weights():
    close = history(42, 200).close

    def wma(values, period):
        weights = np.arange(1, period + 1)
        return values[-period:] @ weights / weights.sum()

    for period in (2, 9, 16, 21):
        root = math.isqrt(period)
        found = indicators.hma(close, period)
        for i in range(period + root - 2, 200):
            raw = [
                2 * wma(close[: j + 1], period // 2) - wma(close[: j + 1], period) for j in range(i - root + 1, i + 1)
            ]
            assert found[i] == pytest.approx(wma(np.array(raw), root), rel=1e-9)


@given(bars=histories(), deviations=st.floats(0.1, 5))
@settings(max_examples=40, deadline=None)
def test_session_vwap_and_its_bands(bars, deviations):
    found = indicators.vwap(bars.high, bars.low, bars.close, bars.volume, bars.session, deviations)
    price = (bars.high + bars.low + bars.close) / 3
    for i, session in enumerate(bars.session):
        of = np.flatnonzero((bars.session == session) & (np.arange(len(price)) <= i))
        weight = bars.volume[of]
        expected = (NAN, NAN, NAN)
        if session >= 0 and weight.sum() > 0:
            mean = np.average(price[of], weights=weight)
            band = deviations * math.sqrt(np.average((price[of] - mean) ** 2, weights=weight))
            expected = (mean, mean + band, mean - band)
        # the root of a variance that is zero up to rounding is only known to 1e-7
        np.testing.assert_allclose([line[i] for line in found], expected, rtol=1e-9, atol=1e-6)
        assert found.vwap[i] == pytest.approx(expected[0], rel=1e-12, nan_ok=True)


def test_anchored_vwap_is_that_of_the_bars_since_then():
    bars = history(43, 300)
    found = indicators.anchored_vwap(bars.high, bars.low, bars.close, bars.volume, 120, 2.0)
    price = (bars.high + bars.low + bars.close) / 3
    assert np.isnan(found.vwap[:120]).all()
    for i in (120, 121, 299):
        weights, prices = bars.volume[120 : i + 1], price[120 : i + 1]
        mean = np.average(prices, weights=weights)
        close_enough(found.vwap[i], mean)
        close_enough(found.upper[i] - mean, 2 * math.sqrt(np.average((prices - mean) ** 2, weights=weights)))
    for wrong in (-1, 300):
        with pytest.raises(ValueError, match="anchor"):
            indicators.anchored_vwap(bars.high, bars.low, bars.close, bars.volume, wrong, 2.0)


def test_bands_keep_their_digits_far_from_zero():
    """A cent around a million: sums of squares would leave noise of some thousand dollars squared."""
    price = 1e6 + np.tile([0.0, 0.01], 500)
    found = indicators.vwap(price, price, price, np.full(1000, 1e6), np.zeros(1000, int), 1.0)
    assert found.upper[-1] - found.vwap[-1] == pytest.approx(0.005, rel=1e-6)


def profile(bars, session, i, width):
    """The profile at bar ``i`` from all bars of its session so far, binned by dictionary."""
    of = [j for j in range(i + 1) if bars.session[j] == session]
    reference = bars.open[of[0]]
    step = reference * width
    held = {}
    for j in of:
        under, over = ((x[j] - reference) / step + 0.5 for x in (bars.low, bars.high))
        first, last = math.floor(under), math.floor(over)
        for b in range(first, last + 1):
            part = 1.0 if first == last else (min(over, b + 1) - max(under, b)) / (over - under)
            held[b] = held.get(b, 0.0) + bars.volume[j] * part
    total = sum(bars.volume[j] for j in of)
    return held, total, reference, step


@given(bars=histories(most=60), width=st.sampled_from([0.0005, 0.003, 0.05]), share=st.sampled_from([0.3, 0.7, 1.0]))
@settings(max_examples=40, deadline=None)
def test_volume_profile(bars, width, share):
    found = indicators.volume_profile(bars.open, bars.high, bars.low, bars.volume, bars.session, width, share)
    for i, session in enumerate(bars.session):
        point, top, bottom = (line[i] for line in found)
        if session < 0:
            assert np.isnan([point, top, bottom]).all()
            continue
        held, total, reference, step = profile(bars, session, i, width)
        if total == 0:
            assert np.isnan([point, top, bottom]).all()
            continue
        # the point of control is a fullest bin; which of equals, the profiles by hand say
        at = round((point - reference) / step)
        assert held[at] >= max(held.values()) * (1 - 1e-9)
        # the area holds its share of the volume, and no more than one pair of bins beyond what it must
        last, first = round((top - reference) / step - 0.5), round((bottom - reference) / step + 0.5)
        assert first <= at <= last
        inside = sum(held.get(b, 0.0) for b in range(first, last + 1))
        assert inside >= share * total * (1 - 1e-9) or (first == min(held) and last == max(held))
        if last - first > 2:
            shells = [sum(held.get(b, 0.0) for b in range(first + down, last + 1 - up))
                      for down, up in ((2, 0), (0, 2), (1, 0), (0, 1))]  # fmt: skip
            assert min(shells) < share * total * (1 + 1e-9)


def test_volume_profile_by_hand():
    """Three bars of one price each around an open of 100, in bins of a dollar."""
    price = np.array([100.0, 101.0, 101.0, 98.0])
    found = indicators.volume_profile(price, price, price, np.array([5.0, 3.0, 4.0, 2.0]), np.zeros(4, int), 0.01, 0.7)
    np.testing.assert_allclose(found.point_of_control, [100, 100, 101, 101])
    # of 12 the 7 at 101 do not make 70 %: the two bins below bring 5; of 14, 12 do
    np.testing.assert_allclose(found.value_area_low, [99.5, 99.5, 99.5, 98.5])
    np.testing.assert_allclose(found.value_area_high, [100.5, 101.5, 101.5, 101.5])


@pytest.mark.parametrize(
    ("prices", "volumes", "point", "area"),
    [
        # equal volumes at 100 and 103, the range from 97 to 103: 100 is its middle
        ([100.0, 103.0, 97.0], [4.0, 4.0, 1.0], 100.0, (99.5, 103.5)),
        # as much above as below: upwards first, and three more of ten do not make seven without the pair below
        ([100.0, 102.0, 98.0], [4.0, 3.0, 3.0], 100.0, (99.5, 102.5)),
        # the two bins above hold more together than the one below alone
        ([100.0, 99.0, 101.0, 102.0], [10.0, 3.0, 2.0, 2.0], 100.0, (99.5, 102.5)),
    ],
)
def test_ties_and_pairs_of_a_volume_profile_by_hand(prices, volumes, point, area):
    price = np.array(prices)
    found = indicators.volume_profile(price, price, price, np.array(volumes), np.zeros(len(price), int), 0.01, 0.7)
    assert found.point_of_control[-1] == pytest.approx(point)
    assert (found.value_area_low[-1], found.value_area_high[-1]) == pytest.approx(area)


def test_a_profile_of_absurdly_many_bins_is_refused():
    price = np.array([1.0, 1e7])
    with pytest.raises(ValueError, match="^bin_width"):
        indicators.volume_profile(price, price, price, price, np.zeros(2, int), 0.00001, 0.7)


@given(bars=histories(), slots=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_opening_range(bars, slots):
    found = indicators.opening_range(bars.high, bars.low, bars.session, bars.slot, slots)
    for i, (session, slot) in enumerate(zip(bars.session, bars.slot, strict=True)):
        of = [j for j in range(i + 1) if bars.session[j] == session and bars.slot[j] < slots]
        known = session >= 0 and slot >= slots - 1 and of
        expected = (bars.high[of].max(), bars.low[of].min()) if known else (NAN, NAN)
        np.testing.assert_array_equal([line[i] for line in found], expected)


@given(bars=histories(), sessions=st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_relative_volume(bars, sessions):
    found = indicators.relative_volume(bars.volume, bars.session, bars.slot, sessions)
    for i, (session, slot) in enumerate(zip(bars.session, bars.slot, strict=True)):
        expected = (NAN, NAN)
        earlier = np.unique(bars.session[:i][(bars.session[:i] >= 0) & (bars.session[:i] < session)])

        def so_far(s, slot=slot):
            return bars.volume[(bars.session == s) & (bars.slot <= slot)].sum()

        if session >= 0 and len(earlier) >= sessions:
            with_bar = [s for s in earlier[-sessions:] if ((bars.session == s) & (bars.slot == slot)).any()]
            if with_bar:
                usual = np.mean([bars.volume[(bars.session == s) & (bars.slot == slot)].sum() for s in with_bar])
                usual_so_far = np.mean([so_far(s) for s in with_bar])
                expected = (
                    bars.volume[i] / usual if usual else NAN,
                    so_far(session) / usual_so_far if usual_so_far else NAN,
                )
        close_enough([line[i] for line in found], expected)


@given(bars=histories())
@settings(max_examples=40, deadline=None)
def test_pivots_and_gap_are_of_the_session_before(bars):
    found = indicators.pivots(bars.high, bars.low, bars.close, bars.session)
    gaps = indicators.gap(bars.open, bars.close, bars.session)
    for i, session in enumerate(bars.session):
        earlier = bars.session[:i][(bars.session[:i] >= 0) & (bars.session[:i] < session)]
        if session < 0 or not len(earlier):
            assert np.isnan([line[i] for line in found]).all()
            assert np.isnan(gaps[i])
            continue
        before = np.flatnonzero(bars.session == earlier.max())
        first = np.flatnonzero(bars.session == session)[0]
        h, low, c = bars.high[before].max(), bars.low[before].min(), bars.close[before][-1]
        p = (h + low + c) / 3
        expected = (p, 2 * p - low, p + h - low, h + 2 * (p - low), 2 * p - h, p - h + low, low - 2 * (h - p))
        close_enough([line[i] for line in found], expected)
        assert gaps[i] == pytest.approx(bars.open[first] / c - 1, abs=1e-12)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda b, s: indicators.vwap(b, b, b, b, s[::-1], 2.0), "session must not go back"),
        (lambda b, s: indicators.vwap(b, b, b, b, s.astype(float), 2.0), "session must be integers"),
        (lambda b, s: indicators.vwap(b, b, b, b, s[:-1], 2.0), "session has shape"),
        (lambda b, s: indicators.vwap(b, b, b, b - 1.5, s, 2.0), "volume must not be negative"),
        (lambda b, s: indicators.obv(b, b - 1.5), "volume must not be negative"),
        (lambda b, s: indicators.relative_volume(b - 1.5, s, np.arange(6), 2), "volume must not be negative"),
        (lambda b, s: indicators.vwap(b, 2 * b, b, b, s, 2.0), "high is below low"),
        (lambda b, s: indicators.opening_range(b, b, s, s * 0, 2), "slot must grow"),
        (lambda b, s: indicators.opening_range(b, b, s, np.arange(6) - 1, 2), "slot must grow"),
        (lambda b, s: indicators.relative_volume(b, s, np.arange(6) + 10**6, 2), "slot must grow"),
        (lambda b, s: indicators.yang_zhang(b, 2 * b, b, 3 * b, 2, YEAR), "close lies outside"),
        (lambda b, s: indicators.garman_klass(b / 2, 2 * b, b, b, 2, YEAR), "open lies outside"),
        (lambda b, s: indicators.parkinson(b, b - 3, 2, YEAR), "low must be above zero"),
        (lambda b, s: indicators.roc(b - 3, 2), "close must be above zero"),
        (lambda b, s: indicators.close_to_close(b, 2, 0.0), "bars_per_year must be positive"),
        (lambda b, s: indicators.close_to_close(b, 2, [1.0, 2.0]), "bars_per_year must be one number"),
        (lambda b, s: indicators.sma(b, 2.5), "period must be a whole number"),
        (lambda b, s: indicators.sma(b, "2"), "period must be a whole number"),
        (lambda b, s: indicators.sma(b, 10**9), "period must be from 2"),
        (lambda b, s: indicators.sma(object(), 2), "close must be real numbers"),
        (lambda b, s: indicators.atr(b[:3], b, b, 2), "low has shape"),
    ],
)
def test_what_is_wrong_is_said_first(call, says):
    with pytest.raises(ValueError, match=f"^{says}"):
        call(np.arange(1.0, 7.0), np.array([0, 0, 0, 1, 1, 1]))


def test_sessions_of_each_row_of_a_panel_may_differ():
    bars = history(44, 90, rows=2)
    session = np.stack([np.arange(90) // 10, np.arange(90) // 7])
    together = indicators.pivots(bars.high, bars.low, bars.close, session)
    for row in range(2):
        alone = indicators.pivots(bars.high[row], bars.low[row], bars.close[row], session[row])
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_array_equal(a[row], b)
    with pytest.raises(ValueError, match="session must not go back"):
        indicators.pivots(bars.high, bars.low, bars.close, np.stack([session[0], session[1][::-1]]))
