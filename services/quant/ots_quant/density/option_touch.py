"""The probability that an option's price touches a target, or a target before a stop, within a horizon.

An option bought at 2.00 with a target of 2.15 reaches it when the spot reaches the level at which the option is worth
2.15. That level moves: time decay takes it away from the spot for a long option's target, and towards the spot for
its stop. With the option's implied volatility held constant, the level at each moment follows from the price function,
and touching the target is the first passage of the spot through that moving level (`moving_barrier`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.polynomial.chebyshev import chebvander
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import elementwise

from ots_quant import european
from ots_quant.arguments import broadcast
from ots_quant.density.assumptions import Assumption, Values, usable
from ots_quant.density.moving_barrier import Barrier, Steps, graded_steps, pass_either, pass_one
from ots_quant.density.touching import touch

_BLOCK = 8192  # contracts whose levels are found together: those of one expiration share an exercise boundary
_SLICE = 512  # contracts whose passages are solved together: keeps the (steps, contracts) tables in the cache
_OUT_OF_REACH = 40.0  # standard deviations over the horizon that stand for a level that no spot gives
_LEAST_PRICE = 1e-10  # of the strike: below it, the spot at which an option is worth that is lost in rounding
_NEXT_TO_NOTHING = 1e-12  # of the strike: the least spot that is looked at
_FARTHEST = 600.0  # log-moneyness: its exponential is still a number
# The level is smooth in time, its nearest trouble is the expiration: up to these shares of the option's life, the
# polynomial of this degree through Chebyshev's points errs by less than a ten-millionth of a standard deviation. Its
# last coefficients tell; where they are larger the level is found at each time by itself.
_DEGREES = ((4, 0.05), (8, 0.4), (16, 0.7))
_SMOOTH = 1e-7  # standard deviations over the horizon
_MOST_SECANTS, _LAST_STEP = 8, 1e-8  # of the logarithm of the spot; the error left is of higher order


class PriceFunction(Protocol):
    """`ots_quant.european.price`, `ots_quant.american.price`, or another that is monotone in the spot."""

    def __call__(
        self,
        right: ArrayLike,
        spot: ArrayLike,
        strike: ArrayLike,
        years: ArrayLike,
        rate: ArrayLike,
        dividend_yield: ArrayLike,
        volatility: ArrayLike,
        /,
    ) -> Values:
        """The prices, broadcast."""


class OptionTouch(NamedTuple):
    """The probability that an option's price touches a target within a horizon; arrays of the arguments' shape.

    probability: first passage of the spot through the level as it moves
    at_least, at_most: first passage through the level where it is farthest from, and nearest to, the spot during the
        horizon, held fixed; these bound the first in any case. For a long option's target they are the level at the
        horizon (conservative) and the level now.
    level_now, level_at_horizon: the spot at which the option is worth the target; 0 where no spot is
    """

    probability: Values
    at_least: Values
    at_most: Values
    level_now: Values
    level_at_horizon: Values
    assumption: Assumption


class OptionBracket(NamedTuple):
    """What an option's price touches first within a horizon: arrays that sum to 1, and the assumption."""

    target_first: Values
    stop_first: Values
    neither: Values
    assumption: Assumption


def spot_at_price(
    value: ArrayLike,
    right: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    rate: ArrayLike,
    dividend_yield: ArrayLike,
    volatility: ArrayLike,
    *,
    price: PriceFunction = european.price,
) -> Values:
    """The spot at which an option is worth ``value``, to 1e-11 of itself; 0 where a put is worth less at every spot.

    At ``years`` 0 the option is worth its payoff. NaN where value, strike or volatility is not positive, years is
    negative, or anything is not finite. Raises ValueError for what `arguments.broadcast` refuses.
    """
    (v, w, k, t, r, q, sigma), shape = broadcast(
        {
            "value": value,
            "right": right,
            "strike": strike,
            "years": years,
            "rate": rate,
            "dividend_yield": dividend_yield,
            "volatility": volatility,
        }
    )
    level = np.full(v.shape, np.nan)
    valid = usable(positive=(v, k, sigma), finite=(t, r, q)) & (t >= 0.0)
    with np.errstate(all="ignore"):  # as in option_touch
        contracts = _Contracts(*(x[valid] for x in (w, k, t, r, q, sigma)))
        level[valid] = _levels(contracts, v[valid], price, np.zeros(len(contracts.right)))
    return level.reshape(shape)


