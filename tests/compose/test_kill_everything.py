"""The judge of the long form is judged: it calls nothing a success that is none."""

from __future__ import annotations

import io
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from compose import kill_everything
from compose.kill_everything import Balance, Blow, Container, hit, open_before, table, verdict

GOOD = Balance(1000, 1000, 3, 0, 5000, 0)
BLOW = Blow("cache", "died", 6.25, 8.0)


def judged(blows: list[Blow], end: Balance) -> tuple[int, str]:
    out = io.StringIO()
    return verdict(blows, end, out), out.getvalue()


def test_all_back_and_nothing_lost():
    status, said = judged([BLOW], GOOD)
    assert status == 0
    assert "| cache | died | 6.2 s | 8.0 s |  |" in said
    assert said.endswith("nothing lost\n")


@pytest.mark.parametrize(
    "end",
    [
        replace(GOOD, trades_stored=999),
        replace(GOOD, trades_stored=1001),
        replace(GOOD, trades_by_vendor=0, trades_stored=0),
        replace(GOOD, gaps_open=1),
        replace(GOOD, self_check_difference=1),
        replace(GOOD, self_check_rows=0),
    ],
)
def test_anything_that_is_not_as_it_was_is_a_loss(end):
    status, said = judged([BLOW], end)
    assert status == 1
    assert "SOMETHING IS LOST, OR NOT KNOWN" in said


def test_whoever_does_not_come_back_is_told():
    status, said = judged([BLOW, Blow("redis", "killed", None, None, "is exited")], GOOD)
    assert status == 1
    assert "| redis | killed | never | never | is exited |" in said
    assert judged([Blow("redis", "killed", 2.0, None)], GOOD)[0] == 1
    assert len(table([BLOW, BLOW]).splitlines()) == 4


def test_a_gap_that_began_later_is_not_of_that_time():
    end = datetime(2026, 12, 1, 15, tzinfo=UTC)
    before = {"state": "open", "start": "2026-12-01T14:59:59.5Z"}
    after = {"state": "open", "start": "2026-12-01T15:00:00.5Z"}
    assert open_before([before, after, before | {"state": "closed"}], end) == [before]


class Stub:
    """A platform whose cache comes back, or does not, in one of the ways that there are."""

    def __init__(self, fate: str) -> None:
        self.fate = fate
        self.killed = False
        self.started = 0

    def containers(self) -> dict[str, Container]:
        first = Container("cache", "a", 1, "t0", "healthy")
        if not self.killed or self.fate == "untouched":
            return {"cache": first}
        if self.fate == "gone":
            return {}
        health = "unhealthy" if self.fate == "sick" else "healthy"
        return {"cache": replace(first, started_at="t1", health=health)}

    def command(self, *words: str) -> str:
        self.killed = True
        assert words == ("docker", "kill", "a")
        return ""

    def start(self) -> None:
        self.started += 1
        if self.started == 1 and self.fate == "slow":
            raise subprocess.CalledProcessError(1, "start-dev.sh", "", "somebody else is unhealthy")

    def health(self) -> str:
        return "unavailable" if self.fate == "alone" else "ok"

    def collections(self) -> list[str]:
        return ["mute"] if self.fate == "mute" else ["streaming", "idle"]


class Clock:
    """Time that passes only where somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("how", ["died", "killed"])
@pytest.mark.parametrize(
    ("fate", "well", "survived"),
    [
        ("back", True, True),
        ("slow", True, True),
        ("gone", False, False),
        ("sick", False, False),
        ("untouched", False, False),
        ("alone", True, False),
        ("mute", True, False),
    ],
)
def test_back_is_a_new_life_that_is_well_in_a_platform_that_is(fate, well, survived, how, monkeypatch):
    platform: Any = Stub(fate)

    def kill(pid: int, _signal: int) -> None:
        assert pid == 1
        platform.killed = True

    monkeypatch.setattr(kill_everything.os, "kill", kill)
    monkeypatch.setattr(kill_everything, "time", Clock())
    blow = hit(platform, "cache", how, patience_s=60)
    assert (blow.well_after_s is not None, blow.survived) == (well, survived)
