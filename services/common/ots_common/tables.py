"""A table as an answer: JSON by default, CSV when the client asks for it, the same values in both."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

from flask import Response, json, request

CSV = "text/csv"


def wants_csv() -> bool:
    """True when the request's Accept header prefers ``text/csv`` to JSON."""
    accepted = request.accept_mimetypes
    return accepted.best_match(["application/json", CSV], default="application/json") == CSV


def table_response(
    name: str, rows: Sequence[dict[str, Any]], columns: Sequence[str], about: dict[str, Any], cursor: str | None
) -> Response:
    """``rows`` under ``name`` with ``about`` around them and ``next``, a relative URL, when there is more.

    As CSV the rows alone; then ``about`` goes into ``X-OTS-About`` (JSON) and the next page into ``Link``.
    """
    following = next_url(cursor) if cursor else None
    if not wants_csv():
        body = {**about, name: list(rows), "next": following}
        response = Response(json.dumps(body), mimetype="application/json")
    else:
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(rows)
        response = Response(text.getvalue(), content_type=f"{CSV}; charset=utf-8; header=present")
        response.headers["X-OTS-About"] = json.dumps(about)
    if following:
        response.headers["Link"] = f'<{following}>; rel="next"'
    response.vary.add("Accept")
    return response


def next_url(cursor: str) -> str:
    """This request's own URL (path and query) with ``cursor`` in it."""
    arguments = [(k, v) for k, v in request.args.items(multi=True) if k != "cursor"]
    return f"{quote(request.path)}?{urlencode([*arguments, ('cursor', cursor)])}"
