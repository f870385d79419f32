"""All underlyings at a glance."""

from __future__ import annotations

import time
from datetime import date
from typing import Any

import numpy as np
from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, ConfigDict, Field

from ots_analytics import market_glance
from ots_analytics.adjusted_bars import AdjustedBars
from ots_analytics.chain_queries import AsOfQuery
from ots_analytics.desk import Desk
from ots_analytics.market_glance import ImpliedNow, NearestExpiration, Price, PutsAndCalls, Quoted
from ots_analytics.realised_volatility import over_sessions, read_daily
from ots_analytics.routes import activity_examples
from ots_analytics.settings import AnalyticsSettings
from ots_analytics.volatility import constant_maturity
from ots_chains.chains import Moment, underlyings_of
from ots_chains.priced_chains import PricedChain
from ots_common.database import Database
from ots_common.problems import Problem
from ots_common.schemas import ProblemModel, TableModel
from ots_common.tables import Kind, table_response
from ots_common.times import NS_PER_S, rfc3339
from ots_market.adjustments import split_factors
from ots_market.instruments import unknown_symbol
from ots_market.prices import SCALE
from ots_market.sessions import Sessions
from ots_quant.density import flat_move

_TAG = Tag(name="market", description="All underlyings at a glance")
_SESSIONS = 20
_MOST_SYMBOLS = 100
_UNITS = {
    "price, previous_close, open, high, low, mean_20, expected_move": "dollars, adjusted for splits in force then",
    "open, high, low, volume": "of the session's minute bars that had closed",
    "previous_close": "of the last minute of the session before, else of its daily bar: `previous_close_kind`",
    "change": "price less previous_close; change_pct in per cent of it",
    "realised_20": "close to close over the last 20 daily bars that had closed, a decimal a year",
    "implied_30d": "at the forward in 30 calendar days, a decimal a year",
    "implied_origin": "snapshot: as stored at implied_at, at most `snapshot_quote_age_s` before; chain: priced now",
    "expected_move": "one standard deviation of the price at the close of `expiration`, the nearest, by the volatility"
    " at the money alone; _pct in per cent of the price; risk-neutral: what prices imply, no forecast",
    "expected_move_today": "the same until the session's close: variance spread evenly over the hours that the exchange"
    " is open until `expiration`",
    "put_call_volume": "puts over calls, contracts traded in the session's minutes that had closed",
    "put_call_open_interest": "puts over calls, open contracts as published by `open_interest_time`",
    "breadth": "prices above (advancing), below (declining) and at the previous close; and above or not their mean of"
    " the last 20 daily closes",
}
_COLUMNS: dict[str, Kind] = {
    "symbol": "text", "price": "number", "price_time": "time", "price_kind": "text", "stale": "flag",
    "previous_close": "number", "previous_close_kind": "text", "change": "number", "change_pct": "number",
    "open": "number", "high": "number", "low": "number", "volume": "integer", "mean_20": "number",
    "realised_20": "number", "implied_30d": "number", "implied_origin": "text", "implied_at": "time",
    "expiration": "date", "expected_move": "number", "expected_move_pct": "number", "expected_move_today": "number",
    "expected_move_today_pct": "number", "put_volume": "integer", "call_volume": "integer",
    "put_call_volume": "number", "put_open_interest": "integer", "call_open_interest": "integer",
    "put_call_open_interest": "number", "open_interest_time": "time", "reasons": "json",
}  # fmt: skip
_EXAMPLE = {**activity_examples.MARKET, "units": _UNITS}


