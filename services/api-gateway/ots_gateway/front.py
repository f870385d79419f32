"""What every request passes, in this order: host, one way to write a path, the table, the credential, role and scope,
the rate limit, the Idempotency-Key; then it goes on to its service without Flask, or to a view of the gateway's own.

A WSGI application around Flask's: Flask's own path costs as much as all of this together.
"""

from __future__ import annotations

import hmac
import itertools
import json
import re
import secrets
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

import structlog
from flask import Request

from ots_common import logs, traces
from ots_common.database import Database
from ots_common.metrics import METHODS, request_series
from ots_common.problems import Problem
from ots_gateway import audit
from ots_gateway.access import GATEWAY, Role, Route, routes_at
from ots_gateway.access_log import AccessLog
from ots_gateway.authentication import Authenticator
from ots_gateway.canonical import canonical_segments, encode_segments
from ots_gateway.clients import Clients, neighbourhood
from ots_gateway.idempotency import KEPT_BYTES, Claim, Fingerprint, IdempotencyKeys, Replay, check
from ots_gateway.identity import InvalidTokenError, User
from ots_gateway.kept_answers import KeptAnswers
from ots_gateway.limits import PER_ADDRESS, Limiter, Verdict
from ots_gateway.metrics import CLIENTS_LEFT, Refusal, count_auth_failure, count_refusal
from ots_gateway.proxy import Proxy, Sender, returned_fields
from ots_gateway.settings import GatewaySettings
from ots_gateway.upstream import Answer, BrokenBodyError, ClientLeftError, Stream

log = structlog.get_logger(__name__)
performance_log = structlog.get_logger("performance")

_SIGN_IN = 'eval "$(./start-dev.sh token)"  # then: curl -H "Authorization: Bearer $TOKEN" ...'
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,128}")
_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
ASKED = "ots.asked"
# the kinds of problems that are refusals, as they are counted
_REFUSALS: dict[str, Refusal] = {
    "host": "host", "path": "path", "not-found": "policy", "method-not-allowed": "method",
    "not-authenticated": "credential", "role": "role", "scope": "scope", "rate-limit": "limit", "body": "malformed",
    "too-slow": "slow", "too-large": "size", "idempotency-in-progress": "idempotency",
    "idempotency-key-reused": "idempotency", "idempotency-too-large": "idempotency",
}  # fmt: skip

StartResponse = Callable[..., Any]
Fields = list[tuple[str, str]]


class Asked:
    """One request as it passes: what is known of it so far."""

    __slots__ = (
        "address", "environ", "forwarded", "ids", "method", "request_id", "route", "started", "traceparent", "user",
        "verdict",
    )  # fmt: skip

    def __init__(self, environ: dict[str, Any], address: str) -> None:
        self.started = time.perf_counter()
        self.environ = environ
        self.method: str = environ["REQUEST_METHOD"]
        self.address = address
        offered = environ.get("HTTP_X_REQUEST_ID")
        # one draw for both: who has the request's id has the beginning of the trace's
        drawn = secrets.token_hex(24)
        self.request_id: str = offered if offered and _REQUEST_ID.fullmatch(offered) else drawn[:24]
        trace = traces.valid_traceparent(environ.get("HTTP_TRACEPARENT")) or traces.new_traceparent(drawn)
        self.traceparent = trace
        self.ids = logs.bind_request(self.request_id, trace[3:35], trace[36:52] if traces.is_on() else None)
        self.route: Route | None = None
        self.user: User | None = None
        self.verdict: Verdict | None = None
        self.forwarded = False

    @property
    def path(self) -> str:
        """As a person reads it."""
        return unquote_to_bytes(raw_target(self.environ).partition("?")[0]).decode("utf-8", "replace")


