"""The forward, the rate and the dividend yield that a chain implies, one each per expiration, from put-call parity.

European options: C - P = D (F - K) with D = e^(-rT) (Stoll 1969, J. Finance 24(5), 801). Each strike with a two-sided
call and a two-sided put gives a mid forward K + (C - P) / D, and an executable interval around it: above it the
forward could be bought through the two options for less than it is worth, below it sold for more.

American options obey only S e^(-qT) - K <= C - P <= S - K e^(-rT) (Merton 1973, Bell J. 4(1), 141, for q = 0), so they
are made European first: the early exercise premium of both legs, American minus European price at the volatility of
the out-of-the-money leg of the strike, is taken off. It depends on the forward through the dividend yield, so this
is repeated to a fixed point. Dividends enter as a continuous yield to the expiration.

Estimate: Huber's M-estimate, then Tukey's biweight from there, weights 1 / spread^2 (Huber & Ronchetti 2009, Robust
Statistics, chapter 7): of the forward where the rate is given, else of the line C - P over K, whose slope is -D.

Interval: the forwards that at least nine of ten pairs would not contradict at their executable prices (where fewer
agree on anything, as many as do; Marzullo 1984), and at least 1.96 standard errors to each side. It says what quotes
allow; it is not a statement about where the forward will be.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ots_quant import american as american_options
from ots_quant import european
from ots_quant.arguments import broadcast, numbers

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

AGREEMENT = 0.9
"""Share of an expiration's pairs that a forward inside the interval agrees with."""
RATE_HALF_WIDTH = 0.015
"""A rate counts as identified when its interval reaches no further than this to each side."""

_NORMAL_95 = 1.96
_SAME_EXPIRATION_YEARS = 1e-7  # three seconds
_STEPS = 8  # of a fixed point, where four to six are the rule
_SETTLED = 2  # steps after which weights stay: moving ones can make a cycle of two of the fixed point
_PREMIUM_TOLERANCE = 1e-6  # of spot
_RATE_TOLERANCE = 1e-6
_RATE_SCAN = 121
_HUBER_STEPS, _BIWEIGHT_STEPS = 12, 8
_LEAST_SCALE = 0.01  # half-spreads: pairs that agree better than this are not told apart
_NARROWEST = 0.2  # a spread counts as at least this share of its expiration's median


class Reason(IntEnum):
    """Why an expiration has no forward."""

    NONE = 0
    EXPIRED = 1
    NO_PAIRS = 2
    """No strike has a call and a put that are both quoted on two sides and not crossed."""
    NO_RATE = 3
    """The rate given is not a number, or none was given and no expiration identifies one."""
    PAIRS_DISAGREE = 4
    """No positive forward agrees with half of the pairs: stale quotes, a wrong rate, contracts not of one class."""


class Carry(NamedTuple):
    """What a pricing formula needs of an expiration, per contract."""

    forward: Values
    rate: Values
    dividend_yield: Values


class Forwards(NamedTuple):
    """One row per expiration, nearest first: arrays of shape (expirations,); NaN where `reason` says why.

    ``rate`` is continuously compounded; where none was given it is the chain's own, and ``rate_low`` to
    ``rate_high`` is its interval. An expiration that does not identify a rate (`RATE_HALF_WIDTH`) takes it from those
    which do, linear in time between them and constant beyond.
    ``dividend_yield`` is rate - ln(forward / spot) / years: dividends, borrow, and any error of the rate or the spot.
    Its interval is that of the forward, and that of the rate where it is estimated.
    """

    years: Values
    forward: Values
    forward_low: Values
    forward_high: Values
    rate: Values
    rate_low: Values
    rate_high: Values
    rate_identified: Mask
    """True where the rate was given or is this expiration's own."""
    dividend_yield: Values
    dividend_yield_low: Values
    dividend_yield_high: Values
    pairs_quoted: NDArray[np.int64]
    """Strikes with a two-sided, uncrossed call and put."""
    pairs_used: NDArray[np.int64]
    """Those with a weight in the estimate."""
    reason: NDArray[np.int64]

    def carry_of(self, years: ArrayLike) -> Carry:
        """Forward, rate and dividend yield of each contract's expiration; NaN where it has none."""
        rows = self.rows_of(years)
        return Carry(
            *(np.append(values, np.nan)[rows] for values in (self.forward, self.rate, self.dividend_yield)),
        )

    def rows_of(self, years: ArrayLike) -> NDArray[np.intp]:
        """The row of each contract's expiration, -1 where it has none."""
        wanted = numbers("years", years)
        if self.years.size == 0:
            return np.full(wanted.shape, -1)
        right = np.minimum(np.searchsorted(self.years, wanted), self.years.size - 1)
        left = np.maximum(right - 1, 0)
        nearest = np.where(np.abs(self.years[left] - wanted) <= np.abs(self.years[right] - wanted), left, right)
        return np.where(np.abs(self.years[nearest] - wanted) <= _SAME_EXPIRATION_YEARS, nearest, -1)


