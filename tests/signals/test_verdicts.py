"""Verdicts: each word where its conditions hold, none that claims more than them, and no way to talk one up."""

import ast
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ots_signals import verdicts
from ots_signals.verdicts import HYPOTHETICAL, SAID, Verdict, judge
from resolved_signals_support import resolved as record

PACKAGE = Path(verdicts.__file__).parent


def returns(mean, days=70, each=6, deviation=0.15, shared=0.3, seed=0):
    """Net returns of ``each`` signals a day; ``shared``: of their deviation is the day's."""
    rng = np.random.default_rng(seed)
    of_day = np.repeat(rng.standard_normal(days), each)
    own = rng.standard_normal(days * each)
    drawn = np.sqrt(1.0 - shared**2) * own + shared * of_day
    drawn = (drawn - drawn.mean()) / drawn.std()
    return mean + deviation * drawn, np.repeat(np.arange(days), each)


def signals(mean, days=70, each=6, mode="live", **kwargs):
    net, day = returns(mean, days, each, **{k: kwargs.pop(k) for k in ("deviation", "shared", "seed") if k in kwargs})
    return record(net, day=day, mode=np.full(len(net), mode), **kwargs)


def joined(*parts):
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in parts[0].__dataclass_fields__}
    columns["id"] = np.array([f"{i:06d}" for i in range(len(columns["id"]))])
    return replace(parts[0], **columns)


def later(part, days):
    return replace(part, day=part.day + days, event_ns=part.event_ns + days * 86_400 * 10**9)


# ---- the words


def test_little_data_says_nothing_however_good_it_looks():
    for few in (signals(0.2, days=59), signals(0.2, days=70, each=4), signals(0.2, days=1, each=400)):
        found = judge(few, trials=1)
        assert found.verdict is Verdict.INSUFFICIENT_DATA
        assert found.reasons
    nothing = signals(0.2).take(np.zeros(0, np.intp))
    assert judge(nothing, trials=1).verdict is Verdict.INSUFFICIENT_DATA


def test_losing_the_spread_is_no_edge():
    found = judge(signals(-0.02), trials=12)
    assert found.verdict is Verdict.NO_EDGE
    assert len(found.reasons) == 3


def test_an_edge_that_data_can_tell_is_a_candidate():
    found = judge(signals(0.05, mode="backtest"), trials=12)
    assert found.verdict is Verdict.CANDIDATE
    assert found.evidence.net_bound > 0.0
    assert found.candidate_since == "2025-03-02"  # the sixtieth day, at which it was looked at


def test_more_trials_ask_for_more():
    good = signals(0.026, mode="backtest")
    assert judge(good, trials=1).verdict is Verdict.CANDIDATE
    assert judge(good, trials=500).verdict is Verdict.NO_EDGE
    assert judge(good, trials=1, shown=500).verdict is Verdict.NO_EDGE


def test_a_market_that_rises_for_everybody_is_no_edge():
    found = judge(signals(0.05, baseline=0.05), trials=12)
    assert found.verdict is Verdict.NO_EDGE
    assert len(found.reasons) == 1
    assert "lift" in found.reasons[0]


def test_without_baselines_there_is_nothing_to_be_better_than():
    good = signals(0.05)
    some = np.where(np.arange(len(good)) % 3 == 0, np.nan, good.baseline_mean)
    found = judge(replace(good, baseline_mean=some), trials=12)
    assert found.verdict is Verdict.NO_EDGE
    assert "67% of the signals have a matched baseline" in found.reasons[0]


def test_a_few_days_of_luck_are_no_edge():
    """The same mean; all of it from six signals' days: the days' errors see it, signals as if independent would not."""
    rng = np.random.default_rng(1)
    net = -0.02 + 0.02 * rng.standard_normal(420)
    net[::70] += 0.0
    net = net.reshape(70, 6)
    net[10] += 1.5
    net[40] += 1.5
    found = judge(record(net.ravel(), day=np.repeat(np.arange(70), 6)), trials=1)
    assert found.evidence.net_mean > 0.02
    assert found.verdict is Verdict.NO_EDGE


