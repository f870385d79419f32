"""Databento's historical HTTP API, version 0: every call that the real client makes, over a market.

``batch.*`` is answered with 501: nothing here prepares files.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import secrets
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import databento_dbn as dbn
import numpy as np
import zstandard
from aiohttp import web

from ots_market.sessions import Sessions
from ots_simulator import metrics
from ots_simulator.clock import Clock
from ots_simulator.faults import Fault, Faults
from ots_simulator.publishers import publishers_of
from ots_simulator.query import ApiError, Query, available, iso, parse_dataset, parse_day, parse_query, parse_symbols
from ots_simulator.resolution import History, Resolution, resolve
from ots_simulator.settings import SimulatorSettings
from ots_simulator.sources import Source
from ots_simulator.wire import DAY_NS, INSTRUMENT_ID, LAYOUTS, Records, day_of, index_times

T = TypeVar("T")

_THREADS = 4
_DOCS = "https://databento.com/docs"
_GIGABYTE = 2**30
_STYPES_OUT = {"raw_symbol": "instrument_id", "parent": "instrument_id", "instrument_id": "raw_symbol"}
_TYPES = {"u": "uint{}_t", "i": "int{}_t", "S": "char[{}]"}

Handler = Callable[[web.Request, dict[str, str]], Awaitable[web.StreamResponse]]


class HistoricalApi:
    """The calls, and the door before them."""

    def __init__(
        self, source: Source, sessions: Sessions, clock: Clock, faults: Faults, settings: SimulatorSettings
    ) -> None:
        self._source = source
        self._clock = clock
        self._faults = faults
        self._settings = settings
        self._sessions = sessions
        self._history = History(source, sessions)
        self._pool = ThreadPoolExecutor(_THREADS, "history")
        self._calls: dict[tuple[str, str], Handler] = {
            ("POST", "timeseries.get_range"): self._get_range,
            ("GET", "metadata.list_publishers"): self._list_publishers,
            ("GET", "metadata.list_datasets"): self._list_datasets,
            ("GET", "metadata.list_schemas"): self._list_schemas,
            ("GET", "metadata.list_fields"): self._list_fields,
            ("GET", "metadata.list_unit_prices"): self._list_unit_prices,
            ("GET", "metadata.get_dataset_range"): self._dataset_range,
            ("GET", "metadata.get_dataset_condition"): self._dataset_condition,
            ("POST", "metadata.get_record_count"): self._record_count,
            ("POST", "metadata.get_billable_size"): self._billable_size,
            ("POST", "metadata.get_cost"): self._cost,
            ("POST", "symbology.resolve"): self._resolve,
        }

    def stop(self) -> None:
        """End what is under way."""
        self._history.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    def routes(self) -> list[web.RouteDef]:
        """For the application."""
        return [web.route("*", "/v0/{call}", self._answer)]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        call = request.match_info["call"]
        try:
            if not self.knows_key(request):
                raise ApiError(401, "auth_authentication_failed", "Authentication failed.")
            handler = self._calls.get((request.method, call))
            form = await _form(request)
            fault = self._faults.fire(form.get("dataset", ""), form.get("schema"), "http", call=call)
            if fault is not None:
                metrics.FAULTS_FIRED.labels("http").inc()
                response: web.StreamResponse = _by_fault(fault)
            elif handler is None:
                raise _unknown(call, {known for _, known in self._calls})
            else:
                response = await handler(request, form)
        except ApiError as error:
            response = _problem(error)
        is_known = any(call == known for _, known in self._calls)
        metrics.HISTORICAL_REQUESTS.labels(call if is_known else "unknown", response.status).inc()
        return response

    def knows_key(self, request: web.Request) -> bool:
        """Whether the request carries the key, as a user name without password."""
        scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
        try:
            user = base64.b64decode(encoded, validate=True).partition(b":")[0]
        except binascii.Error:
            return False
        key = self._settings.simulator_key.get_secret_value().encode()
        return scheme.lower() == "basic" and hmac.compare_digest(user, key)

    # -- records ---------------------------------------------------------------------------------------------------

    async def _query(self, form: dict[str, str]) -> Query:
        return parse_query(form, self._source, self._settings, self._clock.now())

    async def _get_range(self, request: web.Request, form: dict[str, str]) -> web.StreamResponse:
        query = await self._query(form)
        compressed = _compression(form) == "zstd"
        found = await self._run(self._history.resolution, query)
        await self._afford(query)
        fault = self._faults.fire(query.dataset, query.schema, "truncate", call="timeseries.get_range")
        if fault is not None:
            metrics.FAULTS_FIRED.labels("truncate").inc()
        response = web.StreamResponse(status=206 if found.partial or found.not_found else 200)
        response.content_type = "application/octet-stream"
        response.enable_chunked_encoding()
        await response.prepare(request)
        pieces = self._pieces(query, found, fault, compressed)
        while (piece := await self._run(next, pieces, None)) is not None:
            await response.write(piece)
        if fault is not None and fault.style == "cut":
            if request.transport is not None:
                request.transport.close()
            raise ConnectionResetError("cut by a fault")
        await response.write_eof()
        return response

    def _pieces(self, query: Query, found: Resolution, fault: Fault | None, compressed: bool) -> Iterator[bytes]:
        """The file in pieces, as far as a fault lets it get."""
        packer = zstandard.ZstdCompressor(level=1).compressobj() if compressed else None
        count = metrics.HISTORICAL_RECORDS.labels(query.dataset)

        def packed(data: bytes) -> bytes:
            return data if packer is None else packer.compress(data)

        yield packed(_metadata(query, found))
        for chunk in _until(self._history.records(query, found), fault):
            count.inc(len(chunk))
            data = packed(np.ascontiguousarray(chunk).tobytes())
            if data:
                yield data
        if packer is not None:
            whole = fault is None or fault.style == "short"
            yield packer.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH if whole else zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    async def _count(self, query: Query) -> int:
        return await self._run(self._history.count, query)

    async def _bytes(self, query: Query) -> int:
        return await self._count(query) * LAYOUTS[query.schema].itemsize

    async def _price(self, query: Query) -> float:
        price = self._settings.simulator_unit_prices.get(query.schema, 0.0)
        return await self._bytes(query) * price / _GIGABYTE

    async def _afford(self, query: Query) -> None:
        balance = self._settings.simulator_balance_usd
        if balance is not None and (price := await self._price(query)) > balance:
            raise ApiError(402, "account_insufficient_funds", f"This request costs ${price:.6f}; ${balance} are left.")

    async def _record_count(self, _request: web.Request, form: dict[str, str]) -> web.Response:
        query = await self._query(form)
        count = await self._count(query)
        fault = self._faults.fire(query.dataset, query.schema, "count")
        return web.json_response(count if fault is None else max(0, count + fault.delta))

    async def _billable_size(self, _request: web.Request, form: dict[str, str]) -> web.Response:
        return web.json_response(await self._bytes(await self._query(form)))

    async def _cost(self, _request: web.Request, form: dict[str, str]) -> web.Response:
        return web.json_response(await self._price(await self._query(form)))

    # -- what there is ---------------------------------------------------------------------------------------------

    def _dataset(self, form: dict[str, str]) -> str:
        return parse_dataset(form, self._source, self._settings)

    async def _list_publishers(self, _request: web.Request, _form: dict[str, str]) -> web.Response:
        return web.json_response(publishers_of(self._source.schemas()))

    async def _list_datasets(self, _request: web.Request, form: dict[str, str]) -> web.Response:
        now = self._clock.now()
        first = parse_day(form["start_date"], "start_date") if form.get("start_date") else None
        end = parse_day(form["end_date"], "end_date") if form.get("end_date") else None
        spans = {name: available(self._source, name, self._settings, now) for name in self._source.schemas()}
        return web.json_response(
            sorted(
                name
                for name, (begins, ends) in spans.items()
                if (first is None or ends > first * DAY_NS) and (end is None or begins < end * DAY_NS)
            )
        )

    async def _list_schemas(self, _request: web.Request, form: dict[str, str]) -> web.Response:
        return web.json_response(list(self._source.schemas()[self._dataset(form)]))

    async def _list_fields(self, _request: web.Request, form: dict[str, str]) -> web.Response:
        schema = form.get("schema", "")
        if schema not in LAYOUTS:
            raise ApiError(422, "schema_invalid", f"The schema {schema!r} is not known.")
        return web.json_response([{"name": field[0], "type": _type_of(field[1])} for field in LAYOUTS[schema].descr])

    async def _list_unit_prices(self, _request: web.Request, form: dict[str, str]) -> web.Response:
        schemas = self._source.schemas()[self._dataset(form)]
        prices = {schema: self._settings.simulator_unit_prices.get(schema, 0.0) for schema in schemas}
        modes = ("historical", "historical-streaming", "live")
        return web.json_response([{"mode": mode, "unit_prices": prices} for mode in modes])

    async def _dataset_range(self, _request: web.Request, form: dict[str, str]) -> web.Response:
        dataset = self._dataset(form)
        first, last = (iso(at) for at in available(self._source, dataset, self._settings, self._clock.now()))
        schemas = {schema: {"start": first, "end": last} for schema in self._source.schemas()[dataset]}
        return web.json_response({"start": first, "end": last, "schema": schemas})

    async def _dataset_condition(self, _request: web.Request, form: dict[str, str]) -> web.Response:
        first, last = available(self._source, self._dataset(form), self._settings, self._clock.now())
        begins, ends = first // DAY_NS, max(first, last - 1) // DAY_NS
        start = parse_day(form["start_date"], "start_date") if form.get("start_date") else begins
        end = parse_day(form["end_date"], "end_date") if form.get("end_date") else ends
        days = (day_of(day).isoformat() for day in range(max(start, begins), min(end, ends) + 1))
        return web.json_response([{"date": d, "condition": "available", "last_modified_date": d} for d in days])

    async def _resolve(self, _request: web.Request, form: dict[str, str]) -> web.Response:
        dataset = self._dataset(form)
        symbols, stype_in = parse_symbols(form)
        stype_out = form.get("stype_out", "instrument_id")
        if stype_out != _STYPES_OUT[stype_in]:
            raise ApiError(422, "symbology_invalid_request", f"{stype_in} cannot be resolved to {stype_out}.")
        first = parse_day(form.get("start_date", ""), "start_date")
        end = parse_day(form["end_date"], "end_date") if form.get("end_date") else first + 1
        if end <= first:
            raise ApiError(422, "symbology_invalid_request", "`end_date` must be after `start_date`.")
        found = await self._run(resolve, self._source, self._sessions, dataset, symbols, stype_in, first, end)
        status, message = (1, "Partially resolved") if found.partial or found.not_found else (0, "OK")
        if not found.intervals:
            status, message = 2, "Not found"
        return web.json_response(
            {
                "result": _result(found, by_id=stype_in == "instrument_id"),
                "symbols": list(symbols),
                "stype_in": stype_in,
                "stype_out": stype_out,
                "start_date": day_of(first).isoformat(),
                "end_date": day_of(end).isoformat(),
                "partial": found.partial,
                "not_found": found.not_found,
                "message": message,
                "status": status,
            }
        )


async def _form(request: web.Request) -> dict[str, str]:
    try:
        given = await request.post() if request.method == "POST" else request.query
    except (UnicodeError, LookupError) as error:
        raise ApiError(422, "request_invalid", f"The form cannot be read: {error}.") from None
    return {name: str(value) for name, value in given.items()}


def _until(chunks: Iterator[Records], fault: Fault | None) -> Iterator[Records]:
    """What goes out before a truncation."""
    if fault is None:
        yield from chunks
        return
    left = fault.after_records or 0
    for chunk in chunks:
        if fault.at_ns is not None:
            upto = int(np.searchsorted(index_times(chunk), fault.at_ns, side="left"))
            left = len(chunk)
        else:
            upto = min(left, len(chunk))
            left -= upto
        if upto:
            yield chunk[:upto]
        if upto < len(chunk) or left == 0:
            return


def _metadata(query: Query, found: Resolution) -> bytes:
    return dbn.Metadata(
        dataset=query.dataset,
        start=query.start_ns,
        end=query.end_ns,
        stype_in=dbn.SType.from_str(query.stype_in),
        stype_out=INSTRUMENT_ID,
        schema=dbn.Schema.from_str(query.schema),
        symbols=list(query.symbols),
        partial=found.partial,
        not_found=found.not_found,
        mappings=found.mappings(),
        limit=query.limit,
        ts_out=False,
        version=3,
    ).encode()


def _result(found: Resolution, *, by_id: bool) -> dict[str, list[dict[str, str]]]:
    result: dict[str, list[dict[str, str]]] = {}
    for symbol, mine in found.intervals.items():
        for one in mine:
            name, told = (str(one.vendor_id), symbol) if by_id else (symbol, str(one.vendor_id))
            days = {"d0": day_of(one.starts).isoformat(), "d1": day_of(one.ends).isoformat()}
            result.setdefault(name, []).append({**days, "s": told})
    return result


def _compression(form: dict[str, str]) -> str:
    compression = form.get("compression", "zstd")
    if form.get("encoding", "dbn") != "dbn" or compression not in ("zstd", "none"):
        raise ApiError(422, "encoding_invalid", "The simulator writes encoding=dbn, compression=zstd or none.")
    return compression


def _type_of(kind: Any) -> str:
    layout = np.dtype(kind)
    return _TYPES[layout.kind].format(layout.itemsize * (1 if layout.kind == "S" else 8))


def _unknown(call: str, known: set[str]) -> ApiError:
    if call.startswith("batch."):
        return ApiError(501, "not_implemented", "The simulator prepares no batch jobs; use timeseries.get_range.")
    if call in known:
        return ApiError(405, "method_not_allowed", f"{call} takes another method.")
    return ApiError(404, "not_found", f"There is no call {call}.")


def _problem(error: ApiError) -> web.Response:
    detail = {
        "case": error.case,
        "message": error.message,
        "status_code": error.status,
        "docs": _DOCS,
        "payload": error.payload,
    }
    headers = {"request-id": secrets.token_hex(16)}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Basic"
    return web.json_response({"detail": detail}, status=error.status, headers=headers)


_CASES = {
    401: "auth_authentication_failed",
    402: "account_insufficient_funds",
    403: "auth_no_dataset_entitlement",
    422: "request_invalid",
    429: "rate_limit_exceeded",
    504: "gateway_timeout",
}


def _by_fault(fault: Fault) -> web.Response:
    case = _CASES.get(fault.status, "internal_server_error" if fault.status >= 500 else "request_failed")
    response = _problem(ApiError(fault.status, case, fault.message or f"Status {fault.status} by a fault."))
    if fault.retry_after_s is not None:
        response.headers["Retry-After"] = str(fault.retry_after_s)
    return response