class MarketRowModel(BaseModel):
    """One underlying; what is null has its reason in ``reasons``, by the name of the field or of its group."""

    symbol: str
    price: float | None
    price_time: str | None
    price_kind: str | None = Field(
        description="`quote` (the middle of a two-sided one), `trade`, `bar` (a minute's close) or `daily_bar`"
    )
    stale: bool = Field(description="no price, or one older than SNAPSHOT_QUOTE_AGE_S at `as_of`")
    previous_close: float | None
    previous_close_kind: str | None = Field(description="`bar` or `daily_bar`")
    change: float | None
    change_pct: float | None
    open: float | None
    high: float | None
    low: float | None
    volume: int | None
    mean_20: float | None
    realised_20: float | None
    implied_30d: float | None
    implied_origin: str | None = Field(description="`snapshot` or `chain`")
    implied_at: str | None
    expiration: str | None
    expected_move: float | None
    expected_move_pct: float | None
    expected_move_today: float | None
    expected_move_today_pct: float | None
    put_volume: int | None
    call_volume: int | None
    put_call_volume: float | None
    put_open_interest: int | None
    call_open_interest: int | None
    put_call_open_interest: float | None
    open_interest_time: str | None
    reasons: dict[str, str] = Field(
        description="of a price and its kind and time under `price`; of open, high, low and volume under `range`; of"
        " expiration and moves under `expected_move`, of moves today alone under `expected_move_today`; of puts, calls"
        " and their ratio under `put_call_volume` and `put_call_open_interest`; so with `_pct`, `_kind`, `_origin`"
    )


class BreadthModel(BaseModel):
    """How many rose; of whom it is not known counts as unknown."""

    advancing: int
    declining: int
    unchanged: int
    change_unknown: int
    above_mean_20: int
    not_above_mean_20: int
    mean_20_unknown: int


class MarketQualityModel(BaseModel):
    """What the answer rests on."""

    stale: list[str] = Field(description="symbols whose price is stale")
    left_out: int = Field(description=f"symbols beyond the {_MOST_SYMBOLS} that are answered for")
    oldest_implied: str | None


