"""Who may what: the table of all routes. A path that is not in it does not exist, whatever a service would answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

KIB, MIB, GIB = 2**10, 2**20, 2**30
GATEWAY = "gateway"


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
    """One row: ``role`` None means that anybody may, ``{name}`` in the pattern stands for one segment."""

    method: str
    pattern: str
    service: str
    role: Role | None
    body_limit: int = 0
    timeout_s: float = 30.0


ROUTES: tuple[Route, ...] = (
    Route("GET", "/health", GATEWAY, None),
    Route("GET", "/health/live", GATEWAY, None),
    Route("GET", "/version", GATEWAY, None),
    Route("GET", "/metrics", GATEWAY, None),  # asks for METRICS_TOKEN itself
    Route("POST", "/api/v1/auth/login", GATEWAY, None, body_limit=8 * KIB),
    Route("GET", "/api/v1/auth/me", GATEWAY, Role.VIEWER),
    # an upload may wait 300 s for its run, after its own transfer
    Route("POST", "/api/v1/data/imports", "data-ingestion", Role.OPERATOR, body_limit=2 * GIB, timeout_s=360),
    Route("GET", "/api/v1/data/runs", "data-ingestion", Role.VIEWER),
    Route("GET", "/api/v1/data/runs/{run_id}", "data-ingestion", Role.VIEWER),
    Route("GET", "/api/v1/data/bars/{symbol}", "data-ingestion", Role.VIEWER),
    Route("GET", "/api/v1/data/trades/{symbol}", "data-ingestion", Role.VIEWER),
    Route("GET", "/api/v1/data/quotes/{symbol}", "data-ingestion", Role.VIEWER),
    Route("GET", "/api/v1/data/instruments", "data-ingestion", Role.VIEWER),
    Route("POST", "/api/v1/data/corporate-actions", "data-ingestion", Role.OPERATOR, body_limit=MIB),
    Route("GET", "/api/v1/data/corporate-actions/{symbol}", "data-ingestion", Role.VIEWER),
    Route("GET", "/api/v1/analytics/indicators", "analytics", Role.VIEWER),
    Route("GET", "/api/v1/analytics/indicators/{symbol}", "analytics", Role.VIEWER),
    Route("GET", "/api/v1/analytics/patterns/{symbol}", "analytics", Role.VIEWER),
    Route("GET", "/api/v1/cache/stock-prices/{symbol}", "cache", Role.VIEWER),
    Route("POST", "/api/v1/cache/analytics", "cache", Role.TRADER, body_limit=MIB),
    Route("GET", "/api/v1/cache/analytics/{key}", "cache", Role.VIEWER),
    Route("DELETE", "/api/v1/cache/analytics/{key}", "cache", Role.TRADER),
)


@lru_cache(maxsize=1)
def _by_length() -> dict[int, list[tuple[tuple[str, ...], Route]]]:
    table: dict[int, list[tuple[tuple[str, ...], Route]]] = {}
    for route in ROUTES:
        segments = tuple(route.pattern.split("/")[1:])
        table.setdefault(len(segments), []).append((segments, route))
    return table


def routes_at(segments: tuple[str, ...]) -> dict[str, Route]:
    """The routes of a path by method; empty when the path is nowhere in the table."""
    found = {}
    for pattern, route in _by_length().get(len(segments), ()):
        if all(want == got or (want.startswith("{") and got) for want, got in zip(pattern, segments, strict=True)):
            found[route.method] = route
    if "GET" in found:
        found["HEAD"] = found["GET"]
    return found
