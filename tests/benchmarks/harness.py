"""How the benchmarks measure: one process, one thread, calls in turns, inputs that rotate, medians, same-run ratios.

A peer that is not installed is printed as such and decides nothing. Import this module before numpy and the peers:
it holds their thread pools to one thread.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

for _pool in ("OMP", "OPENBLAS", "MKL", "NUMBA", "RAYON"):
    os.environ.setdefault(f"{_pool}_NUM_THREADS", "1")

Call = Callable[[Any], object]


def peer(module: str) -> Any:
    """A module, or None where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if error.name != module.partition(".")[0]:
            raise
        return None


def versions(*distributions: str) -> str:
    """Names and versions, for the head of a report."""
    found = []
    for name in distributions:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)


def seconds(calls: Sequence[Call], inputs: Sequence[Any], turns: int = 5) -> list[list[float]]:
    """For each call, its best time of ``turns`` on each input; on each input the calls run in turns.

    The best, because what else the machine does only adds, and adds most to a peer that hands work to threads.
    """
    for call in calls:
        call(inputs[-1])
    best: list[list[float]] = [[] for _ in calls]
    for given in inputs:
        for times in best:
            times.append(math.inf)
        for _ in range(turns):
            for call, times in zip(calls, best, strict=True):
                start = time.perf_counter()
                kept = call(given)
                times[-1] = min(times[-1], time.perf_counter() - start)
                del kept  # freeing it is not what is measured
    return best


@dataclass
class Report:
    """Prints rows as they are measured and remembers whether every floor was met."""

    met: bool = field(default=True)

    def head(self, title: str, *columns: str) -> None:
        """Begin a table."""
        print(f"\n## {title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")

    def row(self, *cells: str) -> None:
        """One line of a table."""
        print(f"| {' | '.join(cells)} |", flush=True)

    def judge(self, value: float, floor: float, goal: float, *, more_is_better: bool = True) -> str:
        """``floor`` and ``goal`` beside what they say of the value."""
        sign = 1.0 if more_is_better else -1.0
        reached_floor, reached_goal = sign * value >= sign * floor, sign * value >= sign * goal
        self.met = self.met and reached_floor
        verdict = "goal met" if reached_goal else "floor met" if reached_floor else "MISSED"
        return f"{floor:g} / {goal:g}: {verdict}"

    def race(
        self,
        name: str,
        ours: Call,
        theirs: dict[str, Call | None],
        inputs: Sequence[Any],
        unit: float,
        *,
        against: str = "",
        floor: float = 0.0,
        goal: float = 0.0,
    ) -> float:
        """Our median in nanoseconds per ``unit`` of work, and each peer's with the median of the ratios on one input.

        ``floor`` and ``goal`` judge the ratio to the peer ``against``. Returns our median.
        """
        present = {label: call for label, call in theirs.items() if call is not None}
        own, *others = seconds([ours, *present.values()], inputs)
        median = statistics.median(own) / unit * 1e9
        self.row(name, "ots_quant", f"{median:,.1f}", "", "")
        measured = dict(zip(present, others, strict=True))
        for label in theirs:
            if label not in measured:
                self.row(name, label, "not installed", "", "")
                continue
            ratio = statistics.median(b / a for a, b in zip(own, measured[label], strict=True))
            judged = self.judge(ratio, floor, goal) if label == against else ""
            theirs_median = statistics.median(measured[label]) / unit * 1e9
            self.row(name, label, f"{theirs_median:,.1f}", f"{ratio:.1f}", judged)
        return median
