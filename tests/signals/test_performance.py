"""Performance by groups, and calibration: each figure against a plain reckoning."""

from dataclasses import replace

import numpy as np
import pytest

from ots_signals.calibration import calibration
from ots_signals.outcomes import Baseline
from ots_signals.performance import performance, side_by_side
from ots_signals.resolver import resolve
from ots_signals.verdicts import HYPOTHETICAL, Verdict
from resolved_signals_support import DOLLAR, EVENT_NS, SESSIONS, leg, signal, tape
from resolved_signals_support import resolved as record


@pytest.fixture(scope="module")
def mixed():
    """400 signals of two strategies, two symbols, on 50 days; some with gaps, not entered, not left."""
    rng = np.random.default_rng(2)
    net = np.where(rng.random(400) < 0.7, 0.075, -0.3)
    barrier = np.where(net > 0.0, "target", "stop").astype("U13")
    barrier[:12], barrier[12:20], barrier[20:25] = "indeterminate", "not_filled", "not_filled"
    gone = np.arange(400) < 25
    worst = np.where(np.arange(400) < 20, np.nan, -0.1)
    return record(
        np.where(gone, np.nan, net), day=np.arange(400) // 8, barrier=barrier, worst=worst,
        strategy=np.where(np.arange(400) % 2, "a", "b"), underlying=np.where(np.arange(400) % 4 < 2, "SPY", "QQQ"),
        hour=9 + np.arange(400) % 7, days_to_expiration=np.arange(400) % 30 + 0.3,
    )  # fmt: skip


def test_what_is_counted_and_what_is_shown_beside(mixed):
    (found,) = performance(mixed, (), trials=12).groups
    assert (found.signals, found.indeterminate, found.not_entered, found.not_left) == (400, 12, 8, 5)
    assert found.n == 380
    assert found.targets + found.stops + found.timeouts + found.not_left == found.n
    net = np.concatenate((np.full(5, -1.0), mixed.net_touch[25:]))
    touch = found.net["touch"]
    assert touch.expectancy.value == pytest.approx(net.mean())
    assert touch.expectancy.low < net.mean() < touch.expectancy.high
    assert touch.median == np.median(net)
    assert touch.p05 == pytest.approx(np.quantile(net, 0.05))
    assert touch.profit_factor == pytest.approx(net[net > 0].sum() / -net[net < 0].sum())
    assert found.hit_rate.value == pytest.approx(found.targets / 380)
    assert found.hit_rate.wilson_low < found.hit_rate.value < found.hit_rate.wilson_high
    assert found.hit_rate.low < found.hit_rate.value < found.hit_rate.high
    assert found.base_rate.value == 0.5
    assert found.hit_lift.value == pytest.approx(found.hit_rate.value - 0.5)
    assert found.lift.value == pytest.approx((net - mixed.baseline_mean[20:]).mean())
    assert found.abstaining == 0.0
    assert found.verdict.verdict is Verdict.INSUFFICIENT_DATA  # 50 days


def test_the_mid_is_named_as_what_cannot_be_had(mixed):
    (found,) = performance(mixed, (), trials=1).groups
    assert {model: net.attainable for model, net in found.net.items()} == {"touch": True, "partial": True, "mid": False}
    assert (
        found.net["mid"].expectancy.value > found.net["partial"].expectancy.value > found.net["touch"].expectancy.value
    )


def test_groups_are_parts_of_the_whole(mixed):
    for by, count in ((("strategy",), 2), (("strategy", "symbol"), 4), (("hour",), 7), (("dte",), 5)):
        found = performance(mixed, by, trials=12)
        assert len(found.groups) == count
        assert sum(group.signals for group in found.groups) == 400
        assert all(set(group.group) - {"strategy_version"} == set(by) for group in found.groups)
    names = [group.group["dte"] for group in performance(mixed, ("dte",), trials=1).groups]
    assert names == ["0", "1-2", "22-45", "3-7", "8-21"]
    for wrong in (("size",), ("hour", "hour")):
        with pytest.raises(ValueError, match="group_by"):
            performance(mixed, wrong, trials=1)


def test_other_rules_are_another_strategy(mixed):
    changed = replace(mixed, strategy_version=np.where(np.arange(400) < 200, "1", "2"))
    found = performance(changed, ("strategy",), trials=12).groups
    assert [(one.group["strategy"], one.group["strategy_version"]) for one in found] == [
        ("a", "1"), ("a", "2"), ("b", "1"), ("b", "2"),
    ]  # fmt: skip


