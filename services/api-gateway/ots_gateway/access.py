"""Who may what: the table of all routes. A path that is not in it does not exist, whatever a service would answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Literal

KIB, MIB, GIB = 2**10, 2**20, 2**30
GATEWAY = "gateway"

Scope = Literal["market", "analytics", "cache", "control", "account"]
# whose rate limit a route spends (see limits.py and RATE_LIMITS)
Bucket = Literal["open", "login", "account", "read", "compute", "write", "control"]


class Role(IntEnum):
    """Each may all that those below it may."""

    VIEWER = 1
    TRADER = 2
    OPERATOR = 3
    ADMIN = 4

    @classmethod
    def named(cls, name: str) -> Role:
        """The role of a lower-case name. Raises KeyError."""
        return cls[name.upper()]

    @property
    def label(self) -> str:
        """Its name as tokens and answers have it."""
        return self.name.lower()


@dataclass(frozen=True)
class Route:
    """One row. ``{name}`` in the pattern stands for one segment.

    ``role`` None: anybody may. ``scope``: what an API key must be allowed; ``bucket`` and ``cost``: whose rate limit a
    request spends, and how much of it. ``body_limit`` in bytes; ``timeout_s`` from the whole request to the head of the
    answer. ``idempotent``: a POST that honours ``Idempotency-Key``.
    """

    method: str
    pattern: str
    service: str
    role: Role | None
    scope: Scope = "market"
    bucket: Bucket = "read"
    cost: int = 1
    body_limit: int = 0
    timeout_s: float = 30.0
    idempotent: bool = False

    @property
    def only_computes(self) -> bool:
        """Whether it changes nothing, whatever its method."""
        return self.method == "GET" or self.bucket == "compute"


def _chain_route(path: str, cost: int, *, timeout_s: float = 60) -> Route:
    """A question to stored chains."""
    return Route(
        "GET", f"/api/v1/analytics/{path}", "analytics", Role.VIEWER, "analytics", "compute", cost, timeout_s=timeout_s
    )


ROUTES: tuple[Route, ...] = (
    Route("GET", "/health", GATEWAY, None, bucket="open"),
    Route("GET", "/health/live", GATEWAY, None, bucket="open"),
    Route("GET", "/version", GATEWAY, None, bucket="open"),
    Route("GET", "/metrics", GATEWAY, None, bucket="open"),  # asks for METRICS_TOKEN itself
    Route("GET", "/docs", GATEWAY, None, bucket="open"),
    Route("GET", "/docs/{asset}", GATEWAY, None, bucket="open"),
    Route("GET", "/api/v1/openapi.json", GATEWAY, None, bucket="open", cost=4),
    Route("POST", "/api/v1/auth/login", GATEWAY, None, "account", "login", body_limit=8 * KIB),
    Route("POST", "/api/v1/auth/refresh", GATEWAY, None, "account", "login", body_limit=8 * KIB),
    Route("POST", "/api/v1/auth/logout", GATEWAY, Role.VIEWER, "account", "account", body_limit=KIB),
    Route("POST", "/api/v1/auth/password", GATEWAY, Role.VIEWER, "account", "login", body_limit=16 * KIB),
    Route("GET", "/api/v1/auth/me", GATEWAY, Role.VIEWER, "account", "account"),
    Route("GET", "/.well-known/jwks.json", GATEWAY, None, bucket="open"),
    Route("GET", "/api/v1/users", GATEWAY, Role.ADMIN, "account", "account"),
    Route("POST", "/api/v1/users", GATEWAY, Role.ADMIN, "account", "account", body_limit=16 * KIB),
    Route("GET", "/api/v1/users/{user_id}", GATEWAY, Role.ADMIN, "account", "account"),
    Route("PATCH", "/api/v1/users/{user_id}", GATEWAY, Role.ADMIN, "account", "account", body_limit=8 * KIB),
    Route("DELETE", "/api/v1/users/{user_id}", GATEWAY, Role.ADMIN, "account", "account"),
    Route("POST", "/api/v1/users/{user_id}/password", GATEWAY, Role.ADMIN, "account", "account", body_limit=16 * KIB),
    Route("GET", "/api/v1/users/{user_id}/keys", GATEWAY, Role.ADMIN, "account", "account"),
    Route("DELETE", "/api/v1/users/{user_id}/keys/{key_id}", GATEWAY, Role.ADMIN, "account", "account"),
    Route("GET", "/api/v1/keys", GATEWAY, Role.VIEWER, "account", "account"),
    Route("POST", "/api/v1/keys", GATEWAY, Role.VIEWER, "account", "account", body_limit=8 * KIB),
    Route("DELETE", "/api/v1/keys/{key_id}", GATEWAY, Role.VIEWER, "account", "account"),
    Route("GET", "/api/v1/audit", GATEWAY, Role.ADMIN, "account", "account"),
    Route("GET", "/api/v1/logs/levels", GATEWAY, Role.ADMIN, "control", "account"),
    Route("PUT", "/api/v1/logs/levels", GATEWAY, Role.ADMIN, "control", "account", body_limit=16 * KIB),
    # an upload may wait 300 s for its run, after its own transfer
    Route(
        "POST", "/api/v1/data/imports", "data-ingestion", Role.OPERATOR, "control", "control",
        body_limit=2 * GIB, timeout_s=360, idempotent=True,
    ),
    Route("GET", "/api/v1/data/runs", "data-ingestion", Role.VIEWER),
    Route("GET", "/api/v1/data/runs/{run_id}", "data-ingestion", Role.VIEWER),
    Route("GET", "/api/v1/data/bars/{symbol}", "data-ingestion", Role.VIEWER),
    Route("GET", "/api/v1/data/trades/{symbol}", "data-ingestion", Role.VIEWER),
    Route("GET", "/api/v1/data/quotes/{symbol}", "data-ingestion", Role.VIEWER),
    Route("GET", "/api/v1/data/instruments", "data-ingestion", Role.VIEWER),
    Route(
        "POST", "/api/v1/data/corporate-actions", "data-ingestion", Role.OPERATOR, "control", "control",
        body_limit=MIB, idempotent=True,
    ),
    Route("GET", "/api/v1/data/corporate-actions/{symbol}", "data-ingestion", Role.VIEWER),
    Route(
        "POST", "/api/v1/data/collection/start", "data-ingestion", Role.OPERATOR, "control", "control",
        body_limit=256 * KIB,
    ),
    Route(
        "POST", "/api/v1/data/collection/stop", "data-ingestion", Role.OPERATOR, "control", "control",
        body_limit=8 * KIB,
    ),
    Route("GET", "/api/v1/data/collection/status", "data-ingestion", Role.VIEWER),
    # an estimate asks the vendor several things
    Route(
        "POST", "/api/v1/data/backfills", "data-ingestion", Role.OPERATOR, "control", "control",
        cost=5, body_limit=MIB, timeout_s=90, idempotent=True,
    ),
    Route("GET", "/api/v1/data/backfills", "data-ingestion", Role.VIEWER),
    Route("GET", "/api/v1/data/backfills/{backfill_id}", "data-ingestion", Role.VIEWER),
    Route("DELETE", "/api/v1/data/backfills/{backfill_id}", "data-ingestion", Role.OPERATOR, "control", "control"),
    Route("GET", "/api/v1/data/gaps", "data-ingestion", Role.VIEWER),
    Route("GET", "/api/v1/data/dead-letters", "data-ingestion", Role.OPERATOR, "control"),
    Route("GET", "/api/v1/data/self-checks", "data-ingestion", Role.VIEWER),
    Route("GET", "/api/v1/data/market-status", "data-ingestion", Role.VIEWER),
    Route("GET", "/api/v1/data/quality/{symbol}", "data-ingestion", Role.VIEWER, bucket="compute", cost=5),
    Route("GET", "/api/v1/data/rates", "data-ingestion", Role.VIEWER),
    Route(
        "POST", "/api/v1/data/rates", "data-ingestion", Role.OPERATOR, "control", "control",
        body_limit=MIB, idempotent=True,
    ),
    Route("GET", "/api/v1/analytics/indicators", "analytics", Role.VIEWER, "analytics"),
    Route("GET", "/api/v1/analytics/indicators/{symbol}", "analytics", Role.VIEWER, "analytics", "compute", cost=2),
    Route("GET", "/api/v1/analytics/patterns/{symbol}", "analytics", Role.VIEWER, "analytics", "compute", cost=5),
    Route(
        "GET", "/api/v1/analytics/options/{underlying}/volatility-history", "analytics", Role.VIEWER, "analytics",
        "compute", cost=2,
    ),
    _chain_route("options/{underlying}", 3),
    _chain_route("options/{underlying}/surface", 3),
    _chain_route("options/{underlying}/skew", 3),
    _chain_route("options/{underlying}/term-structure", 3),
    _chain_route("options/{underlying}/expected-move", 3),
    _chain_route("options/{underlying}/exposure", 3),
    _chain_route("options/{underlying}/open-interest", 2),
    _chain_route("options/{underlying}/unusual", 5),
    _chain_route("options/{underlying}/volatility", 3),
    _chain_route("options/{underlying}/contract-history", 2),
    _chain_route("market", 5),
    _chain_route("scan", 10, timeout_s=90),
    # they compute what they are given and keep nothing: a viewer may
    Route(
        "POST", "/api/v1/analytics/options/price", "analytics", Role.VIEWER, "analytics", "compute",
        cost=5, body_limit=8 * MIB, timeout_s=60,
    ),
    Route(
        "POST", "/api/v1/analytics/options/implied-volatility", "analytics", Role.VIEWER, "analytics", "compute",
        cost=5, body_limit=8 * MIB, timeout_s=60,
    ),
    Route(
        "POST", "/api/v1/analytics/options/strategies/analyze", "analytics", Role.VIEWER, "analytics", "compute",
        cost=5, body_limit=8 * MIB, timeout_s=60,
    ),
    Route(
        "POST", "/api/v1/analytics/custom", "analytics", Role.VIEWER, "analytics", "compute",
        cost=5, body_limit=8 * MIB, timeout_s=60,
    ),
    Route("GET", "/api/v1/cache/stock-prices", "cache", Role.VIEWER, "cache"),
    Route("GET", "/api/v1/cache/stock-prices/{symbol}", "cache", Role.VIEWER, "cache"),
    Route(
        "GET", "/api/v1/cache/option-chains/{underlying}", "cache", Role.VIEWER, "cache", "compute",
        cost=3, timeout_s=60,
    ),
    Route("GET", "/api/v1/cache/market-status", "cache", Role.VIEWER, "cache"),
    Route("GET", "/api/v1/cache/stats", "cache", Role.VIEWER, "cache"),
    Route("POST", "/api/v1/cache/invalidate", "cache", Role.OPERATOR, "control", "control", body_limit=64 * KIB),
    Route("GET", "/api/v1/signals/ledger/head", "signals", Role.VIEWER, "analytics"),
    # it reads the whole ledger
    Route("GET", "/api/v1/signals/verify", "signals", Role.VIEWER, "analytics", "compute", cost=10, timeout_s=300),
    Route("GET", "/api/v1/signals/stream", "signals", Role.VIEWER, "analytics"),
    Route("GET", "/api/v1/signals", "signals", Role.VIEWER, "analytics"),
    Route("GET", "/api/v1/signals/{signal_id}", "signals", Role.VIEWER, "analytics"),
    Route("GET", "/api/v1/signals/{signal_id}/outcome", "signals", Role.VIEWER, "analytics"),
    Route("GET", "/api/v1/signals/strategies", "signals", Role.VIEWER, "analytics"),
    Route("GET", "/api/v1/signals/performance", "signals", Role.VIEWER, "analytics", "compute", cost=5, timeout_s=120),
    Route("GET", "/api/v1/signals/calibration", "signals", Role.VIEWER, "analytics", "compute", cost=5, timeout_s=120),
    Route(
        "POST", "/api/v1/signals/evaluate", "signals", Role.TRADER, "analytics", "compute",
        cost=10, body_limit=16 * KIB, timeout_s=120,
    ),
    Route(
        "POST", "/api/v1/signals/backtests", "signals", Role.TRADER, "analytics", "write",
        cost=5, body_limit=64 * KIB, idempotent=True,
    ),
    Route("GET", "/api/v1/signals/backtests", "signals", Role.VIEWER, "analytics"),
    Route("GET", "/api/v1/signals/backtests/{backtest_id}", "signals", Role.VIEWER, "analytics"),
    Route("GET", "/api/v1/signals/backtests/{backtest_id}/report.html", "signals", Role.VIEWER, "analytics"),
    Route("DELETE", "/api/v1/signals/backtests/{backtest_id}", "signals", Role.TRADER, "analytics", "write"),
    Route("GET", "/api/v1/cache/analytics", "cache", Role.VIEWER, "cache"),
    Route(
        "POST", "/api/v1/cache/analytics", "cache", Role.TRADER, "cache", "write", body_limit=MIB, idempotent=True
    ),
    Route("GET", "/api/v1/cache/analytics/{key}", "cache", Role.VIEWER, "cache"),
    Route("DELETE", "/api/v1/cache/analytics/{key}", "cache", Role.TRADER, "cache", "write"),
)  # fmt: skip


@lru_cache(maxsize=1)
def _by_length() -> dict[int, list[tuple[tuple[str, ...], Route]]]:
    table: dict[int, list[tuple[tuple[str, ...], Route]]] = {}
    for route in ROUTES:
        segments = tuple(route.pattern.split("/")[1:])
        table.setdefault(len(segments), []).append((segments, route))
    return table


def routes_at(segments: tuple[str, ...]) -> dict[str, Route]:
    """The routes of a path by method; empty when the path is nowhere in the table. A segment beats a placeholder."""
    found: dict[str, tuple[int, Route]] = {}
    for pattern, route in _by_length().get(len(segments), ()):
        if all(want == got or (want.startswith("{") and got) for want, got in zip(pattern, segments, strict=True)):
            placeholders = route.pattern.count("{")
            if route.method not in found or placeholders < found[route.method][0]:
                found[route.method] = (placeholders, route)
    if "GET" in found:
        found["HEAD"] = found["GET"]
    return {method: route for method, (_, route) in found.items()}
