"""One client's connection: heads and bodies in, answers out, each wait with a deadline, nothing kept that is not read.

This is the server half of HTTP/1.1 (RFC 9112); llhttp reads the bytes (:mod:`ots_gateway.wire`).
"""

from __future__ import annotations

import errno
import json
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from enum import Enum
from typing import Any

import structlog
from gunicorn.util import close_graceful  # type: ignore[import-untyped]

from ots_common.problems import Problem
from ots_gateway.deadlines import TICK_S
from ots_gateway.metrics import CONNECTIONS, Refusal, count_refusal
from ots_gateway.settings import GatewaySettings
from ots_gateway.upstream import BrokenBodyError, Connection, LateBodyError
from ots_gateway.wire import (
    MAX_HEAD_BYTES,
    ChunkedBody,
    MalformedError,
    RequestHead,
    head_end,
    is_injection_free,
)

log = structlog.get_logger(__name__)

_PIECE_BYTES = 64 * 1024
_JOIN_BYTES = 64 * 1024
_LINGER_S = 2.0
_LINGER_BYTES = 64 * 2**20
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_FAREWELLS = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF)
_BODILESS = ("1", "204", "304")

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Phase(Enum):
    """What a connection is at."""

    IDLE = 1  # between two requests
    HEAD = 2  # a head has begun
    BODY = 3  # a body is read
    WORK = 4  # the answer is being made
    SEND = 5  # it is being taken


