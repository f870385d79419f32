"""The access log: one line for each request, in the shape of every other log line, made without the logging machinery.

Lines are written together ten times a second: a write for each would cost as much as a third of the request.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import time
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quoted

import gevent

_FLUSH_S = 0.1
_FLUSH_LINES = 500


class AccessLog:
    """``fmt`` json or console, as LOG_FORMAT; a text of any kind stays within its line and its quotes."""

    def __init__(self, service: str, *, fmt: str, enabled: bool = True) -> None:
        self._json = fmt == "json"
        self._enabled = enabled
        self._tail = f',"event":"request","level":"info","logger":"access","service":{json.dumps(service)}}}\n'
        self._lines: list[str] = []
        self._greenlet: gevent.Greenlet | None = None
        self._second = 0
        self._stamp = ""
        atexit.register(self.flush)

    def write(
        self, method: str, path: str, status: int, seconds: float, user: str | None, request_id: str, address: str
    ) -> None:
        """Remember one request for the next write."""
        if not self._enabled:
            return
        now = time.time()
        if int(now) != self._second:
            self._second = int(now)
            self._stamp = datetime.fromtimestamp(self._second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        stamp = f"{self._stamp}.{int(now % 1 * 1e6):06d}Z"
        who = "null" if user is None else quoted(user)
        if self._json:
            line = (
                f'{{"method":{quoted(method)},"path":{quoted(path)},"status":{status},"ms":{seconds * 1000:.2f},'
                f'"user":{who},"address":{quoted(address)},"request_id":{quoted(request_id)},"timestamp":"{stamp}"'
                + self._tail
            )
        else:
            line = (
                f"{stamp} [info     ] request {method[:16]} {quoted(path)[1:-1]} {status} {seconds * 1000:.2f} ms"
                f" user={who} address={address} request_id={request_id}\n"
            )
        self._lines.append(line)
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._run)
        if len(self._lines) >= _FLUSH_LINES:
            self.flush()

    def flush(self) -> None:
        """Write what is remembered."""
        if self._lines:
            lines, self._lines = self._lines, []
            data = "".join(lines).encode()
            while data:
                data = data[os.write(sys.stderr.fileno(), data) :]

    def _run(self) -> None:
        while True:
            gevent.sleep(_FLUSH_S)
            self.flush()
