"""A gevent worker that ends connections well: idle ones when it stops, and those whose body nobody will read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
from gunicorn.util import close_graceful  # type: ignore[import-untyped]
from gunicorn.workers.ggevent import GeventWorker  # type: ignore[import-untyped]

_STOPPING_WAIT_S = 1.0
_DRAIN_BYTES = 64 * 1024
_DRAIN_S = 2.0
_LINGER_BYTES = 64 * 2**20


class GatewayWorker(GeventWorker):  # type: ignore[misc]
    """Stops within seconds while clients keep idle connections, and reads no body to its end that was refused."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._waiting: dict[gevent.Greenlet, gevent.Timeout] = {}

    @contextmanager
    def timeout_ctx(self) -> Iterator[None]:
        """Around the wait for a connection's next request: ended by the keep-alive, or by :meth:`handle_exit`."""
        seconds = self.cfg.keepalive if self.alive else _STOPPING_WAIT_S
        with gevent.Timeout(seconds, False) as timeout:
            greenlet = gevent.getcurrent()
            self._waiting[greenlet] = timeout
            try:
                yield
            finally:
                del self._waiting[greenlet]

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Stop after the requests under way; whoever is between two requests is not waited for."""
        super().handle_exit(sig, frame)
        gevent.spawn(self._end_waits)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Answer one request. Raises StopIteration, which ends the connection, when its body is left unread too."""
        ended = False
        try:
            super().handle_request(listener_name, req, sock, addr)
        except StopIteration:
            ended = True
        if not _is_read_to_its_end(req.body):
            # closed at once, the unread bytes would make the kernel take back the answer
            close_graceful(sock, timeout=_DRAIN_S, max_drain=_LINGER_BYTES)
            ended = True
        if ended:
            raise StopIteration

    def _end_waits(self) -> None:
        for greenlet, timeout in list(self._waiting.items()):
            greenlet.kill(timeout, block=False)


def _is_read_to_its_end(body: Any) -> bool:
    left = _DRAIN_BYTES
    with gevent.Timeout(_DRAIN_S, False):
        while left > 0 and not body.failed:
            try:
                data = body.read(8192)
            except Exception:
                # a broken body has no end, whatever it was that broke it
                return False
            if not data:
                return True
            left -= len(data)
    return False
