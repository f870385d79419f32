"""Contracts whose volume is out of the ordinary: against their open interest, and against their own past."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Thresholds:
    """What counts as unusual: at least ``volume`` contracts, and as many times the open interest, or the usual."""

    volume: int
    to_open_interest: float
    to_history: float
    sessions: int


@dataclass(frozen=True)
class UsualVolume:
    """Of each contract, shape (contracts,): what it traded by this time of day in the sessions that can be compared.

    ``sessions``: how many; the others are NaN where there are none. ``share_below``: of the sessions, in how many it
    traded less than today.
    """

    sessions: Ints
    mean: Floats
    median: Floats
    highest: Floats
    share_below: Floats


@dataclass(frozen=True)
class Unusual:
    """Of each contract, shape (contracts,).

    ``to_open_interest``, ``to_history``: today's volume over open interest and over the usual mean, either counted as
    one where it is less; NaN unknown. ``times_threshold``: the larger of the two in units of its threshold, 0 where
    neither is known. ``by_open_interest``, ``by_history``: which of them, with enough volume, are at their thresholds.
    """

    to_open_interest: Floats
    to_history: Floats
    times_threshold: Floats
    by_open_interest: NDArray[np.bool_]
    by_history: NDArray[np.bool_]

    def ranked(self) -> NDArray[np.intp]:
        """Those that are unusual, the most unusual first; of equals the first in the chain."""
        which = np.flatnonzero(self.by_open_interest | self.by_history)
        return which[np.argsort(-self.times_threshold[which], kind="stable")]


def usual_volume(today: Ints, before: Ints) -> UsualVolume:
    """From volumes of shape (contracts,) and (sessions, contracts), -1 where a session does not count."""
    counts = before >= 0
    volumes = np.where(counts, before, np.nan)
    number = counts.sum(axis=0)
    some = number > 0
    mean, median, highest, below = (np.full(len(today), np.nan) for _ in range(4))
    if some.any():
        own = volumes[:, some]
        mean[some] = np.nanmean(own, axis=0)
        median[some] = np.nanmedian(own, axis=0)
        highest[some] = np.nanmax(own, axis=0)
        below[some] = (counts[:, some] & (before[:, some] < today[some])).sum(axis=0) / number[some]
    return UsualVolume(number, mean, median, highest, below)


def find_unusual(today: Ints, open_interest: Ints, usual: UsualVolume, thresholds: Thresholds) -> Unusual:
    """Arrays of shape (contracts,); an ``open_interest`` of -1 is unknown."""
    to_open_interest = np.where(open_interest >= 0, today / np.maximum(open_interest, 1), np.nan)
    enough = usual.sessions >= thresholds.sessions
    to_history = np.where(enough, today / np.maximum(usual.mean, 1.0), np.nan)
    in_thresholds = np.array([to_open_interest / thresholds.to_open_interest, to_history / thresholds.to_history])
    in_thresholds = np.where(np.isnan(in_thresholds), 0.0, in_thresholds)
    volume = today >= thresholds.volume
    return Unusual(
        to_open_interest,
        to_history,
        in_thresholds.max(axis=0),
        volume & (in_thresholds[0] >= 1.0),
        volume & (in_thresholds[1] >= 1.0),
    )
