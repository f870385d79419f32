"""Priced chains of a known smile, as if they had been read from a database, and the service that answers from one."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import jsonschema_rs
import numpy as np
from numpy.typing import NDArray

from analytics_support import Analytics
from ots_analytics.desk import Desk
from ots_chains.chain_rates import Rate
from ots_chains.chains import Moment, Spot
from ots_chains.priced_chains import ChainInputs, PricedChain, price_chain
from ots_chains.stored_contracts import Contracts
from ots_market.symbols import option_symbols
from ots_quant import american
from ots_quant.pooled_rate import PooledRate

TODAY = date(2026, 3, 11)
AT = int(datetime(2026, 3, 11, 20, tzinfo=UTC).timestamp()) * 10**9
MINUTE = 60 * 10**9
AGE = 900 * 10**9
SPOT, RATE, YIELD = 200.0, 0.04, 0.01
DAYS = (2, 16, 44, 100)
STRIKES = np.arange(140.0, 265.0, 5.0)
PARITY = Rate("parity", "as pooled", pooled=PooledRate(RATE, 0.035, 0.045, 9))
NO_RATE = Rate(None, "no curve was known; parity tells nothing")
NOWHERE = SimpleNamespace(reader="postgresql://nobody@127.0.0.1:1/nothing")


def smile(k: Any, years: Any) -> Any:
    """Volatility by log-moneyness of the forward: three expirations of it admit no arbitrage near the money."""
    return 0.25 + 0.05 * np.sqrt(years) - 0.1 * k + 0.3 * k**2


def forward_of(years: Any) -> Any:
    return SPOT * np.exp((RATE - YIELD) * years)


def made_contracts(half_spread: float = 0.01) -> Contracts:
    """Calls and puts of 25 strikes and four expirations, quoted around their value, in order."""
    days, strike, right = (
        grid.reshape(-1) for grid in np.meshgrid(np.array(DAYS), STRIKES, [1.0, -1.0], indexing="ij")
    )
    years = days / 365
    value = american.price(right, SPOT, strike, years, RATE, YIELD, smile(np.log(strike / forward_of(years)), years))
    count = np.arange(days.size)
    expiration = np.array([TODAY + timedelta(days=int(d)) for d in days], "datetime64[D]")
    return Contracts(
        instrument_id=count,
        symbol=option_symbols("TEST", expiration, right, (strike * 1e9).astype(np.int64)),
        expiration=expiration,
        right=right,
        strike=strike,
        years=years,
        bid=np.where(value > half_spread + 0.01, value - half_spread, np.nan),  # nobody bids for what is worth nothing
        ask=value + half_spread,
        bid_size=count + 1,
        ask_size=count + 1,
        quoted_at=np.full(days.size, AT - 1),
        last=np.full(days.size, np.nan),
        last_at=np.zeros(days.size, np.int64),
        volume=count % 7,
        open_interest=count * 13 % 1000,
        open_interest_date=np.full(days.size, np.datetime64(TODAY - timedelta(days=1))),
        other_deliverables=0,
    )


def changed(contracts: Contracts, where: Any, **values: Any) -> Contracts:
    """The contracts with other values of some."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, value in values.items():
        arrays[name] = getattr(contracts, name).copy()
        arrays[name][where] = value
    return replace(contracts, **arrays)


def priced(contracts: Contracts, *, spot: float | None = SPOT, rate: Rate = PARITY) -> PricedChain:
    """The chain of contracts."""
    given = Spot(round(spot * 1e9), AT - MINUTE, "bar") if spot is not None else None
    moment = Moment(AT, TODAY, AT - 390 * MINUTE, AT + 30 * MINUTE)
    return price_chain("TEST", moment, ChainInputs(contracts, given, rate, None, 0), AGE)


def without(contracts: Contracts, where: Any) -> Contracts:
    """The contracts but those."""
    kept = ~where
    values = {f.name: getattr(contracts, f.name) for f in fields(contracts)}
    return Contracts(**{k: v[kept] if isinstance(v, np.ndarray) else v for k, v in values.items()})


class ChainService:
    """The routes over one chain. What they answer is checked against the service's own description of it."""

    def __init__(self, monkeypatch: Any, chain: PricedChain | None = None) -> None:
        self.chain = chain
        self._service = Analytics(NOWHERE)
        self._document = self._service.document()
        monkeypatch.setattr(Desk, "moment", lambda _desk, _as_of: self.chain.moment)
        monkeypatch.setattr(Desk, "chain", lambda _desk, _underlying, _moment: self.chain)
        monkeypatch.setattr(Desk, "answer", lambda _desk, _moment, made, **_: made())

    def get(self, reading: str, query: str = "", status: int = 200, **headers: str) -> Any:
        """The answer to ``/options/TEST/{reading}``."""
        answer = self._service.get(f"/options/TEST/{reading}?{query}", status, **headers)
        if not isinstance(answer, str):
            check_finite(answer)
            self._check(reading, status, answer)
        return answer

    def _check(self, reading: str, status: int, answer: Any) -> None:
        operation = self._document["paths"][f"/api/v1/analytics/options/{{underlying}}/{reading}"]["get"]
        described = operation["responses"][str(status)]["content"]
        content = described.get("application/json") or described["application/problem+json"]
        jsonschema_rs.validate({**content["schema"], "components": self._document["components"]}, answer)


def check_finite(value: Any) -> None:
    """JSON has no NaN and no infinity."""
    if isinstance(value, dict):
        for one in value.values():
            check_finite(one)
    elif isinstance(value, list):
        for one in value:
            check_finite(one)
    elif isinstance(value, float):
        assert math.isfinite(value)
