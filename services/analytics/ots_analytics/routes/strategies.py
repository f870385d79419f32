"""What a position of several legs costs, pays, risks and is worth."""

from __future__ import annotations

import math
import time
from datetime import date
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, ConfigDict, Field

from ots_analytics.calendar_dates import CalendarDate
from ots_analytics.chain_expirations import known
from ots_analytics.chain_queries import ChainQualityModel, RateModel, chain_heading
from ots_analytics.contract_terms import GREEK_UNITS, STATED, years_until
from ots_analytics.desk import Desk
from ots_analytics.routes.calculator_examples import STRATEGY, STRATEGY_ANSWER
from ots_analytics.settings import AnalyticsSettings
from ots_analytics.strategy_analysis import Analysis, HeldLeg, Outlook, executable
from ots_chains.chains import read_stock_quote
from ots_chains.priced_chains import PricedChain
from ots_common.database import Database
from ots_common.problems import Problem, invalid
from ots_common.schemas import ProblemModel, RequestModel
from ots_common.times import Moment, rfc3339
from ots_market.prices import SCALE
from ots_market.sessions import Sessions, sessions_of
from ots_market.symbols import Symbol, canonical_symbol, parse_option_symbol
from ots_quant.greeks import Greeks
from ots_quant.strategies import CALL, PUT, BreakEvens, Extremes, Leg, Style

MOST_LEGS = 40
MOST_POINTS = 1001
_MULTIPLIER = 100.0  # of a contract with the standard deliverable
_RIGHTS: dict[str, int] = {"C": CALL, "P": PUT}
_NAMED = {CALL: "C", PUT: "P"}
_TERMS = ("right", "strike", "years", "expiration", "volatility", "style", "multiplier")
_SHOWN = ("delta", "gamma", "theta", "vega", "rho")
_UNITS = {
    "cost, payoff, profit, gain, loss, value": "dollars of the whole position; a negative cost is received",
    "bid, ask, mid, half_spread, executable, theoretical": "dollars a share",
    "legs": "Greeks of one share's option",
    "greeks": "of the whole position, shares times those of the legs",
    **{name: GREEK_UNITS[name] for name in _SHOWN},
    "volatility, rate, dividend_yield": "decimals a year, years of 365 days; rates continuously compounded",
    "probability": "risk-neutral, 0 to 1",
}
_ASSUMPTIONS = (
    "bought at the ask and sold at the bid, for any size; fees are those of entry alone",
    "probabilities are risk-neutral: what option prices imply, no forecast",
    "expected profit is the model's value less the cost: about minus half-spreads and fees where volatilities are fair",
    "early assignment of sold American options, margin and taxes are left out",
)
_LATER_LEGS = (
    "valued at the first expiration: later legs keep their implied volatility until then, and one rate and dividend"
    " yield, those to the first expiration, serve all legs"
)
_STOCK_AT_SPOT = "stock without a bid and an ask, given or stored within the minute before, trades at the spot"

Dollars = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, le=1e9)]
PositiveDollars = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=1e-6, le=1e9)]
Years = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=1e-7, le=30)]
RateOfInterest = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1, le=1)]
Volatility = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=1e-4, le=10)]


class LegModel(RequestModel):
    """A stored contract by its `symbol`, or an option by its terms, or `stock`."""

    quantity: Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1e7, le=1e7)] = Field(
        description="contracts, or shares of stock: above 0 bought, below 0 sold"
    )
    type: Literal["option", "stock"] = "option"
    symbol: Symbol | None = Field(None, description="OSI symbol of a stored contract; all of one underlying")
    right: Literal["C", "P"] | None = None
    strike: PositiveDollars | None = None
    years: Years | None = Field(None, description="to expiration, of 365 days; or `expiration`")
    expiration: CalendarDate | None = Field(None, description="its session's close, by the market's calendar")
    bid: Dollars | None = Field(None, description="dollars a share; of stored contracts, and of their stock, their own")
    ask: Dollars | None = Field(None, description="dollars a share; of stored contracts, and of their stock, their own")
    volatility: Volatility | None = Field(None, description="default that of the middle of bid and ask")
    style: Literal["american", "european"] | None = Field(None, description="default american")
    multiplier: Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0, le=1e6)] | None = Field(
        None, description="shares a contract, default 100"
    )


