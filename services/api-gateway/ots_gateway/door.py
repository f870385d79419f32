"""What the gateway's own views get of a request that the front let in, and what their answers leave with."""

from __future__ import annotations

from flask import Flask, Response, g, request

from ots_common.database import Database
from ots_common.problems import Problem
from ots_common.tokens import Caller
from ots_gateway import audit
from ots_gateway.access import GATEWAY
from ots_gateway.front import ASKED, Asked
from ots_gateway.identity import User


def install(app: Flask, database: Database) -> None:
    """Let ``app`` answer only what the front let in."""

    @app.before_request
    def _take_over() -> None:
        g.user = None
        asked: Asked | None = request.environ.get(ASKED)
        if asked is None or asked.route is None:
            raise Problem(500, "internal-error", "this request did not pass the front")
        g.metrics_route = asked.route.pattern
        request.max_content_length = asked.route.body_limit
        if asked.user is not None:
            remember(asked.user)

    @app.after_request
    def _audit(response: Response) -> Response:
        event = audit.event_of(request.method, request.path, response.status_code, forwarded=False)
        if event:
            audit.record(database, request, g.get("request_id", "none"), g.get("user"), response.status_code, event)
        response.headers.setdefault("X-Frame-Options", "DENY")
        response.headers.setdefault("Referrer-Policy", "no-referrer")
        response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        return response


def remember(user: User) -> None:
    """Whom the logs and the audit are told about from here on in this request."""
    g.user = user
    g.caller = Caller(GATEWAY, user.user_id, user.username, user.role.label, g.request_id)
