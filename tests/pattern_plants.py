"""Formations planted into block-bootstrapped real days, and how many of them are found; and what is found without.

A surrogate is made of real bars, drawn in blocks (the stationary bootstrap of Politis and Romano, JASA 89, 1994) and
chained by their returns: it has the market's volatility, gaps, ranges and volumes, and no formation but by chance. A
plant replaces a stretch of its closes by a template, plus ``noise`` times the stretch's own path (pinned to zero at
both ends), and keeps the bars' ranges. At noise 0 the closes are the template, at 1 the full real noise lies on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ots_quant.patterns import Detector, PriceBars, price_bars, scan

Floats = NDArray[np.float64]
MEAN_BLOCK = 20
BEFORE, AFTER = 120, 40
LATE_BARS = 15  # a plant counts as found up to so many bars after its last knot


class Days(NamedTuple):
    """Real days relative to the close before, in logs, shape (n,); ``volume`` relative to the 20 days before."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats


def relative_days(bars: PriceBars) -> Days:
    """The days from the 21st on."""
    volume = np.lib.stride_tricks.sliding_window_view(bars.volume, 20)[:-1].mean(axis=1)
    logs = [np.log(getattr(bars, name)[20:] / bars.close[19:-1]) for name in ("open", "high", "low", "close")]
    return Days(*logs, volume=bars.volume[20:] / volume)


def resample(days: Days, length: int, chance: np.random.Generator) -> Days:
    """``length`` days in blocks of geometric length."""
    n = len(days.close)
    new = chance.random(length) < 1 / MEAN_BLOCK
    new[0] = True
    starts = chance.integers(0, n, length)
    since = np.arange(length) - np.maximum.accumulate(np.where(new, np.arange(length), 0))
    rows = (starts[np.maximum.accumulate(np.where(new, np.arange(length), 0))] + since) % n
    return Days._make(column[rows] for column in days)


def chain(days: Days, path: Floats | None = None) -> PriceBars:
    """Bars from relative days; ``path`` gives the log closes where they are not the days' own."""
    closes = np.cumsum(days.close) if path is None else path
    before = np.append(0.0, closes[:-1])
    own = closes - days.close  # a bar keeps its range around its close
    opened = np.where(closes - before == days.close, before, own) + days.open
    high = np.maximum.reduce([own + days.high, closes, opened])
    low = np.minimum.reduce([own + days.low, closes, opened])
    return price_bars(*(100 * np.exp(log) for log in (opened, high, low, closes)), 1e6 * days.volume)


@dataclass(frozen=True)
class Template:
    """A path through ``heights`` (of the amplitude). Legs last 7 to 13 bars: each its own number, or one for all
    where the heights lie on straight lines (``even``), or those of ``bars``.
    """

    heights: tuple[float, ...]
    even: bool = False
    bars: tuple[int, ...] = ()

    def mirrored(self) -> Template:
        return Template(tuple(-height for height in self.heights), self.even, self.bars)

    def legs(self, chance: np.random.Generator) -> NDArray[np.int64]:
        """The bars of each leg."""
        m = len(self.heights) - 1
        drawn = chance.integers(7, 14, 1 if self.even else m)
        return np.array(self.bars) if self.bars else np.broadcast_to(drawn, m)


