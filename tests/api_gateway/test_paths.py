"""Paths that two parsers could read in two ways, over raw sockets: none reaches a service."""

import socket

import pytest

from ots_gateway.access import Role

TRICKS = [
    "/api/v1/data/runs/../../cache/analytics/k",
    "/api/v1/data/runs/%2e%2e/x",
    "/api/v1/data/runs/%2E%2E",
    "/api/v1/data/bars/..",
    "/api/v1/data/bars/A%2FB",
    "/api/v1/data/bars/A%5CB",
    "/api/v1/data/bars/A\\B",
    "/api/v1/data/bars/A%00",
    "/api/v1/data/bars/A%0d%0aX-Role:%20admin",
    "/api/v1/data/bars/%252e%252e",
    "/api/v1/data/bars/%ff",
    "/api/v1/data/bars/A%",
    "/api/v1/data/bars/A%zz",
    "http://127.0.0.1/api/v1/data/runs",
    "*",
    "//api/v1/data/runs",
    "/api/v1//data/runs",
    "/api/v1/data/bars//",
    "/api/v1/data/runs;/x",
]


def raw(gateway, request: bytes) -> bytes:
    with socket.create_connection(gateway.address, timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return answer


@pytest.mark.parametrize("target", TRICKS)
def test_trick(gateway, target):
    token = gateway.token(Role.ADMIN)
    request = f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    answer = raw(gateway, request.encode("latin-1"))
    assert answer.split(b" ")[1] in (b"400", b"404"), answer[:300]
    assert b"X-From-Upstream" not in answer


def test_no_host(gateway):
    answer = raw(gateway, b"GET /health/live HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert answer.split(b" ")[1] == b"400"


@pytest.mark.parametrize(
    "smuggled",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Content-Length: -1\r\n",
    ],
)
def test_smuggling(gateway, smuggled):
    token = gateway.token(Role.TRADER).encode()
    head = b"POST /api/v1/cache/analytics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + token
    answer = raw(gateway, head + b"\r\n" + smuggled + b"\r\n0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n")
    assert answer.split(b" ")[1] in (b"400", b"501"), answer[:300]
    assert b"X-From-Upstream" not in answer


def test_an_encoded_space_is_a_symbols_own(gateway):
    answer = gateway.ask("GET", "/api/v1/data/bars/GOOG%20%20151224C00750000?a=%2F..", Role.VIEWER)
    assert answer.json()["path"] == "/api/v1/data/bars/GOOG%20%20151224C00750000?a=%2F.."
