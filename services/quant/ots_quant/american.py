"""American options under Black-Scholes-Merton: prices, Greeks, implied volatilities, for whole chains.

With a continuous dividend yield a price is the European one plus the premium of early exercise, an integral along the
exercise boundary (Kim 1990), which is solved by the method of Andersen, Lake and Offengenden (2016) once for each
(years, rate, dividend_yield) and band of volatility: `ots_quant.kernels.american` says how. A call is the mirrored
put: C(S, K, r, q) = P(K, S, q, r) (McDonald and Schroder 1998). So a chain, where many contracts share their
expiration, costs a few microseconds a contract; contracts that share nothing cost a boundary each, fifty times that.

Error, against QuantLib's high-precision engine of the same method: below 1e-6 of the spot for volatilities from 0.01
to 5, up to two years, rates and yields from 0 to 10 %; half of the cases below 1e-10.

Exercise never pays where it earns nothing (a call without dividends and r >= 0, say): those are European, exactly.
Where rates are negative and the exercise region has two boundaries (put: q < r < 0), a Leisen-Reimer tree takes over,
error below 1e-4 of the spot for volatilities from 0.01 to 1. It also prices cash dividends, by escrow: the spot less
the present value of the dividends that go ex before expiration diffuses, exercise is paid on the whole spot.

Years are of 365 days; rates and yields continuously compounded; all arguments broadcast. An element whose number is bad
(NaN, a spot or strike that is not positive, negative years or volatility, a volatility of 1,000, a rate beyond 10, a
strike e^100 spots away, or outside of the domain of `ots_quant.european`) gives NaN; arguments that are bad as a whole
raise ValueError with their name.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ots_quant import american_tree, european
from ots_quant.american_tree import CashDividends, Terms
from ots_quant.arguments import broadcast, option_arguments, output
from ots_quant.european import NoVolatility
from ots_quant.european_numpy import in_domain
from ots_quant.greeks import Greeks
from ots_quant.kernels import american as kernels

__all__ = ["CashDividends", "greeks", "implied_volatility", "price", "why_no_volatility"]

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

_LEAST_VOLATILITY = kernels.LEAST_VOLATILITY  # below it the price is the limit to 1e-6 of the spot
_MOST_VOLATILITY = 1000.0
_CALM = 0.01
_MOST_RATE = 10.0
_MOST_LOG_MONEYNESS = 100.0
_RATE_BUMP = 1e-3
_MOST_TREE_VOLATILITY, _TREE_STEPS = 10.0, 45
_NO_DIVIDENDS = american_tree.checked(None)


class _Puts(NamedTuple):
    """Contracts as puts on which a call is mirrored: the call's spot is the put's strike, its yield the put's rate."""

    spot: Values
    strike: Values
    years: Values
    rate: Values
    dividend_yield: Values
    volatility: Values


class _Routes(NamedTuple):
    """Which contracts are worth what by which method; those in none of the masks have a bad number."""

    european: Mask
    boundary: Mask
    tree: Mask
    certain: Mask  # no volatility left: exercised when that pays most


def price(
    right: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    rate: ArrayLike,
    dividend_yield: ArrayLike,
    volatility: ArrayLike,
    *,
    dividends: CashDividends | None = None,
    out: Values | None = None,
) -> Values:
    """Prices of American options, of the broadcast shape.

    right: +1 call, -1 put
    spot, strike: one unit; years to expiration; rate, dividend_yield, volatility a year, as decimals
    dividends: cash dividends, the same for all contracts, beside the dividend yield
    out: a C-contiguous float64 array of that shape, to be filled

    At volatility 0 or years 0 the price is the limit. Raises ValueError naming an argument that cannot be used.
    """
    terms, shape = _terms(right, spot, strike, years, rate, dividend_yield, volatility)
    result = output(out, shape)
    cash = american_tree.checked(dividends)
    result.reshape(-1)[:] = _price(terms, cash)
    return result