def test_gaps_in_every_third_signal_say_nothing():
    good = signals(0.05)
    gone = np.where(np.arange(len(good)) % 4 == 0, "indeterminate", good.barrier)
    found = judge(replace(good, barrier=gone), trials=1)
    assert found.verdict is Verdict.INSUFFICIENT_DATA
    assert "25% of the signals are indeterminate" in found.reasons[0]


def test_what_could_not_be_left_is_lost():
    good = signals(0.05, mode="backtest")
    stuck = np.arange(len(good)) % 12 == 0
    left = replace(
        good,
        barrier=np.where(stuck, "not_filled", good.barrier),
        net_touch=np.where(stuck, np.nan, good.net_touch),
    )
    found = judge(left, trials=1)
    assert found.evidence.n == len(good)
    assert found.evidence.net_mean == pytest.approx(np.where(stuck, -1.0, good.net_touch).mean())
    assert found.verdict is Verdict.NO_EDGE
    never = replace(left, worst=np.where(stuck, np.nan, left.worst))  # not entered: not counted
    assert judge(never, trials=1).evidence.n == len(good) - stuck.sum()


# ---- after a candidate


def test_only_live_signals_after_its_date_confirm():
    before = signals(0.05, days=60, mode="backtest")
    good = later(signals(0.04, days=25, each=6, seed=3), 60)
    found = judge(joined(before, good), trials=12)
    assert found.verdict is Verdict.PAPER_CONFIRMED
    assert found.candidate_since == "2025-03-02"
    assert (found.live.n, found.live.days) == (150, 25)
    for mode in ("backtest", "replay"):
        other = replace(good, mode=np.full(len(good), mode))
        assert judge(joined(before, other), trials=12).verdict is Verdict.CANDIDATE
    few = later(signals(0.04, days=10, each=6, seed=3), 60)
    assert judge(joined(before, few), trials=12).verdict is Verdict.CANDIDATE
    no_lift = replace(good, baseline_mean=good.net_touch)
    assert judge(joined(before, no_lift), trials=12).verdict is not Verdict.PAPER_CONFIRMED


def test_what_falls_short_of_what_it_was_has_decayed():
    before = signals(0.06, days=60, mode="backtest")
    found = judge(joined(before, later(signals(-0.01, days=25, seed=4), 60)), trials=12)
    assert found.verdict is Verdict.DECAYED
    assert "below the 6.00% of 2025-03-02" in found.reasons[0]


def test_between_both_it_is_what_all_of_it_says():
    before = signals(0.06, days=60, mode="backtest")
    unclear = later(signals(0.03, days=22, each=5, deviation=0.4, seed=5), 60)
    found = judge(joined(before, unclear), trials=12)
    assert found.verdict in (Verdict.CANDIDATE, Verdict.NO_EDGE)
    assert found.candidate_since == "2025-03-02"


def test_each_further_look_shares_the_level_again():
    assert judge(signals(0.0, days=89), trials=10).evidence.level == pytest.approx(0.005)
    assert judge(signals(0.0, days=90), trials=10).evidence.level == pytest.approx(0.0025)
    assert judge(signals(0.0, days=150), trials=10).evidence.level == pytest.approx(0.00125)


# ---- no way to talk one up

near = st.floats(0.015, 0.05)
seeds = st.integers(0, 10_000)