class StrategyBody(RequestModel):
    """Legs of stored contracts; or legs by their terms, with `spot` and `rate`."""

    model_config = ConfigDict(json_schema_extra={"examples": [STRATEGY]})

    legs: list[LegModel] = Field(min_length=1, max_length=MOST_LEGS)
    as_of: Moment | None = Field(
        None, description="The moment of the quotes and of years to `expiration`; default now."
    )
    fee_per_contract: Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, le=1000)] = Field(
        0.0, description="dollars for each option contract, on entry"
    )
    spot: PositiveDollars | None = Field(None, description="dollars; for legs by their terms")
    rate: RateOfInterest | None = Field(None, description="for legs by their terms: continuous, a decimal a year")
    dividend_yield: RateOfInterest | None = Field(None, description="for legs by their terms; default 0")
    volatility: Volatility | None = Field(
        None,
        description="Of the lognormal probability, for legs by their terms; default that of the leg nearest the money"
        " at the first expiration. With stored contracts it is the surface's at the forward.",
    )
    points: int = Field(61, strict=True, ge=0, le=MOST_POINTS, description="Spots of the `profile`; 0 leaves it out.")


class StrategySpotModel(BaseModel):
    """The underlying's price."""

    price: float = Field(description="dollars")
    time: str | None = Field(description="null where the request states it")
    kind: str = Field(description="`quote`, `trade`, `bar`, or `request`")


class StrategyLegModel(BaseModel):
    """A leg as it is traded and valued; what is null has a `reason`, or is not a thing of its `type`."""

    leg: int
    type: str
    symbol: str | None
    right: str | None
    strike: float | None
    expiration: str | None
    years: float | None
    style: str | None
    quantity: float
    multiplier: float
    bid: float | None
    ask: float | None
    mid: float | None
    half_spread: float | None
    executable: float | None = Field(description="the ask of what is bought, the bid of what is sold")
    volatility: float | None
    theoretical: float | None = Field(description="at the fitted surface's volatility; null beyond its strikes")
    delta: float | None
    gamma: float | None
    theta: float | None
    vega: float | None
    rho: float | None
    reason: str | None


class StrategyCostModel(BaseModel):
    """What entry costs: `executable` = `mid` + `half_spreads` + `fees`."""

    executable: float | None
    mid: float | None
    half_spreads: float | None
    fees: float
    problems: list[str] = Field(description="a sentence for each leg whose quote lacks a side, is crossed or zero")
    reason: str | None


class StrategyHorizonModel(BaseModel):
    """The first expiration, at which the position is judged."""

    expiration: str | None
    years: float
    one_expiration: bool = Field(description="all options expire then: the payoff is exact and needs no model")
    forward: float | None
    rate: float | None
    dividend_yield: float | None


class PayoffKnotModel(BaseModel):
    """A corner of the payoff."""

    spot: float
    payoff: float = Field(description="before the cost")
    profit: float | None


class StrategyPayoffModel(BaseModel):
    """The payoff at expiration: straight between the knots, and beyond the last with `slope_above`."""

    knots: list[PayoffKnotModel]
    slope_above: float = Field(description="dollars per dollar of the underlying")


class StretchModel(BaseModel):
    """Where the profit is zero on a whole stretch; `to` null: for ever."""

    from_: float = Field(alias="from")
    to: float | None


class StrategyBreakEvensModel(BaseModel):
    """Spots at which the profit is zero at the first expiration."""

    spots: list[float]
    flat: list[StretchModel]


class StrategyExtremesModel(BaseModel):
    """The greatest gain and loss at the first expiration; null where unlimited."""

    greatest_gain: float | None
    gain_unlimited: bool
    gain_at: float | None
    greatest_loss: float | None = Field(description="a positive number loses")
    loss_unlimited: bool
    loss_at: float | None
    at_zero: float = Field(description="profit when the underlying is worth nothing")


class StrategyProbabilityModel(BaseModel):
    """Of ending above the cost at the first expiration."""

    flat: float | None = Field(description="lognormal, of one volatility")
    flat_volatility: float | None
    smile: float | None = Field(description="by the distribution that the fitted surface implies")
    reason: str | None


class StrategyExpectedModel(BaseModel):
    """Value less cost: at fair volatilities minus what crossing the spread and fees cost."""

    value: float | None
    profit: float | None
    reason: str | None


class StrategyExpectedProfitModel(BaseModel):
    """By two models of what is fair."""

    at_mid: StrategyExpectedModel = Field(description="each leg at its own implied volatility, that of its mid")
    at_surface: StrategyExpectedModel = Field(description="each leg at the volatility of the fitted surface")


