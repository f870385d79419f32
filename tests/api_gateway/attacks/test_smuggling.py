"""Two readers of one stream of bytes: no framing that another server might read in another way is taken."""

import pytest

from ots_gateway.access import Role
from raw_http import ask, exchange, first_answer

SMUGGLED = b"GET /api/v1/users HTTP/1.1\r\nHost: x\r\n\r\n"
FRAMINGS = {
    "CL.TE": b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    "TE.CL": b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n1\r\nZ\r\n0\r\n\r\n",
    "TE.TE identity": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "TE.TE twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE x": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "TE list": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "TE quoted": b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "TE vertical tab": b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "TE space before colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "TE folded": b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "TE bare line feed": b"X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "CL twice": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "CL twice the same": b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "CL list": b"Content-Length: 5, 5\r\n\r\nhello",
    "CL plus": b"Content-Length: +5\r\n\r\nhello",
    "CL minus": b"Content-Length: -5\r\n\r\nhello",
    "CL hex": b"Content-Length: 0x5\r\n\r\nhello",
    "CL huge": b"Content-Length: 99999999999999999999999\r\n\r\nhello",
    "CL space": b"Content-Length: 5 5\r\n\r\nhello",
    "CL space before colon": b"Content-Length : 5\r\n\r\nhello",
    "CL folded": b"Content-Length: 5\r\n 6\r\n\r\nhello",
    "folded": b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "bare line feed": b"X: a\nY: b\r\nContent-Length: 0\r\n\r\n",
    "bare carriage return": b"X: a\rY: b\r\nContent-Length: 0\r\n\r\n",
    "NUL": b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    "NUL in a name": b"X\0: a\r\nContent-Length: 0\r\n\r\n",
    "no name": b": a\r\nContent-Length: 0\r\n\r\n",
}
CHUNKS = {
    "overflow": b"ffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "wraps to 5": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
    "sign": b"-5\r\nhello\r\n0\r\n\r\n",
    "space": b"5 \r\nhello\r\n0\r\n\r\n",
    "line feed": b"5\nhello\r\n0\r\n\r\n",
    "longer than said": b"5\r\nhelloWORLD\r\n0\r\n\r\n",
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "line feed in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
}


def post(gateway, rest, more=b""):
    token = gateway.token(Role.TRADER).encode()
    return (
        b"POST /api/v1/cache/analytics HTTP/1.1\r\nHost: x\r\n"
        + more
        + b"Content-Type: application/json\r\nAuthorization: Bearer "
        + token
        + b"\r\n"
        + rest
    )


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
def test_framing(gateway, framing):
    answer = ask(gateway.address, post(gateway, framing + SMUGGLED))
    assert answer.status in (400, 501), answer
    assert answer.headers["connection"] == "close"
    assert "x-from-upstream" not in answer.headers
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
def test_chunks(gateway, chunks):
    answer = ask(gateway.address, post(gateway, b"Transfer-Encoding: chunked\r\n\r\n" + chunks + SMUGGLED))
    assert answer.status == 400, answer
    assert answer.headers["connection"] == "close"


def test_an_extension_of_a_chunk_and_a_trailer_do_not_go_on(gateway):
    chunks = b"5;evil=1\r\nhello\r\n0\r\nX-OTS-Internal: mine\r\nX-Evil: 1\r\n\r\n"
    request = post(gateway, b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks)
    answer = first_answer(exchange(gateway.address, request))
    assert answer.status == 200
    seen = answer.json()
    assert seen["size"] == 5
    assert "x-evil" not in seen["headers"]
    gateway.caller_of(seen, "cache")


def test_extensions_without_end_are_not_read_for_ever(gateway):
    chunks = b"1;" + b"x" * 200_000 + b"\r\na\r\n0\r\n\r\n"
    answer = ask(gateway.address, post(gateway, b"Transfer-Encoding: chunked\r\n\r\n" + chunks))
    assert answer.status == 400


def test_what_follows_a_chunked_body_is_no_part_of_it(gateway):
    request = post(gateway, b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + SMUGGLED)
    answer = ask(gateway.address, request)  # asserts that there is one answer
    assert (answer.status, answer.json()["size"]) == (200, 5)


def test_pipelined_requests_are_answered_in_turn_each_for_itself(gateway):
    good = post(gateway, b"Content-Length: 5\r\n\r\nhello")
    answer = first_answer(exchange(gateway.address, good + SMUGGLED[:-2] + b"Connection: close\r\n\r\n"))
    assert answer.status == 200
    # the second has no token of its own, and the first one's is not lent to it
    assert first_answer(answer.rest).status == 401


@pytest.mark.parametrize(
    "version", [b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/3.0", b"HTTP/1.10", b"HTTPS/1.1", b""]
)
def test_version(gateway, version):
    line = b"GET /health/live " + version if version else b"GET /health/live"
    assert ask(gateway.address, line + b"\r\nHost: x\r\n\r\n").status in (400, 505)


def test_chunked_in_http_1_0(gateway):
    request = post(gateway, b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n").replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    assert ask(gateway.address, request).status == 400


def test_an_upgrade_is_not_made(gateway):
    """h2c smuggling: the bytes behind an upgrade would go round the table of routes."""
    upgrade = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    answer = ask(gateway.address, upgrade + b"HTTP2-Settings: AAMAAABk\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert answer.status == 200
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("field", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
def test_an_upgrade_with_a_body(gateway, field):
    request = (
        b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n" + field + b"\r\n\r\nhello"
    )
    assert ask(gateway.address, request).status == 400
