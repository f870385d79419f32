"""The usual positions, from quoted contracts. Each takes legs as quoted, quantity 1 unless more are wanted.

``number`` is how many of the position are bought; a negative number sells it, and the quotes are then taken at the
other side. Every builder raises ValueError that names the argument whose right, strike or expiration does not fit.
"""

from __future__ import annotations

from itertools import pairwise

from ots_quant.strategies.legs import CALL, PUT, STOCK, Leg, Position


def custom(*legs: Leg, name: str = "custom") -> Position:
    """Any legs, with their own quantities."""
    return Position(name, legs)


def vertical(bought: Leg, sold: Leg, number: float = 1.0) -> Position:
    """Two strikes of one right and expiration: a call or put spread."""
    _same_right("sold", sold, bought)
    _together("sold", sold, bought)
    if sold.strike == bought.strike:
        raise ValueError("sold must have another strike than bought")
    bullish = (bought.strike < sold.strike) == (number > 0.0)
    kind = "call" if bought.right == CALL else "put"
    return Position(f"{'bull' if bullish else 'bear'} {kind} spread", (bought.times(number), sold.times(-number)))


def straddle(call: Leg, put: Leg, number: float = 1.0) -> Position:
    """A call and a put of one strike and expiration."""
    _is("call", call, CALL)
    _is("put", put, PUT)
    _together("put", put, call)
    if put.strike != call.strike:
        raise ValueError("put must have the strike of the call")
    return Position("straddle", (call.times(number), put.times(number)))


def strangle(put: Leg, call: Leg, number: float = 1.0) -> Position:
    """A put below a call of one expiration."""
    _is("put", put, PUT)
    _is("call", call, CALL)
    _together("call", call, put)
    _rising(put=put, call=call)
    return Position("strangle", (put.times(number), call.times(number)))


def iron_condor(long_put: Leg, short_put: Leg, short_call: Leg, long_call: Leg, number: float = 1.0) -> Position:
    """A strangle sold inside a strangle bought; with equal short strikes an iron butterfly."""
    for name, leg, right in (
        ("long_put", long_put, PUT),
        ("short_put", short_put, PUT),
        ("short_call", short_call, CALL),
        ("long_call", long_call, CALL),
    ):
        _is(name, leg, right)
        _together(name, leg, long_put)
    _rising(long_put=long_put, short_put=short_put)
    _rising(short_call=short_call, long_call=long_call)
    if short_call.strike < short_put.strike:
        raise ValueError("short_call must not be below the short_put")
    name = "iron butterfly" if short_call.strike == short_put.strike else "iron condor"
    legs = (long_put.times(number), short_put.times(-number), short_call.times(-number), long_call.times(number))
    return Position(name, legs)


def butterfly(low: Leg, body: Leg, high: Leg, number: float = 1.0) -> Position:
    """One of each wing against two of the body, all of one right and expiration; wings may be of unequal width."""
    for name, leg in (("body", body), ("high", high)):
        _same_right(name, leg, low)
        _together(name, leg, low)
    _rising(low=low, body=body, high=high)
    even = abs((body.strike - low.strike) - (high.strike - body.strike)) <= 1e-9 * body.strike
    legs = (low.times(number), body.times(-2.0 * number), high.times(number))
    return Position("butterfly" if even else "broken-wing butterfly", legs)


def condor(lowest: Leg, low: Leg, high: Leg, highest: Leg, number: float = 1.0) -> Position:
    """Four strikes of one right and expiration: the outer ones bought, the inner ones sold."""
    for name, leg in (("low", low), ("high", high), ("highest", highest)):
        _same_right(name, leg, lowest)
        _together(name, leg, lowest)
    _rising(lowest=lowest, low=low, high=high, highest=highest)
    legs = (lowest.times(number), low.times(-number), high.times(-number), highest.times(number))
    return Position("condor", legs)


def calendar(near: Leg, far: Leg, number: float = 1.0) -> Position:
    """One right, two expirations: the far one bought, the near one sold; a diagonal when the strikes differ."""
    _same_right("far", far, near)
    _option("near", near)
    if not far.years > near.years:
        raise ValueError("far must expire after near")
    name = "calendar" if near.strike == far.strike else "diagonal"
    return Position(name, (near.times(-number), far.times(number)))


def covered_call(stock: Leg, call: Leg, number: float = 1.0) -> Position:
    """A call sold against as many shares as it is on; ``stock``: one share's quote."""
    _is("stock", stock, STOCK)
    _is("call", call, CALL)
    shares = number * call.units / stock.units
    return Position("covered call", (stock.times(shares), call.times(-number)))


def protective_put(stock: Leg, put: Leg, number: float = 1.0) -> Position:
    """A put bought for as many shares as it is on; ``stock``: one share's quote."""
    _is("stock", stock, STOCK)
    _is("put", put, PUT)
    shares = number * put.units / stock.units
    return Position("protective put", (stock.times(shares), put.times(number)))


def collar(stock: Leg, put: Leg, call: Leg, number: float = 1.0) -> Position:
    """Shares with a put bought below and a call sold above; ``stock``: one share's quote."""
    _is("stock", stock, STOCK)
    _is("put", put, PUT)
    _is("call", call, CALL)
    _together("call", call, put)
    _rising(put=put, call=call)
    if put.units != call.units:
        raise ValueError("call must be on as many shares as the put")
    shares = number * put.units / stock.units
    return Position("collar", (stock.times(shares), put.times(number), call.times(-number)))


def _option(name: str, leg: Leg) -> None:
    if not leg.is_option:
        raise ValueError(f"{name} must be an option, not stock")


def _is(name: str, leg: Leg, right: int) -> None:
    if leg.right != right:
        kinds = {CALL: "a call", PUT: "a put", STOCK: "stock"}
        raise ValueError(f"{name} must be {kinds[right]}, not {kinds[leg.right]}")


def _same_right(name: str, leg: Leg, other: Leg) -> None:
    _option(name, leg)
    if leg.right != other.right:
        raise ValueError(f"{name} must be of the same right as the other legs")


def _together(name: str, leg: Leg, other: Leg) -> None:
    if leg.years != other.years:
        raise ValueError(f"{name} must expire with the other legs")


def _rising(**legs: Leg) -> None:
    for (lower, low), (upper, high) in pairwise(legs.items()):
        if not low.strike < high.strike:
            raise ValueError(f"{upper} must have a higher strike than {lower}")
