"""What makes a Flask app one of the services: deny by default, one error shape, request ids, logs, metrics, health."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from flask import Flask, Response, g, json, request
from flask.json.provider import DefaultJSONProvider
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI

from ots_common import __version__, logs, metrics, openapi_examples, problems, traces
from ots_common.compression import compress
from ots_common.conditional import validate
from ots_common.problems import Problem
from ots_common.settings import ServiceSettings
from ots_common.tokens import HEADER, Caller, InvalidInternalToken, verify_internal_token

performance_log = structlog.get_logger("performance")

DOCUMENT_PATH = "/openapi/openapi.json"
# what a service answers without an internal token
OPEN_ENDPOINTS = frozenset({"health", "health_live", "metrics"})
_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{8,128}$")

Check = Callable[[], object]


class StrictJSON(DefaultJSONProvider):
    """JSON in the order written; NaN and infinity, which are not JSON, raise instead of leaking out."""

    sort_keys = False
    ensure_ascii = False
    compact = True

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        """Serialise; raises ValueError on NaN."""
        return super().dumps(obj, allow_nan=False, **{"separators": (",", ":"), **kwargs})

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        """Parse; raises ValueError, also on a text that is nested too deeply."""
        try:
            return super().loads(s, **kwargs)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error


def create_service(name: str, settings: ServiceSettings, *, title: str, description: str) -> OpenAPI:
    """The app of the service ``name``: every route asks for an internal token, but health and metrics."""
    app = _create(name, settings, title, description, finish=_validate)

    @app.before_request
    def _authenticate() -> None:
        if request.endpoint in OPEN_ENDPOINTS:
            return
        try:
            g.caller = verify_internal_token(request.headers.get(HEADER, ""), name, settings.accept_keys)
        except InvalidInternalToken as error:
            raise Problem(
                401,
                "internal-token",
                f"this service answers other services only ({error})",
                hint="ask the gateway: it is the one door",
            ) from error

    metrics.install(app)
    # not one of the documented operations itself; the gateway merges it with those of the others
    app.add_url_rule(DOCUMENT_PATH, "document", lambda: Response(json.dumps(app.api_doc), mimetype="application/json"))
    return app


def create_edge(name: str, settings: ServiceSettings, *, title: str, description: str) -> OpenAPI:
    """The app of the gateway: the same, but it authenticates users and guards its own routes itself."""
    return _create(name, settings, title, description, finish=None)


def caller() -> Caller:
    """Who asks; only inside a request that was authenticated."""
    found: Caller = g.caller
    return found


def add_health(
    app: Flask, name: str, settings: ServiceSettings, *, needs: Mapping[str, Check], wants: Mapping[str, Check]
) -> None:
    """``/health``: 503 when one of ``needs`` raises, ``degraded`` when one of ``wants`` does. ``/health/live``: 200."""

    @app.get("/health")
    def health() -> Response:
        failed = {key: _failure(check) for key, check in {**needs, **wants}.items()}
        missing = [key for key in needs if failed[key]]
        status = "unavailable" if missing else ("degraded" if any(failed.values()) else "ok")
        body = {
            "status": status,
            "service": name,
            "version": __version__,
            "instance": settings.ots_instance,
            "market_source": settings.market_source,
            "checks": {key: failure or "ok" for key, failure in failed.items()},
        }
        return Response(json.dumps(body), 503 if missing else 200, mimetype="application/json")

    @app.get("/health/live")
    def health_live() -> Response:
        return Response('{"status":"ok"}', mimetype="application/json")


def _failure(check: Check) -> str | None:
    try:
        check()
    except Exception as error:
        return type(error).__name__
    return None


def _validate(response: Response) -> None:
    if request.endpoint not in OPEN_ENDPOINTS:
        validate(response)


def _create(
    name: str,
    settings: ServiceSettings,
    title: str,
    description: str,
    *,
    finish: Callable[[Response], None] | None,
) -> OpenAPI:
    logs.configure(name, settings)
    access = logs.AccessLines("caller")
    openapi_examples.install()
    app = OpenAPI(
        f"ots_{name}",
        info=Info(title=title, version=__version__, description=description),
        doc_ui=False,
        validation_error_callback=_validation_response,
    )
    app.json = StrictJSON(app)
    if finish is not None and traces.TraceSettings().wanted:
        app.wsgi_app = traces.Traced(app.wsgi_app)  # type: ignore[method-assign]
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False
    problems.install(app)
    metrics.state_build(name, settings.market_source)

    @app.before_request
    def _start() -> None:
        g.started = time.perf_counter()
        offered = request.headers.get("X-Request-ID", "")
        g.request_id = offered if _REQUEST_ID.match(offered) else secrets.token_hex(12)
        g.traceparent = trace = traces.valid_traceparent(request.headers.get("traceparent"))
        g.ids = logs.bind_request(
            g.request_id, trace and trace[3:35], trace[36:52] if trace and traces.is_on() else None
        )

    @app.after_request
    def _finish(response: Response) -> Response:
        if finish is not None:
            finish(response)
        compress(response)
        seconds = time.perf_counter() - g.started
        response.headers["X-Request-ID"] = g.request_id
        response.headers.add("Server-Timing", f"{name};dur={seconds * 1000:.1f}")
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers["X-Content-Type-Options"] = "nosniff"
        metrics.observe_request(name, response.status_code, seconds)
        if traces.is_on():
            route = g.get("metrics_route") or (request.url_rule.rule if request.url_rule else "none")
            traces.name_request(request.method, route, response.status_code, g.request_id)
        if request.endpoint not in OPEN_ENDPOINTS:
            who: Caller | None = g.get("caller")
            if access.enabled:
                user, service = (who.username, who.service) if who else (None, None)
                line = access.render(request.method, request.path, response.status_code, seconds, user, service, g.ids)
                logs.write_lines([line])
            if seconds * 1000 >= settings.slow_request_ms:
                _tell_slow(response.status_code, seconds)
        return response

    return app


def _tell_slow(status: int, seconds: float) -> None:
    """What a long request spent its time on, as far as its service measured that."""
    performance_log.warning(
        "slow_request",
        method=request.method,
        route=request.url_rule.rule if request.url_rule else "none",
        path=request.path,
        status=status,
        ms=round(seconds * 1000, 2),
        stages={name: round(took * 1000, 2) for name, took in g.get("stages", {}).items()},
    )


def _validation_response(error: Any) -> Response:
    return problems.from_validation(error).response()