class MarketModel(TableModel):
    """All underlyings at a moment."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    as_of: str = Field(description="the moment that is answered for")
    bars_until: str = Field(description="daily bars count that had closed by then: the time that was asked for")
    newest_input: str | None = Field(description="time of the newest price")
    session: str
    source: str
    quality: MarketQualityModel
    units: dict[str, str]
    breadth: BreadthModel
    market: list[MarketRowModel]
    next: str | None


def blueprint(settings: AnalyticsSettings, database: Database, desk: Desk) -> APIBlueprint:
    """The route of all underlyings."""
    api = APIBlueprint("market", __name__, url_prefix="/api/v1/analytics", abp_tags=[_TAG])
    max_age_ns = settings.snapshot_quote_age_s * NS_PER_S

    @api.get(
        "/market",
        summary="All underlyings at a glance",
        responses={200: MarketModel, 404: ProblemModel, 422: ProblemModel},
    )
    def market(query: AsOfQuery) -> Response:
        moment = desk.moment(query.as_of)
        # after a session's close its daily bar counts, once it is there
        now = time.time_ns() // NS_PER_S * NS_PER_S
        as_of = min(query.as_of, now) if query.as_of is not None else now
        explicit = query.as_of is not None
        return desk.answers.of(as_of, lambda: answer(moment, as_of), explicit=explicit, tags=("market",))

    def answer(moment: Moment, as_of: int) -> Response:
        prices = market_glance.read_prices(database, desk.sessions, moment)
        if not prices:
            raise unknown_symbol(database, "any stock", None, source=settings.market_source)
        volumes = market_glance.read_volumes(database, moment)
        interest = market_glance.read_open_interest(database, moment)
        implied = market_glance.read_implied(database, desk.sessions, moment, max_age_ns)
        optioned = set(underlyings_of(database, moment))
        # those with options first, should there be more than are answered for
        chosen = sorted(prices, key=lambda one: one.instrument.raw_symbol not in optioned)[:_MOST_SYMBOLS]
        chosen.sort(key=lambda one: one.instrument.raw_symbol)
        rows = []
        for quoted in chosen:
            symbol = quoted.instrument.raw_symbol
            now_implied: ImpliedNow | str = "no option of it is stored that had not expired"
            if symbol in optioned:
                now_implied = implied.get(symbol) or _priced_now(desk, symbol, moment)
            daily = read_daily(database, quoted.instrument, desk.sessions, as_of, _SESSIONS + 1)
            row = _Row(quoted, daily, moment, desk.sessions, max_age_ns)
            rows.append(row.made(now_implied, volumes.get(symbol), interest.get(symbol)))
        about = {
            "as_of": rfc3339(moment.at_ns),
            "bars_until": rfc3339(as_of),
            "newest_input": max((row["price_time"] for row in rows if row["price_time"]), default=None),
            "session": moment.session.isoformat(),
            "source": settings.market_source,
            "quality": {
                "stale": [row["symbol"] for row in rows if row["stale"]],
                "left_out": len(prices) - len(rows),
                "oldest_implied": min((row["implied_at"] for row in rows if row["implied_at"]), default=None),
            },
            "units": _UNITS,
            "breadth": _breadth(rows),
        }
        return table_response("market", rows, _COLUMNS, about, None)

    return api


def _priced_now(desk: Desk, symbol: str, moment: Moment) -> ImpliedNow | str:
    """What the chain implies, priced for this answer; or why there is nothing."""
    try:
        chain = desk.chain(symbol, moment)
    except Problem as problem:
        if problem.status != 404:
            raise
        return problem.detail.split(";")[0]
    if chain.surface is None or not chain.surface.years.size:
        return chain.quality["no_spot"] or chain.rate.detail
    value, why = constant_maturity(chain.surface, chain.rate)
    return ImpliedNow(moment.at_ns, "chain", value, why, _nearest(chain))


def _nearest(chain: PricedChain) -> NearestExpiration | None:
    if chain.surface is None:
        return None
    years = float(chain.surface.years[0])
    own = np.flatnonzero(np.abs(chain.years - years) < 1e-7)
    forward = float(chain.surface.forward[0])
    volatility = float(chain.surface.volatility(years, forward))
    carry = float(chain.carry_rate[own[0]] - chain.dividend_yield[own[0]])
    if not (np.isfinite(volatility) and np.isfinite(carry)):
        return None
    expiration: date = chain.expiration[own[0]].astype(object)
    return NearestExpiration(expiration, years, volatility, carry)


class _Row:
    """A row in the making: values by column, and why those are None that are."""

    def __init__(
        self, quoted: Quoted, daily: AdjustedBars | None, moment: Moment, sessions: Sessions, max_age_ns: int
    ) -> None:
        self._quoted = quoted
        self._daily = daily
        self._moment = moment
        self._sessions = sessions
        self._max_age_ns = max_age_ns
        self._values: dict[str, Any] = dict.fromkeys(_COLUMNS)
        self._reasons: dict[str, str] = {}

    def made(
        self, implied: ImpliedNow | str, volume: PutsAndCalls | None, interest: PutsAndCalls | None
    ) -> dict[str, Any]:
        """The whole row."""
        self._values["symbol"] = self._quoted.instrument.raw_symbol
        price = self._price()
        self._change(price)
        self._session()
        self._history()
        self._implied(implied, price)
        self._ratio("volume", volume, "no option trade of the session is stored")
        self._ratio("open_interest", interest, "no open interest of the days before is stored")
        if interest is not None and interest.newest_ns is not None:
            self._values["open_interest_time"] = rfc3339(interest.newest_ns)
        self._values["reasons"] = self._reasons
        return self._values

    def _price(self) -> Price | None:
        newest = self._quoted.newest
        if newest is None and self._daily is not None:
            close = round(float(self._daily.inputs()["close"][-1]) * SCALE)
            newest = Price(close, int(self._daily.stored.known_at[-1]), "daily_bar")
        self._values["stale"] = newest is None or newest.at_ns < self._moment.at_ns - self._max_age_ns
        if newest is None:
            self._reasons["price"] = "nothing of it is stored that had happened by then"
            return None
        self._values |= {"price": newest.price / SCALE, "price_time": rfc3339(newest.at_ns), "price_kind": newest.kind}
        return newest

    def _change(self, price: Price | None) -> None:
        before, kind = self._previous_close()
        self._values |= {"previous_close": before, "previous_close_kind": kind}
        if before is None:
            self._reasons["previous_close"] = self._reasons["change"] = "no bar of the session before is stored"
        elif price is None or price.at_ns <= self._moment.opens_ns:
            self._reasons["change"] = "no price of the session is stored"
        else:
            change = price.price / SCALE - before
            self._values |= {"change": round(change, 9), "change_pct": 100 * change / before}

    def _previous_close(self) -> tuple[float | None, str | None]:
        """In dollars of a share of the moment, with what it is of."""
        quoted, daily = self._quoted, self._daily
        splits = daily.splits if daily is not None else []
        if quoted.before is not None:
            factor = split_factors(splits, np.array([quoted.before.at_ns]) - 1, daily=False)[0]
            return float(quoted.before.price / SCALE / factor), "bar"
        index = market_glance.session_index(self._sessions, self._moment)
        if daily is None or not index:
            return None, None
        start = self._sessions.dates[index - 1].astype("datetime64[ns]").astype(np.int64)
        own = np.flatnonzero(daily.stored.starts == start)
        return (float(daily.inputs()["close"][own[0]]), "daily_bar") if len(own) else (None, None)

    def _session(self) -> None:
        for name in ("open", "high", "low"):
            value = getattr(self._quoted, name)
            self._values[name] = None if value is None else value / SCALE
        self._values["volume"] = self._quoted.volume
        if self._quoted.volume is None:
            self._reasons["range"] = "no minute bar of the session is stored"

    def _history(self) -> None:
        (realised,) = over_sessions(self._daily, self._sessions, [_SESSIONS])
        self._values["realised_20"] = realised.values["close_to_close"]
        if "close_to_close" in realised.reasons:
            self._reasons["realised_20"] = realised.reasons["close_to_close"]
        if self._daily is not None and len(self._daily) >= _SESSIONS:
            self._values["mean_20"] = float(self._daily.inputs()["close"][-_SESSIONS:].mean())
        else:
            had = len(self._daily) if self._daily is not None else 0
            self._reasons["mean_20"] = f"{_SESSIONS} daily bars are needed, {had} had closed"

    def _implied(self, implied: ImpliedNow | str, price: Price | None) -> None:
        if isinstance(implied, str):
            self._reasons |= dict.fromkeys(("implied_30d", "expected_move"), implied)
            return
        self._values |= {
            "implied_30d": implied.volatility_30d,
            "implied_origin": implied.origin,
            "implied_at": rfc3339(implied.at_ns),
        }
        if implied.volatility_30d is None:
            self._reasons["implied_30d"] = implied.reason or "the options tell none"
        if implied.nearest is None:
            self._reasons["expected_move"] = "no expiration tells its volatility"
            return
        self._values["expiration"] = implied.nearest.expiration.isoformat()
        if price is None:
            self._reasons["expected_move"] = "there is no price"
            return
        self._moves(implied.nearest, price.price / SCALE)

    def _moves(self, nearest: NearestExpiration, price: float) -> None:
        whole = float(flat_move(price, nearest.years, nearest.carry, 0.0, nearest.volatility).standard_deviation)
        self._values |= {"expected_move": whole, "expected_move_pct": 100 * whole / price}
        share = market_glance.share_of_today(self._sessions, nearest.expiration, self._moment)
        if share == 0:
            self._reasons["expected_move_today"] = "the session is over"
            return
        today = float(flat_move(price, share * nearest.years, 0.0, 0.0, nearest.volatility).standard_deviation)
        self._values |= {"expected_move_today": today, "expected_move_today_pct": 100 * today / price}

    def _ratio(self, of: str, found: PutsAndCalls | None, nothing: str) -> None:
        if found is None:
            self._reasons[f"put_call_{of}"] = nothing
            return
        self._values |= {f"put_{of}": found.puts, f"call_{of}": found.calls}
        if found.puts is None or not found.calls:
            self._reasons[f"put_call_{of}"] = "no calls" if found.calls == 0 else nothing
        else:
            self._values[f"put_call_{of}"] = found.puts / found.calls


def _breadth(rows: list[dict[str, Any]]) -> dict[str, int]:
    changes = [row["change"] for row in rows if row["change"] is not None]
    above = [row["price"] > row["mean_20"] for row in rows if row["price"] is not None and row["mean_20"] is not None]
    return {
        "advancing": sum(change > 0 for change in changes),
        "declining": sum(change < 0 for change in changes),
        "unchanged": sum(change == 0 for change in changes),
        "change_unknown": len(rows) - len(changes),
        "above_mean_20": sum(above),
        "not_above_mean_20": len(above) - sum(above),
        "mean_20_unknown": len(rows) - len(above),
    }
