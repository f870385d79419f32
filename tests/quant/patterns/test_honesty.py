"""The measure of the patterns is itself measured: detectors that cheat, and ones that know nothing, are found out."""

import math

import numpy as np
import pytest

from benchmarks.pattern_honesty import PAGE, SEED, SHORT, detectors_text, figures_text, measure
from ots_quant.patterns import DETECTORS, Detector
from ots_quant.patterns.candidates import no_swings
from ots_quant.patterns.model import Events
from pattern_plants import BEFORE, TEMPLATES, chain, false_alarms, plant, recall, relative_days, resample
from pattern_returns import History, excess_of, forward_returns, moments, summarised, survivors
from pattern_series import random_walk
from real_daily import SYMBOLS, adjusted_daily


@pytest.fixture(scope="module")
def histories(real_data):
    found = []
    for symbol in SYMBOLS:
        starts, bars = adjusted_daily(real_data, symbol)
        found.append(History(symbol, starts.astype("datetime64[ns]").astype("datetime64[D]"), bars))
    return found


@pytest.fixture(scope="module")
def pools(histories):
    return [relative_days(history.bars) for history in histories]


def events_at(at, direction=1):
    m = len(at)
    return Events(np.full(m, direction), at, at, at, no_swings(m), np.full((m, 3), np.nan), np.ones((m, 1)))


def detector(name, find, direction="bullish"):
    return Detector(name, "made up", direction, "", "", "", ("none",), find)


ALWAYS = detector("always", lambda study: events_at(np.arange(len(study.bars))))


def test_days_chained_again_are_the_days(histories):
    bars = histories[0].bars
    again = chain(relative_days(bars))
    for name in ("open", "high", "low", "close"):
        ratio = getattr(again, name) / getattr(bars, name)[20:]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)


def test_a_surrogate_is_made_of_blocks_of_real_days(pools):
    drawn = resample(pools[0], 5000, np.random.default_rng(1))
    position = {value: i for i, value in enumerate(pools[0].volume.tolist())}
    rows = np.array([position[value] for value in drawn.volume.tolist()])
    follows = (np.diff(rows) % len(pools[0].volume)) == 1
    assert 0.93 < follows.mean() < 0.97  # blocks of 20 on average


def test_a_plant_at_no_noise_is_its_template_and_leaves_the_rest(pools):
    made = plant(pools[1], TEMPLATES["double_top"], 0.0, np.random.default_rng(2))
    np.testing.assert_allclose(made.with_it.close[:BEFORE], made.without.close[:BEFORE])
    after = made.with_it.close[made.last :] / made.without.close[made.last :]
    np.testing.assert_allclose(after, after[0])
    path = np.log(made.with_it.close[made.first : made.last] / made.with_it.close[made.first - 1])
    assert path.max() > 0.05
    assert path[-1] == pytest.approx(-0.2 * path.max(), rel=1e-6)
    assert np.abs(np.diff(path, 2)).max() < 2.01 * np.abs(np.diff(path)).max()


@pytest.mark.parametrize("name", TEMPLATES)
def test_plants_are_found_more_often_than_chance_finds_them(pools, name):
    found = recall(pools, DETECTORS[name], TEMPLATES[name], 0.25, 60, SEED)
    assert found.found > found.by_chance + 0.25


def test_double_tops_clearly_so(pools):
    found = recall(pools, DETECTORS["double_top"], TEMPLATES["double_top"], 0.0, 60, SEED)
    assert found.found > 0.75
    assert found.by_chance < 0.2
    rate = false_alarms(pools, [DETECTORS["double_top"]], 3, 2000, SEED)["double_top"]
    assert rate < 6  # per 1,000 bars, where a plant is about 70


def test_one_that_always_fires_has_recall_and_no_skill(pools):
    found = recall(pools, ALWAYS, TEMPLATES["double_top"], 0.0, 20, SEED)
    assert (found.found, found.by_chance) == (1.0, 1.0)
    assert false_alarms(pools, [ALWAYS], 2, 500, SEED) == {"always": 1000.0}


