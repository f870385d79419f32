"""ETags: an answer that the client has already is not sent again (RFC 9110, 13)."""

from __future__ import annotations

import hashlib

from flask import Response, g, request
from werkzeug.http import unquote_etag

from ots_common import __version__

SHARED = "X-OTS-Shared"
"""Marks an answer that is the same for whoever may ask, while its ETag holds; the gateway takes the field off."""
_REVALIDATE = "private, no-cache"


def version_etag(*parts: object) -> str:
    """The weak ETag of an answer to this request that is a function of ``parts`` (say the version of the data behind
    it) and of the program. It differs by ``Accept``, as the answers do.
    """
    named = repr((__version__, request.headers.get("Accept", ""), *map(str, parts)))
    return f'W/"{hashlib.sha256(named.encode()).hexdigest()[:32]}"'


def not_modified(etag: str) -> Response | None:
    """A 304 when the client has the answer of that ``etag``, to be returned before anything is computed.

    Otherwise None, and the answer that the view makes will carry ``etag``.
    """
    g.etag = etag
    if not _has(etag):
        return None
    response = Response(status=304)
    response.vary.add("Accept")
    return response


def validate(response: Response) -> None:
    """Give the answer to a GET its ETag: its own, that of :func:`not_modified`, else one of its body; and make it a 304
    when the client has it. What streams and what is no 200 has only an ETag that it was given.
    """
    if request.method not in ("GET", "HEAD") or response.status_code not in (200, 304):
        return
    if "no-store" in response.headers.get("Cache-Control", ""):
        return
    etag = response.headers.get("ETag") or g.get("etag")
    if etag is None:
        if response.is_streamed or response.direct_passthrough or response.status_code == 304:
            return
        # weak: the same answer may be sent compressed or not
        etag = f'W/"{hashlib.sha256(response.get_data()).hexdigest()[:32]}"'
    response.headers["ETag"] = etag
    response.headers.setdefault("Cache-Control", _REVALIDATE)
    if response.status_code == 200 and _has(etag):
        # a stream that is not read is told so
        close = getattr(response.response, "close", None)
        if close is not None:
            close()
        response.response = []
        response.status_code = 304


def _has(etag: str) -> bool:
    opaque, _ = unquote_etag(etag)
    return request.method in ("GET", "HEAD") and request.if_none_match.contains_weak(opaque)