def implied_forwards(
    right: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    bid: ArrayLike,
    ask: ArrayLike,
    spot: float,
    *,
    rate: ArrayLike | None = None,
    american: bool = True,
    rate_within: float = RATE_HALF_WIDTH,
) -> Forwards:
    """Forward, rate and dividend yield of every expiration of one underlying's chain.

    ``right`` (+1 call, -1 put), ``strike``, ``years`` to expiration, ``bid`` and ``ask`` are per contract and
    broadcast; a missing side is NaN. ``rate`` is one number or one per contract, equal within an expiration; without
    it the rate is estimated with the forward, which needs tight quotes over a wide range of strikes: give one if you
    can. An estimated rate counts as identified when its interval reaches no further than ``rate_within`` to each side:
    infinity gives every expiration's own estimate, to be pooled by whoever has several chains. A contract whose numbers
    are bad, one-sided or crossed is left out; of a contract quoted twice the tighter quote stands.

    Raises ValueError that names the argument of a wrong shape or kind, a spot that is not positive, and a rate that
    differs within an expiration.
    """
    if not (np.ndim(spot) == 0 and np.isfinite(numbers("spot", spot)) and spot > 0):
        raise ValueError(f"spot must be a positive number, not {spot!r}")
    named = {"right": right, "strike": strike, "years": years, "bid": bid, "ask": ask}
    vectors, _ = broadcast(named if rate is None else {**named, "rate": rate})
    expirations, of_contract = group_expirations(vectors[2])
    given = None if rate is None else _rate_of_each(vectors[5], of_contract, expirations.size)
    pairs = _pairs(vectors[0], vectors[1], vectors[3], vectors[4], of_contract, expirations)
    return _solve(pairs, float(spot), given, american, rate_within)


def group_expirations(years: Values) -> tuple[Values, NDArray[np.intp]]:
    """Distinct times to expiration, ascending, and each contract's row among them (-1 where ``years`` is not finite).

    Times within three seconds of each other are one expiration.
    """
    finite = np.isfinite(years)
    order = np.argsort(np.where(finite, years, np.inf), kind="stable")[: np.count_nonzero(finite)]
    starts = np.diff(years[order], prepend=-np.inf) > _SAME_EXPIRATION_YEARS
    of_contract = np.full(years.shape, -1, np.intp)
    of_contract[order] = np.cumsum(starts) - 1
    return years[order][starts], of_contract


class _Pairs(NamedTuple):
    """Calls and puts of one strike, arrays of shape (expirations, most pairs of any), padded with NaN."""

    years: Values  # (expirations,)
    strike: Values
    synthetic: Values  # call mid minus put mid
    half: Values  # half of both spreads together
    call: Values  # mid
    put: Values  # mid


def _rate_of_each(rate: Values, of_contract: NDArray[np.intp], expirations: int) -> Values:
    own = of_contract >= 0
    result = np.full(expirations, np.nan)
    result[of_contract[own]] = rate[own]
    differs = rate[own] != result[of_contract[own]]
    if (differs & np.isfinite(rate[own])).any():
        raise ValueError("rate must be one number within an expiration")
    return np.where(np.isfinite(result), result, np.nan)


