"""HTTP/1.1 heads as bytes, read by llhttp (httptools) at its strictest and then held to one way to write them.

Both sides of the gateway use it: what a client sends is never read in another way than what a service will read.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

import httptools

MAX_REQUEST_LINE = 8190
MAX_HEAD_BYTES = 32 * 1024
MAX_FIELDS = 64

# a second one of these is refused: two readers might each take another
_SINGLE = frozenset(
    {
        "HTTP_HOST", "HTTP_AUTHORIZATION", "HTTP_X_API_KEY", "HTTP_IDEMPOTENCY_KEY", "HTTP_X_REQUEST_ID", "HTTP_ORIGIN",
        "HTTP_TRACEPARENT", "HTTP_EXPECT", "HTTP_TRANSFER_ENCODING", "CONTENT_LENGTH", "CONTENT_TYPE",
    }
)  # fmt: skip
_NAMES_AT_MOST = 1024
_MAX_CHUNK_OVERHEAD = 64 * 1024
_names: dict[bytes, str] = {}
_answer_names: dict[bytes, tuple[str, str]] = {}
_PRINTABLE_TARGET = re.compile(rb"[\x21-\x7e]+\Z")


class MalformedError(Exception):
    """Bytes that are no request that this server takes; the connection ends after the answer."""

    def __init__(self, status: int, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail


class RequestHead:
    """A parsed head: ``length`` None without Content-Length, ``chunked`` when the body comes in chunks."""

    __slots__ = (
        "_complete", "chunked", "fields", "keep_alive", "length", "method", "parser", "target", "upgrade", "version",
    )  # fmt: skip

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.method = ""
        self.version = ""
        self.length: int | None = None
        self.chunked = False
        self.keep_alive = False
        self.upgrade = False
        self._complete = False
        self.parser = httptools.HttpRequestParser(self)

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field."""
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._complete = True

    @classmethod
    def parse(cls, data: bytes) -> RequestHead:
        """The head that ``data`` is, whole and nothing else. Raises :class:`MalformedError`."""
        if len(data) > MAX_REQUEST_LINE and data.find(b"\r\n", 0, MAX_REQUEST_LINE + 2) < 0:
            raise MalformedError(414, "target-too-long", f"the request line is longer than {MAX_REQUEST_LINE} bytes")
        head = cls()
        parser = head.parser
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            head.upgrade = True
        except httptools.HttpParserInvalidMethodError as error:
            raise MalformedError(501, "method", "the method is none that this server knows") from error
        except httptools.HttpParserError as error:
            raise MalformedError(400, "malformed", f"not HTTP/1.1 as it must be: {error}") from error
        if not head._complete:
            raise MalformedError(400, "malformed", "the head of the request is not whole")
        head.method = parser.get_method().decode("ascii")
        head.version = parser.get_http_version()
        head._check()
        return head

    def _check(self) -> None:
        if self.version not in ("1.1", "1.0"):
            raise MalformedError(505, "version", "this server speaks HTTP/1.1")
        if len(self.fields) > MAX_FIELDS:
            raise MalformedError(431, "too-many-fields", f"the head has more than {MAX_FIELDS} fields")
        if not _PRINTABLE_TARGET.match(self.target):
            raise MalformedError(400, "path", "the request target has a character that must be percent-encoded")

    def environ(self, base: dict[str, object]) -> dict[str, object]:
        """The WSGI environment of this head on top of ``base``. Raises :class:`MalformedError`."""
        environ = base.copy()
        for name, value in self.fields:
            key = _names.get(name) or _environ_name(name)
            if not key:
                continue
            text = value.decode("latin-1")
            if key in environ:
                if key in _SINGLE:
                    raise MalformedError(400, "duplicate-header", f"the header {name.decode('latin-1')} came twice")
                text = f"{environ[key]}, {text}"
            environ[key] = text
        target = self.target.decode("ascii")
        path, _, query = target.partition("?")
        environ["REQUEST_METHOD"] = self.method
        environ["RAW_URI"] = target
        environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1") if "%" in path else path
        environ["QUERY_STRING"] = query
        environ["SERVER_PROTOCOL"] = f"HTTP/{self.version}"
        self._frame(environ)
        return environ

    def _frame(self, environ: dict[str, object]) -> None:
        coding = environ.get("HTTP_TRANSFER_ENCODING")
        if coding is not None:
            if self.version != "1.1":
                raise MalformedError(400, "framing", "Transfer-Encoding belongs to HTTP/1.1")
            if str(coding).lower() != "chunked":
                raise MalformedError(501, "transfer-coding", "the only transfer coding is chunked")
            self.chunked = True
            environ["wsgi.input_terminated"] = True
        length = environ.get("CONTENT_LENGTH")
        if length is not None:
            if self.chunked or not str(length).isascii() or not str(length).isdigit() or len(str(length)) > 18:
                raise MalformedError(400, "framing", "Content-Length must be one number, without Transfer-Encoding")
            self.length = int(str(length))
        if self.upgrade and (self.chunked or self.length):
            raise MalformedError(400, "framing", "a request to upgrade has no body here")
        connection = environ.get("HTTP_CONNECTION")
        if connection is None:
            self.keep_alive = self.version == "1.1" and not self.upgrade
        else:
            options = tokens(str(connection))
            asked = "close" not in options and (self.version == "1.1" or "keep-alive" in options)
            self.keep_alive = asked and not self.upgrade


