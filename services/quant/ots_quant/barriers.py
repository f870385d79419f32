"""Which barrier a position touches first: its target, its stop, or the time; on a lattice of the spot's logarithm.

A position is worth the sum of its legs' mids less what leaving costs: a share of each mid, as wide as the spread was at
the entry. Each leg keeps its implied volatility and the spot is a geometric Brownian motion, so that in a market
without drift of its own (``rate`` - ``dividend_yield``) and with the legs' volatilities as the spot's, mids are
martingales: what is expected of any stop and target is then the cost, whatever the odds of the target.

The lattice moves with the drift, its steps in space are sqrt(3) standard deviations of a step in time, moves have the
weights 1/6, 2/3, 1/6 (the moments of a normal law up to the fifth). A barrier between two nodes is put where the value
passes it, by the implicit form of the difference over uneven intervals, so that what is linear stays exact. Barriers
that are looked at only now and then lie 0.5826 standard deviations of an interval farther away (Broadie, Glasserman and
Kou, "A continuity correction for discrete barrier options", Math. Finance 7 (1997)).

**One clock.** ``years``, ``horizon``, ``interval`` and both volatilities are of one clock. Options live by the
calendar, while the spot of an exchange that closes moves in its sessions: `on_clock` turns a volatility to that time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ots_quant import european
from ots_quant.arguments import numbers
from ots_quant.density.touching import OVERSHOOT

Values = NDArray[np.float64]

_UP = 1.0 / 6.0  # and down
_SPACE = 3.0**0.5  # standard deviations of a time step
_REACH = 4.5  # standard deviations of the horizon to each side
_LEAST_SHARE = 1e-9  # of a step: a barrier nearer to a node is at it
_TOGETHER = 16  # positions on one lattice: their tables stay in the cache


class HeldLegs(NamedTuple):
    """The legs of n positions, arrays of shape (n, legs); a position with fewer has legs of quantity 0.

    right: +1 call, -1 put
    strike: in the unit of the spot; years: to expiration; volatility: implied, decimal a year
    quantity: above 0 bought, below 0 sold
    mid, half_spread: now, in the unit of the spot
    """

    right: Values
    strike: Values
    years: Values
    volatility: Values
    quantity: Values
    mid: Values
    half_spread: Values


class Terms(NamedTuple):
    """Where n positions end, arrays of shape (n,): levels of the value that can be had, in the unit of the spot.

    target, stop: above and below what can be had now; horizon: years until the time stop
    """

    target: Values
    stop: Values
    horizon: Values


class FirstBarrier(NamedTuple):
    """Arrays of shape (n,). Probabilities sum to 1; values are what leaving brings, in the unit of the spot.

    at_target: the target itself, a limit order's price
    at_stop: the mean where the stop is left at: below the stop if it is looked at only now and then
    at_timeout: the mean of what is had at the horizon where neither was touched
    expected: of all three
    A mean of what has no probability is NaN.
    """

    target: Values
    stop: Values
    timeout: Values
    at_target: Values
    at_stop: Values
    at_timeout: Values
    expected: Values


def on_clock(volatility: ArrayLike, years: ArrayLike, other_years: ArrayLike) -> Values:
    """The volatility on another clock: the variance to expiration is the same. Shapes broadcast."""
    return np.asarray(
        numbers("volatility", volatility) * np.sqrt(numbers("years", years) / numbers("other_years", other_years))
    )


def first_barrier(
    legs: HeldLegs,
    terms: Terms,
    spot: ArrayLike,
    volatility: ArrayLike,
    rate: ArrayLike = 0.0,
    dividend_yield: ArrayLike = 0.0,
    *,
    drift: ArrayLike | None = None,
    interval: ArrayLike = 0.0,
    steps: int = 64,
) -> FirstBarrier:
    """Odds of target, stop and time, and what is expected, of n positions.

    ``spot``, ``volatility`` of the spot, ``rate``, ``dividend_yield`` (of the legs' prices) and ``drift`` of the spot
    (``rate`` - ``dividend_yield`` if it is not given), all a year: numbers or shape (n,). ``interval``: years between
    two looks at the barriers, 0 watches continuously. Against the passage of a moving level (`density.option_touch`)
    the odds of one leg err by under 0.005 where barriers are a quarter of the horizon's deviation away or more.

    A position at or beyond a barrier now has touched it. NaN where a leg expires before the horizon, the target is not
    above the stop, a leg has no model value, or a number is bad. Raises ValueError for shapes that do not fit.
    """
    table = HeldLegs(*(np.atleast_2d(numbers(name, x)) for name, x in zip(HeldLegs._fields, legs, strict=True)))
    n = len(table.strike)
    if any(x.shape != table.strike.shape for x in table):
        raise ValueError("legs must be arrays of one shape (n, legs)")
    if steps < 2:
        raise ValueError(f"steps must be at least 2, not {steps}")
    target, stop, horizon = (_column(name, x, n) for name, x in zip(Terms._fields, terms, strict=True))
    s, sigma, r, q, gap = (
        _column(name, x, n)
        for name, x in (
            ("spot", spot),
            ("volatility", volatility),
            ("rate", rate),
            ("dividend_yield", dividend_yield),
            ("interval", interval),
        )
    )
    mu = r - q if drift is None else _column("drift", drift, n)
    result = np.full((len(FirstBarrier._fields), n), np.nan)
    used = table.quantity != 0.0
    with np.errstate(all="ignore"):  # bad elements are not valid
        numbers_are_good = np.isfinite(np.stack((target, stop, r, q, mu, gap))).all(axis=0)
        valid = numbers_are_good & (s > 0.0) & (sigma > 0.0) & (horizon > 0.0) & (target > stop) & (gap >= 0.0)
        valid &= np.isfinite(s) & np.isfinite(sigma) & used.any(axis=1)
        sound = (table.strike > 0.0) & (table.volatility > 0.0) & (table.mid > 0.0) & (table.half_spread >= 0.0)
        sound &= (table.years >= horizon[:, None]) & np.isfinite(np.stack(table)).all(axis=0)
        valid &= (sound | ~used).all(axis=1)
        chosen = np.flatnonzero(valid)
        for start in range(0, chosen.size, _TOGETHER):
            part = chosen[start : start + _TOGETHER]
            columns = tuple(x[part] for x in (s, sigma, r, q, mu, gap))
            ends = Terms(target[part], stop[part], horizon[part])
            result[:, part] = _solve(HeldLegs(*(x[part] for x in table)), ends, columns, steps)
    return FirstBarrier(*result)


def _column(name: str, value: ArrayLike, n: int) -> Values:
    array = numbers(name, value)
    if array.shape not in ((), (1,), (n,)):
        raise ValueError(f"{name} has shape {array.shape}, of {n} positions")
    return np.broadcast_to(array, (n,))


def _solve(legs: HeldLegs, ends: Terms, columns: tuple[Values, ...], steps: int) -> Values:
    """One lattice for some positions: (7, n)."""
    s, sigma, r, q, mu, gap = columns
    half = int(np.ceil(_REACH * np.sqrt(steps) / _SPACE))
    space = _SPACE * sigma * np.sqrt(ends.horizon / steps)
    nodes = np.arange(-half, half + 1) * space[:, None]  # (n, nodes)
    times = np.arange(steps + 1)[:, None] / steps * ends.horizon  # (times, n)
    logs = nodes + ((mu - 0.5 * sigma * sigma) * times)[:, :, None]  # (times, n, nodes)
    value = _value(legs, s[:, None] * np.exp(logs), times, r, q)

    slope = np.abs(np.gradient(value, axis=2)) / space[:, None]
    farther = OVERSHOOT * (sigma * np.sqrt(gap))[:, None] * slope
    above = value - ends.target[:, None] - farther  # above 0: beyond the target
    below = ends.stop[:, None] - farther - value  # above 0: beyond the stop
    # at the time of entry nothing has been looked at yet from afar: the position stands where it stands
    out_above, out_below = above >= 0.0, below >= 0.0
    left_at = ends.stop[:, None] - farther

    kept = ~(out_above | out_below)
    pulls = np.zeros((4, *value.shape))  # to: target, stop, what the stop brings, (timeout: nothing)
    total = np.zeros_like(value)
    for excess, out, brings in ((above, out_above, None), (below, out_below, left_at)):
        pull = _pull(excess, out)
        total += pull
        if brings is None:
            pulls[0] += pull
        else:
            pulls[1] += pull
            pulls[2] += pull * brings
    weight = np.where(kept, 1.0 / (1.0 + total), 0.0)
    pulls *= weight
    for row, there in ((pulls[0], out_above), (pulls[1], out_below)):
        row[there] = 1.0
    pulls[2][out_below] = left_at[out_below]

    now = np.where(kept[-1], 0.0, pulls[:, -1])
    now[3] = np.where(kept[-1], value[-1], 0.0)
    weight, source = weight[..., 1:-1], np.ascontiguousarray(np.swapaxes(pulls, 0, 1)[..., 1:-1])
    for k in range(steps - 1, -1, -1):
        # the outermost nodes, beyond _REACH, keep what they have
        moved = now[..., :-2] + now[..., 2:]
        moved *= _UP
        inner = now[..., 1:-1]
        inner *= 1.0 - 2.0 * _UP
        inner += moved
        inner *= weight[k]
        inner += source[k]
    hit, stopped, brought, late = now[:, :, half]
    here = value[0, :, half]
    there, gone = here >= ends.target, here <= ends.stop
    hit = np.where(there, 1.0, np.where(gone, 0.0, np.clip(hit, 0.0, 1.0)))
    stopped = np.where(gone, 1.0, np.where(there, 0.0, np.clip(stopped, 0.0, 1.0 - hit)))
    brought = np.where(gone, here, np.where(there, 0.0, brought))
    late = np.where(gone | there, 0.0, late)
    rest = np.clip(1.0 - hit - stopped, 0.0, 1.0)
    bad = ~np.isfinite(value).all(axis=(0, 2))
    found = np.stack(
        (
            hit,
            stopped,
            rest,
            np.where(hit > 0.0, ends.target, np.nan),
            np.where(stopped > 0.0, brought / stopped, np.nan),
            np.where(rest > 1e-12, late / rest, np.nan),
            hit * ends.target + brought + late,
        )
    )
    found[:, bad] = np.nan
    return found


def _pull(excess: Values, out: NDArray[np.bool_]) -> Values:
    """How strongly the barrier next to a node pulls, beyond the node behind it: p (1 - share) / share, for each side.

    ``share`` of the step to the next node at which the barrier lies. With it the implicit update
    (moved + pull * there) / (1 + pull) leaves a value that is linear up to the barrier as it is.
    """
    pull = np.zeros_like(excess)
    for step in (1, -1):
        at = np.nonzero(~out[..., 1:-1] & np.roll(out, -step, axis=-1)[..., 1:-1])
        inner = (*at[:-1], at[-1] + 1)
        here, ahead, behind = (excess[(*at[:-1], inner[-1] + move)] for move in (0, step, -step))
        rise, bend = 0.5 * (ahead - behind), 0.5 * (ahead - 2.0 * here + behind)
        # the parabola through three nodes, from the chord by two steps of Newton
        share = here / (here - ahead)
        for _ in range(2):
            share = share - (here + share * (rise + share * bend)) / (rise + 2.0 * share * bend)
        share = np.where(np.isfinite(share), np.clip(share, _LEAST_SHARE, 1.0), 1.0)
        pull[inner] += _UP * (1.0 - share) / share
    return pull


def _value(legs: HeldLegs, spots: Values, times: Values, rate: Values, dividend_yield: Values) -> Values:
    """What leaving brings at spots (times, n, nodes)."""
    total = np.zeros_like(spots)
    half = spots.shape[2] // 2
    for j in range(legs.strike.shape[1]):
        quantity = legs.quantity[:, j]
        used = quantity != 0.0
        if not used.any():
            continue
        # the padding of a shorter position is priced as a contract that counts for nothing
        right, strike, years, volatility, mid = (
            np.where(used, x[:, j], 1.0) for x in (legs.right, legs.strike, legs.years, legs.volatility, legs.mid)
        )
        left = np.maximum(years - times, 0.0)
        model = european.price(
            right[:, None],
            spots,
            strike[:, None],
            left[:, :, None],
            rate[:, None],
            dividend_yield[:, None],
            volatility[:, None],
        )
        # as quoted, not as modelled: early exercise and rounding stay in the ratio
        share = np.where(used, legs.half_spread[:, j], 0.0) / mid
        factor = quantity * mid / model[0, :, half] * (1.0 - np.sign(quantity) * share)
        total += np.where(used, factor, 0.0)[:, None] * model
    return total
