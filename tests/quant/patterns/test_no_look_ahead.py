"""What was known at a bar stays as it was when bars are appended; and it was known no sooner than its pivots."""

import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ots_quant.patterns import DETECTORS, MEMORY_BARS, Detector, price_bars, scan
from ots_quant.patterns.candidates import no_swings
from ots_quant.patterns.model import Events
from pattern_series import comparable, first, known_by, part, random_walk
from real_daily import SYMBOLS, adjusted_daily

walks = st.builds(
    random_walk,
    st.integers(0, 2**32 - 1),
    st.integers(0, 400),
    tick=st.sampled_from([0.0, 0.01, 1.0]),
    flat=st.sampled_from([0.0, 0.2, 1.0]),
    gaps=st.sampled_from([0.0, 0.05, 0.5]),
)


@st.composite
def ticks(draw):
    """Bars on a coarse grid, a number at a time, so that a failure shrinks to the bars that matter."""
    whole = partial(st.integers, min_value=-3, max_value=3)
    rows = draw(st.lists(st.tuples(whole(), whole(), whole(min_value=0), whole(min_value=0), whole()), max_size=120))
    close, bars = 50, []
    for gap, move, up, down, volume in rows:
        open_ = max(close + gap, 5)
        close = max(open_ + move, 5)
        bars.append((open_, max(open_, close) + up, min(open_, close) - down, close, 10 * max(volume, 0)))
    return price_bars(*np.array(bars, float).reshape(-1, 5).T)


def holds(bars, cut, detectors):
    whole = [event for event in scan(bars, detectors).events() if event.confirmed < cut]
    prefix = scan(first(bars, cut), detectors).events()
    return [comparable(event) for event in prefix] == [comparable(event) for event in whole]


@pytest.mark.parametrize("name", DETECTORS)
@settings(max_examples=12, deadline=None)
@given(bars=walks, share=st.floats(0, 1))
def test_appending_bars_changes_nothing(name, bars, share):
    detectors = [DETECTORS[name]]
    assert holds(bars, round(share * len(bars)), detectors)
    events = scan(bars, detectors).events()
    if events:
        # told at the very bar that confirms it, and not at the bar before
        confirmed = events[int(share * (len(events) - 1))].confirmed
        assert holds(bars, confirmed + 1, detectors)
        assert holds(bars, confirmed, detectors)


@settings(max_examples=60, deadline=None)
@given(bars=ticks(), share=st.floats(0, 1))
def test_nor_does_it_on_a_grid_of_few_prices(bars, share):
    assert holds(bars, round(share * len(bars)), DETECTORS.values())


@settings(max_examples=40, deadline=None)
@given(bars=walks | ticks())
def test_an_event_is_known_no_sooner_than_what_it_rests_on(bars):
    for event in scan(bars).events():
        assert 0 <= event.start <= event.end <= event.confirmed < len(bars)
        times = [pivot.at for pivot in event.pivots]
        assert times == sorted(times)
        for pivot in event.pivots:
            assert pivot.at <= pivot.confirmed <= event.confirmed
            assert pivot.price in (bars.high[pivot.at], bars.low[pivot.at], bars.close[pivot.at])
        assert all(math.isnan(value) or 0 <= value <= 1 for _, value in event.parts)
        signs = {"bullish": {1}, "bearish": {-1}, "neutral": {0}, "either": {1, -1}}
        assert event.direction in signs[event.detector.direction]


def test_the_check_sees_a_detector_that_looks_ahead():
    """A turn called at its own bar with the bar after it, as peak finders do."""

    def peaks(study):
        high = study.bars.high
        at = np.flatnonzero((high[1:-1] > high[:-2]) & (high[1:-1] > high[2:])) + 1
        m = len(at)
        return Events(np.ones(m, np.int64), at, at, at, no_swings(m), np.zeros((m, 3)), np.zeros((m, 1)))

    cheat = Detector("peaks", "cheats", "bullish", "", "", "", ("none",), peaks)
    bars = random_walk(1, 300)
    assert not all(holds(bars, cut, [cheat]) for cut in range(100, 120))


def test_the_check_sees_a_detector_that_forgets():
    """One that keeps only the best of what it found: a later one takes its place."""

    def best(study):
        at = np.array([np.argmax(study.bars.volume)]) if len(study.bars) else np.zeros(0, np.int64)
        m = len(at)
        return Events(np.ones(m, np.int64), at, at, at, no_swings(m), np.zeros((m, 3)), np.zeros((m, 1)))

    bars = random_walk(2, 300)
    forgets = Detector("best", "cheats", "bullish", "", "", "", ("none",), best)
    assert not all(holds(bars, cut, [forgets]) for cut in range(20, 300, 20))


def test_on_these_walks_nearly_every_detector_has_something_to_say():
    """So that the tests above mean something. The rest need shapes that walks without drift hardly make."""
    seen = set()
    for seed in range(30):
        bars = random_walk(seed, 1000, tick=(0.0, 0.01, 0.5)[seed % 3])
        seen |= {event.detector.name for event in scan(bars).events()}
    assert len(set(DETECTORS) - seen) <= 12, sorted(set(DETECTORS) - seen)


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_real_bars_too(real_data, symbol):
    _, bars = adjusted_daily(real_data, symbol)
    whole = known_by(bars, len(bars))
    for cut in (400, 1234, len(bars) // 2, len(bars) - 1):
        assert known_by(first(bars, cut), cut) == [event for event in whole if event[4] < cut]


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("start", [1, 137, 1000])
def test_where_the_bars_begin_is_forgotten(real_data, symbol, start):
    """Events after so many bars do not depend on what came before them, so a window of the bars is enough."""
    _, bars = adjusted_daily(real_data, symbol)
    later = part(bars, slice(start, None))
    shifted = [
        (e.detector.name, e.direction, e.start + start, e.end + start, e.confirmed + start)
        for e in scan(later).events(MEMORY_BARS)
    ]
    events = scan(bars).events(MEMORY_BARS + start)
    assert shifted == [(e.detector.name, e.direction, e.start, e.end, e.confirmed) for e in events]
    assert len(shifted) > 1000


def test_prices_in_other_units_make_the_same_events():
    bars = random_walk(5, 1500)
    scaled = SimpleNamespace(**{name: getattr(bars, name) * 4 for name in ("open", "high", "low", "close")})
    other = price_bars(scaled.open, scaled.high, scaled.low, scaled.close, bars.volume)
    for one, four in zip(scan(bars).events(), scan(other).events(), strict=True):
        assert one[:5] == four[:5]
        if not math.isnan(one.neckline):
            assert four.neckline == pytest.approx(4 * one.neckline)