def greeks(
    right: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    rate: ArrayLike,
    dividend_yield: ArrayLike,
    volatility: ArrayLike,
    *,
    dividends: CashDividends | None = None,
    out: Greeks | None = None,
) -> Greeks:
    """Prices and derivatives of American options, of the broadcast shape; units as in `ots_quant.greeks.Greeks`.

    Price, delta, gamma and vega are derivatives of the formula itself, theta and charm follow from the equation that it
    solves; vanna and vomma are central differences over 1 % of the volatility, rho over 10 basis points.
    A contract that is better exercised at once has the derivatives of its intrinsic value: delta +1 or -1, else 0. At
    volatility 0 only price and delta exist, the rest is NaN; at years 0 see `european.greeks`. Within a hundredth of a
    standard deviation of the exercise boundary, where they jump, vanna, charm and vomma are rough.

    Arguments as `price`. Raises ValueError naming an argument that cannot be used.
    """
    terms, shape = _terms(right, spot, strike, years, rate, dividend_yield, volatility)
    result = Greeks.empty(shape) if out is None else out
    for name, array in zip(Greeks._fields, result, strict=True):
        output(array, shape, f"out.{name}")
    columns = _greeks(terms, american_tree.checked(dividends))
    for array, column in zip(result, columns, strict=True):
        array.reshape(-1)[:] = column
    return result


def implied_volatility(
    price: ArrayLike,
    right: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    rate: ArrayLike,
    dividend_yield: ArrayLike,
    *,
    dividends: CashDividends | None = None,
    out: Values | None = None,
) -> Values:
    """Volatilities at which American options have these prices, of the broadcast shape; NaN where there is none.

    Between its bounds a price has exactly one: above what the contract is worth without volatility (exercised when
    that pays most, at once or later), below strike or spot. `why_no_volatility` tells why not. Where a price lies
    within 1e-7 of the spot above the lower bound its volatility means little, whatever the digits.

    Arguments as `price`. Raises ValueError naming an argument that cannot be used.
    """
    target, terms, shape = _priced(price, right, spot, strike, years, rate, dividend_yield)
    result = output(out, shape)
    result.reshape(-1)[:] = _implied_volatility(target, terms, american_tree.checked(dividends))
    return result


def why_no_volatility(
    price: ArrayLike,
    right: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    rate: ArrayLike,
    dividend_yield: ArrayLike,
    *,
    dividends: CashDividends | None = None,
) -> NDArray[np.int8]:
    """A code of `NoVolatility` for each element of `implied_volatility` with the same arguments."""
    target, terms, shape = _priced(price, right, spot, strike, years, rate, dividend_yield)
    return _reasons(target, terms, american_tree.checked(dividends)).reshape(shape)


def _terms(
    right: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    rate: ArrayLike,
    dividend_yield: ArrayLike,
    volatility: ArrayLike,
) -> tuple[Terms, tuple[int, ...]]:
    given = option_arguments(right, spot, strike, years, rate, dividend_yield, volatility)
    return Terms(*given.vectors), given.shape


def _priced(
    price: ArrayLike,
    right: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    rate: ArrayLike,
    dividend_yield: ArrayLike,
) -> tuple[Values, Terms, tuple[int, ...]]:
    """Target prices and contracts with a volatility of 1, which is any."""
    given = broadcast(
        {
            "price": price,
            "right": right,
            "spot": spot,
            "strike": strike,
            "years": years,
            "rate": rate,
            "dividend_yield": dividend_yield,
        }
    )
    target, right_, spot_, strike_, years_, rate_, yield_ = given.vectors
    return target, Terms(right_, spot_, strike_, years_, rate_, yield_, np.ones_like(target)), given.shape


def _mirrored(terms: Terms) -> _Puts:
    call = terms.right > 0.0
    return _Puts(
        spot=np.where(call, terms.strike, terms.spot),
        strike=np.where(call, terms.spot, terms.strike),
        years=terms.years,
        rate=np.where(call, terms.dividend_yield, terms.rate),
        dividend_yield=np.where(call, terms.rate, terms.dividend_yield),
        volatility=terms.volatility,
    )


