"""A market to decide in while it is open: chains from analytics over HTTP, bars from PostgreSQL.

Chains come from analytics because it has priced them for everybody by then, keeps them in memory and its surface's
state warm. Bars do not: they are one read of a table that both share, quicker than an answer about them would be, and
the same `ots_market.bars` stands behind that answer.
"""

from __future__ import annotations

import http.client
import secrets
import threading
from collections.abc import Mapping
from datetime import date
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import numpy as np
import orjson
import structlog
from numpy.typing import NDArray
from pydantic import SecretStr

from ots_common import traces
from ots_common.times import NS_PER_S, rfc3339, to_nanoseconds
from ots_common.tokens import HEADER, Caller, sign_internal_token
from ots_market.sessions import Sessions
from ots_market.timeframes import Timeframe
from ots_signals.chain_views import ToldChain, no_chain
from ots_signals.market_view import ChainView, DailyVolatility, Floats, Ints, NotYet, UnderlyingBars
from ots_signals.stored_market import StoredMarket

log = structlog.get_logger(__name__)

_ME, _ANALYTICS = "signals", "analytics"
# the largest answer that is taken: a chain of 20,000 contracts has a third of it
_MOST_BYTES = 32 * 2**20
_NUMBERS = (
    "strike", "bid", "ask", "implied_volatility", "delta", "gamma", "theta", "vega", "theoretical",
)  # fmt: skip
_COUNTS = ("bid_size", "ask_size", "volume", "open_interest")
FIELDS = ",".join(("symbol", "expiration", "right", *_NUMBERS, *_COUNTS, "quote_time", "reason"))
"""Those of a contract that a decision may look at."""
_OF_EXPIRATIONS = ("years", "forward", "rate", "dividend_yield")
_NO_CHAIN = frozenset({"unknown-underlying", "no-live-contracts"})
# it is not there, not let in, or too busy: nothing is said about the question
_AWAY = frozenset({401, 403, 408, 429, 502, 503, 504})
_BROKEN = (http.client.HTTPException, ConnectionError)


class RefusedChain(Exception):
    """Analytics is there and does not answer this question."""


