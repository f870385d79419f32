"""How the platform is."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from flask import Flask, Response, json

from ots_common import __version__, metrics
from ots_common.database import Database
from ots_gateway.access import GATEWAY
from ots_gateway.proxy import Proxy
from ots_gateway.settings import GatewaySettings


def install(app: Flask, settings: GatewaySettings, proxy: Proxy, database: Database) -> None:
    """``/health`` asks every service at once; ``/health/live``, ``/version`` and ``/metrics`` ask nobody."""
    # threads are greenlets in a gevent worker
    askers = ThreadPoolExecutor(max_workers=16, thread_name_prefix="health")
    metrics.install(app)

    @app.get("/health")
    def health() -> Response:
        deadline = time.monotonic() + settings.health_timeout_s
        asked = {
            name: askers.submit(proxy.health, name, settings.health_timeout_s) for name in sorted(settings.upstreams)
        }
        own = askers.submit(database.rows, "SELECT 1 FROM users LIMIT 1")
        services: dict[str, dict[str, Any]] = {}
        for name, future in asked.items():
            try:
                said = future.result(timeout=max(0.0, deadline - time.monotonic()))
            except FutureTimeoutError:
                said = {"status": "unavailable"}
            services[name] = {key: said[key] for key in ("status", "version", "checks") if key in said}
        try:
            own.result(timeout=max(0.0, deadline - time.monotonic()))
            database_is = "ok"
        except Exception as error:
            database_is = type(error).__name__
        states = {service["status"] for service in services.values()}
        down = database_is != "ok" or "unavailable" in states
        status = "unavailable" if down else ("degraded" if states - {"ok"} else "ok")
        body = {
            "status": status,
            "service": GATEWAY,
            "version": __version__,
            "instance": settings.ots_instance,
            "market_source": settings.market_source,
            "checks": {"accounts": database_is},
            "services": services,
        }
        return Response(json.dumps(body), 503 if down else 200, mimetype="application/json")

    @app.get("/health/live")
    def health_live() -> Response:
        return Response('{"status":"ok"}', mimetype="application/json")

    @app.get("/version")
    def version() -> Response:
        body = {"version": __version__, "instance": settings.ots_instance, "market_source": settings.market_source}
        return Response(json.dumps(body), mimetype="application/json")
