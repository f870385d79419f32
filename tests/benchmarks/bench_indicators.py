"""Indicators against raw TA-Lib calls on a panel of 9 symbols x 2,520 bars; one process, same-run ratios.

python tests/benchmarks/bench_indicators.py     prints the table; exit code 1 when a floor is missed

Each figure is the median over rotations, and each rotation has bars of its own; within a rotation both sides are timed
in turns, and the best of their turns counts. A raw call is `talib.X(row, ...)` for each row of the panel, its results
kept in a list (the floor's measure) or stacked to a panel, which is what ots_quant returns.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import talib

from ots_quant import indicators
from ots_quant.indicators.history import History
from ots_quant.registry import INDICATORS

SYMBOLS, BARS, ROTATIONS, TURNS = 9, 2520, 7, 5
BARS_A_SESSION = 78
PANEL_FLOOR, PANEL_GOAL = 1.3, 1.1
OWN_FLOOR, OWN_GOAL = 2.0, 1.0
ACCURACY = 1e-9


class Pair(NamedTuple):
    """One indicator: of the panel by ots_quant, of a row by TA-Lib."""

    name: str
    ours: Callable[[History], object]
    raw: Callable[[History, int], object]


FOURTEEN = (
    Pair("sma", lambda b: indicators.sma(b.close, 20), lambda b, i: talib.SMA(b.close[i], 20)),
    Pair("ema", lambda b: indicators.ema(b.close, 20), lambda b, i: talib.EMA(b.close[i], 20)),
    Pair("wma", lambda b: indicators.wma(b.close, 20), lambda b, i: talib.WMA(b.close[i], 20)),
    Pair("rsi", lambda b: indicators.rsi(b.close, 14), lambda b, i: talib.RSI(b.close[i], 14)),
    Pair("macd", lambda b: indicators.macd(b.close, 12, 26, 9), lambda b, i: talib.MACD(b.close[i], 12, 26, 9)),
    Pair("roc", lambda b: indicators.roc(b.close, 10), lambda b, i: talib.ROC(b.close[i], 10)),
    Pair(
        "bollinger", lambda b: indicators.bollinger(b.close, 20, 2.0), lambda b, i: talib.BBANDS(b.close[i], 20, 2, 2)
    ),
    Pair(
        "atr",
        lambda b: indicators.atr(b.high, b.low, b.close, 14),
        lambda b, i: talib.ATR(b.high[i], b.low[i], b.close[i], 14),
    ),
    Pair(
        "adx",
        lambda b: indicators.adx(b.high, b.low, b.close, 14),
        lambda b, i: talib.ADX(b.high[i], b.low[i], b.close[i], 14),
    ),
    Pair(
        "stochastic",
        lambda b: indicators.stochastic(b.high, b.low, b.close, 14, 3, 3),
        lambda b, i: talib.STOCH(b.high[i], b.low[i], b.close[i], 14, 3, 0, 3, 0),
    ),
    Pair(
        "cci",
        lambda b: indicators.cci(b.high, b.low, b.close, 20),
        lambda b, i: talib.CCI(b.high[i], b.low[i], b.close[i], 20),
    ),
    Pair(
        "mfi",
        lambda b: indicators.mfi(b.high, b.low, b.close, b.volume, 14),
        lambda b, i: talib.MFI(b.high[i], b.low[i], b.close[i], b.volume[i], 14),
    ),
    Pair(
        "williams_r",
        lambda b: indicators.williams_r(b.high, b.low, b.close, 14),
        lambda b, i: talib.WILLR(b.high[i], b.low[i], b.close[i], 14),
    ),
    Pair("obv", lambda b: indicators.obv(b.close, b.volume), lambda b, i: talib.OBV(b.close[i], b.volume[i])),
)
SAR = Pair("psar", lambda b: indicators.psar(b.high, b.low, 0.02, 0.2), lambda b, i: talib.SAR(b.high[i], b.low[i]))
OWN_RECURSIONS = ("supertrend", "vwap", "anchored_vwap", "opening_range", "pivots", "gap")
OWN_OTHERS = ("relative_volume", "ichimoku", "close_to_close", "parkinson", "yang_zhang", "volume_profile")
STREAMS = ("ema", "rsi", "macd", "atr", "adx", "supertrend", "psar", "obv", "kama", "vwap", "bollinger", "yang_zhang")


def bars(seed: int, symbols: int = SYMBOLS, length: int = BARS) -> History:
    """Random walks with ranges, volumes and sessions of 78 bars."""
    chance = np.random.default_rng(seed)
    shape = (symbols, length)
    close = 100 * np.exp(np.cumsum(chance.normal(0, 0.01, shape), axis=1))
    open_ = close * np.exp(chance.normal(0, 0.004, shape))
    high = np.maximum(open_, close) * np.exp(np.abs(chance.normal(0, 0.004, shape)))
    low = np.minimum(open_, close) * np.exp(-np.abs(chance.normal(0, 0.004, shape)))
    index = np.arange(length)
    return History(
        open_,
        high,
        low,
        close,
        chance.integers(1_000, 1_000_000, shape).astype(np.float64),
        index // BARS_A_SESSION,
        index % BARS_A_SESSION,
        anchor=10,
    )


def by_row(pair: Pair, panel: History) -> list[object]:
    """The raw calls that a user would write."""
    return [pair.raw(panel, i) for i in range(SYMBOLS)]


def best_seconds(*calls: Callable[[], object]) -> list[float]:
    """The best time of each call, timed in turns."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(TURNS):
        for call, taken in zip(calls, times, strict=True):
            start = time.perf_counter()
            kept = call()
            taken.append(time.perf_counter() - start)
            del kept
    return [min(taken) for taken in times]