def _pairs(
    right: Values, strike: Values, bid: Values, ask: Values, of_contract: NDArray[np.intp], expirations: Values
) -> _Pairs:
    usable = two_sided(bid, ask) & np.isfinite(strike) & (strike > 0) & (of_contract >= 0)
    bid, ask = np.where(usable, bid, np.nan), np.where(usable, ask, np.nan)
    spread = ask - bid
    order = np.lexsort((spread, right, np.where(usable, strike, 0.0), of_contract))
    order = order[usable[order]]
    group, key, side = of_contract[order], np.round(strike[order], 6), right[order]
    first = np.ones(order.size, bool)  # of its contract: the tightest quote
    first[1:] = (np.diff(group) != 0) | (np.diff(key) != 0) | (np.diff(side) != 0)
    order, group, key, side = order[first], group[first], key[first], side[first]
    put = np.flatnonzero((np.diff(group) == 0) & (np.diff(key) == 0) & (np.diff(side) > 0))
    call_row, put_row, row = order[put + 1], order[put], group[put]
    counts = np.bincount(row, minlength=expirations.size)
    column = np.arange(row.size) - np.repeat(np.cumsum(counts) - counts, counts)

    def padded(values: Values) -> Values:
        table = np.full((expirations.size, int(counts.max(initial=0))), np.nan)
        table[row, column] = values
        return table

    mid = (bid + ask) / 2
    return _Pairs(
        years=expirations,
        strike=padded(strike[call_row]),
        synthetic=padded(mid[call_row] - mid[put_row]),
        half=padded((spread[call_row] + spread[put_row]) / 2),
        call=padded(mid[call_row]),
        put=padded(mid[put_row]),
    )


def two_sided(bid: Values, ask: Values) -> Mask:
    """Quotes that one can trade against on both sides: 0 < bid <= ask < infinity."""
    with np.errstate(invalid="ignore"):  # NaN compares false, which is what is meant
        return (bid > 0) & (ask >= bid) & np.isfinite(ask)


def _solve(pairs: _Pairs, spot: float, given: Values | None, american: bool, rate_within: float) -> Forwards:
    with np.errstate(all="ignore"):  # padding is NaN, an expiration without pairs divides 0 by 0
        if given is None:
            rates = _estimated_rates(pairs, spot, american, rate_within)
        else:
            rates = _Rates(given, given, given, np.isfinite(given))
        premium = np.zeros(pairs.strike.shape)
        fit = _fit_forward(pairs, premium, rates.rate, spot)
        legs = _outside_legs(pairs, spot + fit.level)
        for step in range(_STEPS if american else 0):
            before, premium = premium, _early_exercise(pairs, legs, spot, spot + fit.level, rates.rate)
            fit = _fit_forward(pairs, premium, rates.rate, spot, fit.trust if step >= _SETTLED else None)
            if not (np.abs(premium - before) > _PREMIUM_TOLERANCE * spot).any():
                break
        return _result(pairs, premium, spot, rates, fit)


class _Rates(NamedTuple):
    """Per expiration: the rate, its interval, and whether it is given or identified by the pairs themselves."""

    rate: Values
    low: Values
    high: Values
    identified: Mask