_TOPS = {
    "double_top": Template((0, 1, 0.35, 1, -0.2)),
    "triple_top": Template((0, 1, 0.4, 1, 0.4, 1, -0.2)),
    "head_and_shoulders": Template((0, 0.75, 0.35, 1.15, 0.35, 0.75, -0.2)),
    "rising_wedge": Template((0, 0.6, 0.1, 0.8, 0.55, 1.0, 0.2), even=True),
    "bear_flag": Template((0, -1, -0.75, -1.4), bars=(7, 10, 6)),
    "falling_channel": Template((0, -0.7, -0.2, -0.9, -0.4, -1.1, -0.8), even=True),
    "descending_triangle": Template((0, -1, -0.1, -1, -0.45, -1, -0.75, -1.5), even=True),
}
_BOTTOMS = {
    "double_bottom": "double_top",
    "triple_bottom": "triple_top",
    "inverse_head_and_shoulders": "head_and_shoulders",
    "falling_wedge": "rising_wedge",
    "bull_flag": "bear_flag",
    "rising_channel": "falling_channel",
    "ascending_triangle": "descending_triangle",
}
TEMPLATES: dict[str, Template] = {
    **_TOPS,
    **{name: _TOPS[top].mirrored() for name, top in _BOTTOMS.items()},
    "symmetrical_triangle": Template((0, 1, 0.15, 0.85, 0.3, 0.7, 0.45, 1.3), even=True),
    "rectangle": Template((0, 1, 0.4, 1, 0.4, 1, 0.4, 1.4), even=True),
}


@dataclass(frozen=True)
class Plant:
    """A surrogate with a plant in it, the same one without, and where the plant is."""

    with_it: PriceBars
    without: PriceBars
    first: int
    last: int


def plant(days: Days, template: Template, noise: float, chance: np.random.Generator) -> Plant:
    """One plant, its amplitude 9 to 14 average ranges of the days."""
    knots = np.append(0, np.cumsum(template.legs(chance)))
    length = int(knots[-1])
    own = resample(days, BEFORE + length + AFTER, chance)
    usual_range = float(np.mean(days.high - days.low))
    shape = np.interp(np.arange(1, length + 1), knots, template.heights) * usual_range * chance.uniform(9, 14)
    closes = np.cumsum(own.close)
    start = closes[BEFORE - 1]
    stretch = closes[BEFORE : BEFORE + length] - start
    bridge = stretch - stretch[-1] * np.arange(1, length + 1) / length
    planted = closes.copy()
    planted[BEFORE : BEFORE + length] = start + shape + noise * bridge
    planted[BEFORE + length :] += planted[BEFORE + length - 1] - closes[BEFORE + length - 1]
    return Plant(chain(own, planted), chain(own), BEFORE, BEFORE + length)


def is_found(detector: Detector, bars: PriceBars, first: int, last: int) -> bool:
    """Whether an event lies in the plant: begun in it, or with three pivots in it, and known in it or soon after.

    Five bars before the plant count as in it: its first turn may be a little earlier than its first knot.
    """
    events = scan(bars, [detector]).found[0][1]
    begun = (events.start >= first - 5) | ((events.swings.at >= first - 5).sum(axis=1) >= 3)
    known = (events.confirmed > first) & (events.confirmed < last + LATE_BARS)
    return bool((begun & known).any())


class Recall(NamedTuple):
    """The share of plants found, and of the same stretches without a plant in which the type was seen all the same."""

    found: float
    by_chance: float
    plants: int


def recall(
    pools: Iterable[Days], detector: Detector, template: Template, noise: float, plants: int, seed: int
) -> Recall:
    """Over ``plants`` plants, drawn from the pools in turn."""
    chance = np.random.default_rng(seed)
    sources = list(pools)
    found = without = 0
    for i in range(plants):
        made = plant(sources[i % len(sources)], template, noise, chance)
        found += is_found(detector, made.with_it, made.first, made.last)
        without += is_found(detector, made.without, made.first, made.last)
    return Recall(found / plants, without / plants, plants)


def false_alarms(
    pools: Iterable[Days], detectors: Iterable[Detector], series: int, bars: int, seed: int
) -> dict[str, float]:
    """Events per 1,000 bars of surrogates without a plant."""
    chance = np.random.default_rng(seed)
    sources, chosen = list(pools), list(detectors)
    counts = dict.fromkeys((detector.name for detector in chosen), 0)
    for i in range(series):
        for detector, events in scan(chain(resample(sources[i % len(sources)], bars, chance)), chosen).found:
            counts[detector.name] += len(events)
    return {name: 1000 * count / (series * bars) for name, count in counts.items()}