class StrategyGreeksModel(BaseModel):
    """Of the whole position."""

    value: float | None
    delta: float | None
    gamma: float | None
    theta: float | None
    vega: float | None
    rho: float | None
    reason: str | None


class ProfilePointModel(BaseModel):
    """The profit were the underlying at `spot`: at the first expiration, and now."""

    spot: float
    at_horizon: float | None
    now: float | None


class StrategyModel(BaseModel):
    """A position; whatever cannot be told is null and `reason` or `reasons` say why."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**STRATEGY_ANSWER, "assumptions": [*_ASSUMPTIONS], "units": {**_UNITS}}]}
    )

    underlying: str | None
    as_of: str
    newest_input: str | None
    session: str | None
    source: str = Field(description="`request` where every number comes from it")
    spot: StrategySpotModel
    rate: RateModel
    quality: ChainQualityModel | None = Field(description="of the stored chain")
    legs: list[StrategyLegModel]
    cost: StrategyCostModel
    horizon: StrategyHorizonModel
    payoff: StrategyPayoffModel | None = Field(description="null with several expirations: see `profile`")
    break_evens: StrategyBreakEvensModel | None
    extremes: StrategyExtremesModel | None
    probability_of_profit: StrategyProbabilityModel
    expected_profit: StrategyExpectedProfitModel
    greeks: StrategyGreeksModel
    profile: list[ProfilePointModel] | None
    reasons: dict[str, str] = Field(description="why `payoff`, `break_evens`, `extremes` or `profile` are null")
    assumptions: list[str]
    units: dict[str, str]


def add_strategies(api: APIBlueprint, settings: AnalyticsSettings, database: Database, desk: Desk) -> None:
    """The route of strategies."""
    sessions = sessions_of(settings.market_calendar)

    @api.post(
        "/options/strategies/analyze",
        summary="What a position costs, pays, risks and is worth",
        responses={200: StrategyModel, 404: ProblemModel, 422: ProblemModel},
    )
    def analyze(body: StrategyBody) -> Response:
        _check(body)
        if all(leg.symbol is None for leg in body.legs):
            return _answer(body, *_stated(body, sessions))
        underlying, moment = _underlying(body), desk.moment(body.as_of)
        return desk.answer(
            moment,
            lambda: _answer(body, *_stored(body, settings, database, desk.chain(underlying, moment))),
            tags=(underlying,),
            explicit=body.as_of is not None,
        )


def _answer(body: StrategyBody, heading: dict[str, Any], legs: list[HeldLeg], outlook: Outlook) -> Response:
    analysis = Analysis(legs, outlook, body.fee_per_contract)
    text = orjson.dumps({**heading, **_shape(analysis, body)}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(text, mimetype="application/json")


def _check(body: StrategyBody) -> None:
    """Raises a 422 problem that names the leg which cannot be one."""
    options = [leg for leg in body.legs if leg.type == "option"]
    if not options:
        raise invalid("#/body/legs", "hold at least one option: a position of stock alone has no expiration")
    stored = any(leg.symbol is not None for leg in options)
    for number, leg in enumerate(body.legs):
        where = f"#/body/legs/{number}"
        if leg.quantity == 0:
            raise invalid(f"{where}/quantity", f"leg {number + 1}: must not be 0")
        if leg.type == "stock":
            _refuse(leg, where, number, ("symbol", *_TERMS), "stock has none: it is that of the options' underlying")
        elif leg.symbol is not None:
            _refuse(leg, where, number, (*_TERMS, "bid", "ask"), "is known of a stored contract: leave it out")
        elif stored:
            raise invalid(
                f"{where}/symbol",
                f"leg {number + 1}: legs by symbol and legs by terms do not mix: their quotes are of other markets",
            )
        else:
            _check_terms(leg, where, number)
        if (leg.bid is None) != (leg.ask is None) and leg.type == "stock":
            raise invalid(f"{where}/bid", f"leg {number + 1}: give both bid and ask of stock, or neither")
    for name in ("spot", "rate", "dividend_yield", "volatility"):
        given = getattr(body, name) is not None
        if stored and given:
            raise invalid(f"#/body/{name}", "is known of stored contracts: leave it out")
        if not stored and not given and name in ("spot", "rate"):
            raise invalid(f"#/body/{name}", "must be given for legs by their terms")


def _check_terms(leg: LegModel, where: str, number: int) -> None:
    for name in ("right", "strike"):
        if getattr(leg, name) is None:
            detail = f"leg {number + 1}: give {name}, or the symbol of a stored contract"
            raise invalid(f"{where}/{name}", detail)
    if (leg.years is None) == (leg.expiration is None):
        raise invalid(f"{where}/years", f"leg {number + 1}: give either years or expiration")


def _refuse(leg: LegModel, where: str, number: int, names: tuple[str, ...], why: str) -> None:
    for name in names:
        if getattr(leg, name) is not None:
            raise invalid(f"{where}/{name}", f"leg {number + 1}: {name} {why}")


def _stated(body: StrategyBody, sessions: Sessions) -> tuple[dict[str, Any], list[HeldLeg], Outlook]:
    """Legs by their terms: every number is the request's."""
    at_ns = body.as_of if body.as_of is not None else time.time_ns()
    spot, rate, dividend_yield = body.spot or math.nan, body.rate or 0.0, body.dividend_yield or 0.0
    legs = []
    for number, leg in enumerate(body.legs):
        if leg.type == "stock":
            legs.append(HeldLeg.of_stock(_stock(leg, spot), None, spot))
            continue
        years = leg.years if leg.years is not None else _years(leg.expiration, number, sessions, at_ns)
        quoted = Leg(
            _RIGHTS[leg.right or "C"],
            leg.strike or math.nan,
            years,
            _number(leg.bid),
            _number(leg.ask),
            leg.quantity,
            leg.multiplier or _MULTIPLIER,
            Style(leg.style or "american"),
        )
        legs.append(HeldLeg.of_terms(quoted, leg.expiration, spot, rate, dividend_yield, _number(leg.volatility)))
    heading = {
        "underlying": None,
        "as_of": rfc3339(at_ns),
        "newest_input": None,
        "session": None,
        "source": "request",
        "spot": {"price": spot, "time": None, "kind": "request"},
        "rate": {"kind": "request", "detail": "stated in the request"},
        "quality": None,
    }
    return heading, legs, _stated_outlook(body, legs, spot, rate, dividend_yield)


