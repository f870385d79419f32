"""Bars for the tests of patterns: random walks with gaps and stretches in which nothing moves."""

from __future__ import annotations

import numpy as np

from ots_quant.patterns import DETECTORS, PriceBars, price_bars, scan

FIELDS = ("open", "high", "low", "close", "volume")


def random_walk(seed: int, bars: int, *, tick: float = 0.0, flat: float = 0.1, gaps: float = 0.05) -> PriceBars:
    """A walk with ``gaps`` (the share of bars that open elsewhere) and ``flat`` stretches; on ticks where asked for."""
    chance = np.random.default_rng(seed)
    volatility = 0.02 * np.exp(0.5 * chance.normal(size=bars // 50 + 1)).repeat(50)[:bars]
    moves = volatility * chance.normal(size=bars)
    jumps = np.where(chance.random(bars) < gaps, 2 * volatility * chance.normal(size=bars), 0.0)
    still = np.zeros(bars, bool)
    for start in np.flatnonzero(chance.random(bars) < flat / 20):
        still[start : start + chance.integers(5, 60)] = True
    moves[still], jumps[still] = 0.0, 0.0
    close = 100 * np.exp(np.cumsum(moves + jumps))
    open_ = np.append(100.0, close[:-1])[:bars] * np.exp(jumps)
    wick = np.where(still, 0.0, volatility)
    high = np.maximum(open_, close) * np.exp(wick * np.abs(chance.normal(size=bars)) / 2)
    low = np.minimum(open_, close) * np.exp(-wick * np.abs(chance.normal(size=bars)) / 2)
    prices = [np.maximum(np.round(p / tick) * tick, tick) if tick else p for p in (open_, high, low, close)]
    volume = np.where(chance.random(bars) < 0.1, 0.0, chance.integers(1, 10**6, bars)).astype(float)
    return price_bars(*prices, volume)


def first(bars: PriceBars, number: int) -> PriceBars:
    return part(bars, slice(number))


def part(bars: PriceBars, which: slice) -> PriceBars:
    return price_bars(*(getattr(bars, name)[which] for name in FIELDS))


def known_by(bars: PriceBars, at: int, names: list[str] | None = None) -> list[tuple]:
    """All events confirmed at the close of bar ``at`` or before, to their last digit."""
    chosen = DETECTORS if names is None else names
    events = scan(bars, [DETECTORS[name] for name in chosen]).events()
    return [comparable(event) for event in events if event.confirmed <= at]


def comparable(event) -> tuple:
    """An event with its numbers by their bits, so that NaN equals NaN."""
    numbers = (event.neckline, event.target, event.invalidation, event.score, *(value for _, value in event.parts))
    return (
        event.detector.name,
        event.direction,
        event.start,
        event.end,
        event.confirmed,
        event.pivots,
        tuple(float(number).hex() for number in numbers),
    )