class Front:
    """The WSGI application: guards all, answers for the services itself, leaves the gateway's own views to ``app``."""

    def __init__(
        self,
        app: Callable[[dict[str, Any], StartResponse], Iterable[bytes]],
        settings: GatewaySettings,
        authenticator: Authenticator,
        proxy: Proxy,
        database: Database,
    ) -> None:
        self._app = app
        self._authenticator = authenticator
        self._proxy = proxy
        self._kept = KeptAnswers(proxy, settings.kept_answers_bytes)
        self._database = database
        self._clients = Clients(settings)
        self._limiter = Limiter(settings)
        self._keys = IdempotencyKeys(database, settings)
        self._scraper = f"Bearer {settings.metrics_token.get_secret_value()}".encode()
        self._log = AccessLog()
        self._slow_s = settings.slow_request_ms / 1000
        self._always: Fields = [
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "no-referrer"),
            ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
        ]
        self._secure: Fields = []
        if settings.hsts_s:
            self._secure = [("Strict-Transport-Security", f"max-age={settings.hsts_s}; includeSubDomains")]

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        environ["REMOTE_ADDR"] = address = self._clients.address(environ)
        asked = Asked(environ, address)
        try:
            route, segments = self._admit(asked)
            if route.service == GATEWAY:
                return self._own_view(asked, start_response)
            asked.forwarded = True
            status, fields, body = self._forward(asked, route, segments)
        except Problem as problem:
            status, fields, body = self._told(asked, problem)
        except ClientLeftError:
            CLIENTS_LEFT.inc()
            status, fields, body = 499, [], b""
        except Exception as error:
            log.exception("unhandled_error", error=repr(error))
            hidden = Problem(500, "internal-error", "something went wrong here; the log has it under this request_id")
            status, fields, body = self._told(asked, hidden)
        return self._answer(asked, status, fields, body, start_response)

    def _admit(self, asked: Asked) -> tuple[Route, tuple[str, ...]]:
        """The route that ``asked`` may take. Raises a problem: 400, 401, 403, 404, 405 or 429."""
        environ = asked.environ
        self._clients.check_host(environ)
        segments, routes = _resolve(raw_target(environ))
        if not routes:
            raise Problem(404, "not-found", f"there is nothing at {asked.path}")
        route = routes.get(asked.method)
        if route is None:
            raise self._no_such_method(asked, routes)
        asked.route = route
        if route.role is not None:
            self._authenticate(asked, route)
        elif route.pattern == "/metrics" and not self._is_scraper(environ):
            self._authenticate(asked, _METRICS)
        verdict = asked.verdict = self._limiter.spend(
            route.bucket,
            neighbourhood(asked.address) if route.bucket in PER_ADDRESS or asked.user is None else asked.user.user_id,
            route.cost,
        )
        if verdict is not None and verdict.retry_after_s:
            raise self._limiter.refusal(verdict)
        return route, segments

    def _no_such_method(self, asked: Asked, routes: dict[str, Route]) -> Problem:
        allowed = self._clients.preflight(asked.environ, sorted(routes))
        if allowed is not None:
            return _Preflight(allowed)
        return Problem(
            405,
            "method-not-allowed",
            f"{asked.method[:16]} is not possible here",
            headers={"Allow": ", ".join(sorted(routes))},
        )

    def _authenticate(self, asked: Asked, route: Route) -> None:
        environ = asked.environ
        authorization = environ.get("HTTP_AUTHORIZATION")
        key = environ.get("HTTP_X_API_KEY")
        try:
            user = self._authenticator.authenticate(authorization, key)
        except InvalidTokenError as error:
            count_auth_failure(error.why)
            raise _unauthenticated(str(error), offered=bool(authorization or key)) from error
        asked.user = user
        if route.role is None or user.role < route.role:
            needed = route.role.label if route.role else "none"
            raise Problem(
                403,
                "role",
                f"this needs the role {needed}; the {user.credential} has {user.role.label}",
                hint=f'eval "$(./start-dev.sh token --role {needed})"',
            )
        if user.scopes is not None and route.scope not in user.scopes:
            raise Problem(403, "scope", f"this needs the scope {route.scope}, which the {user.credential} lacks")

    def _is_scraper(self, environ: dict[str, Any]) -> bool:
        return hmac.compare_digest(environ.get("HTTP_AUTHORIZATION", "").encode(), self._scraper)

    def _forward(
        self, asked: Asked, route: Route, segments: tuple[str, ...]
    ) -> tuple[int, Fields, bytes | Iterable[bytes]]:
        environ = asked.environ
        query = environ.get("QUERY_STRING")
        target = encode_path(segments)
        if query:
            target = f"{target}?{query}"
        if route.idempotent and "HTTP_IDEMPOTENCY_KEY" in environ:
            return self._once(asked, route, target)
        return _shape(self._kept.forward(environ, route, target, self._sender(asked)))

    def _once(self, asked: Asked, route: Route, target: str) -> tuple[int, Fields, bytes | Iterable[bytes]]:
        environ, sender = asked.environ, self._sender(asked)
        # the answer is kept for whoever asks again, who may not take what this client takes
        environ.pop("HTTP_ACCEPT_ENCODING", None)
        told = self._keys.claim(sender.user.user_id, environ["HTTP_IDEMPOTENCY_KEY"], f"{asked.method} {target}")
        body = environ["wsgi.input"] = Fingerprint(environ["wsgi.input"], environ.get("CONTENT_TYPE", ""))
        if isinstance(told, Replay):
            limit = int(environ.get("CONTENT_LENGTH") or 0)
            if limit > route.body_limit:
                raise Problem(413, "too-large", f"the body is larger than the {route.body_limit} bytes allowed here")
            check(told, body.finish())
            return told.status, [*told.headers, ("Idempotent-Replayed", "true")], told.body or b""
        try:
            answer = self._proxy.forward(environ, route, target, sender)
            status, fields, whole, sent = _collect(answer)
        except BaseException:
            self._keys.release(told)
            raise
        self._settle(told, body, status, fields, whole)
        return status, fields, sent

    def _settle(self, claim: Claim, body: Fingerprint, status: int, fields: Fields, whole: bytes | None) -> None:
        if status >= 500:
            self._keys.release(claim)
            return
        try:
            fingerprint = body.finish()
        except BrokenBodyError:
            # the service answered before it had read all, and the client never sent it: nothing to compare with
            self._keys.release(claim)
            return
        kept = [(name, value) for name, value in fields if name.lower() != "server-timing"]
        self._keys.keep(claim, fingerprint, status, kept, whole)

    def _sender(self, asked: Asked) -> Sender:
        if asked.user is None:
            raise AssertionError(f"{asked.path} is forwarded for nobody")
        return Sender(asked.user, asked.request_id, asked.traceparent)

    def _told(self, asked: Asked, problem: Problem) -> tuple[int, Fields, bytes]:
        if isinstance(problem, _Preflight):
            return 204, list(problem.headers.items()), b""
        if asked.user is None and asked.verdict is None and 400 <= problem.status < 500:
            # whoever is not let in may not ask for ever either
            verdict = self._limiter.spend("stranger", neighbourhood(asked.address), 1)
            if verdict is not None and verdict.retry_after_s:
                problem = self._limiter.refusal(verdict)
        if (why := _REFUSALS.get(problem.kind)) is not None:
            count_refusal(why)
        fields = [("Content-Type", "application/problem+json"), *problem.headers.items()]
        body = json.dumps(problem.body(asked.path, asked.request_id), separators=(",", ":")).encode()
        return problem.status, fields, body

    def _answer(
        self,
        asked: Asked,
        status: int,
        fields: Fields,
        body: bytes | Iterable[bytes],
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        seconds = time.perf_counter() - asked.started
        fields += self._always
        fields.append(("X-Request-ID", asked.request_id))
        fields.append(("Server-Timing", f"gateway;dur={seconds * 1000:.1f}"))
        if not any(name == "Cache-Control" or name == "cache-control" for name, _ in fields):
            fields.append(("Cache-Control", "no-store"))
        self._add_ours(asked, fields)
        self._record(asked, status, seconds, fields)
        start_response(_STATUS_LINES.get(status) or f"{status} Status", fields)
        if isinstance(body, bytes):
            return [body]
        return body

    def _add_ours(self, asked: Asked, fields: Fields) -> None:
        verdict = asked.verdict
        if verdict is not None and not verdict.retry_after_s:
            fields += self._limiter.headers(verdict)
        fields += self._secure
        fields += self._clients.cors(asked.environ)

    def _record(self, asked: Asked, status: int, seconds: float, fields: Fields) -> None:
        route = asked.route.pattern if asked.route else "none"
        method = asked.method if asked.method in METHODS else "other"
        counter, histogram = request_series(GATEWAY, method, route, status)
        counter.inc()
        histogram.observe(seconds)
        user = asked.user
        path = raw_target(asked.environ).partition("?")[0]
        self._log.write(asked.method, path, status, seconds, user.username if user else None, asked.address, asked.ids)
        if seconds >= self._slow_s:
            _tell_slow(asked, route, path, status, seconds, fields)
        traces.name_request(asked.method, route, status, asked.request_id)
        asks = asked.route.only_computes if asked.route else asked.method == "GET"
        if asks and status not in (401, 403):
            return
        event = audit.event_of(asked.method, asked.path, status, forwarded=asked.forwarded)
        if event:
            asked.environ["PATH_INFO"] = asked.path.encode().decode("latin-1")
            audit.record(self._database, Request(asked.environ), asked.request_id, user, status, event)

    def _own_view(self, asked: Asked, start_response: StartResponse) -> Iterable[bytes]:
        asked.environ["HTTP_X_REQUEST_ID"] = asked.request_id
        asked.environ["HTTP_TRACEPARENT"] = asked.traceparent
        asked.environ[ASKED] = asked

        def start(status: str, fields: Fields, *more: Any) -> Any:
            self._add_ours(asked, fields)
            return start_response(status, fields, *more)

        return self._app(asked.environ, start)


class _Preflight(Problem):
    """An answer to a CORS preflight request: nothing is wrong with it, but it ends here."""

    def __init__(self, fields: Fields) -> None:
        super().__init__(204, "preflight", "", headers=dict(fields))


def raw_target(environ: dict[str, Any]) -> str:
    """The request target as it came."""
    return str(environ.get("RAW_URI") or environ.get("REQUEST_URI") or environ.get("PATH_INFO", ""))


def encode_path(segments: tuple[str, ...]) -> str:
    """The path of ``segments``, written in the one way."""
    return _encoded(segments) if sum(map(len, segments)) < _REMEMBERED_CHARACTERS else encode_segments(segments)


# whoever reads /metrics without METRICS_TOKEN
_METRICS = Route("GET", "/metrics", GATEWAY, Role.OPERATOR, "control")
_REMEMBERED_CHARACTERS = 256
_encoded = lru_cache(maxsize=4096)(encode_segments)


@lru_cache(maxsize=4096)
def _resolved(path: str) -> tuple[tuple[str, ...], dict[str, Route]]:
    segments = canonical_segments(path)
    return segments, routes_at(segments)


def _resolve(target: str) -> tuple[tuple[str, ...], dict[str, Route]]:
    path = target.partition("?")[0]
    return _resolved(path) if len(path) < _REMEMBERED_CHARACTERS else _resolved.__wrapped__(path)


def _tell_slow(asked: Asked, route: str, path: str, status: int, seconds: float, fields: Fields) -> None:
    """What a long request waited for: its service's own account of its time, as it came in ``Server-Timing``."""
    timings = [value for name, value in fields if name.lower() == "server-timing"]
    performance_log.warning(
        "slow_request", method=asked.method, route=route, path=path, status=status, ms=round(seconds * 1000, 2),
        service_timing=timings[:-1],
    )  # fmt: skip


def _shape(answer: Answer) -> tuple[int, Fields, bytes | Stream]:
    fields = returned_fields(answer)
    if answer.length is not None and answer.status != 204:
        fields.append(("Content-Length", str(answer.length)))
    return answer.status, fields, answer.body if answer.stream is None else answer.stream


def _collect(answer: Answer) -> tuple[int, Fields, bytes | None, bytes | Iterable[bytes]]:
    """Status, fields, the whole body if it is small enough to keep, and what to send."""
    status, fields, body = _shape(answer)
    if isinstance(body, bytes):
        return status, fields, body, body
    pieces: list[bytes] = []
    for piece in body:
        pieces.append(piece)
        if sum(map(len, pieces)) > KEPT_BYTES:
            return status, fields, None, _Chain(pieces, body)
    body.close()
    whole = b"".join(pieces)
    return status, fields, whole, whole


class _Chain:
    """What was read of a stream already, then the rest of it."""

    def __init__(self, pieces: list[bytes], stream: Stream) -> None:
        self._stream = stream
        self._pieces = itertools.chain(pieces, stream)

    def __iter__(self) -> itertools.chain[bytes]:
        return self._pieces

    def close(self) -> None:
        """Give the connection back."""
        self._stream.close()


def _unauthenticated(detail: str, *, offered: bool) -> Problem:
    more = ' error="invalid_token"' if offered else ""
    return Problem(
        401, "not-authenticated", detail, hint=_SIGN_IN, headers={"WWW-Authenticate": f'Bearer realm="ai-ots"{more}'}
    )
