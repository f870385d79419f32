"""The probability that an option's price touches a target, or a target before a stop, within a horizon.

An option bought at 2.00 with a target of 2.15 reaches it when the spot reaches the level at which the option is worth
2.15. That level moves: time decay takes it away from the spot for a long option's target, and towards the spot for
its stop. With the option's implied volatility held constant, the level at each moment follows from the price function,
and touching the target is the first passage of the spot through that moving level (`moving_barrier`).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import elementwise

from ots_quant import european
from ots_quant.arguments import broadcast
from ots_quant.density.assumptions import Assumption, Values, usable
from ots_quant.density.moving_barrier import Barrier, Steps, graded_steps, pass_either, pass_one
from ots_quant.density.touching import touch

_BLOCK = 1024  # contracts worked on together: keeps the (steps, contracts) tables in the cache
_OUT_OF_REACH = 40.0  # standard deviations over the horizon that stand for a level that no spot gives
_LEAST_PRICE = 1e-10  # of the strike: below it, the spot at which an option is worth that is lost in rounding
_NEXT_TO_NOTHING = 1e-12  # of the strike: the least spot that is looked at
_FARTHEST = 600.0  # log-moneyness: its exponential is still a number


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
        level[valid] = _levels(_Contracts(*(x[valid] for x in (w, k, t, r, q, sigma))), v[valid], price)
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


class _Level(NamedTuple):
    """Where the option is worth a price, as the logarithm of level over spot: (m, n) at the steps' ends and middles."""

    ends: Values
    middles: Values
    start: Values

    def barrier(self, steps: Steps, drift: Values, volatility: Values, side: Values) -> Barrier:
        """In units of the driving Brownian motion, turned over where ``side`` is -1 so that it starts above 0."""
        return Barrier(
            *(
                np.clip(side * (level - drift * times) / volatility, -_cap(steps), _cap(steps))
                for level, times in ((self.ends, steps.ends), (self.middles, steps.middles))
            )
        )


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


def _touch_block(columns: tuple[Values, ...], price: PriceFunction, steps: int) -> Values:
    w, s, k, t, r, q, v, horizon, target = columns
    drift = r - q - 0.5 * v * v
    worth = np.asarray(price(w, s, k, t, r, q, v), np.float64)
    side = np.where(w * (target - worth) >= 0.0, 1.0, -1.0)

    grids = (graded_steps(horizon, steps // 2), graded_steps(horizon, steps))
    paths = [_level(target, columns, grid, price) for grid in grids]
    passages = [pass_one(path.barrier(grid, drift, v, side), grid) for path, grid in zip(paths, grids, strict=True)]
    path = paths[-1]
    distance = side * np.vstack((path.start, path.middles, path.ends))
    now, end = s * np.exp(path.start), s * np.exp(path.ends[-1])
    at_least, at_most = (
        np.where(away > 0.0, touch(s, s * np.exp(side * away), horizon, r, q, v).probability, 1.0)
        for away in (distance.max(axis=0), distance.min(axis=0))
    )
    at_least = np.where(np.isposinf(distance.max(axis=0)), 0.0, at_least)
    at_most = np.where(np.isposinf(distance.min(axis=0)), 0.0, at_most)
    probability = np.clip(_extrapolated(*passages), at_least, at_most)
    there = target == worth
    return np.vstack(
        (*(np.where(there, 1.0, p) for p in (probability, at_least, at_most)), now, end),
    )


def _bracket_block(columns: tuple[Values, ...], price: PriceFunction, steps: int) -> Values:
    w, s, k, t, r, q, v, horizon, target, stop = columns
    drift = r - q - 0.5 * v * v
    worth = np.asarray(price(w, s, k, t, r, q, v), np.float64)

    def passages(grid: Steps) -> Values:
        up = _level(target, columns, grid, price).barrier(grid, drift, v, w)
        down = _level(stop, columns, grid, price).barrier(grid, drift, v, -w)
        return np.stack(pass_either(up, Barrier(-down.ends, -down.middles), grid))

    inside = (worth < target) & (worth > stop)
    first = _extrapolated(passages(graded_steps(horizon, steps // 2)), passages(graded_steps(horizon, steps)))
    first /= np.maximum(first.sum(axis=0), 1.0)
    hit = np.where(inside, first[0], worth >= target)
    stopped = np.where(inside, first[1], worth <= stop)
    return np.vstack((hit, stopped))


def _level(value: Values, columns: tuple[Values, ...], steps: Steps, price: PriceFunction) -> _Level:
    w, s, k, t, r, q, v, horizon = columns[:8]
    times = np.vstack((np.zeros_like(horizon)[None], steps.ends, steps.middles))
    left = np.maximum(t - times, 0.0)
    contracts = _Contracts(*(np.broadcast_to(x, left.shape) for x in (w, k, left, r, q, v)))
    level = _levels(contracts, np.broadcast_to(value, left.shape), price)
    log_level = np.log(level / s)  # minus infinity where the level is 0, which no spot reaches
    count = len(steps.edges) - 1
    return _Level(log_level[1 : count + 1], log_level[count + 1 :], log_level[0])


class _Contracts(NamedTuple):
    right: Values
    strike: Values
    years: Values
    rate: Values
    dividend_yield: Values
    volatility: Values


def _levels(contracts: _Contracts, value: Values, price: PriceFunction) -> Values:
    """Bracketed root of price(exp(x)) = value in x, from bounds that hold for European and American prices alike."""
    expired: NDArray[np.bool_] = contracts.years <= 0.0
    living = contracts._replace(years=np.where(expired, 1.0, contracts.years))  # the expired ones are overwritten below
    low, high = _spot_bounds(living, value)

    def excess(x: Values, worth: Values, *contract: Values) -> Values:
        w, k, t, r, q, v = contract
        return np.asarray(price(w, np.exp(x), k, t, r, q, v), np.float64) - worth

    bracket = (np.log(low) - 1e-9, np.log(high) + 1e-9)
    found = elementwise.find_root(
        excess, bracket, args=(value, *living), tolerances={"xatol": 1e-12, "xrtol": 0.0, "fatol": 0.0, "frtol": 0.0}
    )
    too_dear = (living.right < 0.0) & ~found.success & (excess(bracket[0], value, *living) < 0.0)
    level = np.where(too_dear, 0.0, np.where(found.success, np.exp(found.x), np.nan))
    return np.where(expired, np.maximum(contracts.strike + contracts.right * value, 0.0), level)


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