def test_the_order_of_signals_does_not_matter(mixed):
    other = mixed.take(np.random.default_rng(3).permutation(400))
    assert performance(other, ("strategy", "hour"), trials=12) == performance(mixed, ("strategy", "hour"), trials=12)


def test_nothing_known_is_nothing_said():
    nothing = record(np.zeros(0))
    assert performance(nothing, ("strategy",), trials=1).groups == ()
    gaps = record(np.full(3, np.nan), barrier=np.full(3, "indeterminate"))
    (found,) = performance(gaps, ("strategy",), trials=1).groups
    assert (found.signals, found.n, found.hit_rate.value, found.drawdown) == (3, 0, None, None)
    assert (found.hit_rate.wilson_low, found.hit_rate.wilson_high) == (0.0, 1.0)
    assert found.net["touch"].expectancy.value is None
    (one,) = performance(record([0.1]), ("strategy",), trials=1).groups
    assert (one.n, one.net["touch"].expectancy.value, one.net["touch"].expectancy.low) == (1, 0.1, None)
    assert one.net["touch"].profit_factor is None


def test_every_answer_carries_the_statement(mixed):
    assert performance(mixed, trials=1).statement == HYPOTHETICAL
    assert calibration(mixed).statement == HYPOTHETICAL
    assert HYPOTHETICAL.startswith("These results are based on simulated or hypothetical performance results")


def test_drawdown_is_in_order_of_exit():
    net = np.array([0.1, -0.2, 0.1, -0.2])
    held = record(net, exit_ns=np.array([4, 1, 3, 2]))
    (found,) = performance(held, (), trials=1).groups
    assert found.drawdown == pytest.approx(0.4)


def test_signals_and_outcomes_side_by_side():
    quotes = tape([[1.9, 2.3]], [[2.0, 2.4]])
    first, second = signal(id="1"), signal(id="0", at_ns=EVENT_NS)
    outcome = resolve(first, quotes, SESSIONS)
    baseline = Baseline(200, 0.6, -0.02, 0.075, 0.7, 50, 0.5, -0.03, 0.01)
    pairs = [(first, replace(outcome, baseline=baseline)), (second, resolve(signal(leg(2.1, 2.0)), quotes, SESSIONS))]
    found = side_by_side(pairs)
    assert found.id.tolist() == ["0", "1"]
    assert found.barrier.tolist() == ["not_filled", "target"]
    assert found.net_touch[1] == pytest.approx(0.1)
    assert np.isnan(found.net_touch[0])
    assert np.isnan(found.baseline_mean[0])
    assert (found.baseline_mean[1], found.percentile[1], found.stock_return[1]) == (-0.02, 0.7, 0.01)
    assert found.hour.tolist() == [10, 10]  # 14:30 UTC in June
    assert found.exit_ns[1] == EVENT_NS + 120 * DOLLAR
    assert len(side_by_side([])) == 0


# ---- calibration


def stated(p, came, **columns):
    return record(np.where(came, 0.1, -0.3), day=np.arange(len(p)) // 10, p_target=p, **columns)


def test_probabilities_that_come_true_are_calibrated():
    rng = np.random.default_rng(4)
    p = rng.uniform(0.2, 0.9, 4000)
    found = calibration(stated(p, rng.random(4000) < p))
    assert found.brier.reliability < 0.002
    assert found.brier.score == pytest.approx(
        found.brier.reliability - found.brier.resolution + found.brier.uncertainty + found.brier.within
    )
    assert len(found.bins) == 10
    assert all(one.low - 0.03 < one.said < one.high + 0.03 for one in found.bins)
    assert found.skill_over_base_rate.low > 0.0  # of matches that always hit one half
    assert found.skill_over_implied.low > 0.0
    assert found.log_loss < found.log_loss_implied
    assert (found.n, found.days, found.n_base_rate) == (4000, 400, 4000)


def test_boasting_is_seen():
    rng = np.random.default_rng(5)
    came = rng.random(2000) < 0.55
    found = calibration(stated(np.full(2000, 0.9), came))
    assert found.skill_over_implied.high < 0.0
    assert found.brier.reliability == pytest.approx((0.9 - came.mean()) ** 2)
    assert found.brier.score > found.brier_implied


def test_what_has_no_result_is_in_no_calibration(mixed):
    assert calibration(mixed).n == 380
    nothing = calibration(record(np.zeros(0)))
    assert (nothing.n, nothing.brier, nothing.bins, nothing.skill_over_implied.value) == (0, None, (), None)
    with pytest.raises(ValueError, match="bins"):
        calibration(mixed, bins=0)