class ChunkedBody:
    """Decodes the chunked body of a request; extensions and trailers are read and dropped."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._overhead_left = _MAX_CHUNK_OVERHEAD
        self.ended = False
        self.overrun = False
        # httptools looks its callbacks up when it is made: a parser of its own, told of a chunked message
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")

    def on_message_begin(self) -> None:
        """Another message in the same bytes: pipelined behind a chunked body."""
        self.overrun = self.ended

    def on_body(self, data: bytes) -> None:
        """A piece."""
        if not self.ended:
            self._pieces.append(data)

    def on_message_complete(self) -> None:
        """The last chunk."""
        self.ended = True

    def feed(self, data: bytes) -> bytes:
        """What ``data`` carries of the body. Raises :class:`MalformedError`."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self.ended:
                raise MalformedError(400, "framing", f"the chunked body is broken: {error}") from error
            self.overrun = True
        body = b"".join(self._pieces)
        self._pieces.clear()
        # chunks of one byte cost five more; what costs more than that is extensions and trailers that nobody reads
        self._overhead_left -= len(data) - 6 * len(body)
        if self._overhead_left < 0:
            raise MalformedError(400, "framing", "the chunked body is mostly framing")
        self._overhead_left = min(self._overhead_left, _MAX_CHUNK_OVERHEAD)
        return body


class AnswerHead:
    """The head of a service's answer; ``fields`` are (name, lower-case name, value)."""

    __slots__ = ("_complete", "_status", "chunked", "fields", "keep_alive", "length", "parser", "status")

    def __init__(self) -> None:
        self.fields: list[tuple[str, str, str]] = []
        self.status = 0
        self.length: int | None = None
        self.chunked = False
        self.keep_alive = False
        self._complete = False
        self.parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field."""
        known = _answer_names.get(name) or _answer_name(name)
        self.fields.append((*known, value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._complete = True

    @classmethod
    def parse(cls, data: bytes) -> AnswerHead:
        """The head that ``data`` is. Raises ValueError when it is none that this gateway trusts."""
        head = cls()
        parser = head.parser
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            raise ValueError("the service answered with an upgrade") from error
        except httptools.HttpParserError as error:
            raise ValueError(f"not HTTP: {error}") from error
        head.status = parser.get_status_code()
        if not head._complete or not 100 <= head.status <= 599:
            raise ValueError("the head of the answer is not whole")
        version = parser.get_http_version()
        head.keep_alive = version == "1.1"
        for _, lower, value in head.fields:
            if lower == "content-length":
                head.length = int(value)
            elif lower == "transfer-encoding":
                if value.lower() != "chunked":
                    raise ValueError("the only transfer coding is chunked")
                head.chunked = True
            elif lower == "connection" and value != "keep-alive" and "close" in tokens(value):
                head.keep_alive = False
        return head


class ChunkedAnswer:
    """Decodes the chunked body of an answer; ``overrun`` when the service said more than that."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.ended = False
        self.overrun = False
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")

    def on_message_begin(self) -> None:
        """Another answer, to no question."""
        self.overrun = self.ended

    def on_body(self, data: bytes) -> None:
        """A piece."""
        if not self.ended:
            self._pieces.append(data)

    def on_message_complete(self) -> None:
        """The last chunk."""
        self.ended = True

    def feed(self, data: bytes) -> bytes:
        """What ``data`` carries of the body. Raises ValueError."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self.ended:
                raise ValueError(f"the chunked answer is broken: {error}") from error
            self.overrun = True
        body = b"".join(self._pieces)
        self._pieces.clear()
        return body


def tokens(value: str) -> set[str]:
    """The lower-case members of a comma-separated field."""
    return {token.strip().lower() for token in value.split(",")}


def head_end(buffer: bytes | bytearray, size: int) -> int:
    """Where the head ends in the first ``size`` bytes, its last CRLF included; -1 while it is not whole."""
    found = buffer.find(b"\r\n\r\n", 0, size)
    return found + 4 if found >= 0 else -1


def is_injection_free(head: str, lines: int) -> bool:
    """Whether a head of ``lines`` lines has no more line ends than those between them, and no NUL."""
    return head.count("\r") == lines == head.count("\n") and "\0" not in head


def _environ_name(name: bytes) -> str:
    # an underscore would pass for the hyphen of another name
    if b"_" in name:
        key = ""
    else:
        key = name.decode("ascii").upper().replace("-", "_")
        if key not in ("CONTENT_LENGTH", "CONTENT_TYPE"):
            key = f"HTTP_{key}"
    if len(_names) < _NAMES_AT_MOST and len(name) <= 64:
        _names[name] = key
    return key


def _answer_name(name: bytes) -> tuple[str, str]:
    text = name.decode("latin-1")
    known = (text, text.lower())
    if len(_answer_names) < _NAMES_AT_MOST and len(name) <= 64:
        _answer_names[name] = known
    return known
