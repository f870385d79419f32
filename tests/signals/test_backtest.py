"""A backtest decides what the engine would have decided day by day, and has the same bytes however it is run."""

from __future__ import annotations

import json
import math
import multiprocessing
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from pydantic import ValidationError

from ots_signals import backtest as backtest_module
from ots_signals import spread_work
from ots_signals.backtest import (
    Backtest,
    BacktestRequest,
    Trial,
    market_spec,
    opened,
    parameter_sets,
    run_backtest,
)
from ots_signals.baselines import net_at_touch
from ots_signals.decisions import FillModel, Signal
from ots_signals.engine import decide_session
from ots_signals.fair_market import FairSettings
from ots_signals.odds import TrackRecords
from ots_signals.report import all_decisions, as_json, decision_lines, report_of
from ots_signals.report_page import page
from ots_signals.spread_work import Here, LocalProcesses, MissingEngine, spread_of
from ots_signals.strategies import registered
from ots_signals.trials import TrialFile, TrialTable

SMALL = FairSettings(underlyings=("FRA", "FRB"), sessions=14, warm_up=12)
STRATEGIES = ["opening_range", "rsi_reversal"]


def asked(**more):
    values = {"strategies": STRATEGIES, "start": "2025-01-02", "end": "2025-01-23", "market": "fair:5", **more}
    return BacktestRequest(**values)


def run(request=None, **options) -> Backtest:
    return run_backtest(request or asked(), fair_settings=SMALL, **options)


def texts(found: Backtest):
    report = report_of(found)
    return as_json(report), page(report), decision_lines(found)


@pytest.fixture(scope="module")
def found():
    return run()


@pytest.fixture(scope="module")
def tried():
    """With two values of a parameter that both strategies have, and two of one that only one has."""
    return run(asked(parameters={"target": [0.05, 0.1], "oversold": [30.0, 35.0]}, folds=2))


def test_something_was_decided_and_resolved(found):
    assert found.sessions[0] == "2025-01-02"
    assert len(found.sessions) == 14
    assert [trial.strategy for trial in found.trials] == STRATEGIES
    assert len({one.id for one, _ in all_decisions(found)}) == len(all_decisions(found))
    for trial in found.trials:
        assert len(trial.signals) > 10
        assert all(trial.outcomes[signal.id] is not None for signal in trial.signals)
        assert sum(trial.daily.values()) == pytest.approx(
            sum(net_at_touch(trial.outcomes[signal.id]) for signal in trial.signals)
        )


def test_the_same_again_has_the_same_bytes(found, monkeypatch):
    opened.cache_clear()
    backtest_module._baselines.cache_clear()
    monkeypatch.setattr(backtest_module, "_SESSIONS_A_JOB", 3)
    assert texts(run()) == texts(found)


def test_spread_over_processes_it_has_the_same_bytes(found):
    assert texts(run(spread=LocalProcesses(2))) == texts(found)
    assert not multiprocessing.active_children()


@pytest.mark.skipif(find_spec("distributed") is None, reason="dask is not installed")
def test_spread_by_dask_it_has_the_same_bytes(found):
    assert texts(run(spread=spread_of("dask", 2))) == texts(found)


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed")
def test_spread_by_ray_it_has_the_same_bytes(found):
    assert texts(run(spread=spread_of("ray", 2))) == texts(found)


def test_it_decides_what_the_engine_decides_day_by_day_with_what_was_known(found):
    market = opened(market_spec(asked(), SMALL))
    (trial,) = (one for one in found.trials if one.strategy == "rsi_reversal")
    records, expected = TrackRecords(), []
    a_run = backtest_module.Run(trial.decisions[0].mode, trial.decisions[0].code_version, _run_name())
    for session in market.trading_dates:
        decided = [
            one
            for underlying in market.underlyings
            for one in decide_session(market, [registered()["rsi_reversal"]()], underlying, session, records, a_run)
        ]
        expected += sorted(decided, key=lambda one: (one.event_ns, one.underlying, one.id))
        for one in decided:
            if isinstance(one, Signal):
                (touch,) = (fill for fill in trial.outcomes[one.id].fills if fill.model == FillModel.TOUCH)
                records.add(one.strategy, touch.exit_ns, touch.barrier, touch.net_return)
    assert list(trial.decisions) == expected
    last = trial.signals[-1]
    assert last.odds.resolved > 20
    assert trial.signals[0].odds.resolved == 0


