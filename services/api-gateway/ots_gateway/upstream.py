"""Connections to one service: kept, bounded, the one used last first, each wait with a deadline.

What comes back is read by llhttp; a whole small answer in one piece, a larger one as a stream in constant memory.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

import gevent
import structlog
from gevent import socket
from gevent.lock import BoundedSemaphore

from ots_common.problems import Problem, unavailable
from ots_gateway.breaker import Breaker
from ots_gateway.deadlines import Watch
from ots_gateway.metrics import UPSTREAM_SECONDS, UpstreamFailures
from ots_gateway.settings import GatewaySettings
from ots_gateway.wire import MAX_HEAD_BYTES, AnswerHead, ChunkedAnswer, head_end

log = structlog.get_logger(__name__)

SMALL_BYTES = 64 * 1024
_PIECE_BYTES = 256 * 1024
# what is read at once with the head: an answer of usual size in one call
_FIRST_BYTES = 128 * 1024
_HEAD_PIECE_BYTES = 16 * 1024
# what may be asked once more when a kept connection turned out to be dead (RFC 9110, 9.2.2)
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_NEW_CONNECTIONS = 2
_CHECK_AFTER_S = 1.0
_CONNECT_PAUSE_S = 0.05


class Client(Protocol):
    """Who waits for the answer: told of the connection that works for it, so that it can end it when it leaves."""

    def waits_for(self, connection: Connection | None) -> None:
        """The connection that is at work; None when there is none any more."""


class Copy(Protocol):
    """Who takes a copy of a body as it passes."""

    def add(self, piece: bytes) -> None:
        """A piece that was read."""

    def end(self) -> None:
        """No more is read, be it whole or not."""


class BrokenBodyError(OSError):
    """The client's body ended before its end, or is not framed as it must be."""


class LateBodyError(BrokenBodyError):
    """The client's body came too slowly."""


class TooLargeError(Exception):
    """The body went over its limit while it was streamed."""


class _NoAnswerError(Exception):
    """The connection ended; ``silent``: before a byte of the answer had come."""

    def __init__(self, reason: str, *, silent: bool) -> None:
        super().__init__(reason)
        self.silent = silent


class _LateError(Exception):
    """A deadline passed."""


class ClientLeftError(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True)
class Question:
    """One request to a service. ``pieces`` is the body, framed already; ``head`` ends with its blank line."""

    method: str
    head: bytes
    pieces: Iterator[bytes] | None
    timeout_s: float


@dataclass(frozen=True)
class Answer:
    """``fields`` are (name, lower-case name, value); ``body`` is whole, unless there is a ``stream``."""

    status: int
    fields: list[tuple[str, str, str]]
    body: bytes
    stream: Stream | None
    length: int | None


