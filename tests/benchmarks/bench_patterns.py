"""All patterns on 2,520 bars, and on ten times as many; one process, one thread, median of rotating inputs.

python tests/benchmarks/bench_patterns.py     prints the table; exit code 1 when a floor is missed
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import talib

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ots_quant.patterns import DETECTORS, FAMILIES, PriceBars, named, scan
from ots_quant.patterns.candlesticks import CANDLES
from pattern_series import random_walk

BARS, TIMES = 2520, 10
ROTATIONS, TURNS = 15, 3
FLOOR_MS, GOAL_MS = 50.0, 10.0
FLOOR_LINEARITY = 1.3  # ten times the bars take at most so many times ten times as long


def best_of(call: Callable[[], object]) -> float:
    """Seconds of the quickest of a few turns."""
    spent = []
    for _ in range(TURNS):
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return min(spent)


def raw_candles(bars: PriceBars) -> list[object]:
    """TA-Lib's 61 functions and nothing else: what a scan cannot be quicker than."""
    return [getattr(talib, entry.function)(bars.open, bars.high, bars.low, bars.close) for entry in CANDLES]


def main() -> int:
    """Print the table."""
    calls: dict[str, Callable[[PriceBars], object]] = {
        "TA-Lib's 61 candle functions": raw_candles,
        "all patterns": scan,
        **{family: lambda bars, family=family: scan(bars, named(family)) for family in FAMILIES},
    }
    spent: dict[str, list[float]] = {name: [] for name in calls}
    longer = []
    for seed in range(ROTATIONS):
        bars = random_walk(seed, BARS, tick=0.01)
        for name, call in calls.items():
            spent[name].append(best_of(lambda call=call, bars=bars: call(bars)))  # type: ignore[misc]
        many = random_walk(seed, BARS * TIMES, tick=0.01)
        longer.append(best_of(lambda many=many: scan(many)) / best_of(lambda bars=bars: scan(bars)) / TIMES)  # type: ignore[misc]
    medians = {name: 1000 * statistics.median(times) for name, times in spent.items()}
    linearity = statistics.median(longer)
    print(f"{len(DETECTORS)} detectors on {BARS:,} bars, ms, median of {ROTATIONS}")
    for name, median in medians.items():
        print(f"  {name:30s} {median:7.2f}")
    print(f"  all patterns, floor {FLOOR_MS:g}, goal {GOAL_MS:g}")
    print(f"  time a bar of {BARS * TIMES:,} bars over that of {BARS:,}: {linearity:.2f} (floor {FLOOR_LINEARITY})")
    return 0 if medians["all patterns"] <= FLOOR_MS and linearity <= FLOOR_LINEARITY else 1


if __name__ == "__main__":
    sys.exit(main())