def test_one_that_never_fires_finds_nothing(pools):
    never = detector("never", lambda _study: events_at(np.zeros(0, np.int64)))
    assert recall(pools, never, TEMPLATES["double_top"], 0.0, 5, SEED)[:2] == (0.0, 0.0)


def test_one_that_always_fires_has_no_excess(histories):
    found = forward_returns(histories, [ALWAYS], SEED)
    for horizon in (1, 5, 20):
        assert found["always", horizon].mean == pytest.approx(0, abs=1e-12)


def test_one_that_knows_tomorrow_is_seen_to_and_chance_is_not(histories):
    def oracle(study):
        close = study.bars.close
        return events_at(np.flatnonzero(close[1:] > 1.01 * close[:-1]))

    def dice(study):
        return events_at(np.flatnonzero(np.random.default_rng(4).random(len(study.bars)) < 0.05))

    found = forward_returns(histories, [detector("oracle", oracle), detector("dice", dice)], SEED)
    assert found["oracle", 1].low > 0.01
    assert found["oracle", 1].p_value < 1e-6
    assert all(found["dice", horizon].p_value > 0.01 for horizon in (1, 5, 20))
    assert ("oracle", 1) in survivors(found, 0.1)
    assert not [key for key in survivors(found, 0.01) if key[0] == "dice"]


def test_a_trend_of_the_whole_market_is_no_edge():
    """Buying at any moment gains in a market that rises: matched moments gain the same."""
    bars = random_walk(9, 3000, flat=0.0)
    close = bars.close * np.exp(0.002 * np.arange(3000))
    drifting = type(bars)(close, close * 1.01, close * 0.99, close, bars.volume)
    history = History("UP", np.datetime64("2000-01-03") + np.arange(3000), drifting)
    every_third = detector("every_third", lambda study: events_at(np.arange(0, len(study.bars), 3)))
    found = forward_returns([history], [every_third], SEED)["every_third", 20]
    assert found.low < 0 < found.high
    assert moments(history, 20).forward[:2900].mean() > 0.03


def test_excess_is_signed_and_for_neutral_events_of_size(histories):
    at = moments(histories[0], 1)
    some = np.arange(100, 200)
    up, quarters = excess_of(some, np.ones(100, np.int64), at)
    down, _ = excess_of(some, -np.ones(100, np.int64), at)
    size, _ = excess_of(some, np.zeros(100, np.int64), at)
    np.testing.assert_allclose(up, -down)
    assert np.corrcoef(size, np.abs(up))[0, 1] > 0.9
    assert len(np.unique(quarters)) in (2, 3)
    last, _ = excess_of(np.array([len(at.forward) - 1]), np.array([1]), at)
    assert len(last) == 0


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    chance = np.random.default_rng(5)
    quarters = np.repeat(np.arange(60), 5)
    inside = 0
    for _ in range(200):
        crowded = chance.normal(size=60).repeat(5) + chance.normal(size=300)
        found = summarised(crowded, quarters, chance)
        inside += found.low < 0 < found.high
    assert 0.88 <= inside / 200 <= 0.99
    assert math.isnan(summarised(crowded[:20], quarters[:20], chance).p_value)


def test_false_discoveries_are_counted():
    made = {(str(i), 1): summarised(np.zeros(0), np.zeros(0, np.int64), np.random.default_rng(0)) for i in range(3)}
    assert survivors(made, 0.1) == []
    tests = {(str(i), 1): made["0", 1]._replace(p_value=p) for i, p in enumerate((0.001, 0.012, 0.02, 0.3, 0.9))}
    assert [key[0] for key in survivors(tests, 0.05)] == ["0", "1", "2"]
    assert [key[0] for key in survivors(tests, 0.01)] == ["0"]


def test_the_short_form_is_the_same_every_time(real_data):
    size = SHORT._replace(plants=3, series=1, bars=400)
    once = figures_text(measure(real_data, size))
    assert once == figures_text(measure(real_data, size))
    assert "nan" not in once
    for name in DETECTORS:
        assert f"`{name}`" in once


def test_the_page_has_the_detectors_there_are():
    assert detectors_text() in PAGE.read_text()
