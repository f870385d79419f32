"""Analytics over HTTP, and an option chain stored record by record, whose volatilities are known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

import numpy as np
from databento_dbn import Schema
from pydantic import SecretStr

from data_ingestion_support import Ingestion
from dbn import MINUTE, PRICE, bar, dbn_file, midnight, quote
from ots_analytics.app import create_app
from ots_analytics.desk import Desk
from ots_analytics.settings import AnalyticsSettings
from ots_common import redis_client
from ots_common.database import Database
from ots_common.shared_cache import SharedCache
from ots_common.tokens import HEADER, Caller, sign_internal_token
from ots_market.sessions import xnys
from ots_quant import american
from ots_simulator import records

KEY = SecretStr("a" * 40)

SESSION = date(2015, 12, 24)  # a half day: it closes at 13:00 New York
OPEN, CLOSE = midnight(SESSION) + 870 * MINUTE, midnight(SESSION) + 1080 * MINUTE
ELEVEN = midnight(SESSION) + 960 * MINUTE
EXPIRATIONS = (SESSION, date(2015, 12, 31), date(2016, 1, 15))
STRIKES = np.arange(90.0, 111.0, 2.5)
SPOT, RATE, YIELD, VOLATILITY, HALF_SPREAD = 100.0, 0.01, 0.004, 0.3, 0.02


class Analytics:
    """The analytics service over a market database; its address begins behind ``/api/v1/analytics``."""

    def __init__(self, market: Any, redis_server: Any, **settings: Any) -> None:
        self.settings = AnalyticsSettings(
            database_url=market.reader,
            redis_url=redis_server.url,
            accept_keys={"gateway": KEY},
            log_level="ERROR",
            **settings,
        )
        self.app = create_app(self.settings)
        self.client = self.app.test_client()

    def get(self, url: str, **headers: str) -> Any:
        caller = Caller("gateway", "user-1", "somebody", "viewer", "request-0001")
        token = sign_internal_token(caller, "analytics", {"analytics": KEY})
        return self.client.get(f"/api/v1/analytics{url}", headers={HEADER: token, **headers})

    def answer(self, url: str) -> dict[str, Any]:
        """The body of an answer that must succeed."""
        found = self.get(url)
        assert found.status_code == 200, found.text
        body: dict[str, Any] = found.json
        return body


@contextmanager
def desk_of(settings: AnalyticsSettings) -> Iterator[Desk]:
    """A desk of its own, which has nothing in its memory."""
    database = Database(settings.database_url.get_secret_value(), application="tests", size=1)
    client = redis_client.connect(settings.redis_url.get_secret_value())
    try:
        yield Desk(settings, database, SharedCache(client, settings.market_source))
    finally:
        database.close()
        client.close()


def osi(expiration: date, right: str, strike: float, root: str = "TEST") -> str:
    """The vendor's symbol of a contract."""
    return f"{root:<6}{expiration:%y%m%d}{right}{round(strike * 1000):08d}"


Contract = tuple[int, date, str, float]
"""The vendor's id, expiration, right, strike."""
CONTRACTS: dict[str, Contract] = {
    osi(day, right, strike): (i * 100 + j * 10 + (right == "C"), day, right, strike)
    for i, day in enumerate(EXPIRATIONS, 1)
    for j, strike in enumerate(STRIKES.tolist())
    for right in ("C", "P")
}
"""By symbol."""
IDS = {symbol: contract[0] for symbol, contract in CONTRACTS.items()}


def years_of(day: date) -> float:
    """To that session's close, from eleven o'clock."""
    sessions = xnys()
    closes = int(sessions.closes[int(np.searchsorted(sessions.dates, np.datetime64(day)))])
    return (closes - ELEVEN) / (365 * 1440 * MINUTE)


def value_of(symbol: str, volatility: float = VOLATILITY) -> float:
    """What a contract is worth at eleven, in whole cents."""
    _, day, right, strike = CONTRACTS[symbol]
    sign = 1.0 if right == "C" else -1.0
    return round(float(american.price(sign, SPOT, strike, years_of(day), RATE, YIELD, volatility)), 2)


def worth_quoting(symbol: str) -> bool:
    """Somebody bids for it."""
    return value_of(symbol) > HALF_SPREAD + 0.01


def store(service: Ingestion, schema: str, made: Iterable[bytes], ids: dict[str, int] | None = None) -> None:
    """Records of contracts, through the import path."""
    body = dbn_file(
        Schema.from_str(schema), made, day=SESSION, symbols=IDS if ids is None else ids, dataset="OPRA.PILLAR"
    )
    assert service.imported(body)["rejected"] == 0


def store_spot(service: Ingestion, minute_ns: int, price: float) -> None:
    """A minute bar of the underlying."""
    made = [bar(minute_ns, (price, price, price, price), instrument=7)]
    service.imported(dbn_file(Schema.OHLCV_1M, made, day=SESSION, symbols={"TEST": 7}))


def quotes_at(at_ns: int, volatility: float = VOLATILITY, without: Iterable[str] = ()) -> list[bytes]:
    """Two-sided quotes around the value of all that is worth quoting."""
    left_out = set(without)
    return [
        quote(at_ns, value - HALF_SPREAD, value + HALF_SPREAD, instrument=IDS[symbol])
        for symbol in CONTRACTS
        if symbol not in left_out and worth_quoting(symbol)
        for value in [value_of(symbol, volatility)]
    ]


def definitions_at(at_ns: int, contracts: dict[str, Contract] | None = None, underlying: str = "TEST") -> list[bytes]:
    """The vendor's definitions of contracts, by default of all."""
    made = []
    for symbol, (vendor_id, day, right, strike) in (CONTRACTS if contracts is None else contracts).items():
        made.append(
            records.definitions(
                1,
                publisher_id=records.CONSOLIDATED,
                instrument_id=vendor_id,
                ts_event=at_ns,
                ts_recv=at_ns,
                raw_symbol=symbol.encode(),
                underlying=underlying.encode(),
                instrument_class=right.encode(),
                strike_price=round(strike * PRICE),
                expiration=midnight(day),
            ).tobytes()
        )
    return made


def open_interest_at(at_ns: int, symbol: str, quantity: int, publishers: Iterable[int] = (20, 21)) -> list[bytes]:
    """The figure as every publisher repeats it."""
    return [
        records.build(
            "statistics",
            1,
            publisher_id=publisher,
            instrument_id=IDS[symbol],
            ts_event=at_ns,
            ts_recv=at_ns,
            ts_ref=np.uint64(records.UNDEF_TIMESTAMP),
            price=records.UNDEF_PRICE,
            quantity=quantity,
            sequence=publisher,
            stat_type=records.OPEN_INTEREST,
            update_action=1,
        ).tobytes()
        for publisher in publishers
    ]
