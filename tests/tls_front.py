"""TLS in front of a server without any, as PostgreSQL and Redis of the wheels are; its certificate is of a test CA."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ots_simulator.tls import ensure_certificate

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)


@dataclass
class TlsFront:
    """Listens everywhere as ``localhost``. ``ca``: who signed its certificate; ``secured``: how many came by TLS."""

    port: int
    ca: Path
    secured: int = 0
    refused: list[str] = field(default_factory=list)


@contextmanager
def tls_front(folder: Path, target: int, *, postgres: bool = False) -> Iterator[TlsFront]:
    """``postgres``: the client asks for TLS by PostgreSQL's own SSLRequest first, and gets no connection without."""
    certificate, key = ensure_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("0.0.0.0", 0))
    front = TlsFront(listener.getsockname()[1], folder / "ca.pem")

    def serve(plain: socket.socket) -> None:
        with plain:
            try:
                if postgres:
                    if plain.recv(8, socket.MSG_WAITALL) != _SSL_REQUEST:
                        front.refused.append("no TLS was asked for")
                        return
                    plain.sendall(b"S")
                secured = context.wrap_socket(plain, server_side=True)
            except OSError as error:
                front.refused.append(str(error))
                return
            front.secured += 1
            with secured, socket.create_connection(("127.0.0.1", target)) as server:
                _relay(secured, server)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield front
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _relay(client: ssl.SSLSocket, server: socket.socket) -> None:
    def pass_on(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (client, server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    back = threading.Thread(target=pass_on, args=(server, client), daemon=True)
    back.start()
    pass_on(client, server)
    back.join()
