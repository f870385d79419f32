"""Forwarding: a request that was let in goes on to its service, streamed both ways, under the gateway's own name."""

from __future__ import annotations

from collections.abc import Iterator

import structlog
import urllib3
from flask import Request, Response
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ReadTimeoutError,
)

from ots_common.problems import Problem
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


class Proxy:
    """Forwards to the services over pools of kept connections."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._signing_keys = settings.signing_keys
        self._connect_timeout_s = settings.connect_timeout_s
        self._pools = {
            name: urllib3.connection_from_url(url, maxsize=settings.upstream_connections, block=False, retries=False)
            for name, url in settings.upstreams.items()
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
        headers[HEADER] = sign_internal_token(caller, route.service, self._signing_keys)
        headers["X-Request-ID"] = caller.request_id
        if traceparent:
            headers["traceparent"] = traceparent
        answer = self._ask(request, route, target, headers)
        return _response(answer, request.method)

    def health(self, service: str, timeout_s: float) -> dict[str, object]:
        """What a service says of itself; ``unavailable`` when it says nothing in time."""
        try:
            answer = self._pools[service].request("GET", "/health", timeout=timeout_s)
            body = answer.json()
            return body if isinstance(body, dict) else {"status": "unavailable"}
        except (HTTPError, ValueError):
            return {"status": "unavailable"}

    def _ask(self, request: Request, route: Route, target: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        idempotent = request.method in ("GET", "HEAD")
        body = None if idempotent else _limited(request, route.body_limit)
        # a kept connection may die just as it is used: what asks only, asks once more
        for last in (not idempotent, True):
            try:
                return self._pools[route.service].urlopen(
                    request.method,
                    target,
                    body=body,
                    headers=headers,
                    timeout=urllib3.Timeout(connect=self._connect_timeout_s, read=route.timeout_s),
                    preload_content=False,
                    redirect=False,
                    decode_content=False,
                )
            except TooLargeError:
                raise Problem(
                    413, "too-large", f"the body is larger than the {route.body_limit} bytes allowed here"
                ) from None
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
            except HTTPError as error:
                if last:
                    log.warning("upstream_broke_off", upstream=route.service, error=str(error))
                    raise Problem(
                        502, "service-broke-off", f"the service {route.service} broke off before it had answered"
                    ) from error
        raise AssertionError("unreachable")


def _request_headers(request: Request, route: Route) -> dict[str, str]:
    connection = {token.strip().lower() for token in request.headers.get("Connection", "").split(",")}
    headers = {
        name: value
        for name, value in request.headers.items()
        if name.lower() not in _NOT_FORWARDED | connection and not name.lower().startswith("x-forwarded-")
    }
    length = request.content_length
    if length is not None and length > route.body_limit:
        raise Problem(413, "too-large", f"the body is larger than the {route.body_limit} bytes allowed here")
    return headers


def _limited(request: Request, limit: int) -> Iterator[bytes]:
    """The body in pieces. Raises :class:`TooLargeError` once there is more than ``limit``."""
    seen = 0
    while chunk := request.stream.read(_CHUNK_BYTES):
        seen += len(chunk)
        if seen > limit:
            raise TooLargeError
        yield chunk


def _response(answer: urllib3.BaseHTTPResponse, method: str) -> Response:
    length = answer.headers.get("Content-Length")
    small = length is not None and int(length) <= _CHUNK_BYTES
    body: bytes | Iterator[bytes]
    if method == "HEAD" or small:
        body = answer.read()
        answer.release_conn()
    else:
        body = _stream(answer)
    response = Response(body, status=answer.status)
    response.headers.clear()
    for name, value in answer.headers.items():
        if name.lower() not in _NOT_RETURNED:
            response.headers.add(name, value)
    return response


def _stream(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    try:
        yield from answer.stream(_CHUNK_BYTES, decode_content=False)
    finally:
        # a client that leaves in the middle leaves a half-read connection, which nobody can use again
        answer.close()
        answer.release_conn()
