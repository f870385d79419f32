"""The platform's OpenAPI document, and a page that shows it without asking any other server."""

from __future__ import annotations

from importlib.resources import files

from flask import Flask, Response, request

from ots_common.problems import Problem
from ots_gateway.api_document import ApiDocument

_PAGE = files("ots_gateway") / "docs_page"
_ASSETS = {"page.js": "text/javascript", "page.css": "text/css"}
# the page's own files and nothing else, and answers from this server
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FRESH = {"Cache-Control": "no-cache"}


def install(app: Flask, document: ApiDocument) -> None:
    """``/api/v1/openapi.json`` and ``/docs``; not among the operations that they describe in detail."""

    def openapi() -> Response:
        found = document.get()
        response = Response(found.text, mimetype="application/json", headers={"ETag": found.etag, **_FRESH})
        return response.make_conditional(request)  # type: ignore[return-value]

    def page() -> Response:
        text = (_PAGE / "page.html").read_text("utf-8")
        return Response(text, mimetype="text/html", headers={"Content-Security-Policy": _POLICY, **_FRESH})

    def asset(asset: str) -> Response:
        if asset not in _ASSETS:
            raise Problem(404, "not-found", f"there is nothing at {request.path}")
        return Response((_PAGE / asset).read_bytes(), mimetype=_ASSETS[asset], headers=_FRESH)

    app.add_url_rule("/api/v1/openapi.json", "openapi", openapi)
    app.add_url_rule("/docs", "docs", page)
    app.add_url_rule("/docs/<asset>", "docs_asset", asset)
