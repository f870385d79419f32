"""Forwarding: a request that was let in goes on to its service, streamed both ways, under the gateway's own name."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import structlog
import urllib3
from flask import Request, Response
from urllib3.connection import HTTPConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    EmptyPoolError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)

from ots_common.problems import Problem, unavailable
from ots_common.tokens import HEADER, Caller, sign_internal_token
from ots_gateway.access import Route
from ots_gateway.canonical import encode_segments
from ots_gateway.settings import GatewaySettings

log = structlog.get_logger(__name__)

_CHUNK_BYTES = 64 * 1024
# what belongs to one connection (RFC 9110, 7.6.1), and what only the gateway may say of a client
_NOT_FORWARDED = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade", "expect", "host", "authorization", "cookie", "forwarded", "x-real-ip",
        "x-request-id", "traceparent", HEADER.lower(),
    }
)  # fmt: skip
_NOT_RETURNED = frozenset({"connection", "keep-alive", "transfer-encoding", "server", "date", "x-request-id"})


class TooLargeError(Exception):
    """The body went over its limit while it was streamed."""


class BrokenBodyError(Exception):
    """The client's body ended before its end, or is not framed as it must be."""


class Proxy:
    """Forwards to the services over bounded pools of kept connections, the one used last first.

    Raises ValueError when an address is none.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._pools = {name: self._pool(url, settings.upstream_connections) for name, url in settings.upstreams.items()}
        # apart, so that a service that is busy is not taken for one that is gone
        self._health_pools = {
            name: urllib3.connection_from_url(url, maxsize=1, retries=False) for name, url in settings.upstreams.items()
        }

    def forward(
        self,
        request: Request,
        route: Route,
        segments: tuple[str, ...],
        caller: Caller,
        traceparent: str | None,
    ) -> Response:
        """The service's answer. Raises a problem: 413, 502, 503 or 504."""
        target = encode_segments(segments)
        if request.query_string:
            target += "?" + request.query_string.decode("latin-1")
        headers = _request_headers(request, route)
        headers[HEADER] = sign_internal_token(caller, route.service, self._settings.signing_keys)
        headers["X-Request-ID"] = caller.request_id
        if traceparent:
            headers["traceparent"] = traceparent
        answer = self._ask(request, route, target, headers)
        return _response(answer, request.method, route)

    def health(self, service: str, timeout_s: float) -> dict[str, object]:
        """What a service says of itself; ``unavailable`` when it says nothing of the kind in time."""
        try:
            answer = self._health_pools[service].request("GET", "/health", timeout=timeout_s, redirect=False)
            body = answer.json()
        except (HTTPError, ValueError):
            body = None
        if not isinstance(body, dict) or body.get("status") not in ("ok", "degraded", "unavailable"):
            return {"status": "unavailable"}
        return body if answer.status == 200 else {**body, "status": "unavailable"}

    def _pool(self, url: str, size: int) -> urllib3.HTTPConnectionPool:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"UPSTREAMS has {url}, which is no http://host:port")
        return _UpstreamPool(
            parts.hostname,
            parts.port,
            maxsize=size,
            block=True,
            retries=False,
            idle_s=self._settings.upstream_idle_s,
            send_timeout_s=self._settings.send_timeout_s,
        )

    def _ask(self, request: Request, route: Route, target: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        try:
            return self._send(self._pools[route.service], request, route, target, headers)
        except HTTPError as error:
            if request.method not in ("GET", "HEAD") or not _is_silent_end(error):
                log.warning("upstream_broke_off", upstream=route.service, error=str(error))
                raise _broke_off(route) from error
        # a kept connection may die just as it is used: what asks only asks once more, on one that is new
        try:
            with self._pool(self._settings.upstreams[route.service], 1) as pool:
                return self._send(pool, request, route, target, headers)
        except HTTPError as error:
            log.warning("upstream_broke_off", upstream=route.service, error=str(error))
            raise _broke_off(route) from error

    def _send(
        self, pool: urllib3.HTTPConnectionPool, request: Request, route: Route, target: str, headers: dict[str, str]
    ) -> urllib3.BaseHTTPResponse:
        try:
            return pool.urlopen(
                request.method,
                target,
                body=_body(request, route.body_limit),
                headers=headers,
                timeout=urllib3.Timeout(connect=self._settings.connect_timeout_s, read=route.timeout_s),
                pool_timeout=self._settings.upstream_wait_s,
                preload_content=False,
                redirect=False,
                decode_content=False,
            )
        except TooLargeError:
            raise _too_large(route) from None
        except BrokenBodyError as error:
            raise Problem(400, "body", "the body ended before it was complete") from error
        except EmptyPoolError as error:
            raise unavailable(f"every connection to the service {route.service} is busy") from error
        except (NewConnectionError, ConnectTimeoutError) as error:
            log.warning("upstream_unreachable", upstream=route.service, error=str(error))
            raise Problem(
                503,
                "service-unavailable",
                f"the service {route.service} cannot be reached",
                headers={"Retry-After": "1"},
            ) from error
        except ReadTimeoutError as error:
            raise Problem(
                504, "service-timeout", f"the service {route.service} took longer than {route.timeout_s:g} s"
            ) from error


class _UpstreamConnection(HTTPConnection):
    """A kept connection: not used again once it has idled for long, and patient while a body is sent.

    urllib3 sends under the timeout for connecting: a service that pauses in the middle of an upload would be given up.
    """

    def __init__(self, *arguments: Any, idle_s: float, send_timeout_s: float, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._idle_s = idle_s
        self._send_timeout_s = send_timeout_s
        self._answered_at = 0.0

    @property
    def is_connected(self) -> bool:
        """False once it has idled too long: the pool then connects anew."""
        return time.monotonic() - self._answered_at < self._idle_s and super().is_connected

    def request(self, *arguments: Any, **keywords: Any) -> None:
        """Send a request and its body."""
        if self.sock is None:
            self.connect()
        self.timeout = self._send_timeout_s
        if self.sock is not None:
            self.sock.settimeout(self._send_timeout_s)
        super().request(*arguments, **keywords)

    def getresponse(self) -> Any:
        """Wait for the head of the answer."""
        answer = super().getresponse()
        self._answered_at = time.monotonic()
        return answer


class _UpstreamPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _UpstreamConnection


class _Stream:
    """The rest of an answer. A client that leaves in the middle leaves a half-read connection: nobody can use it."""

    def __init__(self, answer: urllib3.BaseHTTPResponse, first: bytes, rest: Iterator[bytes], service: str) -> None:
        self._answer = answer
        self._first: bytes | None = first
        self._rest = rest
        self._service = service

    def __iter__(self) -> _Stream:
        return self

    def __next__(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        try:
            return next(self._rest)
        except HTTPError as error:
            # the head is sent: ending the connection is the only way left to say that the answer is not whole
            log.warning("upstream_broke_off", upstream=self._service, error=str(error))
            raise ConnectionResetError(errno.ECONNRESET, "the service broke off") from error

    def close(self) -> None:
        """Give the connection back, closed unless all was read."""
        _release(self._answer)


def _is_silent_end(error: HTTPError) -> bool:
    return isinstance(error, ProtocolError) and len(error.args) > 1 and isinstance(error.args[1], ConnectionError)


def _broke_off(route: Route) -> Problem:
    return Problem(502, "service-broke-off", f"the service {route.service} broke off before it had answered")


def _too_large(route: Route) -> Problem:
    return Problem(413, "too-large", f"the body is larger than the {route.body_limit} bytes allowed here")


def _request_headers(request: Request, route: Route) -> dict[str, str]:
    connection = {token.strip().lower() for token in request.headers.get("Connection", "").split(",")}
    headers = {
        name: value
        for name, value in request.headers.items()
        if name.lower() not in _NOT_FORWARDED | connection and not name.lower().startswith("x-forwarded-")
    }
    length = request.content_length
    if length is not None and length > route.body_limit:
        raise _too_large(route)
    return headers


def _body(request: Request, limit: int) -> Iterator[bytes] | None:
    if request.method in ("GET", "HEAD"):
        return None
    framed = request.content_length is not None or "Transfer-Encoding" in request.headers
    return _limited(request, limit) if framed else None


def _limited(request: Request, limit: int) -> Iterator[bytes]:
    """The body in pieces. Raises :class:`TooLargeError` past ``limit``, :class:`BrokenBodyError`."""
    seen = 0
    while chunk := _read(request):
        seen += len(chunk)
        if seen > limit:
            raise TooLargeError
        yield chunk
    if request.content_length is not None and seen < request.content_length:
        raise BrokenBodyError


def _read(request: Request) -> bytes:
    try:
        return request.stream.read(_CHUNK_BYTES)
    except Exception as error:
        # the server's own errors of framing share no base class; an OSError must not pass for the service's
        raise BrokenBodyError from error


def _response(answer: urllib3.BaseHTTPResponse, method: str, route: Route) -> Response:
    rest = answer.stream(_CHUNK_BYTES, decode_content=False)
    length = answer.headers.get("Content-Length")
    small = length is not None and int(length) <= _CHUNK_BYTES
    try:
        # while nothing is sent yet, what breaks can still be told
        first = b"".join(rest) if small else next(rest, b"")
        ended = small or method == "HEAD" or not first
    except HTTPError as error:
        _release(answer)
        log.warning("upstream_broke_off", upstream=route.service, error=str(error))
        raise _broke_off(route) from error
    if ended:
        _release(answer)
    response = Response(first if ended else _Stream(answer, first, rest, route.service), status=answer.status)
    response.headers.clear()
    for name, value in answer.headers.items():
        if name.lower() not in _NOT_RETURNED:
            response.headers.add(name, value)
    return response


def _release(answer: urllib3.BaseHTTPResponse) -> None:
    if not answer.closed:
        answer.close()
    answer.release_conn()