def _estimated_rates(pairs: _Pairs, spot: float, american: bool, within: float) -> _Rates:
    """The rates that, with early exercise priced at them, are the slopes of C - P over the strikes.

    Each estimate moves with the rate that its premia were priced at; secant steps find where the two are equal. That
    dependence also stretches the interval: what quotes leave open comes back through the premia.
    """
    premium = np.zeros(pairs.strike.shape)
    estimate = _slope_rates(pairs, premium, spot, within)
    legs = _outside_legs(pairs, spot + _fit_forward(pairs, premium, estimate.rate, spot).level)
    tried, dependence = np.zeros(pairs.years.shape), np.zeros(pairs.years.shape)
    for _ in range(_STEPS if american else 0):
        rate = tried + (estimate.rate - tried) / (1.0 - dependence)
        forward = spot + _fit_forward(pairs, premium, rate, spot).level
        premium = _early_exercise(pairs, legs, spot, forward, rate)
        better = _slope_rates(pairs, premium, spot, within)
        moved = rate - tried
        dependence = np.clip(np.where(moved != 0.0, (better.rate - estimate.rate) / moved, 0.0), -1.0, 0.8)
        tried, estimate = rate, better
        if not (np.abs(estimate.rate - tried) > _RATE_TOLERANCE).any():
            break
    low, high = _contradicted_by_few(pairs, premium, estimate, spot)
    stretch = 1.0 / (1.0 - np.clip(dependence, 0.0, None))
    return _identified_only(
        pairs.years,
        _Rates(
            estimate.rate,
            estimate.rate - (estimate.rate - np.minimum(low, estimate.low)) * stretch,
            estimate.rate + (np.maximum(high, estimate.high) - estimate.rate) * stretch,
            estimate.identified,
        ),
        within,
    )


def _slope_rates(pairs: _Pairs, premium: Values, spot: float, within: float) -> _Rates:
    fit = _robust_fit(pairs.synthetic + premium, pairs.half, pairs.strike - spot)
    rate = -np.log(-fit.slope) / pairs.years
    margin = _NORMAL_95 * fit.slope_error / (-fit.slope * pairs.years)
    return _identified_only(pairs.years, _Rates(rate, rate - margin, rate + margin, pairs.years > 0), within)


def _identified_only(years: Values, rates: _Rates, within: float) -> _Rates:
    """Rates with a narrow interval as they are, and the others interpolated from those."""
    width = np.maximum(rates.high - rates.rate, rates.rate - rates.low)
    identified = rates.identified & (width <= within)
    if not identified.any():
        nowhere = np.full(years.shape, np.nan)
        return _Rates(nowhere, nowhere, nowhere, identified)
    rate, low, high = (np.interp(years, years[identified], values[identified]) for values in rates[:3])
    return _Rates(rate, low, high, identified)


def _contradicted_by_few(pairs: _Pairs, premium: Values, estimate: _Rates, spot: float) -> tuple[Values, Values]:
    """The lowest and highest rate near the estimate at which enough pairs agree on one forward."""
    offsets = np.linspace(-2 * RATE_HALF_WIDTH, 2 * RATE_HALF_WIDTH, _RATE_SCAN)
    rates = estimate.rate[:, None] + offsets
    discount = np.exp(-rates * pairs.years[:, None])[:, :, None]
    level = (pairs.synthetic + premium)[:, None, :] + discount * (pairs.strike - spot)[:, None, :]
    rows = (rates.size, pairs.strike.shape[1])
    half = np.broadcast_to(pairs.half[:, None, :], level.shape).reshape(rows)
    agreeing = _consensus(level.reshape(rows) - half, level.reshape(rows) + half).agreeing.reshape(rates.shape)
    quoted = np.isfinite(pairs.half).sum(axis=1)
    open_rates = agreeing >= np.minimum(agreeing.max(axis=1), np.ceil(AGREEMENT * quoted))[:, None]
    low = rates[np.arange(pairs.years.size), np.argmax(open_rates, axis=1)]
    high = rates[np.arange(pairs.years.size), _RATE_SCAN - 1 - np.argmax(open_rates[:, ::-1], axis=1)]
    return low, high


class _Legs(NamedTuple):
    """The leg out of the money of each pair: the call or not, and its mid."""

    is_call: Mask
    mid: Values


def _outside_legs(pairs: _Pairs, forward: Values) -> _Legs:
    """By a first forward, and for good: a leg that changed with each better forward would keep it from settling."""
    is_call = pairs.strike >= forward[:, None]
    return _Legs(is_call, np.where(is_call, pairs.call, pairs.put))