class ClientConnection:
    """Serves one client until either has had enough. ``draining`` tells whether this is the last request."""

    __slots__ = (
        "_application", "_base", "_buffer", "_draining", "_fields", "_late", "_settings", "_sock", "_started",
        "_status", "_working", "_working_since", "address", "deadline", "phase", "since",
    )  # fmt: skip

    def __init__(
        self,
        sock: Any,
        address: tuple[str, int],
        application: Application,
        settings: GatewaySettings,
        draining: Callable[[], bool],
    ) -> None:
        self.address = address[0]
        self.phase = Phase.IDLE
        self.since = time.monotonic()
        self.deadline = self.since + settings.head_timeout_s
        self._sock = sock
        self._application = application
        self._settings = settings
        self._draining = draining
        self._buffer = b""
        self._late = False
        self._started = False
        self._status = ""
        self._fields: list[tuple[str, str]] = []
        self._working: Connection | None = None
        self._working_since = 0.0
        self._base: dict[str, object] = {
            "REMOTE_ADDR": address[0],
            "REMOTE_PORT": str(address[1]),
            "SCRIPT_NAME": "",
            "SERVER_NAME": "gateway",
            "SERVER_PORT": "80",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "ots.client": self,
        }

    def serve(self) -> None:
        """Answer request after request."""
        CONNECTIONS.inc()
        try:
            while self._one():
                pass
        except OSError as error:
            if error.errno not in _FAREWELLS:
                log.warning("client_connection", error=str(error))
        except Exception as error:
            # the application answers its own errors: this is one of ours, and all that is left is to end
            log.exception("unhandled_error", error=repr(error))
        finally:
            CONNECTIONS.dec()
            self._sock.close()

    def look(self, now: float) -> None:
        """What the watch calls: end what is late, and the work for a client that has left."""
        working = self._working
        if working is not None and now - self._working_since > TICK_S and self._has_left():
            self._working = None
            working.cancel()
        if now <= self.deadline or self._late:
            return
        if self.phase is Phase.IDLE or self.phase is Phase.SEND:
            # it said nothing, or takes nothing: it cannot be told
            self._late = True
            self._shut()

    def waits_for(self, connection: Connection | None) -> None:
        """What works for this client now."""
        self._working = connection
        self._working_since = time.monotonic()

    def shed(self) -> None:
        """End it to make room; only for one that is between requests or has said half of one."""
        self._late = True
        self._shut()

    def end_soon(self, seconds: float) -> None:
        """The server stops: a client between two requests is not waited for."""
        if self.phase is Phase.IDLE:
            self.deadline = min(self.deadline, time.monotonic() + seconds)

    def receive(self) -> bytes:
        """Some bytes; none at the end or when they come too late.

        Within a head or a body the wait has a timer of its own: who is late then can still be told.
        """
        timed = self.phase is not Phase.IDLE
        if timed:
            self._sock.settimeout(max(0.001, self.deadline - time.monotonic()))
        try:
            data: bytes = self._sock.recv(_PIECE_BYTES)
        except TimeoutError:
            self._late = True
            return b""
        except ConnectionError:
            return b""
        finally:
            if timed:
                self._sock.settimeout(None)
        return b"" if self._late else data

    def take_buffer(self) -> bytes:
        """What was read behind the head."""
        data, self._buffer = self._buffer, b""
        return data

    def give_back(self, data: bytes) -> None:
        """What was read of the next request."""
        self._buffer = data

    def enter(self, phase: Phase, seconds: float) -> None:
        """Begin ``phase`` with a deadline."""
        now = time.monotonic()
        self.phase, self.since, self.deadline = phase, now, now + seconds

    def send(self, data: bytes | memoryview) -> None:
        """All of ``data``. Raises OSError."""
        sent = self._sock.send(data)
        if sent < len(data):
            rest = memoryview(data)[sent:]
            while rest:
                self.deadline = time.monotonic() + self._settings.write_idle_s
                rest = rest[self._sock.send(rest) :]

    def is_waiting(self) -> bool:
        """Whether no request of it is under way."""
        return self.phase is Phase.IDLE or self.phase is Phase.HEAD

    def is_late(self) -> bool:
        """Whether a deadline has passed."""
        return self._late

    def _one(self) -> bool:
        try:
            data = self._read_head()
            if data is None:
                return False
            head = RequestHead.parse(data)
            environ = head.environ(self._base)
            body = Body(self, head, environ, self._settings)
        except MalformedError as error:
            self._refuse(error)
            return False
        environ["wsgi.input"] = body
        self.phase = Phase.WORK
        self.deadline = float("inf")
        self._started = False
        result = self._application(environ, self._start)
        try:
            keep = self._answer(head, body, result)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()
        if not body.is_finished():
            self._linger()
            return False
        return keep

    def _read_head(self) -> bytes | None:
        buffer = self._buffer
        self.enter(Phase.IDLE, self._settings.keepalive_s if self._started else self._settings.head_timeout_s)
        if buffer:
            self.enter(Phase.HEAD, self._settings.head_timeout_s)
        elif self._started and self._draining():
            self.end_soon(0.0)
        while True:
            end = head_end(buffer, len(buffer))
            if 0 <= end <= MAX_HEAD_BYTES:
                self._buffer = buffer[end:]
                return buffer[:end]
            if len(buffer) > MAX_HEAD_BYTES:
                raise MalformedError(431, "head-too-large", f"the head is larger than {MAX_HEAD_BYTES} bytes")
            data = self.receive()
            if not data:
                if self._late and self.phase is Phase.HEAD:
                    raise MalformedError(408, "too-slow", "the head of the request arrived too slowly")
                return None
            if not buffer:
                self.enter(Phase.HEAD, self._settings.head_timeout_s)
            buffer += data

    def _start(self, status: str, fields: list[tuple[str, str]], _exc_info: Any = None) -> None:
        self._status, self._fields = status, fields
        self._started = True

    def _answer(self, head: RequestHead, body: Body, result: Iterable[bytes]) -> bool:
        """Send ``result``; whether the connection may be used again."""
        pieces = iter(result)
        first = next(pieces, b"")
        whole = isinstance(result, list) and len(result) < 2
        keep = head.keep_alive and not self._draining() and body.is_finished()
        sized, bodiless = False, head.method == "HEAD" or self._status.startswith(_BODILESS)
        lines = [f"HTTP/1.1 {self._status}\r\nDate: {_date()}\r\n"]
        for name, value in self._fields:
            lines.append(f"{name}: {value}\r\n")
            sized = sized or (len(name) == 14 and name.lower() == "content-length")
        if not sized and whole and not bodiless:
            lines.append(f"Content-Length: {len(first)}\r\n")
            sized = True
        chunked = not sized and not bodiless and head.version == "1.1"
        if chunked:
            lines.append("Transfer-Encoding: chunked\r\n")
        keep = keep and (sized or bodiless or chunked)
        if not keep:
            lines.append("Connection: close\r\n")
        elif head.version == "1.0":
            lines.append("Connection: keep-alive\r\n")
        text = "".join(lines)
        if not is_injection_free(text, len(lines) + 1):
            raise AssertionError("a header with a line end")
        start = f"{text}\r\n".encode("latin-1")
        self.enter(Phase.SEND, self._settings.write_idle_s)
        if bodiless:
            self.send(start)
            return keep
        self._send_body(start, first, pieces, chunked=chunked)
        return keep

    def _send_body(self, start: bytes, first: bytes, pieces: Any, *, chunked: bool) -> None:
        if chunked and first:
            first = b"%x\r\n%b\r\n" % (len(first), first)
        if len(first) <= _JOIN_BYTES:
            self.send(start + first)
        else:
            sent = self._sock.sendmsg([start, first])
            if sent < len(start):
                self.send(start[sent:])
                sent = len(start)
            if sent < len(start) + len(first):
                self.send(memoryview(first)[sent - len(start) :])
        try:
            for piece in pieces:
                if piece:
                    self.deadline = time.monotonic() + self._settings.write_idle_s
                    self.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                self.deadline = float("inf")
        except OSError:
            # a plain close would pass for the end of an answer without a length
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise
        if chunked:
            self.send(b"0\r\n\r\n")

    def _refuse(self, error: MalformedError) -> None:
        """Answer bytes that are no request, and end."""
        problem = Problem(error.status, error.kind, error.detail)
        body = json.dumps(problem.body("", None)).encode()
        head = (
            f"HTTP/1.1 {error.status} {_REASONS[error.status]}\r\nDate: {_date()}\r\n"
            "Content-Type: application/problem+json\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        count_refusal(_REFUSALS.get(error.kind, "malformed"))
        log.info("refused_bytes", address=self.address, status=error.status, error=error.detail)
        self.enter(Phase.SEND, self._settings.write_idle_s)
        self.send(head.encode("ascii") + body)
        self._linger()

    def _linger(self) -> None:
        # closed at once, unread bytes would make the kernel take back the answer
        self.enter(Phase.SEND, 2 * _LINGER_S)
        close_graceful(self._sock, timeout=_LINGER_S, max_drain=_LINGER_BYTES)

    def _has_left(self) -> bool:
        try:
            return not self._sock._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _shut(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            log.debug("already_closed")


class Body:
    """The body of a request, as WSGI wants it: read as it comes, not faster than it is asked for."""

    __slots__ = (
        "_begun", "_chunks", "_connection", "_expects", "_left", "_pending", "_received", "_settings", "_started_at",
    )  # fmt: skip

    def __init__(
        self, connection: ClientConnection, head: RequestHead, environ: dict[str, object], settings: GatewaySettings
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._left = head.length or 0
        self._chunks = ChunkedBody() if head.chunked else None
        self._pending = b""
        self._begun = False
        self._received = 0
        self._started_at = 0.0
        expect = environ.get("HTTP_EXPECT")
        if expect is not None and str(expect).lower() != "100-continue":
            raise MalformedError(417, "expectation", "the only expectation is 100-continue")
        self._expects = expect is not None and head.version == "1.1"

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes, none at the end. Raises :class:`BrokenBodyError`, :class:`LateBodyError`."""
        if size < 0:
            return b"".join(iter(lambda: self.read(_PIECE_BYTES), b""))
        data = self._pending or self._next()
        self._pending = data[size:]
        return data[:size]

    def readline(self, size: int = -1) -> bytes:
        """Nobody reads lines of a body here. Raises :class:`BrokenBodyError`."""
        raise BrokenBodyError("a body is not read by lines")

    def is_finished(self) -> bool:
        """Whether nothing of it is left to read, or all that is left is here already."""
        if self._chunks is not None:
            return self._chunks.ended and not self._chunks.overrun
        if self._left:
            buffered = self._connection.take_buffer()
            if len(buffered) >= self._left and not self._expects:
                self._connection.give_back(buffered[self._left :])
                self._left = 0
            else:
                self._connection.give_back(buffered)
        return self._left == 0

    def _next(self) -> bytes:
        if self._chunks is None:
            if self._left == 0:
                return b""
            data = self._receive()
            if len(data) > self._left:
                self._connection.give_back(data[self._left :])
                data = data[: self._left]
            self._left -= len(data)
            return data
        while not self._chunks.ended:
            try:
                data = self._chunks.feed(self._receive())
            except MalformedError as error:
                raise BrokenBodyError(error.detail) from error
            if data:
                return data
        return b""

    def _receive(self) -> bytes:
        connection = self._connection
        data = connection.take_buffer()
        now = time.monotonic()
        if not self._begun:
            self._begun = True
            self._started_at = now
            if self._expects and not data:
                connection.send(_CONTINUE)
            self._expects = False
        if not data:
            settings = self._settings
            slowest = self._started_at + settings.body_settle_s + self._received / settings.body_bytes_per_s
            connection.enter(Phase.BODY, max(0.0, min(settings.body_idle_s, slowest - now)))
            data = connection.receive()
            connection.phase, connection.deadline = Phase.WORK, float("inf")
        if not data:
            if connection.is_late():
                raise LateBodyError("too slow")
            raise BrokenBodyError("the body ended before it was complete")
        self._received += len(data)
        return data


_REASONS = {
    400: "Bad Request", 408: "Request Timeout", 414: "URI Too Long", 417: "Expectation Failed",
    431: "Request Header Fields Too Large", 501: "Not Implemented", 505: "HTTP Version Not Supported",
}  # fmt: skip
_REFUSALS: dict[str, Refusal] = {
    "too-slow": "slow", "target-too-long": "size", "head-too-large": "size", "too-many-fields": "size",
    "method": "method",
}  # fmt: skip
_dated: tuple[int, str] = (0, "")


def _date() -> str:
    global _dated
    now = int(time.time())
    if _dated[0] != now:
        _dated = (now, formatdate(now, usegmt=True))
    return _dated[1]
