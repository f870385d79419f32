"""Running detectors over bars, and the events one by one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ots_quant.patterns.model import Events, PriceBars
from ots_quant.patterns.study import Detector, Study
from ots_quant.patterns.table import DETECTORS


class Pivot(NamedTuple):
    """A swing of an event: the bar of the extreme, its price in dollars, and the bar that confirmed it."""

    at: int
    price: float
    confirmed: int


class Event(NamedTuple):
    """One event. Bars by their index; levels in dollars, NaN where the type has none; ``parts`` by name, 0 to 1."""

    detector: Detector
    direction: int
    start: int
    end: int
    confirmed: int
    pivots: tuple[Pivot, ...]
    neckline: float
    target: float
    invalidation: float
    score: float
    parts: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Scan:
    """What the detectors found, a set of columns for each; and the study, for what else is to be said of the bars."""

    study: Study
    found: tuple[tuple[Detector, Events], ...]

    def number(self, first_bar: int = 0) -> int:
        """How many events were confirmed at ``first_bar`` or later."""
        return sum(int((events.confirmed >= first_bar).sum()) for _, events in self.found)

    def events(self, first_bar: int = 0, *, most: int | None = None, newest: bool = False) -> list[Event]:
        """The events confirmed at ``first_bar`` or later, in order of confirmation, then of the table.

        ``newest`` turns the order around; ``most`` cuts after so many, before they are made one by one.
        """
        rows = [np.flatnonzero(events.confirmed >= first_bar) for _, events in self.found]
        confirmed = [events.confirmed[own] for own, (_, events) in zip(rows, self.found, strict=True)]
        order = np.argsort(np.concatenate([*confirmed, np.zeros(0, np.int64)]), kind="stable")
        order = (order[::-1] if newest else order)[:most]
        wanted = np.zeros(sum(map(len, rows)), bool)
        wanted[order] = True
        made: list[Event] = []
        seen = 0
        for own, (detector, events) in zip(rows, self.found, strict=True):
            made += _one_by_one(detector, events.take(own[wanted[seen : seen + len(own)]]))
            seen += len(own)
        place = np.cumsum(wanted) - 1
        return [made[at] for at in place[order].tolist()]


def scan(bars: PriceBars, detectors: Iterable[Detector] = tuple(DETECTORS.values())) -> Scan:
    """Run ``detectors`` (all of them, where none are named) over ``bars``.

    No event depends on a bar after its ``confirmed``: appending bars adds events and changes none.
    """
    study = Study(bars)
    return Scan(study, tuple((detector, detector.find(study)) for detector in detectors))


def _one_by_one(detector: Detector, events: Events) -> list[Event]:
    scores, levels, parts = events.score().tolist(), events.levels.tolist(), events.parts.tolist()
    at, price, known = (column.tolist() for column in events.swings)
    plain = (column.tolist() for column in (events.direction, events.start, events.end, events.confirmed))
    rows = []
    for i, (direction, start, end, confirmed) in enumerate(zip(*plain, strict=True)):
        pivots = zip(at[i], price[i], known[i], strict=True)
        neckline, target, invalidation = levels[i]
        rows.append(
            Event(
                detector=detector,
                direction=direction,
                start=start,
                end=end,
                confirmed=confirmed,
                pivots=tuple(Pivot(*pivot) for pivot in pivots if pivot[0] >= 0),
                neckline=neckline,
                target=target,
                invalidation=invalidation,
                score=scores[i],
                parts=tuple(zip(detector.parts, parts[i], strict=True)),
            )
        )
    return rows