def _routed(terms: Terms, dividends: CashDividends) -> _Routes:
    with np.errstate(all="ignore"):  # bad numbers are not in the domain
        good = in_domain(terms.spot, terms.strike, terms.years, terms.rate, terms.dividend_yield)
        good &= (terms.volatility >= 0.0) & (terms.volatility < _MOST_VOLATILITY)
        good &= np.abs(np.log(terms.spot / terms.strike)) <= _MOST_LOG_MONEYNESS
        good &= (np.abs(terms.rate) <= _MOST_RATE) & (np.abs(terms.dividend_yield) <= _MOST_RATE)
    puts = _mirrored(terms)
    certain = good & ((terms.volatility < _LEAST_VOLATILITY) | (terms.years == 0.0))
    cash = american_tree.escrowed(terms, dividends) > 0.0
    # a put earns r K - q S while exercised: never positive, positive below some spot, or between two of them
    never = (puts.rate <= 0.0) & (puts.dividend_yield >= puts.rate)
    between = (puts.rate < 0.0) & (puts.dividend_yield < puts.rate)
    tree = good & ~certain & (cash | between)
    european_ = good & ~certain & ~cash & never
    return _Routes(european_, good & ~certain & ~tree & ~european_, tree, certain)


def _price(terms: Terms, dividends: CashDividends) -> Values:
    routes = _routed(terms, dividends)
    value = np.full(len(terms.spot), np.nan)
    if routes.european.any():
        value[routes.european] = european.price(*terms.where(routes.european))
    if routes.certain.any():
        value[routes.certain] = _without_volatility(terms.where(routes.certain), dividends)[0]
    if routes.boundary.any():
        value[routes.boundary] = _boundary_price(terms.where(routes.boundary))
    # next to no volatility the premium's integrand is a step that no quadrature hits: but waiting for the best moment
    # that is known today is worth that much at any volatility
    calm = routes.boundary & (terms.volatility < _CALM)
    if calm.any():
        value[calm] = np.maximum(value[calm], _without_volatility(terms.where(calm), dividends)[0])
    tree = routes.tree | (routes.boundary & np.isnan(value))  # also where the boundary was not found
    if tree.any():
        value[tree] = american_tree.price(terms.where(tree), dividends)
    return value


def _greeks(terms: Terms, dividends: CashDividends) -> Values:
    """A row for each of the Greeks."""
    routes = _routed(terms, dividends)
    table = np.full((len(Greeks._fields), len(terms.spot)), np.nan)
    expired = routes.certain & (terms.years == 0.0)
    as_european = routes.european | expired
    if as_european.any():
        table[:, as_european] = european.greeks(*terms.where(as_european))
    still = routes.certain & ~expired
    if still.any():
        table[:2, still] = _without_volatility(terms.where(still), dividends)
    if routes.boundary.any():
        table[:, routes.boundary] = _boundary_greeks(terms.where(routes.boundary))
    tree = routes.tree | (routes.boundary & np.isnan(table[0]))
    if tree.any():
        table[:, tree] = american_tree.greeks(terms.where(tree), dividends)
    return table


class _Groups(NamedTuple):
    """Puts sorted so that those of one (years, rate, yield) stand together, group g from first[g] to first[g + 1]."""

    puts: _Puts
    order: NDArray[np.intp]
    first: NDArray[np.int64]

    def unsorted(self, values: Values) -> Values:
        """Values of the sorted puts (last axis) in the order of the contracts."""
        result = np.empty_like(values)
        result[..., self.order] = values
        return result


def _grouped(puts: _Puts) -> _Groups:
    order = np.lexsort((puts.dividend_yield, puts.rate, puts.years))
    ordered = _Puts(*(values[order] for values in puts))
    shared = np.stack((ordered.years, ordered.rate, ordered.dividend_yield))
    starts = np.flatnonzero((shared[:, 1:] != shared[:, :-1]).any(axis=0)) + 1
    first = np.concatenate(([0], starts, [len(order)])) if len(order) else np.zeros(1)
    return _Groups(ordered, order, first.astype(np.int64))