def _run_name():
    return backtest_module.digest(asked().model_dump(mode="json"))[:16]


def test_what_comes_later_changes_nothing_before(found):
    """But for the run's name, which is in each id, and by which matches are drawn."""
    short = run(asked(end="2025-01-14"))
    days = set(short.sessions)
    assert 5 < len(days) < len(found.sessions)
    for before, after in zip(short.trials, found.trials, strict=True):
        kept = [one for one in after.decisions if one.session in days]
        assert len(kept) == len(before.decisions) > 0
        for one, other in zip(before.decisions, kept, strict=True):
            assert replace(one, id="") == replace(other, id="")
            if isinstance(one, Signal):
                first, second = before.outcomes[one.id], after.outcomes[other.id]
                assert first.fills == second.fills
                assert first.data_digest == second.data_digest


def test_every_set_of_parameters_is_a_trial(tried):
    named = [(trial.strategy, trial.parameters["target"], trial.parameters.get("oversold")) for trial in tried.trials]
    assert named == [
        ("opening_range", 0.05, None), ("opening_range", 0.1, None),
        *(("rsi_reversal", target, level) for level in (30.0, 35.0) for target in (0.05, 0.1)),
    ]  # fmt: skip
    report = report_of(replace(tried, manifest=replace(tried.manifest, trials_before=7)))
    assert report["trials"]["counted"] == 13
    assert len(report["trials"]["sets"]) == 6
    assert {one["performance"]["trials"] for one in report["strategies"]} == {13}


def test_parameters_are_chosen_before_the_sessions_that_are_told(tried):
    report = report_of(tried)
    for one in report["strategies"]:
        assert one["told_of"] == "out_of_sample"
        assert len(one["walk_forward"]) == 2
        told = {decision.session for decision, _ in tried.told(one["strategy"])}
        assert told
        assert min(told) > one["walk_forward"][0]["in_sample"][1]
        for fold in one["walk_forward"]:
            assert fold["in_sample"][1] < fold["out_of_sample"][0]
    alone = report_of(run(asked(strategies=["opening_range"])))
    assert alone["strategies"][0]["told_of"] == "all_sessions"


def made_trial(name, daily):
    return Trial("made", {"k": name}, name, (), {}, daily)


def test_the_choice_is_that_of_the_days_before_and_nothing_else():
    days = [str(np.datetime64("2025-01-01") + k) for k in range(60)]
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 0.01, 60)
    early = dict(zip(days, noise + np.where(np.arange(60) < 30, 0.02, -0.02), strict=True))
    late = dict(zip(days, noise + np.where(np.arange(60) < 30, -0.02, 0.02), strict=True))
    trials = [made_trial("late", late), made_trial("early", early)]
    (fold,) = backtest_module._folds("made", trials, days, 1)
    assert (fold.chosen, fold.in_sample[1], fold.out_of_sample[0]) == (1, days[29], days[30])
    assert fold.sharpe_before > 1 > 0 > fold.sharpe_after
    # were the days to come others, the choice would be the same
    changed = [replace(one, daily={day: net * (1 if day < days[30] else -9) for day, net in one.daily.items()})
               for one in trials]  # fmt: skip
    assert next(backtest_module._folds("made", changed, days, 1)).chosen == 1
    # of too few days nothing is preferred
    few = [replace(one, daily=dict(list(one.daily.items())[25:])) for one in trials]
    assert next(backtest_module._folds("made", few, days, 1)).chosen == 0


def test_a_run_may_be_given_up(found):
    class GivenUp(Exception):
        pass

    seen = []

    def stop(done, of):
        seen.append((done, of))
        if done == 2:
            raise GivenUp

    with pytest.raises(GivenUp):
        run(progress=stop, spread=Here())
    assert seen == [(0, 6), (1, 6), (2, 6)]


def test_results_of_processes_come_in_order_and_so_do_errors():
    jobs = list(range(12))
    assert list(Here().each(math.isqrt, jobs)) == list(map(math.isqrt, jobs))
    some = LocalProcesses(2).each(math.isqrt, [*jobs, -13, 3])
    assert [next(some) for _ in jobs] == list(map(math.isqrt, jobs))
    with pytest.raises(ValueError, match="nonnegative"):
        next(some)
    assert not multiprocessing.active_children()


