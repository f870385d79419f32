"""The simulator's own routes under ``/simulator``: health, calendar, metrics, faults, and the truth it generated."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import ValidationError

from ots_market.sessions import Sessions
from ots_simulator.clock import Clock
from ots_simulator.faults import Armed, Fault, Faults
from ots_simulator.historical import HistoricalApi
from ots_simulator.query import ApiError, iso, parse_day
from ots_simulator.sources import Source
from ots_simulator.wire import DAY_NS

_CALENDAR_DAYS = 30


class Control:
    """Routes beside the vendor's. Whoever changes something shows the key."""

    def __init__(
        self, source: Source, clock: Clock, faults: Faults, sessions: Sessions, historical: HistoricalApi
    ) -> None:
        self._source = source
        self._clock = clock
        self._faults = faults
        self._sessions = sessions
        self._knows_key = historical.knows_key

    def routes(self) -> list[web.RouteDef]:
        """For the application."""
        return [
            web.get("/simulator/health/live", self._health),
            web.get("/simulator/calendar", self._calendar),
            web.get("/simulator/metrics", self._metrics),
            web.get("/simulator/truth/{rest:.*}", self._truth),
            web.get("/simulator/faults", self._list_faults),
            web.post("/simulator/faults", self._arm),
            web.delete("/simulator/faults", self._delete_all),
            web.delete("/simulator/faults/{number:\\d+}", self._delete_one),
        ]

    async def _health(self, _request: web.Request) -> web.Response:
        now = self._clock.now()
        return web.json_response(
            {"status": "ok", "source": self._source.name, "now": iso(now), "now_ns": now, "speed": self._clock.speed}
        )

    async def _calendar(self, request: web.Request) -> web.Response:
        today = self._clock.now() // DAY_NS
        try:
            first = parse_day(request.query["start"], "start") if "start" in request.query else today - _CALENDAR_DAYS
            end = parse_day(request.query["end"], "end") if "end" in request.query else today + _CALENDAR_DAYS
        except ApiError as error:
            return _problem(422, error.message)
        dates = self._sessions.dates.astype(np.int64)
        inside = slice(*np.searchsorted(dates, [first, end]))
        columns = (self._sessions.dates[inside], self._sessions.opens[inside], self._sessions.closes[inside])
        return web.json_response(
            {
                "calendar": self._sessions.name,
                "sessions": [
                    {"date": str(date), "opens": iso(int(opens)), "closes": iso(int(closes))}
                    for date, opens, closes in zip(*columns, strict=True)
                ],
            }
        )

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _truth(self, request: web.Request) -> web.Response:
        truth = getattr(self._source, "truth", None)
        if truth is None:
            return _problem(404, f"a source of kind {self._source.name!r} knows no more than its records")
        answer = truth(request.match_info["rest"], dict(request.query))
        return _problem(404, "there is no such truth") if answer is None else web.json_response(answer)

    async def _list_faults(self, _request: web.Request) -> web.Response:
        return web.json_response([_shown(armed) for armed in self._faults.all()])

    async def _arm(self, request: web.Request) -> web.Response:
        if not self._knows_key(request):
            return _problem(401, "faults are armed with the simulator's key, as for the historical API")
        try:
            fault = Fault.model_validate_json(await request.read())
        except ValidationError as error:
            return _problem(422, str(error))
        return web.json_response(_shown(self._faults.arm(fault)), status=201)

    async def _delete_all(self, request: web.Request) -> web.Response:
        return self._delete(request, None)

    async def _delete_one(self, request: web.Request) -> web.Response:
        return self._delete(request, int(request.match_info["number"]))

    def _delete(self, request: web.Request, number: int | None) -> web.Response:
        if not self._knows_key(request):
            return _problem(401, "faults are deleted with the simulator's key, as for the historical API")
        deleted = self._faults.delete(number)
        return web.json_response({"deleted": deleted}) if deleted or number is None else _problem(404, "no such fault")


def _shown(armed: Armed) -> dict[str, Any]:
    fault = armed.fault.model_dump(by_alias=True, exclude_defaults=True)
    return {"id": armed.number, "fired": armed.fired, "spent": armed.spent, "fault": fault}


def _problem(status: int, detail: str) -> web.Response:
    return web.json_response({"status": status, "detail": detail}, status=status)
