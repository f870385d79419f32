"""Stored bars, trades, quotes and instruments, in pages."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

import numpy as np
from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field, StringConstraints

from ots_common.database import Database
from ots_common.paging import decode_cursor, encode_cursor
from ots_common.problems import Problem, invalid
from ots_common.schemas import ProblemModel, RequestModel, TableModel, TablePageQuery, TableRow
from ots_common.tables import Kind, parse_fields, table_response
from ots_common.times import Moment, rfc3339
from ots_ingestion import queries
from ots_ingestion.layouts import SCHEMA_IDS
from ots_ingestion.settings import IngestionSettings
from ots_market.adjustments import Split, split_factors, splits_known_at
from ots_market.bars import Bars, Origin, read_bars
from ots_market.instruments import Instrument, find_instrument
from ots_market.prices import SCALE, dollars
from ots_market.sessions import sessions_of
from ots_market.symbols import Symbol
from ots_market.timeframes import Timeframe

_TAG = Tag(name="market data", description="What is stored, as it came")
_LAST_NS = 2**63 - 1
_BAR_COLUMNS: dict[str, Kind] = {
    "time": "time", "open": "number", "high": "number", "low": "number", "close": "number", "volume": "integer",
    "origin": "text", "publishers": "integer",
}  # fmt: skip
_TRADE_COLUMNS: dict[str, Kind] = {
    "time": "time", "price": "number", "size": "integer", "side": "text", "sequence": "integer",
    "publisher_id": "integer", "received_at": "time", "flags": "integer",
}  # fmt: skip
_QUOTE_COLUMNS: dict[str, Kind] = {
    "time": "time", "schema": "text", "bid": "number", "ask": "number", "bid_size": "integer", "ask_size": "integer",
    "last_price": "number", "last_size": "integer", "sequence": "integer", "publisher_id": "integer",
    "received_at": "time", "flags": "integer",
}  # fmt: skip
_INSTRUMENT_COLUMNS: dict[str, Kind] = {
    "symbol": "text", "dataset": "text", "underlying": "text", "expiration": "date", "strike": "number",
    "right": "text", "multiplier": "integer",
}  # fmt: skip

Dataset = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9.]{1,20}$")]
QuoteSchema = Literal["mbp-1", "tbbo", "tcbbo", "cmbp-1", "cbbo-1s", "cbbo-1m", "bbo-1s", "bbo-1m"]


class SymbolPath(RequestModel):
    """A ticker, or an option as OSI writes it (`GOOG  151224C00750000`, spaces as %20 or left out)."""

    symbol: Symbol


class WindowQuery(TablePageQuery):
    """A page of what lies in [start, end)."""

    start: Moment = Field(0, description="From this time on.")
    end: Moment = Field(_LAST_NS, description="Before this time.")
    dataset: Dataset | None = Field(None, description="Where a symbol came in by several datasets: which one.")


class BarsQuery(WindowQuery):
    """A page of bars."""

    timeframe: Timeframe = Timeframe.D1
    adjusted: bool = Field(False, description="Divide prices and multiply volumes by the splits in force at `as_of`.")
    as_of: Moment | None = Field(None, description="Only bars that had closed by then; default now.")


class QuotesQuery(WindowQuery):
    """A page of quotes."""

    quote_schema: QuoteSchema | None = Field(None, alias="schema", description="Only quotes of this schema.")


class InstrumentsQuery(TablePageQuery):
    """A page of instruments."""

    underlying: Symbol | None = None
    dataset: Dataset | None = None


class BarModel(TableRow):
    """``time`` is the start of the interval; prices in dollars."""

    time: str
    open: float
    high: float
    low: float
    close: float
    volume: float
    origin: Literal["vendor", "trades", "minutes"] = Field(
        description="the vendor's own bar, built from stored trades, or summed up from stored minutes"
    )
    publishers: int = Field(description="venues joined; above one, open and close are the largest venue's")


class SplitModel(BaseModel):
    """A split that was applied."""

    ex_date: str
    ratio: str
    source: str


class AdjustmentModel(BaseModel):
    """What was done to the bars as they traded."""

    applied: bool
    splits: list[SplitModel]


class BarsModel(TableModel):
    """Bars in order of time."""

    symbol: str
    timeframe: str
    dataset: str
    source: str
    as_of: str | None = Field(description="when the newest bar here had closed")
    adjustment: AdjustmentModel
    bars: list[BarModel]
    next: str | None


class TradeModel(TableRow):
    """A trade; price in dollars."""

    time: str
    price: float
    size: int
    side: str
    sequence: int
    publisher_id: int
    received_at: str
    flags: int


class TradesModel(TableModel):
    """Trades in order of time."""

    symbol: str
    dataset: str
    source: str
    as_of: str | None
    trades: list[TradeModel]
    next: str | None


class QuoteModel(TableRow):
    """A quote; a missing side is null."""

    time: str
    schema_: str = Field(alias="schema")
    bid: float | None
    ask: float | None
    bid_size: int | None
    ask_size: int | None
    last_price: float | None
    last_size: int | None
    sequence: int
    publisher_id: int
    received_at: str
    flags: int


class QuotesModel(TableModel):
    """Quotes in order of time."""

    symbol: str
    dataset: str
    source: str
    as_of: str | None
    quotes: list[QuoteModel]
    next: str | None


class InstrumentModel(TableRow):
    """A stock, or an option contract: then with expiration date, strike in dollars, right C or P, and multiplier."""

    symbol: str
    dataset: str
    underlying: str
    expiration: str | None
    strike: float | None
    right: str | None
    multiplier: int | None


class InstrumentsModel(TableModel):
    """Instruments in order of symbol."""

    source: str
    instruments: list[InstrumentModel]
    next: str | None


def blueprint(settings: IngestionSettings, database: Database) -> APIBlueprint:
    """The routes of stored market data."""
    api = APIBlueprint("market_data", __name__, url_prefix="/api/v1/data", abp_tags=[_TAG])
    source = settings.market_source

    @api.get("/bars/<symbol>", summary="Stored bars", responses={200: BarsModel, 404: ProblemModel, 422: ProblemModel})
    def bars(path: SymbolPath, query: BarsQuery) -> Response:
        _check_window(query)
        fields = parse_fields(query.fields, list(_BAR_COLUMNS))
        instrument = find_instrument(database, path.symbol, query.dataset, source=source)
        as_of = min(query.as_of if query.as_of is not None else _LAST_NS, time.time_ns())
        start = max(query.start, decode_cursor(query.cursor, (int,))[0] + 1) if query.cursor else query.start
        found = read_bars(
            database,
            instrument.instrument_id,
            query.timeframe,
            sessions_of(settings.market_calendar),
            start_ns=start,
            end_ns=query.end,
            as_of_ns=as_of,
            limit=query.limit + 1,
            newest=False,
        )
        if not len(found) and not query.cursor:
            raise _no_bars(database, instrument, query.timeframe)
        page = found.take(slice(query.limit))
        splits = splits_known_at(database, instrument.raw_symbol, as_of) if query.adjusted else []
        about = {
            "symbol": instrument.raw_symbol,
            "timeframe": query.timeframe.value,
            "dataset": instrument.dataset,
            "source": source,
            "as_of": rfc3339(int(page.known_at[-1])) if len(page) else None,
            "adjustment": {"applied": query.adjusted, "splits": [split.stated() for split in splits]},
        }
        cursor = encode_cursor([int(page.starts[-1])]) if len(found) > query.limit else None
        # a split makes parts of shares
        columns: dict[str, Kind] = {**_BAR_COLUMNS, "volume": "number"} if query.adjusted else _BAR_COLUMNS
        rows = _bar_rows(page, splits, query.timeframe)
        return table_response("bars", rows, columns, about, cursor, fields=fields)

    @api.get(
        "/trades/<symbol>", summary="Stored trades", responses={200: TradesModel, 404: ProblemModel, 422: ProblemModel}
    )
    def trades(path: SymbolPath, query: WindowQuery) -> Response:
        _check_window(query)
        instrument = find_instrument(database, path.symbol, query.dataset, source=source)
        after = decode_cursor(query.cursor, (int, int, int, int)) if query.cursor else None
        rows = queries.trades_page(database, instrument.instrument_id, query.start, query.end, after, query.limit + 1)
        shaped = [
            {
                "time": rfc3339(row["at_ns"]),
                "price": dollars(row["price"]),
                "size": row["size"],
                "side": row["side"],
                "sequence": row["sequence"],
                "publisher_id": row["publisher_id"],
                "received_at": rfc3339(row["recv_at_ns"]),
                "flags": row["flags"],
            }
            for row in rows[: query.limit]
        ]
        return _ticks("trades", database, instrument, source, rows, shaped, _TRADE_COLUMNS, query)

    @api.get(
        "/quotes/<symbol>", summary="Stored quotes", responses={200: QuotesModel, 404: ProblemModel, 422: ProblemModel}
    )
    def quotes(path: SymbolPath, query: QuotesQuery) -> Response:
        _check_window(query)
        instrument = find_instrument(database, path.symbol, query.dataset, source=source)
        after = decode_cursor(query.cursor, (int, int, int, int)) if query.cursor else None
        schema_id = SCHEMA_IDS[query.quote_schema] if query.quote_schema else None
        rows = queries.quotes_page(
            database, instrument.instrument_id, schema_id, query.start, query.end, after, query.limit + 1
        )
        shaped = [
            {
                "time": rfc3339(row["at_ns"]),
                "schema": row["schema"],
                "bid": dollars(row["bid"]),
                "ask": dollars(row["ask"]),
                "bid_size": row["bid_size"],
                "ask_size": row["ask_size"],
                "last_price": dollars(row["price"]),
                "last_size": row["size"],
                "sequence": row["sequence"],
                "publisher_id": row["publisher_id"],
                "received_at": rfc3339(row["recv_at_ns"]),
                "flags": row["flags"],
            }
            for row in rows[: query.limit]
        ]
        return _ticks("quotes", database, instrument, source, rows, shaped, _QUOTE_COLUMNS, query)

    @api.get("/instruments", summary="Stored instruments", responses={200: InstrumentsModel, 422: ProblemModel})
    def instruments(query: InstrumentsQuery) -> Response:
        fields = parse_fields(query.fields, list(_INSTRUMENT_COLUMNS))
        after = decode_cursor(query.cursor, (str, str)) if query.cursor else None
        underlying = query.underlying.upper() if query.underlying else None
        rows = queries.instruments_page(database, underlying, query.dataset, after, query.limit + 1)
        page = rows[: query.limit]
        shaped = [
            {
                "symbol": row["raw_symbol"],
                "dataset": row["dataset"],
                "underlying": row["underlying"],
                "expiration": row["expiration"] and row["expiration"].isoformat(),
                "strike": dollars(row["strike"]),
                "right": row["right"],
                "multiplier": row["multiplier"],
            }
            for row in page
        ]
        more = len(rows) > query.limit
        cursor = encode_cursor([page[-1]["raw_symbol"], page[-1]["dataset"]]) if more else None
        return table_response("instruments", shaped, _INSTRUMENT_COLUMNS, {"source": source}, cursor, fields=fields)

    return api


def _check_window(query: WindowQuery) -> None:
    if query.start >= query.end:
        raise invalid("#/query/end", "must be later than start")


def _bar_rows(bars: Bars, splits: list[Split], timeframe: Timeframe) -> list[dict[str, Any]]:
    factors = split_factors(splits, bars.starts, daily=timeframe is Timeframe.D1)
    # unadjusted prices stay what they are: exact division by the scale only
    prices = {name: (getattr(bars, name) / SCALE / factors).tolist() for name in ("open", "high", "low", "close")}
    volumes: list[float] = (bars.volume * factors).tolist() if splits else bars.volume.tolist()
    origins = [Origin(o).name.lower() for o in bars.origin]
    return [
        {
            "time": rfc3339(start),
            "open": prices["open"][i],
            "high": prices["high"][i],
            "low": prices["low"][i],
            "close": prices["close"][i],
            "volume": volumes[i],
            "origin": origins[i],
            "publishers": int(bars.publishers[i]),
        }
        for i, start in enumerate(np.asarray(bars.starts).tolist())
    ]


def _no_bars(database: Database, instrument: Instrument, timeframe: Timeframe) -> Problem:
    return Problem(
        404,
        "no-bars",
        f"no {timeframe.value} bars of {instrument.raw_symbol} are stored in that window",
        hint="leave out start, end and as_of, or ask for another timeframe",
    )


def _ticks(
    name: str,
    database: Database,
    instrument: Instrument,
    source: str,
    rows: list[dict[str, Any]],
    shaped: list[dict[str, Any]],
    columns: dict[str, Kind],
    query: WindowQuery,
) -> Response:
    """A page of trades or quotes; a first page without any is a 404 that says what there is."""
    fields = parse_fields(query.fields, list(columns))
    if not rows and not query.cursor:
        span = queries.stored_span(database, name, instrument.instrument_id)
        there = f"stored are those from {rfc3339(span[0])} to {rfc3339(span[1])}" if span else "none are stored"
        raise Problem(404, f"no-{name}", f"no {name} of {instrument.raw_symbol} in that window; {there}")
    more = len(rows) > query.limit
    last = rows[query.limit - 1] if more else None
    cursor = encode_cursor([last["at_ns"], last["sequence"], last["digest"], last["ord"]]) if last else None
    about = {
        "symbol": instrument.raw_symbol,
        "dataset": instrument.dataset,
        "source": source,
        "as_of": shaped[-1]["time"] if shaped else None,
    }
    return table_response(name, shaped, columns, about, cursor, fields=fields)