def option_touch(
    right: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    rate: ArrayLike,
    dividend_yield: ArrayLike,
    volatility: ArrayLike,
    target: ArrayLike,
    horizon: ArrayLike,
    *,
    price: PriceFunction = european.price,
    steps: int = 32,
) -> OptionTouch:
    """The probability that the option's price touches ``target`` (above or below its price now) within ``horizon``.

    ``horizon``: years, at most the option's own. ``target`` is a model price: to sell at the bid, add half the spread.
    ``price`` says which exercise is meant. ``steps``: the first passage is solved in ``steps`` and ``steps`` / 2 steps
    and extrapolated; at 32 it errs by under 1e-4 for levels that drift by less than a standard deviation of the spot
    within the horizon. NaN where an argument is not positive (rates may be), the horizon exceeds years, a target is
    below 1e-10 of the strike, or anything is not finite. Raises ValueError on odd steps, or steps below 4, and for
    what `arguments.broadcast` refuses.
    """
    _check(steps)
    columns, shape = _columns(right, spot, strike, years, rate, dividend_yield, volatility, horizon, target=target)
    results = np.full((5, columns[0].size), np.nan)
    valid = usable(positive=(*columns[1:4], *columns[6:]), finite=columns[4:6]) & (columns[7] <= columns[3])
    valid &= columns[8] >= _LEAST_PRICE * columns[2]
    chosen = np.flatnonzero(valid)
    with np.errstate(all="ignore"):  # numbers too large or too small for a price become NaN, which is the answer
        for start in range(0, chosen.size, _BLOCK):
            block = chosen[start : start + _BLOCK]
            results[:, block] = _touch_block(tuple(x[block] for x in columns), price, steps)
    probability, at_least, at_most, now, end = results.reshape(5, *shape)
    return OptionTouch(probability, at_least, at_most, now, end, Assumption.CONSTANT_IMPLIED_VOLATILITY)


def option_bracket(
    right: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    rate: ArrayLike,
    dividend_yield: ArrayLike,
    volatility: ArrayLike,
    target: ArrayLike,
    stop: ArrayLike,
    horizon: ArrayLike,
    *,
    price: PriceFunction = european.price,
    steps: int = 32,
) -> OptionBracket:
    """Whether the option's price touches ``target`` above it or ``stop`` below it first within ``horizon``.

    As `option_touch`, with an error under 2e-4 for such levels. A price at or beyond one of the two has touched it. NaN
    also where the target is not above the stop.
    """
    _check(steps)
    columns, shape = _columns(
        right, spot, strike, years, rate, dividend_yield, volatility, horizon, target=target, stop=stop
    )
    results = np.full((2, columns[0].size), np.nan)
    valid = usable(positive=(*columns[1:4], *columns[6:]), finite=columns[4:6])
    valid &= (columns[7] <= columns[3]) & (columns[8] > columns[9]) & (columns[9] >= _LEAST_PRICE * columns[2])
    chosen = np.flatnonzero(valid)
    with np.errstate(all="ignore"):  # as in option_touch
        for start in range(0, chosen.size, _BLOCK):
            block = chosen[start : start + _BLOCK]
            results[:, block] = _bracket_block(tuple(x[block] for x in columns), price, steps)
    hit, stopped = results.reshape(2, *shape)
    neither = np.clip(1.0 - hit - stopped, 0.0, 1.0)
    return OptionBracket(hit, stopped, neither, Assumption.CONSTANT_IMPLIED_VOLATILITY)


class _Path(NamedTuple):
    """Where the option is worth a price while time passes: log(level / spot) at ``times`` in years, both (m, n)."""

    level: Values
    times: Values

    def barrier(self, grid: _Grid, drift: Values, volatility: Values, side: Values) -> Barrier:
        """In units of the driving Brownian motion, turned over where ``side`` is -1 so that it starts above 0."""
        cap = _cap(grid.steps)
        return Barrier(
            *(
                np.clip(side * (self.level[rows] - drift * self.times[rows]) / volatility, -cap, cap)
                for rows in (grid.ends, grid.middles)
            )
        )


