"""Bars to compute indicators of: rising, falling, flat, tied, without volume, with holes between sessions."""

from dataclasses import replace

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from ots_quant.indicators.history import History

SLOTS = 8


def history(seed, bars, *, tick=None, flat=0.0, silent=0.0, outside=0.0, rows=None):
    """A random walk, on a grid of ``tick``, with shares of bars that stand still, have no volume, are in no session."""
    chance = np.random.default_rng(seed)
    shape = (bars,) if rows is None else (rows, bars)
    moves = chance.normal(0, 0.01, shape) * (chance.random(shape) >= flat)
    close = 100 * np.exp(np.cumsum(moves, axis=-1))
    still = chance.random(shape) < flat
    open_ = np.where(still, close, close * np.exp(chance.normal(0, 0.005, shape)))
    high = np.maximum(open_, close) * np.where(still, 1, np.exp(np.abs(chance.normal(0, 0.004, shape))))
    low = np.minimum(open_, close) / np.where(still, 1, np.exp(np.abs(chance.normal(0, 0.004, shape))))
    volume = np.where(chance.random(shape) < silent, 0.0, chance.integers(1, 10_000, shape).astype(float))
    if tick is not None:
        open_, high, low, close = (np.maximum(np.round(x / tick), 1) * tick for x in (open_, high, low, close))
    # some slots have no bar, and some session numbers no session
    slots = np.sort(chance.choice(3 * bars + 3 * SLOTS, bars, replace=False)) if bars else np.zeros(0, np.int64)
    session = np.where(chance.random(bars) < outside, -1, slots // (2 * SLOTS))
    return History(open_, high, low, close, volume, session, slots % (2 * SLOTS), anchor=min(2, max(bars - 1, 0)))


def part(whole, first, last, *, anchor=None):
    """Bars ``first`` to ``last`` (not included) of a history."""
    cut = {
        name: getattr(whole, name)[..., first:last]
        for name in ("open", "high", "low", "close", "volume", "session", "slot")
    }
    return replace(whole, **cut, anchor=whole.anchor if anchor is None else anchor)


def row(panel, index):
    """One row of a panel of bars."""
    return replace(panel, **{name: getattr(panel, name)[index] for name in ("open", "high", "low", "close", "volume")})


@st.composite
def histories(draw, least=1, most=160, rows=None):
    """Any such bars."""
    return history(
        draw(st.integers(0, 2**32)),
        draw(st.integers(least, most)),
        tick=draw(st.sampled_from([None, 0.01, 1.0, 5.0])),
        flat=draw(st.sampled_from([0.0, 0.0, 0.3, 1.0])),
        silent=draw(st.sampled_from([0.0, 0.2, 1.0])),
        outside=draw(st.sampled_from([0.0, 0.2, 1.0])),
        rows=rows,
    )


@st.composite
def parameters(draw, indicator, most=20):
    """Any parameters that the indicator allows; whole ones are small, so that short histories have values."""
    values = {}
    for parameter in indicator.parameters:
        if parameter.whole:
            values[parameter.name] = draw(st.integers(int(parameter.least), max(int(parameter.least), most)))
        else:
            values[parameter.name] = draw(st.floats(parameter.least, parameter.most))
    if not all(rule.holds(values) for rule in indicator.rules):
        # every rule so far wants an order: fast below slow
        ordered = zip(indicator.parameters, sorted(values.values()), strict=True)
        values = {parameter.name: max(value, parameter.least) for parameter, value in ordered}
    assume(all(rule.holds(values) for rule in indicator.rules))
    return values