class Connection:
    """One connection to a service, as the watch sees it."""

    __slots__ = ("_room", "address", "answered_at", "deadline", "late", "left", "served", "sock")

    def __init__(self, sock: socket.socket, address: tuple[str, int]) -> None:
        self.sock = sock
        self.address = address
        self.deadline = float("inf")
        self.late = False
        self.left = False
        self.served = 0
        self.answered_at = 0.0
        # used again for every answer: a buffer made for each would be mapped and cleared each time
        self._room = bytearray(_FIRST_BYTES)

    def look(self, now: float) -> None:
        """End what is late; whoever waits for the socket then wakes."""
        if now > self.deadline and not self.late:
            self.late = True
            self._end()

    def cancel(self) -> None:
        """The client has left."""
        self.left = True
        self._end()

    def receive(self, size: int) -> bytes:
        """Some bytes; none at the end. Raises :class:`_LateError`, :class:`ClientLeftError`."""
        try:
            data: bytes = self.sock.recv(size)
        except OSError:
            data = b""
        if not data:
            self.raise_why()
        return data

    def receive_first(self) -> tuple[bytes, bytes]:
        """The head of an answer and what came with it; the head is empty while it is not whole, both are at the end.

        Raises :class:`_LateError`, :class:`ClientLeftError`.
        """
        room = self._room
        try:
            size = self.sock.recv_into(room)
        except OSError:
            size = 0
        if not size:
            self.raise_why()
        view = memoryview(room)
        end = head_end(room, size)
        if end < 0:
            return b"", bytes(view[:size])
        return bytes(view[:end]), bytes(view[end:size])

    def raise_why(self) -> None:
        """Raise if it was we who ended it."""
        if self.late:
            raise _LateError
        if self.left:
            raise ClientLeftError

    def send(self, data: bytes) -> None:
        """All of ``data``. Raises OSError."""
        sent = self.sock.send(data)
        if sent < len(data):
            self.sock.sendall(memoryview(data)[sent:])

    def seems_alive(self) -> bool:
        """Whether the service has not closed it; it says nothing unasked, so anything to read is an end."""
        poll = select.poll()
        poll.register(self.sock.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
        return not poll.poll(0)

    def close(self) -> None:
        """Close it."""
        self.sock.close()

    def _end(self) -> None:
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            log.debug("already_closed")


class Upstream:
    """One service. Raises ValueError when an address is none."""

    def __init__(self, service: str, urls: str, settings: GatewaySettings, watch: Watch) -> None:
        self._service = service
        self._settings = settings
        self._addresses = [_address(url.strip()) for url in urls.split(",")]
        self.host = f"{self._addresses[0][0]}:{self._addresses[0][1]}"
        self._watch = watch
        self._idle: list[Connection] = []
        self._slots = BoundedSemaphore(settings.upstream_connections)
        self._next = 0
        self.breaker = Breaker(service, settings.breaker_failures, settings.breaker_open_s)
        self.failures = UpstreamFailures(service)
        self._seconds = UPSTREAM_SECONDS.labels(service)

    def ask(self, question: Question, client: Client | None = None) -> Answer:
        """The answer to ``question``. Raises a 413, 502, 503 or 504 problem, :class:`BrokenBodyError`,
        :class:`TooLargeError`, :class:`ClientLeftError`.
        """
        try:
            self.breaker.enter()
        except Problem:
            self.failures.count("open")
            raise
        if not self._slots.acquire(timeout=self._settings.upstream_wait_s):
            self.breaker.abandoned()
            self.failures.count("busy")
            raise unavailable(f"every connection to the service {self._service} is busy")
        kept = False
        asked = time.perf_counter()
        try:
            answer = self._answer(question, client)
            kept = answer.stream is not None
            self._seconds.observe(time.perf_counter() - asked)
            if answer.status >= 500:
                self.failures.count("status")
            return answer
        except _LateError as error:
            self.breaker.failed()
            # without these the slowest would be missing among the times
            self._seconds.observe(time.perf_counter() - asked)
            self.failures.count("timeout")
            raise Problem(
                504, "service-timeout", f"the service {self._service} took longer than {question.timeout_s:g} s"
            ) from error
        except _NoAnswerError as error:
            self.breaker.failed()
            self.failures.count("cut")
            log.warning("upstream_broke_off", upstream=self._service, error=str(error))
            raise Problem(
                502, "service-broke-off", f"the service {self._service} broke off before it had answered"
            ) from error
        except OSError as error:
            self.breaker.abandoned()
            if isinstance(error, BrokenBodyError):
                raise
            self.breaker.failed()
            self.failures.count("connect")
            log.warning("upstream_unreachable", upstream=self._service, error=str(error))
            raise Problem(
                503,
                "service-unavailable",
                f"the service {self._service} cannot be reached",
                headers={"Retry-After": "1"},
            ) from error
        except BaseException:
            self.breaker.abandoned()
            raise
        finally:
            if not kept:
                self._slots.release()

    def _answer(self, question: Question, client: Client | None) -> Answer:
        connection = self._kept(question.method)
        again = question.method in _IDEMPOTENT and question.pieces is None
        made = 0
        while True:
            if connection is None:
                connection = self._connect()
                made += 1
            try:
                return self._exchange(connection, question, client)
            except _NoAnswerError as error:
                # a kept connection may die just as it is used, and a new one in the queue of a service that stops:
                # what may be asked twice is, on one that is new, and on a second one at most
                if not (error.silent and again and made < _NEW_CONNECTIONS):
                    raise
                connection = None

    def _exchange(self, connection: Connection, question: Question, client: Client | None) -> Answer:
        done = False
        self._watch.add(connection)
        if client is not None:
            client.waits_for(connection)
        try:
            self._send(connection, question)
            connection.deadline = time.monotonic() + question.timeout_s
            head, rest = self._head(connection)
            answer = self._body(connection, question, head, rest)
            if answer.stream is not None:
                answer.stream.client = client
            self.breaker.succeeded()
            done = True
            return answer
        finally:
            if client is not None and not (done and answer.stream is not None):
                client.waits_for(None)
            if not done:
                self.drop(connection)

    def _send(self, connection: Connection, question: Question) -> None:
        connection.deadline = time.monotonic() + self._settings.send_timeout_s
        try:
            connection.send(question.head)
            if question.pieces is None:
                return
            last = time.monotonic() + self._settings.transfer_timeout_s
            for piece in question.pieces:
                connection.deadline = min(time.monotonic() + self._settings.send_timeout_s, last)
                connection.send(piece)
                connection.deadline = last
        except BrokenBodyError:
            raise
        except OSError as error:
            connection.raise_why()
            if question.pieces is None:
                raise _NoAnswerError(str(error), silent=True) from error
            # a service that refuses a body closes, and may have said why: read on

    def _head(self, connection: Connection) -> tuple[AnswerHead, bytes]:
        first, data = connection.receive_first()
        if not first and not data:
            raise _NoAnswerError("the connection was closed", silent=True)
        while True:
            while not first:
                end = head_end(data, len(data))
                if end >= 0:
                    first, data = data[:end], data[end:]
                    break
                more = connection.receive(_HEAD_PIECE_BYTES)
                if not more or len(data) > MAX_HEAD_BYTES:
                    raise _NoAnswerError("no head of an answer", silent=False)
                data += more
            try:
                head = AnswerHead.parse(first)
            except ValueError as error:
                raise _NoAnswerError(str(error), silent=False) from error
            if head.status >= 200:
                return head, data
            if head.status == 101:
                raise _NoAnswerError("the service changed the protocol unasked", silent=False)
            first = b""

    def _body(self, connection: Connection, question: Question, head: AnswerHead, rest: bytes) -> Answer:
        fields, status, length = head.fields, head.status, head.length
        if question.method == "HEAD" or status in (204, 304):
            self._done(connection, keep=head.keep_alive and not rest)
            return Answer(status, fields, b"", None, length)
        if length is not None and (length <= SMALL_BYTES or len(rest) >= length):
            while len(rest) < length:
                piece = connection.receive(_PIECE_BYTES)
                if not piece:
                    raise _NoAnswerError("the answer was cut short", silent=False)
                rest += piece
            self._done(connection, keep=head.keep_alive and len(rest) == length)
            return Answer(status, fields, rest[:length], None, length)
        stream = Stream(self, connection, head, rest, self._settings)
        try:
            # while nothing is sent yet, what breaks can still be told
            stream.begin()
        except ValueError as error:
            raise _NoAnswerError(str(error), silent=False) from error
        return Answer(status, fields, b"", stream, length)

    def _done(self, connection: Connection, *, keep: bool) -> None:
        self._watch.remove(connection)
        if not keep:
            connection.close()
            return
        connection.served += 1
        connection.answered_at = time.monotonic()
        connection.deadline = float("inf")
        self._idle.append(connection)

    def finish(self, connection: Connection, *, keep: bool) -> None:
        """Called when a stream has ended."""
        self._done(connection, keep=keep)
        self._slots.release()

    def drop(self, connection: Connection) -> None:
        """Nobody can use it any more."""
        self._watch.remove(connection)
        connection.close()

    def _kept(self, method: str) -> Connection | None:
        now = time.monotonic()
        while self._idle:
            connection = self._idle.pop()
            unused_s = now - connection.answered_at
            fresh = unused_s < self._settings.upstream_idle_s
            # what may be asked twice needs no look at a connection that answered a moment ago
            if fresh and ((unused_s < _CHECK_AFTER_S and method in _IDEMPOTENT) or connection.seems_alive()):
                return connection
            connection.close()
        return None

    def _connect(self) -> Connection:
        """A new connection to the first address that takes one. Raises OSError.

        A service that restarts refuses for a moment: it is tried until the time to connect is over.
        """
        until = time.monotonic() + self._settings.connect_timeout_s
        while True:
            for _ in self._addresses:
                address = self._addresses[self._next % len(self._addresses)]
                self._next += 1
                try:
                    sock = socket.create_connection(address, timeout=max(0.01, until - time.monotonic()))
                except OSError as error:
                    failure = error
                    continue
                sock.settimeout(None)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return Connection(sock, address)
            if not isinstance(failure, ConnectionRefusedError) or time.monotonic() + _CONNECT_PAUSE_S > until:
                raise failure
            gevent.sleep(_CONNECT_PAUSE_S)


class Stream:
    """The body of an answer, in pieces. A client that leaves in the middle leaves a connection nobody can use."""

    def __init__(
        self, upstream: Upstream, connection: Connection, head: AnswerHead, rest: bytes, settings: GatewaySettings
    ) -> None:
        self._upstream = upstream
        self._connection = connection
        self._keep = head.keep_alive
        self._left = head.length
        self._chunks = ChunkedAnswer() if head.chunked else None
        self._rest = rest
        self._idle_s = settings.answer_idle_s
        self._last = time.monotonic() + settings.transfer_timeout_s
        self._first: bytes | None = None
        self._ended = False
        self._closed = False
        # who reads it: from the end on it must not be able to cancel what works for somebody else then
        self.client: Client | None = None
        self.copy: Copy | None = None

    def begin(self) -> None:
        """Read the first piece. Raises what reading raises."""
        self._first = self._read()

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> bytes:
        if self._first is not None:
            piece, self._first = self._first, None
        elif self._ended:
            piece = b""
        else:
            try:
                piece = self._read()
            except (ValueError, _LateError) as error:
                # the head is sent: ending the connection is the only way left to say that the answer is not whole
                self._upstream.failures.count("timeout" if isinstance(error, _LateError) else "cut")
                log.warning("upstream_broke_off", error=str(error) or "late")
                raise ConnectionResetError("the service broke off") from error
            except ClientLeftError as error:
                raise ConnectionResetError("the client left") from error
        if not piece:
            raise StopIteration
        if self.copy is not None:
            self.copy.add(piece)
        return piece

    def close(self) -> None:
        """Give the connection back, closed unless all was read."""
        if not self._closed:
            self._closed = True
            if self.client is not None:
                self.client.waits_for(None)
            if self.copy is not None:
                self.copy.end()
            self._upstream.finish(self._connection, keep=self._ended and self._keep)

    def _read(self) -> bytes:
        """The next piece, none at the end. Raises ValueError when the answer is cut short or broken."""
        while True:
            data, self._rest = self._rest, b""
            if not data:
                self._connection.deadline = min(time.monotonic() + self._idle_s, self._last)
                data = self._connection.receive(_PIECE_BYTES)
                # the client takes its time with a piece: that is its own deadline
                self._connection.deadline = self._last
            if self._chunks is not None:
                piece = self._chunked(self._chunks, data)
                if piece or self._ended:
                    return piece
            else:
                return self._plain(data)

    def _plain(self, data: bytes) -> bytes:
        if self._left is None:
            # until the service closes
            self._keep = False
            self._ended = not data
            return data
        if not data:
            raise ValueError("the answer was cut short")
        if len(data) > self._left:
            data, self._keep = data[: self._left], False
        self._left -= len(data)
        self._ended = self._left == 0
        return data

    def _chunked(self, chunks: ChunkedAnswer, data: bytes) -> bytes:
        if not data:
            raise ValueError("the answer was cut short")
        piece = chunks.feed(data)
        self._ended = chunks.ended
        self._keep = self._keep and not chunks.overrun
        return piece


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"UPSTREAMS has {url}, which is no http://host:port")
    return parts.hostname, parts.port or 80
