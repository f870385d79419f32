"""One request through the services: W3C trace context always, and spans to an OTLP collector when one is named.

Off unless ``OTEL_EXPORTER_OTLP_ENDPOINT`` (or its variant for traces) is set; then OpenTelemetry's SDK is imported, and
its own variables (``OTEL_SERVICE_NAME``, ``OTEL_TRACES_SAMPLER``, ``OTEL_BSP_*``, ...) mean what its documents say.
Off, nothing of it is imported, and what is here costs a comparison.

Spans are few and made by hand: a request at a service, a call of another service, a query, a command of Redis.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from pydantic_settings import BaseSettings, SettingsConfigDict

from ots_common import HIDDEN, __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

# https://www.w3.org/TR/trace-context/#traceparent-header: ids of nothing but zeros are none
_VALID = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_QUIET_PATHS = frozenset({"/health", "/health/live", "/metrics"})
_STOP_S = 3.0
_QUERY_CHARACTERS = 2_000

StartResponse = Callable[..., Any]
Application = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]

_provider: TracerProvider | None = None
_tracer: Tracer | None = None


class TraceSettings(BaseSettings):
    """The variables of OpenTelemetry that decide whether there are traces; the SDK reads the rest by itself."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True, hide_input_in_errors=True)

    otel_exporter_otlp_endpoint: str = ""
    otel_exporter_otlp_traces_endpoint: str = ""
    otel_traces_exporter: str = "otlp"
    otel_sdk_disabled: bool = False
    otel_service_name: str = ""
    ots_instance: str = "local"

    @property
    def wanted(self) -> bool:
        """Whether anybody takes spans."""
        named = self.otel_exporter_otlp_endpoint or self.otel_exporter_otlp_traces_endpoint
        return bool(named) and self.otel_traces_exporter != "none" and not self.otel_sdk_disabled


def valid_traceparent(text: str | None) -> str | None:
    """``text`` if it is a traceparent that may be passed on."""
    return text if text and _VALID.fullmatch(text) else None


def new_traceparent(drawn: str) -> str:
    """One for a request that came without, of 48 random hexadecimal digits: the lines of all services are found by it,
    and nobody records spans for it.
    """
    return f"00-{drawn[:32]}-{drawn[32:]}-00"


def is_on() -> bool:
    """Whether this process makes spans."""
    return _tracer is not None


def start(service: str, settings: TraceSettings | None = None) -> None:
    """Make spans from here on, if the environment asks for them. After the fork: the exporter has a thread."""
    global _provider, _tracer
    settings = settings or TraceSettings()
    if _tracer is not None or not settings.wanted:
        return
    for name in HIDDEN:
        if sys.modules.get(name, True) is None:
            del sys.modules[name]
    for name, value in list(os.environ.items()):
        # an empty variable, which Compose hands on for an unset one, is none to us, but a wrong one to the SDK
        if name.startswith("OTEL_") and not value:
            del os.environ[name]
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    about = {
        "service.namespace": "ai-ots",
        "service.version": __version__,
        "service.instance.id": settings.ots_instance,
    }
    if not settings.otel_service_name:
        about["service.name"] = service
    provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _provider, _tracer = provider, provider.get_tracer("ots_common.traces", __version__)


def stop() -> None:
    """Send what is left, for a few seconds at most: a collector that does not answer keeps nobody from ending."""
    global _provider, _tracer
    provider, _provider, _tracer = _provider, None, None
    if provider is not None:
        sending = threading.Thread(target=provider.shutdown, name="traces-stop", daemon=True)
        sending.start()
        sending.join(_STOP_S)


def traceparent() -> str | None:
    """Of the span that this thread or greenlet is in; None without one."""
    if _tracer is None:
        return None
    from opentelemetry.trace import get_current_span

    context = get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags) & 1:02x}"


def name_request(method: str, route: str, status: int, request_id: str) -> None:
    """What is known of a request only at its end: which route it took, what it was answered."""
    if _tracer is None:
        return
    from opentelemetry.trace import StatusCode, get_current_span

    span = get_current_span()
    if span.is_recording():
        span.update_name(f"{method} {route}")
        span.set_attributes({"http.route": route, "http.response.status_code": status, "ots.request_id": request_id})
        if status >= 500:
            span.set_status(StatusCode.ERROR)


def call_of(service: str, method: str) -> AbstractContextManager[Span | None]:
    """A call of another service, as a span; within it :func:`traceparent` is what that service must be sent."""
    return _NOTHING if _tracer is None else _child(f"{method} {service}", {"peer.service": service}, always=True)


def query(statement: str) -> AbstractContextManager[Span | None]:
    """A statement for PostgreSQL as a span of the request that it belongs to; its parameters are not told."""
    if _tracer is None:
        return _NOTHING
    text = " ".join(statement.split())[:_QUERY_CHARACTERS]
    return _child(
        f"{text.partition(' ')[0].upper()[:20]} postgresql", {"db.system.name": "postgresql", "db.query.text": text}
    )


def redis_command(name: str) -> AbstractContextManager[Span | None]:
    """A command of Redis as a span of the request that it belongs to; neither keys nor values are told."""
    if _tracer is None:
        return _NOTHING
    return _child(f"{name} redis", {"db.system.name": "redis", "db.operation.name": name})


class Traced:
    """A WSGI application of which each request is a span, a child of the caller's, and says so in its environment."""

    def __init__(self, app: Application) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        tracer = _tracer
        if tracer is None or environ.get("PATH_INFO") in _QUIET_PATHS:
            return self._app(environ, start_response)
        return _within(tracer, self._app, environ, start_response)


_NOTHING: AbstractContextManager[None] = contextlib.nullcontext()


@contextlib.contextmanager
def _child(name: str, attributes: Mapping[str, str], *, always: bool = False) -> Iterator[Span | None]:
    from opentelemetry.trace import SpanKind, get_current_span

    if _tracer is None or not (always or get_current_span().is_recording()):
        yield None
        return
    with _tracer.start_as_current_span(name, kind=SpanKind.CLIENT, attributes=attributes) as span:
        yield span


def _within(
    tracer: Tracer, app: Application, environ: dict[str, Any], start_response: StartResponse
) -> Iterable[bytes]:
    from opentelemetry.context import Context, attach, detach
    from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    offered = {
        name: environ[key]
        for name, key in (("traceparent", "HTTP_TRACEPARENT"), ("tracestate", "HTTP_TRACESTATE"))
        if key in environ
    }
    method = str(environ.get("REQUEST_METHOD", ""))[:16]
    span = tracer.start_span(
        method,
        context=TraceContextTextMapPropagator().extract(offered, Context()),
        kind=SpanKind.SERVER,
        attributes={"http.request.method": method},
    )
    token = attach(set_span_in_context(span))
    try:
        environ["HTTP_TRACEPARENT"] = traceparent() or ""
        result = app(environ, start_response)
    except BaseException as error:
        span.record_exception(error)
        span.set_status(StatusCode.ERROR)
        span.end()
        raise
    finally:
        detach(token)
    if isinstance(result, list | tuple):
        span.end()
        return result
    return _Streamed(result, span)


class _Streamed:
    """An answer that is still being made when its head is sent: the span ends with it."""

    def __init__(self, pieces: Iterable[bytes], span: Span) -> None:
        self._pieces = pieces
        self._span = span

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def close(self) -> None:
        """End both."""
        try:
            close = getattr(self._pieces, "close", None)
            if close is not None:
                close()
        finally:
            self._span.end()
