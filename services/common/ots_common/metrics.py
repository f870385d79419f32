"""Prometheus metrics of a service: rate, errors and duration by route, and its own; safe with several workers."""

from __future__ import annotations

import os
from functools import lru_cache

from flask import Flask, Response, g, request
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
    start_http_server,
)
from prometheus_client import REGISTRY as PROCESS_REGISTRY

from ots_common import __version__
from ots_common.settings import ServiceSettings

REQUESTS = Counter("ots_http_requests_total", "Requests answered", ["service", "method", "route", "status"])
SECONDS = Histogram(
    "ots_http_request_seconds",
    "Time to answer",
    ["service", "route"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120, 300),
)
BUILD = Gauge(
    "ots_build_info",
    "1; its labels say what runs and on which market",
    ["service", "version", "market_source"],
    multiprocess_mode="livemax",
)
POOL_CONNECTIONS = Gauge(
    "ots_database_pool_connections",
    "Connections of a pool to PostgreSQL: in_use by a request, or idle",
    ["service", "state"],
    multiprocess_mode="livesum",
)
POOL_WAIT_SECONDS = Histogram(
    "ots_database_wait_seconds",
    "How long a caller waited for a connection of the pool, those included who got none",
    ["service"],
    buckets=(0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
POOL_BUSY = Counter("ots_database_busy_total", "Callers who were told that every connection is busy", ["service"])
CONNECTS = Counter(
    "ots_database_connects_total",
    "Connections of a pool to PostgreSQL: made, failed, or lost (found closed by the server)",
    ["service", "outcome"],
)
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


def render() -> Response:
    """All metrics of all workers of this service, in Prometheus' text format."""
    registry = PROCESS_REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def observe_request(service: str, status: int, seconds: float) -> None:
    """Count one answer under its route's pattern: never under the path, whose values have no bound."""
    route = g.get("metrics_route") or (request.url_rule.rule if request.url_rule else "none")
    method = request.method if request.method in METHODS else "other"
    counter, histogram = request_series(service, method, route, status)
    counter.inc()
    histogram.observe(seconds)


@lru_cache(maxsize=4096)
def request_series(service: str, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """What counts such requests; found once, because looking it up costs as much as counting."""
    return REQUESTS.labels(service, method, route, str(status)), SECONDS.labels(service, route)


def state_build(service: str, market_source: str) -> None:
    """Say what runs; once a process, after the fork."""
    BUILD.labels(service, __version__, market_source).set(1)


def serve_process(name: str, settings: ServiceSettings, port: int, bind: str) -> None:
    """Say which build runs, and serve the metrics of a process that has no web server; not with port 0."""
    state_build(name, settings.market_source)
    if port:
        start_http_server(port, bind)


def install(app: Flask) -> None:
    """Serve ``GET /metrics``; who may read it is the service's business."""

    @app.get("/metrics")
    def metrics() -> Response:
        return render()
