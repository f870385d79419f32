"""Prices, implied volatilities and strategies of contracts that the request gives."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from ots_analytics.calendar_dates import CalendarDate
from ots_analytics.contract_terms import (
    GREEK_UNITS,
    REASONS,
    Priced,
    Terms,
    ex_dates_in_years,
    imply_volatilities,
    price_contracts,
    years_until,
)
from ots_analytics.desk import Desk
from ots_analytics.routes.calculator_examples import IMPLIED, IMPLIED_ANSWER, PRICE, PRICE_ANSWER, PRICE_COLUMNS
from ots_analytics.routes.strategies import add_strategies
from ots_analytics.settings import AnalyticsSettings
from ots_common.database import Database
from ots_common.media_types import JSON, wanted_table_type
from ots_common.problems import invalid
from ots_common.schemas import ProblemModel, RequestModel, TableModel
from ots_common.tables import columns_response
from ots_common.times import Moment, rfc3339
from ots_market.sessions import Sessions, sessions_of
from ots_quant.american import CashDividends

MOST_CONTRACTS = 20_000
# on the tree an implied volatility takes 2 ms, elsewhere a tenth of that at most
MOST_ON_TREE = 2_000
MOST_DIVIDENDS = 50
_TAG = Tag(
    name="calculators", description="Prices, implied volatilities and strategies of contracts that the request gives"
)
_FIRST_ORDER = ("price", "delta", "gamma", "theta", "vega", "rho")
_SECOND_ORDER = ("vanna", "charm", "vomma")
_YEARS = {"years": "of 365 days"}
_VOLATILITY_UNITS = {"implied_volatility": "a decimal a year", **_YEARS}
_RIGHTS = {"C": 1.0, "P": -1.0, None: np.nan}


def _price_units(names: Sequence[str]) -> dict[str, str]:
    return {"price": "dollars a share", **{name: GREEK_UNITS[name] for name in names[1:]}, **_YEARS}


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Right = Literal["C", "P"]


def _column(item: dict[str, Any]) -> WithJsonSchema:
    """The schema of a column: one value for all contracts, or a list with one each."""
    known = {"anyOf": [item, {"type": "null"}]}
    return WithJsonSchema({"anyOf": [*known["anyOf"], {"type": "array", "items": known, "maxItems": MOST_CONTRACTS}]})


# of 20,000 wrong values one is told
_LENGTH = Field(min_length=1, max_length=MOST_CONTRACTS, fail_fast=True)
Numbers = Annotated[list[Number | None], _LENGTH, BeforeValidator(_as_list), _column({"type": "number"})]
Dates = Annotated[
    list[CalendarDate | None],
    _LENGTH,
    BeforeValidator(_as_list),
    _column({"type": "string", "format": "date"}),
]
Rights = Annotated[
    list[Right | None], _LENGTH, BeforeValidator(_as_list), _column({"type": "string", "enum": ["C", "P"]})
]


class _Contract(RequestModel):
    """One contract. What is null leaves the contract without an answer, and the reason says so."""

    right: Right | None = Field(description="`C` call, `P` put")
    spot: Number | None = Field(description="dollars")
    strike: Number | None = Field(description="dollars")
    years: Number | None = Field(None, description="to expiration, of 365 days; or `expiration`")
    expiration: CalendarDate | None = Field(None, description="its session's close, by the market's calendar")
    rate: Number | None = Field(description="continuously compounded, a decimal a year")
    dividend_yield: Number | None = Field(0.0, description="continuously compounded, a decimal a year")


class _Columns(RequestModel):
    """Contracts as columns: a value stands for all contracts, a list holds one for each."""

    right: Rights = Field(description="`C` call, `P` put")
    spot: Numbers = Field(description="dollars")
    strike: Numbers = Field(description="dollars")
    years: Numbers | None = Field(None, description="to expiration, of 365 days; or `expiration`")
    expiration: Dates | None = Field(None, description="its session's close, by the market's calendar")
    rate: Numbers = Field(description="continuously compounded, decimals a year")
    dividend_yield: Numbers = Field([0.0], description="continuously compounded, decimals a year")


class ContractToPrice(_Contract):
    """A contract and its volatility."""

    volatility: Number | None = Field(description="a decimal a year")


class ContractWithPrice(_Contract):
    """A contract and its price."""

    price: Number | None = Field(description="dollars a share")


class ColumnsToPrice(_Columns):
    """Contracts and their volatilities."""

    volatility: Numbers = Field(description="decimals a year")


class ColumnsWithPrices(_Columns):
    """Contracts and their prices."""

    price: Numbers = Field(description="dollars a share")


class CashDividendModel(RequestModel):
    """A dividend in dollars a share, beside the dividend yield."""

    amount: Number = Field(ge=0, le=1e6)
    years: Annotated[Number, Field(ge=0, le=1e4)] | None = Field(None, description="until it goes ex; or `ex_date`")
    ex_date: CalendarDate | None = Field(None, description="it goes ex at the open of that session")


class _Calculation(RequestModel):
    """What both calculators take."""

    style: Literal["american", "european"] = Field("american", description="of exercise")
    as_of: Moment | None = Field(None, description="From when years to `expiration` and `ex_date` count; default now.")
    dividends: list[CashDividendModel] = Field(
        [],
        max_length=MOST_DIVIDENDS,
        description=f"Cash dividends of the underlying of all contracts, american style; then at most {MOST_ON_TREE}"
        " contracts.",
    )


class PriceBody(_Calculation):
    """Contracts to be priced: `contracts` or `columns`."""

    model_config = ConfigDict(json_schema_extra={"examples": [PRICE, PRICE_COLUMNS]})

    contracts: Annotated[list[ContractToPrice], _LENGTH] | None = None
    columns: ColumnsToPrice | None = None
    second_order: bool = Field(False, description="also vanna, charm and vomma")


class ImpliedVolatilityBody(_Calculation):
    """Contracts whose prices are known: `contracts` or `columns`."""

    model_config = ConfigDict(json_schema_extra={"examples": [IMPLIED]})

    contracts: Annotated[list[ContractWithPrice], _LENGTH] | None = None
    columns: ColumnsWithPrices | None = None


class CalculationQualityModel(BaseModel):
    """How many contracts have an answer."""

    contracts: int
    calculated: int = Field(description="with a price, or a volatility")
    reasons: dict[str, int] = Field(description="counts of contracts by `reason`")


class _Result(BaseModel):
    years: float | None = Field(description="as given, or to the expiration's close")
    reason: str | None = Field(description="why something is null; `reasons` explains it")


class PricedContract(_Result):
    """Prices and Greeks are those of one share's option; what is null has a `reason`."""

    price: float | None
    delta: float | None
    gamma: float | None
    theta: float | None
    vega: float | None
    rho: float | None
    vanna: float | None = Field(None, description="with `second_order`")
    charm: float | None = Field(None, description="with `second_order`")
    vomma: float | None = Field(None, description="with `second_order`")


