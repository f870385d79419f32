"""A stream that has ended belongs to nobody: whoever read it cannot end what its connection does next."""

from __future__ import annotations

import base64
import socket
import threading

from ots_gateway.deadlines import Watch
from ots_gateway.settings import GatewaySettings
from ots_gateway.upstream import SMALL_BYTES, Connection, Question, Upstream

HEAD = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"


class Reader:
    """A client that notes what works for it."""

    def __init__(self) -> None:
        self.working: Connection | None = None

    def waits_for(self, connection: Connection | None) -> None:
        self.working = connection


def _serve(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        while connection.recv(65536):
            body = bytes(2 * SMALL_BYTES)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def test_whoever_read_a_stream_to_its_end_has_no_hold_on_its_connection():
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_serve, args=(listener,), daemon=True).start()
    settings = GatewaySettings(
        database_url="postgresql://nowhere/x",
        upstreams={},
        jwt_signing_key=base64.urlsafe_b64encode(bytes(32)).decode(),
        metrics_token="0" * 32,
    )
    upstream = Upstream("tables", f"http://127.0.0.1:{listener.getsockname()[1]}", settings, Watch())
    first, second = Reader(), Reader()
    served = []
    for reader in (first, second):
        answer = upstream.ask(Question("GET", HEAD, None, 5.0), reader)
        assert answer.stream is not None
        served.append(reader.working)
        assert reader.working is not None
        assert len(b"".join(answer.stream)) == 2 * SMALL_BYTES
        answer.stream.close()
    assert served[0] is served[1], "the connection was used again"
    assert first.working is None
    assert second.working is None
    listener.close()
