"""gzip for answers, where the client takes it and it pays."""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from flask import Response, request

GZIP = "gzip"
# below it the head is most of what is sent
LEAST_BYTES = 1024
# a table of 2,192 option contracts, 1.25 MB of JSON: level 1 makes 172 KB in 4.8 ms, level 6 126 KB in 15.5 ms
_LEVEL = 1
_GZIP_FORMAT = 31
_COMPRESSIBLE = frozenset(
    {
        "application/json", "application/problem+json", "application/vnd.apache.arrow.stream",
        "image/svg+xml", "text/css", "text/csv", "text/html", "text/javascript", "text/plain",
    }
)  # fmt: skip


class Compressed:
    """The newest compressed bodies by ETag: what is asked for often is compressed once. ``most``: bytes in all."""

    def __init__(self, most: int, least: int = 64 * 1024) -> None:
        self._most = most
        self._least = least
        self._held = 0
        self._bodies: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, name: str | None, body: bytes) -> bytes:
        """``body`` compressed. ``name``: two bodies of the same name are the same; None: nothing is known of it."""
        if name is None or len(body) < self._least:
            return zlib.compress(body, _LEVEL, _GZIP_FORMAT)
        with self._lock:
            if (known := self._bodies.get(name)) is not None:
                self._bodies.move_to_end(name)
                return known
        made = zlib.compress(body, _LEVEL, _GZIP_FORMAT)
        with self._lock:
            self._held += len(made) - len(self._bodies.pop(name, b""))
            self._bodies[name] = made
            while self._held > self._most:
                self._held -= len(self._bodies.popitem(last=False)[1])
        return made


_compressed = Compressed(16 * 2**20)


def compress(response: Response) -> None:
    """Encode the body as the client's ``Accept-Encoding`` wants it; what is encoded already stays, or is decoded."""
    if response.status_code in (204, 304) or response.direct_passthrough:
        return
    encoding = response.headers.get("Content-Encoding")
    if encoding is not None:
        response.vary.add("Accept-Encoding")
        if encoding == GZIP and not takes_gzip() and not response.is_streamed:
            del response.headers["Content-Encoding"]
            response.set_data(zlib.decompress(response.get_data(), _GZIP_FORMAT))
        return
    if response.mimetype not in _COMPRESSIBLE:
        return
    body = None if response.is_streamed else response.get_data()
    if body is not None and len(body) < LEAST_BYTES:
        return
    response.vary.add("Accept-Encoding")
    if not takes_gzip():
        return
    if body is None:
        response.response = _Gzipped(response.response)
        response.headers.pop("Content-Length", None)
    else:
        etag = response.headers.get("ETag")
        response.set_data(_compressed.of(f"{request.full_path} {response.mimetype} {etag}" if etag else None, body))
    response.headers["Content-Encoding"] = GZIP
    if response.headers.get("ETag", "").startswith('"'):
        # a strong one would promise the same bytes
        response.headers["ETag"] = f"W/{response.headers['ETag']}"


def takes_gzip() -> bool:
    """Whether the client of this request accepts gzip, and does not rather have the answer as it is."""
    accepted = request.accept_encodings
    quality = accepted[GZIP]
    return quality > 0 and quality >= (accepted["identity"] if "identity" in accepted.values() else 0)


class _Gzipped:
    """A stream compressed piece by piece."""

    def __init__(self, pieces: Iterable[str] | Iterable[bytes]) -> None:
        self._source = pieces

    def __iter__(self) -> Iterator[bytes]:
        compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_FORMAT)
        for piece in self._source:
            if made := compressor.compress(piece.encode() if isinstance(piece, str) else piece):
                yield made
        yield compressor.flush()

    def close(self) -> None:
        """Called at the end, and when the client leaves before it."""
        close = getattr(self._source, "close", None)
        if close is not None:
            close()
