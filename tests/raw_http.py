"""HTTP as bytes: what no client library would send."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """One answer; ``rest`` is what came behind it."""

    status: int
    headers: dict[str, str]
    body: bytes
    rest: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def exchange(address: tuple[str, int], request: bytes, timeout_s: float = 10.0) -> bytes:
    """Send ``request`` and read until the server closes; what it said."""
    with socket.create_connection(address, timeout=timeout_s) as connection:
        connection.sendall(request)
        return until_closed(connection)


def until_closed(connection: socket.socket) -> bytes:
    said = b""
    try:
        while data := connection.recv(65536):
            said += data
    except ConnectionError:
        pass
    return said


def first_answer(said: bytes) -> Answer:
    """The first of the answers in ``said``. Raises ValueError when there is none."""
    head, separator, rest = said.partition(b"\r\n\r\n")
    if not separator:
        raise ValueError(f"no answer: {said[:200]!r}")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    length = int(headers.get("content-length", 0))
    return Answer(int(status.split(" ")[1]), headers, rest[:length], rest[length:])


def ask(address: tuple[str, int], request: bytes, timeout_s: float = 10.0) -> Answer:
    """The answer to ``request``, which must be the only one."""
    answer = first_answer(exchange(address, request, timeout_s))
    assert b"HTTP/1.1" not in answer.rest, answer.rest[:300]
    return answer
