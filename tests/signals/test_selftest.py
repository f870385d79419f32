"""The self-tests find an edge that is there, none where none is, and can themselves fail."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from ots_signals import selftest
from ots_signals.fair_market import FairMarket
from ots_signals.selftest import Judged
from ots_signals.strategies import registered
from ots_signals.verdicts import LEAST_DAYS, LEAST_SIGNALS, Verdict
from resolved_signals_support import resolved

STRONG = 1.0  # standard deviations of drift: an edge of some 15 %, beyond doubt in any seed


def test_where_nobody_has_an_edge_none_is_found():
    found = selftest.zero_edge(1)
    assert {one.strategy for one in found} == set(registered())
    for one in found:
        assert one.n >= LEAST_SIGNALS, one
        assert one.days >= LEAST_DAYS, one
        assert one.verdict == Verdict.NO_EDGE.value, one
    lines, passed = selftest.report_zero(found, 1)
    assert passed
    assert len(lines) == 13


@pytest.fixture(scope="module")
def planted():
    return {drift: selftest.planted_signals(3, drift, 330) for drift in (0.0, STRONG)}


def test_an_edge_that_is_there_is_found_and_nothing_where_nothing_was_planted(planted):
    said = {drift: selftest.judged(3, signals, 12)[0] for drift, signals in planted.items()}
    assert said[STRONG].verdict == Verdict.CANDIDATE.value
    assert said[STRONG].lift > 0.05
    assert said[0.0].verdict == Verdict.NO_EDGE.value
    assert said[0.0].n == said[STRONG].n == 330
    assert min(one.days for one in said.values()) > 75  # drawn by lot, not the first ones


def test_the_power_calculation_asks_for_more_where_returns_spread_more(planted):
    signals = planted[STRONG]
    wider = replace(signals, net_touch=signals.net_touch.mean() + 3 * (signals.net_touch - signals.net_touch.mean()))
    few, _ = selftest.power_calculation([signals])
    many, told = selftest.power_calculation([wider])
    assert LEAST_SIGNALS <= few < many
    assert str(many) in told[-1]


def test_who_looks_ahead_is_caught_and_nobody_else():
    found = selftest.look_ahead(sessions=1)
    caught = {name for name, what in found.items() if what}
    assert caught == {"peeks_at_the_next_bar", "normalises_by_the_whole_window"}
    assert set(found) - caught == set(registered())


def test_the_best_of_many_random_strategies_is_not_believed():
    found = selftest.best_of_random(5)
    assert found.mean > 0
    assert found.alone > 0.99  # it looks certain to who does not count the trials
    assert found.deflated < 0.95
    assert found.verdict == Verdict.NO_EDGE.value


def test_signals_are_taken_without_a_look_at_what_became_of_them():
    """On another path after the decisions of the first sessions, the same signals are taken in these."""
    settings = replace(selftest._SETTINGS, underlyings=("FRA", "FRB"), sessions=6)
    market = FairMarket(9, settings)
    day = market.settings.warm_up + 3
    spot = market.spot
    later = np.ones(spot.close.shape)
    later[:, day:] = 1.05
    changed = market.with_spot(
        replace(
            spot,
            **{name: getattr(spot, name) * later for name in ("close", "high", "low")},
            open=spot.open * later[:, :, 0],
        )
    )
    strategies = [registered()["opening_range"]()]
    first = {str(one) for one in market.trading_dates[:3]}
    taken = [
        [one.decision.id for one in selftest.sample(m, strategies, 10**6) if one.decision.session in first]
        for m in (market, changed)
    ]
    assert taken[0] == taken[1]
    assert taken[0]


def some(verdicts):
    return [
        Judged(seed, name, 320, 70, verdict.value, -0.03, 0.01, 0.0, 1.0)
        for seed, verdict in enumerate(verdicts)
        for name in registered()
    ]


@pytest.mark.parametrize(
    ("verdicts", "passed"),
    [
        ([Verdict.NO_EDGE] * 20, True),
        ([Verdict.NO_EDGE] * 19 + [Verdict.CANDIDATE], True),
        ([Verdict.NO_EDGE] * 18 + [Verdict.CANDIDATE] * 2, False),
        ([Verdict.NO_EDGE] * 18 + [Verdict.INSUFFICIENT_DATA] * 2, False),
    ],
)
def test_too_little_data_does_not_count_as_no_edge(verdicts, passed):
    assert selftest.report_zero(some(verdicts), 20)[1] is passed


def test_a_strategy_that_is_not_judged_fails_it():
    judged = [one for one in some([Verdict.NO_EDGE] * 20) if one.strategy != "gap_fill"]
    assert selftest.report_zero(judged, 20)[1] is False


def test_the_command_says_which_floor_held(tmp_path, capsys):
    out = tmp_path / "found.json"
    assert selftest.main(["lookahead", "--quick", "--processes", "1", "--out", str(out)]) == 0
    assert "passed  lookahead" in capsys.readouterr().out
    assert '"passed"' in out.read_text()


def test_resolved_signals_are_in_order_and_of_their_day(planted):
    signals = planted[STRONG]
    assert (np.diff(signals.event_ns) >= 0).all()
    assert signals.day[0] >= np.datetime64(date(2025, 1, 2))
    assert (signals.exit_ns > signals.event_ns).all()
    assert len(resolved([0.1])) == 1