def _scaled(terms: Terms) -> tuple[Values, Terms]:
    """The strike of the (mirrored) put as the unit of money, so that no power of it overflows; and the contracts."""
    unit = np.where(terms.right > 0.0, terms.spot, terms.strike)
    return unit, terms._replace(spot=terms.spot / unit, strike=terms.strike / unit)


def _boundary_price(terms: Terms) -> Values:
    unit, scaled = _scaled(terms)
    puts, order, first = groups = _grouped(_mirrored(scaled))
    value = np.empty(len(order))
    kernels.price(*puts, first, value)
    return np.maximum(unit * groups.unsorted(value), terms.right * (terms.spot - terms.strike))


def _boundary_greeks(whole: Terms) -> Values:
    unit, terms = _scaled(whole)
    puts, order, first = groups = _grouped(_mirrored(terms))
    table = np.empty((7, len(order)))
    kernels.derivatives(*puts, first, table)
    price, delta, gamma, speed, vega, vanna, vomma = groups.unsorted(table)
    spot, strike, call = terms.spot, terms.strike, terms.right > 0.0
    # the mirrored put is V(K, S): its derivatives to its strike follow from homogeneity, s V_s + k V_k = V
    ratio = strike / spot
    alive = price > terms.right * (spot - strike)
    delta_call = (price - strike * delta) / spot
    speed = np.where(call, -(ratio**2) / spot * (3.0 * gamma + strike * speed), speed)
    gamma = np.where(call, ratio**2 * gamma, gamma)
    vanna = np.where(call, (vega - strike * vanna) / spot, vanna)
    delta = np.where(call, delta_call, delta)
    carry = terms.rate - terms.dividend_yield
    variance = (terms.volatility * spot) ** 2
    theta = terms.rate * price - carry * spot * delta - 0.5 * variance * gamma
    charm = terms.dividend_yield * delta - (carry + terms.volatility**2) * spot * gamma - 0.5 * variance * speed
    width = np.clip(0.5 * np.abs(terms.rate), 1e-5, _RATE_BUMP)
    above, below = (_price(terms._replace(rate=terms.rate + side * width), _NO_DIVIDENDS) for side in (1.0, -1.0))
    rho = (above - below) / (2.0 * width)
    dead = [np.where(alive, values, 0.0) for values in (theta, rho, charm)]
    theta, rho, charm = (np.where(np.isnan(price), np.nan, values) for values in dead)
    price = np.maximum(unit * price, whole.right * (whole.spot - whole.strike))
    money = [values * unit for values in (theta, vega, rho, vomma)]
    theta, vega, rho, vomma = money
    return np.stack((price, delta, gamma / unit, theta, vega, rho, vanna, charm, vomma))


def _without_volatility(terms: Terms, dividends: CashDividends) -> tuple[Values, Values]:
    """What contracts are worth when nothing is random, exercised at the best moment or never; and the delta.

    Exercised at t they are worth right (S e^-qt + dividends after t - K e^-rt) today: the best t is an end of a stretch
    between dividends, or where the derivative vanishes inside it.
    """
    waits, amounts = np.asarray(dividends.years), np.asarray(dividends.amounts)
    bare = terms.spot - american_tree.escrowed(terms, dividends)
    with np.errstate(all="ignore"):  # where nothing vanishes there is no such moment
        turn = np.log(terms.rate * terms.strike / (terms.dividend_yield * bare)) / (terms.rate - terms.dividend_yield)
    turn = np.where(np.isfinite(turn), turn, 0.0)
    value, delta = np.zeros(len(bare)), np.zeros(len(bare))
    edges = np.unique(waits[waits > 0.0])
    for start, end in zip([0.0, *edges], [*edges, np.inf], strict=True):
        inside = start <= terms.years
        later = sum(
            (
                np.where(w < terms.years, a * np.exp(-terms.rate * w), 0.0)
                for w, a in zip(waits, amounts, strict=True)
                if w > start
            ),
            np.zeros(len(bare)),
        )
        last = np.minimum(end, terms.years)
        for moment in (np.full(len(bare), start), last, np.clip(turn, start, last)):
            kept = np.exp(-terms.dividend_yield * moment)
            worth = terms.right * (bare * kept + later - terms.strike * np.exp(-terms.rate * moment))
            better = inside & (worth > value)
            value, delta = np.where(better, worth, value), np.where(better, terms.right * kept, delta)
    return np.where(bare > 0.0, value, np.nan), np.where(bare > 0.0, delta, np.nan)