class _Grid(NamedTuple):
    """Steps, and which rows of a `_Path` are their ends and their middles."""

    steps: Steps
    ends: slice
    middles: slice


def _grids(horizon: Values, steps: int) -> tuple[Values, tuple[_Grid, _Grid]]:
    """Fractions of the horizon, 0 first and 1 last: the middles and the ends of half as many steps, then of all."""
    parts, grids, row = [np.zeros(1)], [], 1
    for count in (steps // 2, steps):
        one = graded_steps(horizon, count)
        grids.append(_Grid(one, slice(row + count, row + 2 * count), slice(row, row + count)))
        parts += [0.5 * (one.edges[1:] + one.edges[:-1]), one.edges[1:]]
        row += 2 * count
    return np.concatenate(parts), (grids[0], grids[1])


def _cap(steps: Steps) -> Values:
    return _OUT_OF_REACH * np.sqrt(steps.horizon)


def _check(steps: int) -> None:
    if steps < 4 or steps % 2:
        raise ValueError(f"steps must be even and at least 4, not {steps}")


def _columns(
    right: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    rate: ArrayLike,
    dividend_yield: ArrayLike,
    volatility: ArrayLike,
    horizon: ArrayLike,
    **prices: ArrayLike,
) -> tuple[tuple[Values, ...], tuple[int, ...]]:
    columns, shape = broadcast(
        {
            "right": right,
            "spot": spot,
            "strike": strike,
            "years": years,
            "rate": rate,
            "dividend_yield": dividend_yield,
            "volatility": volatility,
            "horizon": horizon,
            **prices,
        }
    )
    return columns, shape


def _extrapolated(coarse: Values, fine: Values) -> Values:
    """Richardson's extrapolation of a solution whose error goes with the square of the step."""
    return np.clip((4.0 * fine - coarse) / 3.0, 0.0, 1.0)


def _slices(columns: tuple[Values, ...], *tables: Values) -> Iterator[tuple[slice, tuple[Values, ...]]]:
    """Contracts in slices: where they are, and their columns and the tables' columns."""
    for start in range(0, columns[0].size, _SLICE):
        part = slice(start, start + _SLICE)
        yield part, (*(x[part] for x in columns), *(x[:, part] for x in tables))


def _touch_block(columns: tuple[Values, ...], price: PriceFunction, steps: int) -> Values:
    w, s, k, t, r, q, v, horizon, target = columns
    worth = np.asarray(price(w, s, k, t, r, q, v), np.float64)
    fractions, _ = _grids(horizon, steps)
    level = _log_levels(target, worth, columns[:8], fractions, price)
    results = np.empty((5, w.size))
    for part, one in _slices((*columns, worth), level):
        results[:, part] = _touch_slice(one, steps)
    return results


def _touch_slice(columns: tuple[Values, ...], steps: int) -> Values:
    w, s, _, _, r, q, v, horizon, target, worth, level = columns
    drift = r - q - 0.5 * v * v
    side = np.where(w * (target - worth) >= 0.0, 1.0, -1.0)
    fractions, grids = _grids(horizon, steps)
    path = _Path(level, fractions[:, None] * horizon)
    passages = [pass_one(path.barrier(grid, drift, v, side), grid.steps) for grid in grids]
    distance = side * level
    now, end = s * np.exp(level[0]), s * np.exp(level[-1])
    farthest, nearest = distance.max(axis=0), distance.min(axis=0)
    at_least, at_most = (
        np.where(away <= 0.0, 1.0, touch(s, s * np.exp(side * away), horizon, r, q, v).probability)
        for away in (farthest, nearest)
    )
    at_least = np.where(np.isposinf(farthest), 0.0, at_least)
    at_most = np.where(np.isposinf(nearest), 0.0, at_most)
    probability = np.clip(_extrapolated(*passages), at_least, at_most)
    there = target == worth
    return np.vstack(
        (*(np.where(there, 1.0, p) for p in (probability, at_least, at_most)), now, end),
    )


def _bracket_block(columns: tuple[Values, ...], price: PriceFunction, steps: int) -> Values:
    w, s, k, t, r, q, v, horizon, target, stop = columns
    worth = np.asarray(price(w, s, k, t, r, q, v), np.float64)
    fractions, _ = _grids(horizon, steps)
    above, below = (_log_levels(x, worth, columns[:8], fractions, price) for x in (target, stop))
    results = np.empty((2, w.size))
    for part, one in _slices((*columns, worth), above, below):
        results[:, part] = _bracket_slice(one, steps)
    return results


def _bracket_slice(columns: tuple[Values, ...], steps: int) -> Values:
    w, _, _, _, r, q, v, horizon, target, stop, worth, above, below = columns
    drift = r - q - 0.5 * v * v
    fractions, grids = _grids(horizon, steps)
    times = fractions[:, None] * horizon

    def passages(grid: _Grid) -> Values:
        up = _Path(above, times).barrier(grid, drift, v, w)
        down = _Path(below, times).barrier(grid, drift, v, -w)
        return np.stack(pass_either(up, Barrier(-down.ends, -down.middles), grid.steps))

    inside = (worth < target) & (worth > stop)
    first = _extrapolated(*(passages(grid) for grid in grids))
    first /= np.maximum(first.sum(axis=0), 1.0)
    hit = np.where(inside, first[0], worth >= target)
    stopped = np.where(inside, first[1], worth <= stop)
    return np.vstack((hit, stopped))


def _log_levels(
    value: Values, worth: Values, columns: tuple[Values, ...], fractions: Values, price: PriceFunction
) -> Values:
    """log(level / spot) at fractions of the horizons, (fractions, contracts); minus infinity where no spot reaches."""
    share, deviation = columns[7] / columns[3], columns[6] * np.sqrt(columns[7])
    level = np.empty((fractions.size, value.size))
    missing = np.ones(value.size, np.bool_)

    def found_at(chosen: NDArray[np.intp], times: Values) -> Values:
        return _levels_in_time(value[chosen], worth[chosen], tuple(x[chosen] for x in columns), times, price)

    for degree, longest in _DEGREES:
        chosen = np.flatnonzero(missing & (share <= longest))
        if not chosen.size or degree + 1 >= fractions.size:
            continue
        nodes = 0.5 - 0.5 * np.cos(np.pi * np.arange(degree + 1) / degree)
        at_nodes = found_at(chosen, nodes)
        at_nodes = np.where(np.isfinite(at_nodes), at_nodes, np.nan)
        coefficients = np.linalg.solve(chebvander(2.0 * nodes - 1.0, degree), at_nodes)
        smooth = (np.abs(coefficients[-2:]) <= _SMOOTH * deviation[chosen]).all(axis=0)
        level[:, chosen[smooth]] = chebvander(2.0 * fractions - 1.0, degree) @ coefficients[:, smooth]
        missing[chosen[smooth]] = False
    rest = np.flatnonzero(missing)
    if rest.size:
        level[:, rest] = found_at(rest, fractions)
    return level


def _levels_in_time(
    value: Values, worth: Values, columns: tuple[Values, ...], fractions: Values, price: PriceFunction
) -> Values:
    """log(level / spot) at fractions of the horizons, each found by itself."""
    w, s, k, t, r, q, v, horizon = columns
    left = np.maximum(t - fractions[:, None] * horizon, 0.0)
    contracts = _Contracts(*(np.broadcast_to(x, left.shape).reshape(-1) for x in (w, k, left, r, q, v)))
    premium = np.zeros(value.shape)
    if price is not european.price:
        premium = worth - european.price(w, s, k, t, r, q, v)
    values, premia = (np.broadcast_to(x, left.shape).reshape(-1) for x in (value, premium))
    level = _levels(contracts, values, price, premia)
    return np.asarray(np.log(level.reshape(left.shape) / s))  # minus infinity where the level is 0


class _Contracts(NamedTuple):
    right: Values
    strike: Values
    years: Values
    rate: Values
    dividend_yield: Values
    volatility: Values


def _levels(contracts: _Contracts, value: Values, price: PriceFunction, premium: Values) -> Values:
    """The spots at which price(spot) = value, arrays of one shape (n,); 0 where a put is worth less at every spot.

    ``premium``: what the option is worth beyond European exercise at some spot near. A price other than the European
    one is met by secants from the spot at which a European option is worth the value less this premium: they take
    three prices where a bracket takes eleven. Where they do not settle, the bracket answers.
    """
    expired: NDArray[np.bool_] = contracts.years <= 0.0
    living = contracts._replace(years=np.where(expired, 1.0, contracts.years))  # the expired ones are overwritten below
    if price is european.price:
        level = _bracketed(living, value, price)
    else:
        level = _by_secants(living, value, price, premium)
        open_ = np.flatnonzero(np.isnan(level))
        if open_.size:
            level[open_] = _bracketed(_Contracts(*(x[open_] for x in living)), value[open_], price)
    return np.where(expired, np.maximum(contracts.strike + contracts.right * value, 0.0), level)


def _bracketed(contracts: _Contracts, value: Values, price: PriceFunction) -> Values:
    """Bracketed root of price(exp(x)) = value in x, from bounds that hold for European and American prices alike."""
    low, high = _spot_bounds(contracts, value)

    def excess(x: Values, worth: Values, *contract: Values) -> Values:
        w, k, t, r, q, v = contract
        return np.asarray(price(w, np.exp(x), k, t, r, q, v), np.float64) - worth

    bracket = (np.log(low) - 1e-9, np.log(high) + 1e-9)
    found = elementwise.find_root(
        excess, bracket, args=(value, *contracts), tolerances={"xatol": 1e-12, "xrtol": 0.0, "fatol": 0.0, "frtol": 0.0}
    )
    too_dear = (contracts.right < 0.0) & ~found.success & (excess(bracket[0], value, *contracts) < 0.0)
    return np.where(too_dear, 0.0, np.where(found.success, np.exp(found.x), np.nan))


def _by_secants(contracts: _Contracts, value: Values, price: PriceFunction, premium: Values) -> Values:
    """Secants from the European level, the first slope being the European delta; NaN where they do not settle."""
    guess = _bracketed(contracts, np.where(premium < value, value - premium, value), european.price)
    level = np.full(value.shape, np.nan)
    low, high = _spot_bounds(contracts, value)
    active = np.flatnonzero(guess > 0.0)
    x = np.log(guess[active])
    w, k, t, r, q, v = contract = tuple(y[active] for y in contracts)
    slope = guess[active] * european.greeks(w, guess[active], *contract[1:]).delta
    before: tuple[Values, Values] | None = None
    for _ in range(_MOST_SECANTS):
        w, k, t, r, q, v = (y[active] for y in contracts)
        excess = np.asarray(price(w, np.exp(x), k, t, r, q, v), np.float64) - value[active]
        if before is not None:
            slope = np.where(x == before[0], slope, (excess - before[1]) / (x - before[0]))
        step = np.where(excess == 0.0, 0.0, -excess / slope)
        reached = x + step
        settled = np.abs(step) <= _LAST_STEP
        level[active[settled]] = np.exp(reached[settled])
        going = ~settled & (reached > np.log(low[active]) - 1e-9) & (reached < np.log(high[active]) + 1e-9)
        before = (x[going], excess[going])
        active, x, slope = active[going], reached[going], slope[going]
        if not active.size:
            break
    return level


def _spot_bounds(contracts: _Contracts, value: Values) -> tuple[Values, Values]:
    """Spots at which the option is worth less and more than ``value`` (a put: more and less), with early exercise too.

    A call is worth at most the spot and at least spot less strike, each discounted or not; a put at least strike less
    spot, and next to nothing twelve standard deviations out.
    """
    right, strike, years, rate, dividend_yield, volatility = contracts
    growth, discounted = dividend_yield * years, strike * np.exp(-rate * years)
    spread = volatility * np.sqrt(years)
    out = np.minimum(np.abs((rate - dividend_yield) * years) + spread * (12.0 + 0.5 * spread), _FARTHEST)
    parity = np.maximum(np.minimum(strike, discounted) - value, _NEXT_TO_NOTHING * strike)
    low = np.where(right > 0.0, value, parity) * np.exp(np.minimum(growth, 0.0))
    call_high = (value + np.maximum(strike, discounted)) * np.exp(np.maximum(growth, 0.0))
    return low, np.where(right > 0.0, call_high, strike * np.exp(out))