class ImpliedContract(_Result):
    """A volatility, or why there is none."""

    implied_volatility: float | None


class _Answer(TableModel):
    style: str
    as_of: str
    calendar: str = Field(description="whose closes end the contracts")
    source: str = Field(description="`request`: every number comes from it")
    quality: CalculationQualityModel
    reasons: dict[str, str] = Field(description="what each `reason` in the answer means")
    units: dict[str, str]


class PriceAnswer(_Answer):
    """In the order and the form of the request: `contracts` or `columns`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**PRICE_ANSWER, "units": {**_price_units(_FIRST_ORDER)}}]}
    )

    contracts: list[PricedContract] | None = None
    columns: dict[str, list[float | str | None]] | None = None
    next: str | None = Field(None, description="null: all contracts are answered at once")


class ImpliedVolatilityAnswer(_Answer):
    """In the order and the form of the request: `contracts` or `columns`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**IMPLIED_ANSWER, "units": {**_VOLATILITY_UNITS}}]})

    contracts: list[ImpliedContract] | None = None
    columns: dict[str, list[float | str | None]] | None = None
    next: str | None = Field(None, description="null: all contracts are answered at once")


def blueprint(settings: AnalyticsSettings, database: Database, desk: Desk) -> APIBlueprint:
    """The routes of calculators."""
    api = APIBlueprint("calculators", __name__, url_prefix="/api/v1/analytics", abp_tags=[_TAG])
    sessions = sessions_of(settings.market_calendar)

    @api.post(
        "/options/price",
        summary="Prices and Greeks of contracts",
        responses={200: PriceAnswer, 422: ProblemModel},
    )
    def price(body: PriceBody) -> Response:
        asked = _Asked(body, "volatility", sessions)
        found = price_contracts(asked.terms, asked.last, body.style, asked.dividends, asked.reason)
        names = _FIRST_ORDER + (_SECOND_ORDER if body.second_order else ())
        return asked.answer(found, names, _price_units(names))

    @api.post(
        "/options/implied-volatility",
        summary="Implied volatilities of prices",
        responses={200: ImpliedVolatilityAnswer, 422: ProblemModel},
    )
    def implied_volatility(body: ImpliedVolatilityBody) -> Response:
        asked = _Asked(body, "price", sessions)
        found = imply_volatilities(asked.terms, asked.last, body.style, asked.dividends, asked.reason)
        return asked.answer(found, ("implied_volatility",), _VOLATILITY_UNITS)

    add_strategies(api, settings, database, desk)
    return api