@settings(max_examples=25, deadline=None)
@given(near, seeds)
def test_names_and_order_do_not_matter(mean, seed):
    whole = signals(mean, seed=seed)
    rng = np.random.default_rng(seed)
    named = replace(
        whole,
        id=rng.permutation(whole.id),
        strategy=np.full(len(whole), "another"),
        underlying=np.full(len(whole), "QQQ"),
    )
    shuffled = whole.take(rng.permutation(len(whole)))
    found = judge(whole, trials=5)
    for other in (judge(named, trials=5), judge(shuffled, trials=5)):
        assert other.verdict is found.verdict
        assert other.evidence.net_bound == pytest.approx(found.evidence.net_bound, rel=1e-9)
        assert other.evidence.deflated_sharpe == pytest.approx(found.evidence.deflated_sharpe, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(near, seeds, st.integers(2, 5))
def test_copies_of_signals_tell_nothing_new(mean, seed, copies):
    whole = signals(mean, seed=seed)
    found, copied = judge(whole, trials=5), judge(joined(*[whole] * copies), trials=5)
    assert copied.verdict is found.verdict
    assert copied.evidence.net_bound == pytest.approx(found.evidence.net_bound, rel=1e-9)
    assert copied.evidence.lift_bound == pytest.approx(found.evidence.lift_bound, rel=1e-9)
    assert copied.evidence.deflated_sharpe == pytest.approx(found.evidence.deflated_sharpe, rel=1e-9)


@settings(max_examples=80, deadline=None)
@given(near, seeds, st.integers(1, 12), st.floats(0.001, 1.0), st.booleans())
def test_losses_never_improve_a_verdict(mean, seed, more, loss, on_days_of_their_own):
    """Near the threshold, on days of their own or on days that are there."""
    whole = signals(mean, days=65, seed=seed, mode="backtest")
    days = 65 + np.arange(more) if on_days_of_their_own else np.random.default_rng(seed).integers(0, 65, more)
    worse = joined(whole, record(np.full(more, -loss), day=days, mode=np.full(more, "backtest")))
    before, after = judge(whole, trials=3), judge(worse, trials=3)
    assert not (after.verdict.claims and not before.verdict.claims)


@settings(max_examples=40, deadline=None)
@given(near, seeds, st.integers(1, 40))
def test_a_win_that_becomes_a_loss_never_improves_a_verdict(mean, seed, how_many):
    whole = signals(mean, days=65, seed=seed, mode="backtest")
    turned = np.random.default_rng(seed).choice(np.flatnonzero(whole.net_touch > 0.0), how_many, replace=False)
    net = whole.net_touch.copy()
    net[turned] = -net[turned]
    assert not (
        judge(replace(whole, net_touch=net), trials=3).verdict.claims and not judge(whole, trials=3).verdict.claims
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 800), st.sampled_from([0.0, 1e-9, 0.1, 5.0]))
def test_no_record_is_too_strange_for_a_verdict(seed, n, deviation):
    rng = np.random.default_rng(seed)
    net = np.where(rng.random(n) < 0.1, np.nan, rng.choice([0.05, -1.0]) + deviation * rng.standard_normal(n))
    barrier = rng.choice(["target", "stop", "timeout", "not_filled", "indeterminate"], n)
    matched = np.where(rng.random(n) < 0.5, np.nan, 0.0)
    strange = record(net, day=rng.integers(0, 1 + seed % 100, n), barrier=barrier, baseline_mean=matched)
    found = judge(strange, trials=1 + seed % 7)
    assert found.reasons
    assert not (found.verdict.claims and (found.evidence.net_mean or 0.0) <= 0.0)


# ---- what is said


def test_one_word_belongs_to_one_verdict():
    for verdict, text in SAID.items():
        assert bool(re.search(r"\bconsistent", text)) == (verdict is Verdict.PAPER_CONFIRMED)
    assert "consistent" not in HYPOTHETICAL
    assert set(SAID) == set(Verdict)


def test_no_other_text_of_the_service_uses_it():
    """Every string of the package, docstrings too: they become descriptions in the API's document."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                said = re.search(r"\b(in)?consisten(t|tly|cy)\b", node.value.lower())
                assert not said or node.value in SAID.values() or said[1], f"{path.name}: {node.value[:80]}"


def test_no_answer_promises_anything():
    for text in (*SAID.values(),):
        assert not re.search(r"\b(profit|guarante|will earn|will make)", text.lower())


def test_the_number_of_trials_is_a_number_of_trials():
    with pytest.raises(ValueError, match="1 or more"):
        judge(signals(0.0), trials=0)
