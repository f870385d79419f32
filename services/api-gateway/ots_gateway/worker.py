"""gunicorn's gevent worker with a server of our own in it: no more of HTTP than this gateway needs, and deadlines.

gunicorn keeps what it is good at: processes, sockets, signals, restarts.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.workers.ggevent import GeventWorker  # type: ignore[import-untyped]

from ots_gateway.deadlines import Watch
from ots_gateway.settings import EXTENSION, GatewaySettings

if TYPE_CHECKING:
    from ots_gateway.connection import ClientConnection

_STOPPING_WAIT_S = 1.0
_SPARE = 64
_NO_ROOM = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
_TOO_MANY = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"


class GatewayWorker(GeventWorker):  # type: ignore[misc]
    """Bounded in connections, in all and of one address; stops when the requests under way have their answers."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._connections: set[ClientConnection] = set()
        self._of_address: Counter[str] = Counter()
        self._watch = Watch()
        self._stopping = Event()

    def run(self) -> None:
        """Serve until told to stop, then until the requests under way are answered."""
        settings: GatewaySettings = self.wsgi.extensions[EXTENSION]
        self._settings = settings
        self._trusted_connect = bool(settings.trusted_proxies)
        # what is there now stays: to look through it again with every full collection would stop everybody for 70 ms
        gc.freeze()
        servers = [self._server(sock, settings) for sock in self.sockets]
        while self.alive:
            self.notify()
            self._stopping.wait(1.0)
        for server in servers:
            server.close()
        until = time.monotonic() + self.cfg.graceful_timeout
        while self._connections and time.monotonic() < until:
            self.notify()
            for connection in tuple(self._connections):
                connection.end_soon(_STOPPING_WAIT_S)
            gevent.sleep(0.1)
        for server in servers:
            server.stop(timeout=1)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Stop after the requests under way."""
        super().handle_exit(sig, frame)
        # not in the signal's own frame, which may stand in the middle of the event's code
        gevent.spawn(self._stopping.set)

    def _server(self, sock: Any, settings: GatewaySettings) -> StreamServer:
        sock.setblocking(1)
        server = StreamServer(sock, handle=self._serve, spawn=Pool(settings.connections + _SPARE))
        if self.cfg.workers > 1:
            server.max_accept = 1  # the others shall have some too
        server.start()
        return server

    def _serve(self, sock: Any, address: tuple[str, int]) -> None:
        host = address[0]
        if self._of_address[host] >= self._settings.connections_per_address and not self._trusted_connect:
            _turn_away(sock, _TOO_MANY)
            return
        if len(self._connections) >= self._settings.connections and not self._make_room():
            _turn_away(sock, _NO_ROOM)
            return
        # after the fork: gunicorn imports this module in its master, whose metrics would be nobody's
        from ots_gateway.connection import ClientConnection

        connection = ClientConnection(sock, address, self.wsgi.wsgi_app, self._settings, lambda: not self.alive)
        self._connections.add(connection)
        self._of_address[host] += 1
        self._watch.add(connection)
        try:
            connection.serve()
        finally:
            self._watch.remove(connection)
            self._connections.discard(connection)
            self._of_address[host] -= 1
            if not self._of_address[host]:
                del self._of_address[host]

    def _make_room(self) -> bool:
        """End the connection that has waited longest without a request; False when all are at work."""
        waiting = [connection for connection in self._connections if connection.is_waiting()]
        if not waiting:
            return False
        longest = min(waiting, key=lambda connection: connection.since)
        longest.shed()
        self._connections.discard(longest)
        return True


def _turn_away(sock: Any, answer: bytes) -> None:
    from ots_gateway.metrics import count_refusal  # after the fork, as above

    count_refusal("connections")
    try:
        sock.settimeout(0)
        sock.send(answer)
    except OSError:
        pass  # it need not be told
    finally:
        sock.close()