class _Asked:
    """A body as arrays. Raises 422 problems that name the field."""

    def __init__(self, body: PriceBody | ImpliedVolatilityBody, last: str, sessions: Sessions) -> None:
        self._body = body
        self._calendar = sessions.name
        self._at_ns = body.as_of if body.as_of is not None else time.time_ns()
        columns = _columns_of(body, last)
        count = len(columns["spot"])
        if columns["expiration"] is not None:
            years, self.reason = years_until(sessions, columns["expiration"], self._at_ns)
        else:
            years, self.reason = np.array(columns["years"], np.float64), np.full(count, "")
        numbers = {name: np.array(columns[name], np.float64) for name in ("spot", "strike", "rate", "dividend_yield")}
        right = np.array([_RIGHTS[right] for right in columns["right"]])
        self.terms = Terms(right=right, years=years, **numbers)
        self.last = np.array(columns[last], np.float64)
        self.dividends = self._cash(sessions)
        on_tree = self._on_tree(count)
        if on_tree > MOST_ON_TREE:
            where = (
                "#/body/dividends"
                if body.dividends
                else f"#/body/{'columns' if body.contracts is None else 'contracts'}"
            )
            raise invalid(
                where,
                f"with cash dividends, or where rate and dividend yield are both negative, at most {MOST_ON_TREE}"
                f" contracts at once; {on_tree} are given",
            )

    def _on_tree(self, count: int) -> int:
        if self._body.style == "european":
            return 0
        return count if self.dividends else int(((self.terms.rate < 0) & (self.terms.dividend_yield < 0)).sum())

    def _cash(self, sessions: Sessions) -> CashDividends | None:
        given = self._body.dividends
        if not given:
            return None
        if self._body.style == "european":
            raise invalid("#/body/dividends", "cash dividends are for style american; give european a dividend_yield")
        years = [self._until_ex(one, f"#/body/dividends/{number}", sessions) for number, one in enumerate(given)]
        return CashDividends(np.array(years), np.array([one.amount for one in given]))

    def _until_ex(self, one: CashDividendModel, where: str, sessions: Sessions) -> float:
        if one.years is not None and one.ex_date is None:
            return one.years
        if one.ex_date is None or one.years is not None:
            raise invalid(where, "give either years or ex_date")
        until = float(ex_dates_in_years(sessions, [one.ex_date], self._at_ns)[0])
        if not np.isfinite(until):
            raise invalid(f"{where}/ex_date", "lies after the last session of the calendar")
        return until

    def answer(self, found: Priced, names: Sequence[str], units: dict[str, str]) -> Response:
        """The results ``names`` in the form that was asked in."""
        columns = {name: found.values[name] for name in names}
        counts = found.counts()
        total = len(self.terms)
        about = {
            "style": self._body.style,
            "as_of": rfc3339(self._at_ns),
            "calendar": self._calendar,
            "source": "request",
            "quality": {
                "contracts": total,
                "calculated": int(np.isfinite(columns[names[0]]).sum()),
                "reasons": counts,
            },
            "reasons": {reason: _meaning(reason) for reason in counts},
            "units": units,
        }
        reasons: list[str | None] = [reason or None for reason in found.reason.tolist()]
        results: dict[str, Any] = {**columns, "years": self.terms.years, "reason": reasons}
        if self._body.contracts is not None or wanted_table_type() != JSON:
            return columns_response("contracts", results, about)
        text = orjson.dumps({**about, "columns": results}, option=orjson.OPT_SERIALIZE_NUMPY)
        response = Response(text, mimetype=JSON)
        response.vary.add("Accept")
        return response


def _meaning(reason: str) -> str:
    return REASONS.get(reason) or f"{reason.removeprefix('unknown_')} is null"


def _columns_of(body: PriceBody | ImpliedVolatilityBody, last: str) -> dict[str, Any]:
    """A list a column, all of one length; of ``years`` and ``expiration`` one may be None."""
    if (body.contracts is None) == (body.columns is None):
        raise invalid("#/body", "give either contracts (rows) or columns")
    names = ("right", "spot", "strike", "rate", "dividend_yield", last)
    if body.columns is not None:
        given = {name: getattr(body.columns, name) for name in (*names, "years", "expiration")}
        if (given["years"] is None) == (given["expiration"] is None):
            raise invalid("#/body/columns", "give either years or expiration")
        return _broadcast(given)
    rows: Sequence[Any] = body.contracts or ()
    by_date = [row.expiration is not None for row in rows]
    for number, row in enumerate(rows):
        if row.years is not None and by_date[number]:
            raise invalid(f"#/body/contracts/{number}/years", "give either years or expiration")
        if by_date[number] != by_date[0] and row.years is not None:
            raise invalid(f"#/body/contracts/{number}", "some contracts have years and others an expiration: give one")
    columns: dict[str, Any] = {name: [getattr(row, name) for row in rows] for name in names}
    named = "expiration" if any(by_date) else "years"
    columns |= {"years": None, "expiration": None, named: [getattr(row, named) for row in rows]}
    return columns


def _broadcast(given: dict[str, Any]) -> dict[str, Any]:
    """Columns of one value as long as the others. Raises a 422 problem naming the one of another length."""
    longest = max(given, key=lambda name: len(given[name] or ()))
    count = len(given[longest])
    for name, values in given.items():
        if values is not None and len(values) not in (1, count):
            raise invalid(
                f"#/body/columns/{name}", f"has {len(values)} values and {longest} has {count}: give one, or as many"
            )
    return {name: values * count if values and len(values) == 1 else values for name, values in given.items()}
