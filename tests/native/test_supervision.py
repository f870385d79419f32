"""What dies is started again, and nothing is orphaned."""

from __future__ import annotations

import ast
import os
import signal
import sys

import pytest

from native.stand_ins import eventually, sleeper
from ots_native.errors import NativeError
from ots_native.processes import processes_of
from ots_native.supervision import Program, Supervisor


def kill_supervisord(supervisor: Supervisor) -> None:
    os.kill(int((supervisor.folder / "supervisord.pid").read_text()), signal.SIGKILL)


def pids(supervisor: Supervisor) -> set[int]:
    return {state.pid for state in supervisor.states() if state.runs}


def test_a_killed_program_comes_back(supervisor: Supervisor) -> None:
    supervisor.write_configuration([sleeper("one")])
    supervisor.start()
    eventually(lambda: pids(supervisor))
    (first,) = pids(supervisor)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: pids(supervisor) and first not in pids(supervisor))


def test_after_a_kill_of_supervisord_everything_is_back_and_nothing_is_left_over(supervisor: Supervisor) -> None:
    supervisor.write_configuration([sleeper("one"), sleeper("two")])
    supervisor.start()
    eventually(lambda: len(pids(supervisor)) == 2)
    before = set(processes_of(supervisor.folder))
    kill_supervisord(supervisor)
    eventually(lambda: len(pids(supervisor)) == 2 and not pids(supervisor) & before)
    eventually(lambda: not before & set(processes_of(supervisor.folder)))
    assert len(processes_of(supervisor.folder)) == 4  # with supervisord and the guard


def test_stop_leaves_no_process_and_may_be_repeated(supervisor: Supervisor) -> None:
    supervisor.write_configuration([sleeper("one")])
    supervisor.start()
    eventually(lambda: pids(supervisor))
    supervisor.stop()
    assert processes_of(supervisor.folder) == []
    supervisor.stop()


def test_each_of_first_others_and_last_has_ended_before_the_next_is_asked(supervisor: Supervisor) -> None:
    ends = supervisor.folder / "ends"
    script = supervisor.folder / "ends_slowly.py"
    script.write_text(
        f"""\
import signal, sys, time
def end(*_):
    time.sleep(float(sys.argv[2]))
    open({str(ends)!r}, "a").write(sys.argv[1] + " ")
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(600)
"""
    )
    slowness = {"front": "1.5", "service": "1.5", "storage": "0"}
    programs = [Program(name, [sys.executable, "-I", str(script), name, s]) for name, s in slowness.items()]
    supervisor.write_configuration(programs)
    supervisor.start()
    eventually(lambda: all("ready" in supervisor.log(one.name).read_text() for one in programs))
    supervisor.stop(first=["front"], last=["storage"])
    assert ends.read_text().split() == ["front", "service", "storage"]
    assert processes_of(supervisor.folder) == []


def test_stop_ends_also_what_a_killed_supervisord_left(supervisor: Supervisor) -> None:
    careless = Program("careless", [sys.executable, "-c", "import time; time.sleep(600)"])
    supervisor.write_configuration([careless])
    supervisor.start()
    eventually(lambda: pids(supervisor))
    kill_supervisord(supervisor)
    supervisor.stop()
    assert processes_of(supervisor.folder) == []


def test_what_fails_at_start_is_tried_for_ever(supervisor: Supervisor) -> None:
    flag = supervisor.folder / "may-run"
    code = f"import os, time; assert os.path.exists({str(flag)!r}); time.sleep(600)"
    supervisor.write_configuration([Program("late", [sys.executable, "-c", code])])
    supervisor.start()
    eventually(lambda: [state.state for state in supervisor.states()] == ["FATAL"])
    flag.touch()
    eventually(lambda: pids(supervisor))


def test_start_starts_one_supervisord_only(supervisor: Supervisor) -> None:
    supervisor.write_configuration([sleeper("one")])
    supervisor.start()
    first = (supervisor.folder / "supervisord.pid").read_text()
    supervisor.start()
    assert (supervisor.folder / "supervisord.pid").read_text() == first


def test_a_program_gets_its_environment_unharmed_and_nothing_of_ours(supervisor: Supervisor) -> None:
    values = {"KEYS": '{"gateway":"a,b=c"}', "URL": "redis://:a%25b@127.0.0.1:1/0", "EMPTY": "", "SIGNS": "x;y#z%(a)s"}
    os.environ["OTS_TEST_SECRET"] = "leaked"
    try:
        supervisor.write_configuration([sleeper("one", **values)])
        supervisor.start()
    finally:
        del os.environ["OTS_TEST_SECRET"]
    log = supervisor.log("one")
    eventually(lambda: log.exists() and log.read_text().endswith("\n"))
    environment = ast.literal_eval(log.read_text())
    assert values.items() <= environment.items()
    assert "OTS_TEST_SECRET" not in environment
    assert (supervisor.folder / "supervisord.conf").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("value", ["it's", "two\nlines", "cut ;here", "cut #here", '"quoted"'])
def test_a_value_that_the_configuration_would_harm_is_refused(supervisor: Supervisor, value: str) -> None:
    with pytest.raises(NativeError, match="SECRET of one"):
        supervisor.write_configuration([sleeper("one", SECRET=value)])
