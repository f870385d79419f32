"""The access log of the gateway: a line for each request, made by hand and written with others ten times a second.

A write for each would cost as much as a third of the request.
"""

from __future__ import annotations

import atexit

import gevent

from ots_common import logs

_FLUSH_S = 0.1
_FLUSH_LINES = 500


class AccessLog:
    """Of one process; to be made after the logs are configured."""

    def __init__(self) -> None:
        self._access = logs.AccessLines("address")
        self._lines: list[list[str]] = []
        self._greenlet: gevent.Greenlet | None = None
        atexit.register(self.flush)

    def write(
        self, method: str, path: str, status: int, seconds: float, user: str | None, address: str, ids: logs.Request
    ) -> None:
        """Remember one request for the next write."""
        if not self._access.enabled:
            return
        self._lines.append(self._access.render(method, path, status, seconds, user, address, ids))
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._run)
        if len(self._lines) >= _FLUSH_LINES:
            self.flush()

    def flush(self) -> None:
        """Write what is remembered."""
        if self._lines:
            lines, self._lines = self._lines, []
            logs.write_lines(lines)

    def _run(self) -> None:
        while True:
            gevent.sleep(_FLUSH_S)
            self.flush()