def _early_exercise(pairs: _Pairs, legs: _Legs, spot: float, forward: Values, rate: Values) -> Values:
    """The premium of the put less that of the call, per pair, at the volatility of the leg that is out of the money."""
    dividend_yield = rate - np.log(forward / spot) / pairs.years
    known = np.isfinite(pairs.synthetic) & (np.isfinite(dividend_yield) & (pairs.years > 0))[:, None]
    strike = pairs.strike[known]
    years, rate, dividend_yield = (
        np.broadcast_to(column[:, None], known.shape)[known] for column in (pairs.years, rate, dividend_yield)
    )
    contract = (spot, strike, years, rate, dividend_yield)
    volatility = american_options.implied_volatility(
        legs.mid[known], np.where(legs.is_call[known], 1.0, -1.0), *contract
    )
    call, put = (
        american_options.price(right, *contract, volatility) - european.price(right, *contract, volatility)
        for right in (1.0, -1.0)
    )
    premium = np.full(known.shape, np.nan)
    premium[known] = put - call
    return premium


class _Fit(NamedTuple):
    """y = level + slope x of each row, its standard errors, and how much each pair counts (1 fully, 0 not at all)."""

    level: Values
    slope: Values
    level_error: Values
    slope_error: Values
    trust: Values


def _fit_forward(pairs: _Pairs, premium: Values, rate: Values, spot: float, trust: Values | None = None) -> _Fit:
    """Forward less spot, from the mid forward of each pair."""
    growth = np.exp(rate * pairs.years)[:, None]
    return _robust_fit(pairs.strike - spot + (pairs.synthetic + premium) * growth, pairs.half * growth, None, trust)


def _robust_fit(y: Values, half: Values, x: Values | None, kept: Values | None = None) -> _Fit:
    """The level of each row, or with ``x`` its line: Huber's estimate, and Tukey's biweight started from it.

    With ``kept``, least squares under that trust.
    """
    used = np.isfinite(y) & np.isfinite(half)
    half = np.where(used, _at_least_a_share(half, used), 1.0)
    y = np.where(used, y, 0.0)
    x = np.zeros(y.shape) if x is None else np.where(used, x, 0.0)
    base: Values = used / half**2
    trust: Values = used.astype(np.float64) if kept is None else kept
    for huber in [True] * _HUBER_STEPS + [False] * _BIWEIGHT_STEPS:
        level, slope, variances = _weighted_fit(y, x, base * trust)
        distance = np.abs(y - level[:, None] - slope[:, None] * x) / half
        if kept is not None:
            break
        scale = np.maximum(1.4826 * _row_median(distance, used), _LEAST_SCALE)[:, None]
        if huber:
            trust = np.where(used, np.minimum(1.0, 1.345 * scale / np.maximum(distance, 1e-300)), 0.0)
        else:
            trust = np.where(used, np.maximum(1.0 - (distance / (4.685 * scale)) ** 2, 0.0) ** 2, 0.0)
    freedom = trust.sum(axis=1) - (2 if x.any() else 1)
    noise = np.sqrt((trust * distance**2).sum(axis=1) / np.where(freedom > 0, freedom, np.nan))
    errors = noise * np.sqrt(variances)
    return _Fit(level, slope, errors[0], errors[1], trust)


def _weighted_fit(y: Values, x: Values, weight: Values) -> tuple[Values, Values, Values]:
    """Level, slope and their variances for unit noise; an x of zeros fits the level alone."""
    total = weight.sum(axis=1)
    x_mean, y_mean = (weight * x).sum(axis=1) / total, (weight * y).sum(axis=1) / total
    x_centred = x - x_mean[:, None]
    x_spread = (weight * x_centred**2).sum(axis=1)
    slope = np.where(x_spread > 0, (weight * x_centred * y).sum(axis=1) / x_spread, 0.0)
    slope_variance = 1.0 / x_spread
    level_variance = 1.0 / total + np.where(x_spread > 0, x_mean**2 / x_spread, 0.0)
    return y_mean - slope * x_mean, slope, np.stack([level_variance, slope_variance])


def _at_least_a_share(half: Values, used: Mask) -> Values:
    """Spreads, none so tight (or locked, which is zero) that its pair would rule alone."""
    floor = _NARROWEST * _row_median(half, used)
    return np.maximum(half, np.where(floor > 0, floor, 1e-12)[:, None])


