"""What every request passes, in this order: one way to write a path, the table, the token, the role, the forwarding."""

from __future__ import annotations

import hmac

from flask import Flask, Response, g, request
from werkzeug.exceptions import NotFound

from ots_common.database import Database
from ots_common.problems import Problem
from ots_common.tokens import Caller
from ots_gateway import audit
from ots_gateway.access import GATEWAY, Role, Route, routes_at
from ots_gateway.canonical import canonical_segments
from ots_gateway.proxy import Proxy
from ots_gateway.settings import GatewaySettings
from ots_gateway.user_tokens import InvalidTokenError, TokenAuthority, User

_SIGN_IN = 'eval "$(./start-dev.sh token)"  # then: curl -H "Authorization: Bearer $TOKEN" ...'


def install(app: Flask, settings: GatewaySettings, authority: TokenAuthority, proxy: Proxy, database: Database) -> None:
    """Guard ``app``: whatever is not in the table does not exist."""

    @app.before_request
    def _guard() -> Response | None:
        g.user = None
        g.forwarded = False
        if not request.headers.get("Host"):
            raise Problem(400, "host", "the Host header is missing")
        segments = canonical_segments(
            request.environ.get("RAW_URI") or request.environ.get("REQUEST_URI") or request.path
        )
        routes = routes_at(segments)
        if not routes:
            raise NotFound
        route = routes.get(request.method)
        if route is None:
            raise Problem(
                405,
                "method-not-allowed",
                f"{request.method[:16]} is not possible here",
                headers={"Allow": ", ".join(sorted(routes))},
            )
        g.metrics_route = route.pattern
        if route.pattern == "/metrics":
            _admit_scraper(settings, authority)
        elif route.role is not None:
            _admit(authority, route.role)
        if route.service == GATEWAY:
            request.max_content_length = route.body_limit
            return None
        return _forward(proxy, route, segments)

    @app.after_request
    def _audit(response: Response) -> Response:
        event = audit.event_of(request.method, request.path, response.status_code, forwarded=g.get("forwarded", False))
        if event:
            audit.record(database, request, g.get("request_id", "none"), g.get("user"), response.status_code, event)
        response.headers.setdefault("X-Frame-Options", "DENY")
        response.headers.setdefault("Referrer-Policy", "no-referrer")
        response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        return response


def _forward(proxy: Proxy, route: Route, segments: tuple[str, ...]) -> Response:
    caller: Caller | None = g.get("caller")
    if caller is None:
        raise AssertionError(f"{route.pattern} is forwarded without a role")
    g.forwarded = True
    return proxy.forward(request, route, segments, caller, g.traceparent)


def remember(user: User) -> None:
    """Whom the logs, the audit and the services are told about from here on in this request."""
    g.user = user
    g.caller = Caller(GATEWAY, user.user_id, user.username, user.role.label, g.request_id)


def _admit(authority: TokenAuthority, needed: Role) -> None:
    user = _bearer(authority)
    remember(user)
    if user.role < needed:
        raise Problem(
            403,
            "role",
            f"this needs the role {needed.label}; the token has {user.role.label}",
            hint=f'eval "$(./start-dev.sh token --role {needed.label})"',
        )


def _admit_scraper(settings: GatewaySettings, authority: TokenAuthority) -> None:
    expected = f"Bearer {settings.metrics_token.get_secret_value()}"
    if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), expected.encode()):
        _admit(authority, Role.OPERATOR)


def _bearer(authority: TokenAuthority) -> User:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise _unauthenticated("an access token is needed: Authorization: Bearer TOKEN", "")
    try:
        return authority.verify(token.strip())
    except InvalidTokenError as error:
        raise _unauthenticated(str(error), ' error="invalid_token"') from error


def _unauthenticated(detail: str, more: str) -> Problem:
    return Problem(
        401, "not-authenticated", detail, hint=_SIGN_IN, headers={"WWW-Authenticate": f'Bearer realm="ai-ots"{more}'}
    )