def stacked(pair: Pair, panel: History) -> object:
    """The raw calls, and their results as panels."""
    rows = by_row(pair, panel)
    if isinstance(rows[0], tuple):
        return tuple(np.stack(column) for column in zip(*rows, strict=True))
    return np.stack(rows)


def panel_table(panels: list[History]) -> bool:
    """Each of the fourteen, and all together; true when the floor is met."""
    print(f"\n| {SYMBOLS} x {BARS} | ots_quant µs | raw TA-Lib µs | ratio | stacked µs | ratio |")
    print("|---|---|---|---|---|---|")
    totals: list[list[float]] = [[0.0, 0.0, 0.0] for _ in panels]
    for pair in FOURTEEN:
        found = [
            best_seconds(
                lambda p=pair, b=panel: p.ours(b),
                lambda p=pair, b=panel: by_row(p, b),
                lambda p=pair, b=panel: stacked(p, b),
            )
            for panel in panels
        ]
        for total, times in zip(totals, found, strict=True):
            total[:] = [a + b for a, b in zip(total, times, strict=True)]
        report(pair.name, found)
    ratio = report("**all fourteen**", totals)
    print(f"raw: floor {PANEL_FLOOR}, goal {PANEL_GOAL}")
    return ratio <= PANEL_FLOOR


def report(name: str, times: list[list[float]]) -> float:
    """A line of medians, ours first; the median of the ratios to the second."""
    medians = [statistics.median(column) * 1e6 for column in zip(*times, strict=True)]
    ratios = [statistics.median(row[0] / row[k] for row in times) for k in range(1, len(medians))]
    others = " | ".join(f"{other:,.0f} | {ratio:.2f}" for other, ratio in zip(medians[1:], ratios, strict=True))
    print(f"| {name} | {medians[0]:,.0f} | {others} |")
    return ratios[0]


def own_table(panels: list[History]) -> bool:
    """Our own against TA-Lib's parabolic SAR of the same rows; true when every recursion meets the floor."""
    print(f"\n| {SYMBOLS} x {BARS}, own | ots_quant µs | TA-Lib SAR µs | ratio |\n|---|---|---|---|")
    met = True
    for name in (*OWN_RECURSIONS, *OWN_OTHERS):
        entry = INDICATORS[name]
        pairs = [
            best_seconds(lambda e=entry, b=panel: e.compute(b, e.defaults()), lambda b=panel: by_row(SAR, b))
            for panel in panels
        ]
        ratio = report(name if name in OWN_RECURSIONS else f"{name} (no recursion)", pairs)
        met = met and (ratio <= OWN_FLOOR or name not in OWN_RECURSIONS)
    print(f"recursions: floor {OWN_FLOOR}, goal {OWN_GOAL}")
    return met


def accuracy(panels: list[History]) -> bool:
    """The largest difference to TA-Lib, absolute or relative to the value where that is above 1."""
    supertrend = Pair(
        "supertrend",
        lambda b: indicators.supertrend(b.high, b.low, b.close, 10, 3.0),
        lambda b, i: talib.SUPERTREND(b.high[i], b.low[i], b.close[i], 10, 3.0),
    )
    worst = 0.0
    for panel in panels:
        for pair in (*FOURTEEN, supertrend):
            ours = pair.ours(panel)
            columns = ours if isinstance(ours, tuple) else (ours,)
            for i, raw in enumerate(by_row(pair, panel)):
                for mine, theirs in zip(columns, raw if isinstance(raw, tuple) else (raw,), strict=True):
                    known = np.isfinite(mine[i])
                    if np.isnan(np.where(known, theirs, 0)).any() or np.isfinite(theirs[~known & (theirs != 0)]).any():
                        worst = np.inf
                    scale = np.maximum(1, np.abs(theirs[known]))
                    worst = max(worst, float((np.abs(mine[i][known] - theirs[known]) / scale).max()))
    print(f"\nlargest difference to TA-Lib, of the fourteen and Supertrend: {worst:.1e} (floor {ACCURACY:g})")
    return worst <= ACCURACY


def stream_table() -> None:
    """The cost of one more bar, after a short and after a long history."""
    print("\n| streaming | µs a bar after 1,000 bars | after 20,000 |\n|---|---|---|")
    history = bars(99, 1, 21_000)
    rows = {name: getattr(history, name)[0] for name in ("open", "high", "low", "close", "volume")}
    every = list(History(**rows, session=history.session, slot=history.slot).bars())
    for name in STREAMS:
        entry = INDICATORS[name]
        taken = []
        for before in (1_000, 20_000):
            state = entry.begin(entry.defaults())
            for bar in every[:before]:
                state.update(bar)
            laps = []
            for lap in range(ROTATIONS):
                chunk = every[before + 100 * lap : before + 100 * (lap + 1)]
                start = time.perf_counter()
                for bar in chunk:
                    state.update(bar)
                laps.append((time.perf_counter() - start) / len(chunk))
            taken.append(statistics.median(laps) * 1e6)
        print(f"| {name} | {taken[0]:.1f} | {taken[1]:.1f} |")


def main() -> int:
    """Print the tables; 1 when a floor is missed."""
    panels = [bars(seed) for seed in range(ROTATIONS)]
    for pair in FOURTEEN:
        pair.ours(panels[0])
    print(
        f"numpy {np.__version__}, TA-Lib {talib.__version__}; medians of {ROTATIONS} rotations, best of {TURNS} turns"
    )
    met = [panel_table(panels), own_table(panels), accuracy(panels)]
    stream_table()
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