def _stated_outlook(
    body: StrategyBody, legs: list[HeldLeg], spot: float, rate: float, dividend_yield: float
) -> Outlook:
    options = [held for held in legs if held.leg.is_option]
    years = min(held.leg.years for held in options)
    forward = spot * math.exp((rate - dividend_yield) * years)
    volatility = body.volatility
    if volatility is None:
        first = [held for held in options if held.leg.years == years and np.isfinite(held.volatility)]
        nearest = min(first, key=lambda held: abs(math.log(held.leg.strike / forward)), default=None)
        volatility = nearest.volatility if nearest else None
    reason = None if volatility else "no volatility is given, and none of the legs that expire first has one"
    return Outlook(spot, forward, _number(volatility), None, reason)


def _stored(
    body: StrategyBody, settings: AnalyticsSettings, database: Database, chain: PricedChain
) -> tuple[dict[str, Any], list[HeldLeg], Outlook]:
    """Legs of stored contracts: quotes, volatilities, rate and forward of the chain at the moment."""
    underlying = chain.underlying
    if chain.spot is None:
        raise Problem(404, "no-spot", f"no position of {underlying} can be judged: {chain.quality['no_spot']}")
    spot = chain.spot.price / SCALE
    rows = {symbol: row for row, symbol in enumerate(chain.symbol.tolist())}
    legs = []
    for number, leg in enumerate(body.legs):
        if leg.type == "stock":
            quote = read_stock_quote(database, underlying, chain.moment.at_ns)
            legs.append(HeldLeg.of_stock(_stock(leg, spot, quote), underlying, spot))
            continue
        row = rows.get(canonical_symbol(leg.symbol or "").replace(" ", ""))
        if row is None:
            raise invalid(
                f"#/body/legs/{number}/symbol",
                f"leg {number + 1}: {leg.symbol} is no contract that was live at {rfc3339(chain.moment.at_ns)}",
                hint=f'curl -H "Authorization: Bearer $TOKEN" "http://localhost:8000/api/v1/analytics/options/{underlying}'
                '?fields=symbol"',
            )
        legs.append(_held(chain, row, leg.quantity))
    return chain_heading(chain, settings), legs, _stored_outlook(chain, legs, spot)


def _underlying(body: StrategyBody) -> str:
    found: str | None = None
    for number, leg in enumerate(body.legs):
        if leg.symbol is None:
            continue
        option = parse_option_symbol(canonical_symbol(leg.symbol))
        where = f"#/body/legs/{number}/symbol"
        if option is None:
            raise invalid(where, f"leg {number + 1}: expected an OSI symbol such as SPY260320C00600000")
        if found is not None and option.root != found:
            raise invalid(where, f"leg {number + 1}: is on {option.root}, the legs before it are on {found}")
        found = option.root
    return found or ""


