"""Forwarding: a request that was let in goes on to its service, streamed both ways, under the gateway's own name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError

from ots_common import traces
from ots_common.problems import Problem
from ots_common.tokens import HEADER
from ots_gateway.access import GATEWAY, Route
from ots_gateway.deadlines import Watch
from ots_gateway.identity import User
from ots_gateway.internal_tokens import InternalSigner
from ots_gateway.settings import GatewaySettings
from ots_gateway.upstream import (
    SMALL_BYTES,
    Answer,
    BrokenBodyError,
    Client,
    LateBodyError,
    Question,
    TooLargeError,
    Upstream,
)
from ots_gateway.wire import tokens

_PIECE_BYTES = 64 * 1024
# what belongs to one connection (RFC 9110, 7.6.1), what the gateway itself answers to, and what only it may say
_NOT_FORWARDED = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade", "http2-settings", "expect", "host", "authorization", "cookie", "x-api-key",
        "idempotency-key", "forwarded", "via", "proxy", "x-real-ip", "x-client-ip", "x-cluster-client-ip",
        "true-client-ip", "cf-connecting-ip", "fastly-client-ip", "client-ip", "x-original-url", "x-rewrite-url",
        "x-http-method", "x-http-method-override", "x-method-override", "x-request-id", "traceparent",
        "content-length",
    }
)  # fmt: skip
_NOT_FORWARDED_PREFIXES = ("x-forwarded", "x-ots-", "x-original-", "access-control-")
_NOT_RETURNED = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "server", "date",
     "x-request-id", "content-length", "set-cookie", "strict-transport-security", "ratelimit", "ratelimit-policy",
     "x-content-type-options", "x-frame-options", "referrer-policy", "content-security-policy"}
)  # fmt: skip
_NOT_RETURNED_PREFIXES = ("x-ots-", "access-control-")
_ABOUT = "x-ots-about"  # what a table in CSV has no room for
_RANGES_AT_MOST = 4
_NAMES_AT_MOST = 1024
_names: dict[str, str] = {}
_returned: dict[str, bool] = {}


@dataclass(frozen=True, slots=True)
class Sender:
    """In whose name a request goes on."""

    user: User
    request_id: str
    traceparent: str | None


class Proxy:
    """The services. Raises ValueError when an address is none, KeyError when there is no key to call one of them."""

    def __init__(self, settings: GatewaySettings) -> None:
        watch = Watch()
        self._services = {name: Upstream(name, urls, settings, watch) for name, urls in settings.upstreams.items()}
        self._signers = {
            name: InternalSigner(GATEWAY, name, settings.signing_keys[name]) for name in settings.upstreams
        }
        self._origins = {name: [url.strip() for url in urls.split(",")] for name, urls in settings.upstreams.items()}
        # apart, so that a service that is busy is not taken for one that is gone
        self._askers = {name: urllib3.PoolManager(maxsize=1, retries=False) for name in settings.upstreams}

    def forward(self, environ: dict[str, Any], route: Route, target: str, sender: Sender) -> Answer:
        """The service's answer. Raises a 413, 502, 503 or 504 problem, and what :meth:`Upstream.ask` raises."""
        if not traces.is_on():
            return self._forward(environ, route, target, sender)
        with traces.call_of(route.service, environ["REQUEST_METHOD"]):
            return self._forward(environ, route, target, replace(sender, traceparent=traces.traceparent()))

    def _forward(self, environ: dict[str, Any], route: Route, target: str, sender: Sender) -> Answer:
        service = self._services[route.service]
        user = sender.user
        token = self._signers[route.service].sign(user.user_id, user.username, user.role.label, sender.request_id)
        lines = [
            f"{environ['REQUEST_METHOD']} {target} HTTP/1.1\r\nHost: {service.host}\r\n"
            f"X-Request-ID: {sender.request_id}\r\n{HEADER}: {token}\r\n"
        ]
        if sender.traceparent:
            lines.append(f"traceparent: {sender.traceparent}\r\n")
        connection = environ.get("HTTP_CONNECTION")
        named = tokens(connection) if (connection and "," in connection) or connection not in _USUAL else None
        for key, value in environ.items():
            name = _names.get(key)
            if name is None:
                name = _forwarded_name(key)
            if name and not (named and name[:-2].lower() in named) and not (key == "HTTP_RANGE" and _is_bomb(value)):
                lines.append(f"{name}{value}\r\n")
        client: Client | None = environ.get("ots.client")
        try:
            data, pieces, framing = _body(environ, route.body_limit)
            lines.append(framing)
            head = "".join(lines).encode("latin-1") + data
            return service.ask(Question(environ["REQUEST_METHOD"], head, pieces, route.timeout_s), client)
        except TooLargeError:
            raise _too_large(route.body_limit) from None
        except LateBodyError as error:
            raise Problem(408, "too-slow", "the body arrived too slowly") from error
        except BrokenBodyError as error:
            raise Problem(400, "body", str(error)) from error

    def health(self, service: str, timeout_s: float) -> dict[str, object]:
        """What a service says of itself; ``unavailable`` when it says nothing of the kind in time."""
        for origin in self._origins[service]:
            try:
                answer = self._askers[service].request("GET", f"{origin}/health", timeout=timeout_s, redirect=False)
                body = answer.json()
            except (HTTPError, ValueError):
                continue
            if isinstance(body, dict) and body.get("status") in ("ok", "degraded", "unavailable"):
                return body if answer.status == 200 else {**body, "status": "unavailable"}
        return {"status": "unavailable"}

    def document(self, service: str, path: str, timeout_s: float) -> dict[str, Any] | None:
        """A JSON object that a service answers to the gateway itself; None when it does not."""
        headers = {HEADER: self._signers[service].sign(GATEWAY, GATEWAY, "viewer", "documents")}
        for origin in self._origins[service]:
            try:
                answer = self._askers[service].request(
                    "GET", origin + path, headers=headers, timeout=timeout_s, redirect=False
                )
                body = answer.json() if answer.status == 200 else None
            except (HTTPError, ValueError):
                continue
            if isinstance(body, dict):
                return body
        return None


