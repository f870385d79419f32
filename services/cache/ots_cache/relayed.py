"""Answers of other services, kept: from Redis while they are true, asked of the service else, and the same in both."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from flask import Response, json, request

from ots_cache.other_services import OtherService, Told
from ots_common.problems import Problem
from ots_common.shared_cache import Made, SharedCache

# what of an answer is the answer's, not of one request or one connection
_KEPT_HEADERS = ("etag", "cache-control", "vary", "link", "x-ots-about", "content-disposition")


class _NotKept(Exception):
    """The service answered with something else than 200."""

    def __init__(self, told: Told) -> None:
        super().__init__(str(told.status))
        self.told = told


def relay(
    cache: SharedCache,
    kind: str,
    parts: Sequence[str],
    service: OtherService,
    target: str,
    *,
    ttl_s: float,
    tags: Sequence[str] = (),
) -> Response:
    """The answer of ``service`` to GET ``target`` in the format that this request accepts.

    An error of the service is answered as it is, and not kept. Raises a 503 or 504 problem when it does not answer.
    """
    accept = request.headers.get("Accept", "*/*")
    ask: Callable[[], Told] = lambda: service.get(target, {"Accept": accept})  # noqa: E731

    def made() -> Made:
        told = ask()
        if told.status != 200:
            raise _NotKept(told)
        kept = {name.title(): told.headers[name] for name in _KEPT_HEADERS if name in told.headers}
        return Made(told.body, told.headers.get("content-type", ""), kept)

    digest = hashlib.blake2b(f"{target} {accept}".encode(), digest_size=16).hexdigest()
    try:
        cached = cache.get_or_make(
            kind,
            [*parts, digest],
            made,
            ttl_s=ttl_s,
            tags=tags,
            gzip=request.method != "HEAD" and request.accept_encodings["gzip"] > 0,
        )
    except _NotKept as refusal:
        return _refused(refusal.told)
    response = Response(cached.body, content_type=cached.media_type, headers=dict(cached.headers))
    if cached.gzipped:
        response.headers["Content-Encoding"] = "gzip"
    response.vary.update(("Accept", "Accept-Encoding"))
    response.headers.add("Server-Timing", f"cache;desc={'hit' if cached.hit else 'miss'}")
    return response


def _refused(told: Told) -> Response:
    """A problem of the service, under the address that was asked here."""
    if told.status == 401:  # it is the cache that it does not let in, not the user
        raise Problem(502, "upstream-refused", "the service that has the answer does not know the cache")
    body = told.body
    if told.headers.get("content-type", "").startswith("application/problem+json"):
        body = json.dumps({**json.loads(body), "instance": request.path}).encode()
    headers = {"Retry-After": told.headers["retry-after"]} if "retry-after" in told.headers else {}
    return Response(body, told.status, headers, content_type=told.headers.get("content-type"))