class AnalyticsMarket:
    """`MarketView` whose chains are those that analytics answers; everything else is ``stored``'s.

    ``url``: analytics' base; ``keys``: signing keys by audience; calls wait at most ``timeout_s`` for each step. Each
    thread has a connection of its own, which is kept. Raises KeyError without a key for analytics.
    """

    def __init__(self, stored: StoredMarket, url: str, keys: Mapping[str, SecretStr], *, timeout_s: float) -> None:
        if _ANALYTICS not in keys:
            raise KeyError(f"no key with which to call {_ANALYTICS}")
        self._stored = stored
        self._keys = keys
        self._timeout_s = timeout_s
        self._address = urlsplit(url)
        self._mine = threading.local()

    @property
    def source(self) -> str:
        """MARKET_SOURCE."""
        return self._stored.source

    @property
    def sessions(self) -> Sessions:
        """The source's calendar."""
        return self._stored.sessions

    def bars(
        self, underlying: str, timeframe: Timeframe, session: date, history_sessions: int, at_ns: int
    ) -> UnderlyingBars:
        """As stored."""
        return self._stored.bars(underlying, timeframe, session, history_sessions, at_ns)

    def daily_volatility(self, underlying: str, at_ns: int) -> DailyVolatility:
        """As stored."""
        return self._stored.daily_volatility(underlying, at_ns)

    def chain(self, underlying: str, at_ns: int) -> ChainView:
        """The chain that analytics answers for the moment.

        Raises `NotYet` while analytics does not answer, refuses, or answers for an earlier moment because its clock
        has not come so far; `RefusedChain` where it fails at the question; ValueError for an answer of another market
        source.
        """
        asked = urlencode({"as_of": rfc3339(at_ns), "fields": FIELDS})
        status, body = self._get(f"/api/v1/analytics/options/{quote(underlying, safe='')}?{asked}")
        answer = _json(body)
        if status == http.client.NOT_FOUND and str(answer.get("type", "")).rpartition(":")[2] in _NO_CHAIN:
            return no_chain(underlying, self._stored.moment_ns(at_ns), self.source)
        if status != http.client.OK:
            said = f"analytics answered {status}: {answer.get('detail', body[:200].decode(errors='replace'))}"
            # what it cannot answer at all must not hold up the events behind it for ever
            raise NotYet(said) if status in _AWAY else RefusedChain(said)
        if answer["source"] != self.source:
            raise ValueError(f"analytics answers for {answer['source']}, and this is {self.source}")
        answered_ns, meant_ns = to_nanoseconds(answer["as_of"]), self._stored.moment_ns(at_ns)
        if answered_ns != meant_ns:
            raise NotYet(f"analytics answered for {answer['as_of']}, asked was {rfc3339(meant_ns)}")
        spot = answer["spot"]
        return _told(answer).view(
            underlying,
            answered_ns,
            self.source,
            (spot["price"], to_nanoseconds(spot["time"])) if spot else None,
            answer["quality"]["max_quote_age_s"] * NS_PER_S,
            answer["quality"]["gaps"],
        )

    def close(self) -> None:
        """Close this thread's connection."""
        connection: http.client.HTTPConnection | None = getattr(self._mine, "connection", None)
        if connection is not None:
            connection.close()

    def _get(self, target: str) -> tuple[int, bytes]:
        """Status and body. A connection that was kept and turns out to be broken is made anew, once."""
        connection: http.client.HTTPConnection | None = getattr(self._mine, "connection", None)
        try:
            if connection is not None:
                try:
                    return self._ask(connection, target)
                except _BROKEN as error:
                    connection.close()
                    log.info("analytics_connection_renewed", error=repr(error))
            return self._ask(self._connect(), target)
        except TimeoutError as error:
            self._forget()
            raise NotYet(f"analytics did not answer within {self._timeout_s:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            self._forget()
            raise NotYet(f"analytics does not answer: {error!r}") from error

    def _connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(
            self._address.hostname or "", self._address.port or 80, timeout=self._timeout_s
        )
        self._mine.connection = connection
        return connection

    def _forget(self) -> None:
        self.close()
        self._mine.connection = None

    def _ask(self, connection: http.client.HTTPConnection, target: str) -> tuple[int, bytes]:
        # in nobody's name but the service's: what it decides is for all to read
        request_id = secrets.token_hex(12)
        caller = Caller(_ME, _ME, _ME, "viewer", request_id)
        headers = {
            HEADER: sign_internal_token(caller, _ANALYTICS, self._keys),
            "X-Request-ID": request_id,
            "Accept": "application/json",
        }
        with traces.call_of(_ANALYTICS, "GET"):
            if trace := traces.traceparent():
                headers["traceparent"] = trace
            connection.request("GET", target, headers=headers)
            response = connection.getresponse()
            body = response.read(_MOST_BYTES + 1)
        if len(body) > _MOST_BYTES:
            raise http.client.HTTPException(f"an answer of more than {_MOST_BYTES} bytes")
        return response.status, body


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _told(answer: Mapping[str, Any]) -> ToldChain:
    rows: list[dict[str, Any]] = answer["contracts"]
    expiration = np.array([row["expiration"] for row in rows], "datetime64[D]")
    columns: dict[str, Any] = {
        **{name: np.array([row[name] for row in rows], np.float64) for name in _NUMBERS},  # None becomes NaN
        **{name: np.array([-1 if row[name] is None else row[name] for row in rows], np.int64) for name in _COUNTS},
        **{
            name: _by_expiration(expiration, [(one["expiration"], one[name]) for one in answer["expirations"]])
            for name in _OF_EXPIRATIONS
        },
    }
    return ToldChain(
        symbol=np.array([row["symbol"] for row in rows], np.str_),
        expiration=expiration,
        right=np.where(np.array([row["right"] for row in rows], "U1") == "C", 1.0, -1.0),
        **columns,
        quoted_at=_nanoseconds([row["quote_time"] for row in rows]),
        reason=np.array([row["reason"] or "" for row in rows], np.str_),
    )


def _by_expiration(expiration: NDArray[np.datetime64], told: list[tuple[str, float | None]]) -> Floats:
    """What is told of each expiration, of each contract."""
    dates = np.array([day for day, _ in told], "datetime64[D]")
    values = np.array([value for _, value in told], np.float64)
    found: Floats = values[np.searchsorted(dates, expiration)]
    return found


def _nanoseconds(times: list[str | None]) -> Ints:
    """Of RFC 3339 times, of which most are the same; 0 for None."""
    known = {time: to_nanoseconds(time) for time in set(times) if time is not None}
    return np.array([0 if time is None else known[time] for time in times], np.int64)
