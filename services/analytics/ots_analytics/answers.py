"""Whole answers, kept and shared: the same question about the same data is computed once.

The name of an answer is everything that it is a function of: the question (path, query, body, accepted formats), the
version of the data that it may rest on, the code and its settings. So what is kept needs no expiry to be true, only to
make room; and its name is its ETag, compared before anything is computed.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from flask import Response, g, has_app_context, request
from werkzeug.http import quote_etag

from ots_analytics.settings import AnalyticsSettings
from ots_common.conditional import SHARED
from ots_common.database import Database
from ots_common.shared_cache import Made, SharedCache
from ots_common.times import NS_PER_S
from ots_market.versions import data_version

# an answer about now is the answer of its second only
_NOW_TTL_S = 2.0
_CODE = ("ots_analytics", "ots_chains", "ots_quant", "ots_market", "ots_common")
_ANY_JSON = frozenset({"", "*/*", "application/json", "application/json, */*"})
# what belongs to one request, not to its answer
_OWN_HEADERS = frozenset({"content-type", "content-length", "date", "etag", "server-timing", "x-request-id"})


class _NotKept(Exception):
    """An answer that is not to be kept: an error, or one that streams."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


class Answers:
    """Answers of one service over one cache."""

    def __init__(self, settings: AnalyticsSettings, database: Database, cache: SharedCache) -> None:
        self._database = database
        self._cache = cache
        self._ttl_s = settings.answer_ttl_s
        told = settings.model_dump_json()  # secrets are masked in it
        self._maker = hashlib.blake2b(f"{_code_version()} {told}".encode(), digest_size=16).hexdigest()

    def of(
        self,
        until_ns: int,
        make: Callable[[], Response],
        *,
        explicit: bool,
        since_ns: int = 0,
        tags: Sequence[str] = (),
    ) -> Response:
        """The answer of this request, which ``make`` computes from records with event times in [since, until] (ns).

        ``explicit``: the answer is a function of these, whenever it is asked; then it is kept until they change. Else
        it is one about now, and shared by those who ask in the same second. An answer that is not 200, or that
        streams, is not kept, nor what ``make`` raises. ``tags`` name the symbols in it, for invalidation.
        """
        now_ns = time.time_ns()
        stable = explicit and until_ns <= now_ns
        # with its moment: who asks for one that is yet to come is answered for now, and that passes
        stored = data_version(self._database, since_ns=since_ns, until_ns=until_ns) if stable else None
        version = f"{stored} at {until_ns}" if stored else f"second {min(until_ns, now_ns) // NS_PER_S}"
        digest = hashlib.blake2b(f"{_question()} {version} {self._maker}".encode(), digest_size=16).hexdigest()
        known = request.if_none_match
        kind, *path = _kind_and_path()
        if request.method in ("GET", "HEAD") and not known.star_tag and known.contains_weak(digest):
            # whoever keeps it, nothing is computed
            self._cache.count(kind, "hit")
            return _finished(Response(status=304), digest, stable)
        g.data_version, g.stored_version = version, stored
        mine: list[Response] = []

        def made() -> Made:
            response = make()
            mine.append(response)
            if response.status_code != 200 or response.is_streamed:
                raise _NotKept(response)
            kept = {name: value for name, value in response.headers.items() if name.lower() not in _OWN_HEADERS}
            return Made(response.get_data(), response.content_type or "", kept)

        try:
            cached = self._cache.get_or_make(
                kind,
                [*path, digest],
                made,
                ttl_s=self._ttl_s if stable else _NOW_TTL_S,
                tags=tags,
                gzip=_takes_gzip(),
            )
        except _NotKept:
            # a stream can be read once: whoever joined the one that was made makes another
            return mine[0] if mine else make()
        response = Response(cached.body, content_type=cached.media_type, headers=dict(cached.headers))
        if cached.gzipped:
            response.headers["Content-Encoding"] = "gzip"
        response.headers.add("Server-Timing", f"cache;desc={'hit' if cached.hit else 'miss'}")
        return _finished(response, digest, stable)


def version_in_use() -> str | None:
    """The version of the data that the answer being made is kept under; None outside of :meth:`Answers.of`.

    What a process remembers for such an answer must have been read under the same version.
    """
    return g.get("data_version") if has_app_context() else None


def stored_version_in_use() -> str | None:
    """The version of all that is stored of the stretch that the answer being made rests on, whatever its moment.

    None outside of :meth:`Answers.of`, and for an answer about now.
    """
    return g.get("stored_version") if has_app_context() else None


def _finished(response: Response, digest: str, stable: bool) -> Response:
    # weak: the same answer may come compressed or not. One about now is another a second later, whatever its name
    if stable:
        response.headers["ETag"] = quote_etag(digest, weak=True)
        response.headers["Cache-Control"] = "private, no-cache"
        response.headers[SHARED] = "yes"
    response.vary.update(("Accept", "Accept-Encoding"))
    return response


def _question() -> str:
    """Of this request everything that its answer may depend on."""
    accept = request.headers.get("Accept", "").strip().lower()
    asked = sorted(request.args.items(multi=True), key=lambda item: item[0])
    body = hashlib.blake2b(request.get_data(cache=True), digest_size=16).hexdigest() if request.method == "POST" else ""
    return repr((request.path, asked, "" if accept in _ANY_JSON else accept, body))


def _kind_and_path() -> list[str]:
    """The view's name, then the path behind ``/api/v1/analytics/``."""
    view = (request.endpoint or "none").rpartition(".")[2].replace("_", "-")
    return [view, *request.path.split("/")[4:]]


def _takes_gzip() -> bool:
    return request.method != "HEAD" and request.accept_encodings["gzip"] > 0


@lru_cache(maxsize=1)
def _code_version() -> str:
    """A digest of the code that makes answers: an edited service must not serve what it made before."""
    found = hashlib.blake2b(digest_size=16)
    for package in _CODE:
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            for source in sorted(Path(folder).rglob("*.py")):
                found.update(source.read_bytes())
    return found.hexdigest()