def _held(chain: PricedChain, row: int, quantity: float) -> HeldLeg:
    reason = str(chain.reason[row])
    leg = Leg(
        int(chain.right[row]),
        float(chain.strike[row]),
        float(chain.years[row]),
        float(chain.bid[row]),
        float(chain.ask[row]),
        quantity,
        _MULTIPLIER,
    )
    return HeldLeg(
        executable(leg, reason not in ("stale", "no_quote")),
        str(chain.symbol[row]),
        chain.expiration[row].astype(object),
        float(chain.implied_volatility[row]),
        np.array([column[row] for column in chain.greeks]),
        float(chain.theoretical[row]),
        float(chain.carry_rate[row]),
        float(chain.dividend_yield[row]),
        reason or None,
    )


def _stored_outlook(chain: PricedChain, legs: list[HeldLeg], spot: float) -> Outlook:
    years = min(held.leg.years for held in legs if held.leg.is_option)
    surface = chain.surface
    if surface is None or not surface.years.size:
        why = chain.rate.detail if chain.rate.kind is None else "no contract tells its volatility"
        return Outlook(spot, math.nan, math.nan, None, f"there is no surface: {why}")
    if not surface.years[0] - 1e-7 <= years <= surface.years[-1] + 1e-7:
        return Outlook(spot, math.nan, math.nan, None, "the first expiration lies outside those of the surface")
    forward = float(surface.forward_at(years))
    carry = next(held for held in legs if held.leg.years == years)
    if not np.isfinite(carry.rate) or not np.isfinite(carry.dividend_yield):
        return Outlook(spot, forward, math.nan, None, "the first expiration has no forward")
    return Outlook(
        spot,
        forward,
        float(surface.volatility(years, forward)),
        lambda strikes: surface.volatility(years, strikes),
        None,
    )


def _stock(leg: LegModel, spot: float, quote: tuple[int, int] | None = None) -> Leg:
    """Shares at the quote that is given, else at the stored one (1e-9 dollars), else at the spot."""
    if leg.bid is not None and leg.ask is not None:
        return Leg.stock(leg.bid, leg.ask, leg.quantity)
    bid, ask = (quote[0] / SCALE, quote[1] / SCALE) if quote else (spot, spot)
    return Leg.stock(bid, ask, leg.quantity)


def _years(expiration: date | None, number: int, sessions: Sessions, at_ns: int) -> float:
    years, reason = years_until(sessions, [expiration], at_ns)
    if reason[0]:
        where = f"#/body/legs/{number}/expiration"
        why = {"expired": f"is over at {rfc3339(at_ns)}"}.get(str(reason[0]), "lies after the calendar's last session")
        raise invalid(where, f"leg {number + 1}: {expiration} {why}")
    return float(years[0])


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _shape(analysis: Analysis, body: StrategyBody) -> dict[str, Any]:
    ends = analysis.ends
    profile = analysis.profile(body.points)
    reasons: dict[str, str] = {}
    if not analysis.position.one_expiration:
        reasons["payoff"] = "with several expirations the payoff at the first needs a model: see profile"
    if isinstance(ends, str):
        reasons |= {"break_evens": ends, "extremes": ends}
    if profile is None:
        reasons["profile"] = (
            "points is 0" if body.points == 0 else analysis.no_cost or analysis.no_market or "it cannot be valued"
        )
    notes = list(_ASSUMPTIONS)
    if not analysis.position.one_expiration:
        notes.append(_LATER_LEGS)
    if any(not held.leg.is_option and held.leg.bid == held.leg.ask == analysis.outlook.spot for held in analysis.legs):
        notes.append(_STOCK_AT_SPOT)
    return {
        "legs": [_leg(number, held) for number, held in enumerate(analysis.legs, 1)],
        "cost": _cost(analysis),
        "horizon": _horizon(analysis),
        "payoff": _payoff(analysis),
        "break_evens": None if isinstance(ends, str) else _break_evens(ends[0]),
        "extremes": None if isinstance(ends, str) else _extremes(ends[1]),
        "probability_of_profit": _probability(analysis),
        "expected_profit": {
            "at_mid": _expected(analysis, analysis.value, analysis.no_market or "a leg has no value"),
            "at_surface": _expected(
                analysis, analysis.surface_value, "a leg lies beyond the fitted surface, or there is none"
            ),
        },
        "greeks": _greeks(analysis),
        "profile": profile
        and [
            {"spot": spot, "at_horizon": at_horizon, "now": now}
            for spot, at_horizon, now in zip(
                profile.spots.tolist(), profile.at_horizon.tolist(), profile.now.tolist(), strict=True
            )
        ],
        "reasons": reasons,
        "assumptions": notes,
        "units": _UNITS,
    }