def returned_fields(answer: Answer) -> list[tuple[str, str]]:
    """The fields of an answer that the client may see."""
    fields = []
    for name, lower, value in answer.fields:
        keep = _returned.get(lower)
        if keep is None:
            keep = _is_returned(lower)
        if keep:
            fields.append((name, value))
    return fields


# the values of Connection that name no field
_USUAL = (None, "", "keep-alive", "Keep-Alive", "close")


def _forwarded_name(key: str) -> str:
    """``Name: `` for a key of a WSGI environment that holds a field to forward, else nothing."""
    name = ""
    if key.startswith("HTTP_") or key == "CONTENT_TYPE":
        lower = key.removeprefix("HTTP_").replace("_", "-").lower()
        if lower not in _NOT_FORWARDED and not lower.startswith(_NOT_FORWARDED_PREFIXES):
            name = lower.title() + ": "
    if len(_names) < _NAMES_AT_MOST and len(key) <= 64:
        _names[key] = name
    return name


def _is_returned(lower: str) -> bool:
    keep = lower == _ABOUT or (lower not in _NOT_RETURNED and not lower.startswith(_NOT_RETURNED_PREFIXES))
    if len(_returned) < _NAMES_AT_MOST and len(lower) <= 64:
        _returned[lower] = keep
    return keep


def _is_bomb(value: str) -> bool:
    # many small ranges make a large answer of a small request; a service may ignore the field (RFC 9110, 14.2)
    return value.count(",") >= _RANGES_AT_MOST


def _body(environ: dict[str, Any], limit: int) -> tuple[bytes, Iterator[bytes] | None, str]:
    """A small body whole, a larger one in pieces, and how it is framed, with the blank line that ends the head.

    A small one is read before the service is asked: a slow client holds no connection to it. Raises a 413 problem.
    """
    length = environ.get("CONTENT_LENGTH")
    if length:
        size = int(length)
        if size > limit:
            raise _too_large(limit)
        framing = f"Content-Length: {size}\r\n\r\n"
        if size <= SMALL_BYTES:
            return b"".join(_pieces(environ, size, limit)), None, framing
        return b"", _pieces(environ, size, limit), framing
    if "HTTP_TRANSFER_ENCODING" in environ:
        return b"", _chunks(_pieces(environ, None, limit)), "Transfer-Encoding: chunked\r\n\r\n"
    return b"", None, "Content-Length: 0\r\n\r\n" if environ["REQUEST_METHOD"] in ("POST", "PUT", "PATCH") else "\r\n"


def _pieces(environ: dict[str, Any], length: int | None, limit: int) -> Iterator[bytes]:
    """The body. Raises :class:`TooLargeError` past ``limit``, :class:`BrokenBodyError`."""
    stream, seen = environ["wsgi.input"], 0
    while length is None or seen < length:
        piece = stream.read(_PIECE_BYTES if length is None else min(_PIECE_BYTES, length - seen))
        if not piece:
            if length is None:
                return
            raise BrokenBodyError("the body ended before it was complete")
        seen += len(piece)
        if seen > limit:
            raise TooLargeError
        yield piece


def _chunks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def _too_large(limit: int) -> Problem:
    return Problem(413, "too-large", f"the body is larger than the {limit} bytes allowed here")