def _row_median(values: Values, used: Mask) -> Values:
    """The upper median of what is used of each row; NaN for an empty row."""
    if values.shape[1] == 0:
        return np.full(values.shape[0], np.nan)
    middle = used.sum(axis=1) // 2
    ordered = np.sort(np.where(used, values, np.inf), axis=1)
    median = np.take_along_axis(ordered, np.minimum(middle, values.shape[1] - 1)[:, None], axis=1)[:, 0]
    return np.where(used.any(axis=1), median, np.nan)


class _Consensus(NamedTuple):
    """From the lowest to the highest forward that enough of a row's pairs agree with, and how many agree at best."""

    low: Values
    high: Values
    agreeing: NDArray[np.int64]


def _consensus(low: Values, high: Values) -> _Consensus:
    """Marzullo's intersection of intervals: sort all ends, count the intervals that are open between them."""
    rows, pairs = low.shape
    if pairs == 0:
        return _Consensus(np.full(rows, np.nan), np.full(rows, np.nan), np.zeros(rows, np.int64))
    ends = np.concatenate([low, high], axis=1)  # the lows first: a stable sort opens before it closes at equal ends
    step = np.where(np.isfinite(ends), np.repeat([1, -1], pairs), 0)
    order = np.argsort(ends, axis=1, kind="stable")
    ends, step = np.take_along_axis(ends, order, axis=1), np.take_along_axis(step, order, axis=1)
    after = np.cumsum(step, axis=1)
    agreeing = after.max(axis=1)
    needed = np.minimum(agreeing, np.ceil(AGREEMENT * np.isfinite(low).sum(axis=1)))[:, None]
    first = np.argmax(after >= needed, axis=1)
    last = 2 * pairs - 1 - np.argmax((after - step >= needed)[:, ::-1], axis=1)
    row = np.arange(rows)
    return _Consensus(ends[row, first], ends[row, last], agreeing)


def _result(pairs: _Pairs, premium: Values, spot: float, rates: _Rates, fit: _Fit) -> Forwards:
    growth = np.exp(rates.rate * pairs.years)[:, None]
    middle = pairs.strike + (pairs.synthetic + premium) * growth
    consensus = _consensus(middle - pairs.half * growth, middle + pairs.half * growth)
    quoted = np.isfinite(pairs.synthetic).sum(axis=1)
    margin = np.nan_to_num(_NORMAL_95 * fit.level_error)  # one pair alone has its executable interval only
    estimate = np.clip(spot + fit.level, consensus.low, consensus.high)
    low, high = np.minimum(consensus.low, estimate - margin), np.maximum(consensus.high, estimate + margin)
    agreed = (2 * consensus.agreeing >= quoted) & (estimate > 0) & np.isfinite(estimate + low + high)
    reason = np.select(
        [pairs.years <= 0, quoted == 0, ~np.isfinite(rates.rate), ~agreed],
        [Reason.EXPIRED, Reason.NO_PAIRS, Reason.NO_RATE, Reason.PAIRS_DISAGREE],
        Reason.NONE,
    )

    def where_known(values: Values) -> Values:
        return np.where(reason == Reason.NONE, values, np.nan)

    return Forwards(
        years=pairs.years,
        forward=where_known(estimate),
        forward_low=where_known(low),
        forward_high=where_known(high),
        rate=where_known(rates.rate),
        rate_low=where_known(rates.low),
        rate_high=where_known(rates.high),
        rate_identified=rates.identified & (reason == Reason.NONE),
        dividend_yield=where_known(rates.rate - np.log(estimate / spot) / pairs.years),
        dividend_yield_low=where_known(rates.low - np.log(high / spot) / pairs.years),
        dividend_yield_high=where_known(rates.high - np.log(low / spot) / pairs.years),
        pairs_quoted=quoted,
        pairs_used=(fit.trust > 0).sum(axis=1) * (reason == Reason.NONE),
        reason=reason,
    )