def _leg(number: int, held: HeldLeg) -> dict[str, Any]:
    leg = held.leg
    stated = {name: float(value) * STATED[name] for name, value in zip(Greeks._fields, held.greeks, strict=True)}
    option = leg.is_option
    return {
        "leg": number,
        "type": "option" if option else "stock",
        "symbol": held.symbol,
        "right": _NAMED.get(leg.right),
        "strike": leg.strike if option else None,
        "expiration": held.expiration.isoformat() if held.expiration else None,
        "years": leg.years if option else None,
        "style": str(leg.style) if option else None,
        "quantity": leg.quantity,
        "multiplier": leg.multiplier,
        "bid": known(leg.bid),
        "ask": known(leg.ask),
        "mid": known(leg.mid),
        "half_spread": known((leg.ask - leg.bid) / 2),
        "executable": known(leg.executable),
        "volatility": known(held.volatility),
        "theoretical": known(held.theoretical) if option else None,
        **{name: known(stated[name]) for name in _SHOWN},
        "reason": held.reason,
    }


def _cost(analysis: Analysis) -> dict[str, Any]:
    entry = analysis.entry
    return {
        "executable": known(entry.cost),
        "mid": known(entry.mid),
        "half_spreads": known(entry.half_spreads),
        "fees": entry.fees,
        "problems": list(entry.problems),
        "reason": analysis.no_cost,
    }


def _horizon(analysis: Analysis) -> dict[str, Any]:
    return {
        "expiration": analysis.first_expiration.isoformat() if analysis.first_expiration else None,
        "years": analysis.years,
        "one_expiration": analysis.position.one_expiration,
        "forward": known(analysis.outlook.forward),
        "rate": known(analysis.rate),
        "dividend_yield": known(analysis.dividend_yield),
    }


def _payoff(analysis: Analysis) -> dict[str, Any] | None:
    line = analysis.payoff
    if line is None:
        return None
    cost = analysis.entry.cost
    return {
        "knots": [
            {"spot": spot, "payoff": value, "profit": known(value - cost)}
            for spot, value in zip(line.knots.tolist(), line.values.tolist(), strict=True)
        ],
        "slope_above": line.slope,
    }


def _break_evens(found: BreakEvens) -> dict[str, Any]:
    return {
        "spots": found.spots.tolist(),
        "flat": [{"from": start, "to": known(end)} for start, end in found.flat.tolist()],
    }


def _extremes(found: Extremes) -> dict[str, Any]:
    return {
        "greatest_gain": known(found.maximum_gain),
        "gain_unlimited": math.isinf(found.maximum_gain),
        "gain_at": known(found.gain_at),
        "greatest_loss": known(found.maximum_loss),
        "loss_unlimited": math.isinf(found.maximum_loss),
        "loss_at": known(found.loss_at),
        "at_zero": found.at_zero,
    }


def _probability(analysis: Analysis) -> dict[str, Any]:
    found = analysis.probability
    volatility = known(analysis.outlook.volatility)
    if isinstance(found, str):
        return {"flat": None, "flat_volatility": volatility, "smile": None, "reason": found}
    return {
        "flat": known(found.lognormal),
        "flat_volatility": volatility,
        "smile": known(found.smile),
        "reason": None if math.isfinite(found.smile) else "a smile is known of stored contracts only",
    }


def _expected(analysis: Analysis, value: float, unvalued: str) -> dict[str, Any]:
    profit = value - analysis.entry.cost
    reason = None if math.isfinite(profit) else analysis.no_cost if math.isfinite(value) else unvalued
    return {"value": known(value), "profit": known(profit), "reason": reason}


def _greeks(analysis: Analysis) -> dict[str, Any]:
    found = analysis.greeks()
    shown = {"value": known(found["price"]), **{name: known(found[name]) for name in _SHOWN}}
    missing = any(value is None for value in shown.values())
    return {**shown, "reason": analysis.no_market or "a leg has none" if missing else None}