def _reasons(target: Values, terms: Terms, dividends: CashDividends) -> NDArray[np.int8]:
    routes = _routed(terms, dividends)
    known = routes.european | routes.boundary | routes.tree | routes.certain
    reasons = np.full(len(target), NoVolatility.HAS_ONE, np.int8)
    lower = np.full(len(target), np.nan)
    lower[known] = _without_volatility(terms.where(known), dividends)[0]
    escrow = american_tree.escrowed(terms, dividends)
    with np.errstate(all="ignore"):  # bad numbers are told below
        kept = np.maximum(1.0, np.exp(-terms.dividend_yield * terms.years))
        paid = np.maximum(1.0, np.exp(-terms.rate * terms.years))
        upper = np.where(terms.right > 0.0, (terms.spot - escrow) * kept + escrow, terms.strike * paid)
        discounted = np.where(
            routes.european, np.exp(-np.where(terms.right > 0.0, terms.dividend_yield, terms.rate) * terms.years), 1.0
        )
    upper = np.where(routes.european, np.where(terms.right > 0.0, terms.spot, terms.strike) * discounted, upper)
    reasons[target >= upper] = NoVolatility.ABOVE_BOUND
    reasons[target <= lower] = NoVolatility.BELOW_INTRINSIC
    reasons[known & (terms.years == 0.0)] = NoVolatility.EXPIRED
    reasons[~known | ~np.isfinite(target) | ~np.isfinite(lower)] = NoVolatility.BAD_INPUT
    return reasons


def _implied_volatility(target: Values, terms: Terms, dividends: CashDividends) -> Values:
    routes = _routed(terms, dividends)
    exists = _reasons(target, terms, dividends) == NoVolatility.HAS_ONE
    volatility = np.full(len(target), np.nan)
    mask = exists & routes.european
    if mask.any():
        volatility[mask] = european.implied_volatility(target[mask], *terms.where(mask)[:6])
    mask = exists & routes.boundary
    if mask.any():
        volatility[mask] = _boundary_volatility(target[mask], terms.where(mask))
    mask = exists & (routes.tree | (routes.boundary & np.isnan(volatility)))
    if mask.any():
        volatility[mask] = _tree_volatility(target[mask], terms.where(mask), dividends)
    return volatility


def _boundary_volatility(price: Values, whole: Terms) -> Values:
    unit, terms = _scaled(whole)
    target = price / unit
    # as a European price the target implies more, since early exercise is worth something: Newton starts above
    start = european.implied_volatility(target, *terms[:6])
    puts, order, first = groups = _grouped(_mirrored(terms._replace(volatility=np.where(np.isnan(start), 1.0, start))))
    volatility = np.empty(len(order))
    kernels.implied_volatility(target[order], puts.volatility, *puts[:-1], first, volatility)
    return groups.unsorted(volatility)


def _tree_volatility(target: Values, terms: Terms, dividends: CashDividends) -> Values:
    """Bisection in ln(volatility): the tree's price grows with it, but not smoothly enough for Newton's steps."""
    low, high = np.full(len(target), np.log(1e-3)), np.full(len(target), np.log(_MOST_TREE_VOLATILITY))
    for _ in range(_TREE_STEPS):
        middle = 0.5 * (low + high)
        above = american_tree.price(terms._replace(volatility=np.exp(middle)), dividends) > target
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    volatility = np.exp(0.5 * (low + high))
    at_edge = (volatility < 1.001e-3) | (volatility > 0.999 * _MOST_TREE_VOLATILITY)
    return np.where(at_edge, np.nan, volatility)
