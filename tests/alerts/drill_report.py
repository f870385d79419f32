"""What a drill saw, as rows for people and as JSON for programs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from places import ROOT


@dataclass
class Seen:
    """What became of one alert. Seconds: `fired_s` and `told_s` from its cause, `ended_s` from when that was undone."""

    alert: str
    cause: str
    began: float = 0.0
    undone: float | None = None
    fired_s: float | None = None
    told_s: float | None = None
    under: set[str] = field(default_factory=set)
    """The alerts under which Alertmanager held it back."""
    ended_s: float | None = None
    end_told: bool = False
    series: set[str] = field(default_factory=set)
    note: str = ""
    caused: bool = True

    @property
    def whole(self) -> bool:
        """It fired, was told or held back, and ended."""
        return self.fired_s is not None and (self.told_s is not None or bool(self.under)) and self.ended_s is not None

    def cells(self) -> tuple[str, ...]:
        """Alert, cause, fired, told, ended, note."""
        fired = _seconds(self.fired_s) or ("no" if self.undone is not None and self.caused else "")
        under = f"under {', '.join(sorted(self.under))}" if self.under else ""
        return self.alert, self.cause, fired, _seconds(self.told_s) or under, _seconds(self.ended_s), self.note

    def line(self) -> str:
        """The same as words."""
        alert, _, fired, told, ended, note = self.cells()
        return f"{alert}: fired {fired or '-'}, told {told or '-'}, ended {ended or '-'} {note}".rstrip()


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} s"


def table(found: Collection[Seen]) -> str:
    """A row an alert, in the order of their names."""
    rows: Sequence[tuple[str, ...]] = [
        ("ALERT", "CAUSE", "FIRED", "TOLD", "ENDED", ""),
        *(one.cells() for one in sorted(found, key=lambda one: one.alert)),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]]).rstrip()
        for row in rows
    )


def write_report(path: Path, found: Collection[Seen], kind: str, seconds: float) -> None:
    """All of it as JSON."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    report = {
        "installation": kind,
        "commit": commit.stdout.strip() or None,
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds),
        "alerts": [
            {
                "alert": one.alert,
                "caused_by": one.cause,
                "caused": one.caused,
                "fired_s": _rounded(one.fired_s),
                "told_s": _rounded(one.told_s),
                "held_back_under": sorted(one.under),
                "ended_s": _rounded(one.ended_s),
                "end_told": one.end_told,
                "series": [json.loads(labels) for labels in sorted(one.series)],
                "note": one.note or None,
            }
            for one in sorted(found, key=lambda one: one.alert)
        ],
    }
    path.write_text(json.dumps(report, indent=1) + "\n")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