def test_an_engine_that_is_not_there_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(spread_work, "find_spec", lambda name: None)
    for engine in ("dask", "ray"):
        with pytest.raises(MissingEngine, match="pip install"):
            spread_of(engine, 2)
    with pytest.raises(ValueError, match="address"):
        spread_of("local", 2, "tcp://127.0.0.1:8786")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"strategies": ["nothing"]}, "unknown strategies: nothing"),
        ({"strategies": ["gap_fill", "gap_fill"]}, "twice"),
        ({"start": "2025-02-01", "end": "2025-01-01"}, "start must not be after end"),
        ({"parameters": {"oversold": [30.0, 99.0]}}, "rsi_reversal: oversold"),
        ({"parameters": {"no_such": [1]}}, "no such parameter: no_such"),
        (
            {"parameters": {"target": [k / 100 for k in range(2, 102)], "stop": [0.1, 0.2, 0.3]}},
            "600 sets of parameters",
        ),
        # more combinations than could ever be counted one by one
        (
            {"parameters": {name: [0.5] * 100 for name in ("target", "stop", "delta", "least_days", "most_days")}},
            "sets of",
        ),
        ({"parameters": {"target": []}}, "at least 1 item"),
        ({"parameters": {"target": [float("nan")]}}, "finite number"),
        ({"underlyings": ["A\0B"]}, "underlyings"),
        ({"market": "real"}, "market"),
    ],
)
def test_what_cannot_be_run_is_told(wrong, said):
    with pytest.raises(ValidationError, match=said):
        asked(**wrong)


def test_what_has_no_sessions_is_told():
    with pytest.raises(ValueError, match="no session between"):
        run(asked(start="2024-07-04", end="2024-07-05"))
    with pytest.raises(ValueError, match="no options of GOOG"):
        run(asked(underlyings=["GOOG"]))
    with pytest.raises(ValueError, match="14 sessions; 5 at most"):
        run(most_sessions=5)


def test_equal_sets_are_one():
    strategy = registered()["opening_range"]
    assert parameter_sets(strategy, {"target": [0.075, 0.075], "oversold": [1.0]}) == [(("target", 0.075),)]
    assert parameter_sets(strategy, {}) == [()]


def test_the_log_of_trials_counts_each_set_once_and_its_own_not_at_all(tried, found, market, tmp_path):
    own = backtest_module.own_trials(found.request)
    assert own == {(trial.strategy, trial.parameters_hash) for trial in found.trials}
    table, file = TrialTable(market.database), TrialFile(tmp_path / "new")
    assert table.usable()
    # what runs as declared is tried in any case, where there is a ledger
    declared = len(registered())
    for log, others, every in ((table, declared - 2, declared), (file, 0, 2)):
        assert log.before(own) == others
        for _ in range(2):
            log.add(found)
        assert log.before(own) == others
        assert log.before(frozenset()) == every
        log.add(tried)
        assert log.before(own) == others + 6
    assert market.database.rows("SELECT count(*) FROM signal_trials") == [(8,)]
    assert len((tmp_path / "new" / "trials.jsonl").read_text().splitlines()) == 8


def test_the_command_writes_what_the_function_finds(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(backtest_module, "market_spec", lambda request, settings=None: market_spec(request, SMALL))
    arguments = ["--strategy", ",".join(STRATEGIES), "--start", "2025-01-02", "--end", "2025-01-23",
                 "--market", "fair:5", "--processes", "1", "--out", str(tmp_path)]  # fmt: skip
    assert backtest_module.main(arguments) == 0
    told = capsys.readouterr().out
    assert "insufficient_data" in told
    assert "invented" in told
    written = tuple((tmp_path / name).read_text("utf-8") for name in ("report.json", "report.html", "decisions.jsonl"))
    assert written == texts(run())
    assert json.loads(written[0])["format"] == "ots_signals backtest 1"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--strategy", "nothing"], "unknown strategies: nothing"),
        (["--strategy", "gap_fill", "--set", "target"], "expected NAME=VALUE"),
        (["--strategy", "gap_fill", "--address", "here"], "no address"),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(more, said, capsys):
    assert backtest_module.main(["--start", "2025-01-02", "--end", "2025-01-23", "--market", "fair:5", *more]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
