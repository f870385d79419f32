"""Errors as RFC 9457 ``application/problem+json``: raised where they are known, shaped here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg2
import structlog
from flask import Flask, Response, g, json, request
from pydantic import ValidationError
from redis.exceptions import RedisError
from werkzeug.exceptions import HTTPException

log = structlog.get_logger(__name__)

TITLES = {
    400: "Bad request",
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    406: "No such format",
    408: "Too slow",
    409: "Conflict",
    411: "Length required",
    413: "Too large",
    414: "Address too long",
    415: "Unsupported media type",
    417: "Expectation failed",
    422: "Not valid",
    429: "Too many requests",
    431: "Head too large",
    500: "Internal error",
    501: "Not implemented",
    502: "Bad answer from a service",
    503: "Not available now",
    504: "A service took too long",
    505: "HTTP version not supported",
    507: "No room",
}


@dataclass(frozen=True)
class FieldError:
    """One wrong field. ``pointer`` says where: ``#/query/limit``, ``#/body/data``, ``#/path/symbol``."""

    pointer: str
    detail: str


class Problem(Exception):
    """An answer other than the one that was asked for.

    ``kind`` ends the problem's ``type`` URI and is stable; ``hint`` is something that works, a curl line where one
    helps.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        hint: str | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.errors = tuple(errors)
        self.hint = hint
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})

    def body(self, instance: str, request_id: str | None) -> dict[str, Any]:
        """The members of the problem as an answer to a request of the path ``instance``."""
        body: dict[str, Any] = {
            "type": f"urn:ai-ots:problem:{self.kind}",
            "title": TITLES.get(self.status, "Error"),
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "request_id": request_id,
        }
        if self.errors:
            body["errors"] = [{"pointer": e.pointer, "detail": e.detail} for e in self.errors]
        if self.hint:
            body["hint"] = self.hint
        body.update(self.extra)
        return body

    def response(self) -> Response:
        """The problem+json response; must be called inside a request."""
        body = json.dumps(self.body(request.path, g.get("request_id")))
        return Response(body, status=self.status, mimetype="application/problem+json", headers=self.headers)


def invalid(pointer: str, detail: str, *, hint: str | None = None) -> Problem:
    """A 422 for one field."""
    return Problem(422, "invalid-input", detail, errors=[FieldError(pointer, detail)], hint=hint)


def _room(field: str) -> str:
    if field in (request.view_args or {}):
        return "path"
    if field in request.args or request.method in ("GET", "HEAD", "DELETE"):
        return "query"
    return "body"


def from_validation(error: ValidationError) -> Problem:
    """A 422 that names every wrong field and what was expected of it."""
    errors = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        location = [str(part) for part in item["loc"]]
        room = _room(location[0] if location else "")
        detail = item["msg"].removeprefix("Value error, ")
        if not location and item["type"] in ("model_type", "model_attributes_type"):
            detail = "must be a JSON object, sent with Content-Type: application/json"
        errors.append(FieldError("#/" + "/".join([room, *location]), detail))
    names = ", ".join(e.pointer.split("/", 2)[-1] for e in errors)
    return Problem(422, "invalid-input", f"not valid: {names}", errors=errors)


def install(app: Flask) -> None:
    """Turn every error that leaves a view, and Flask's own, into problem+json."""

    @app.errorhandler(Problem)
    def _problem(error: Problem) -> Response:
        return error.response()

    @app.errorhandler(ValidationError)
    def _validation(error: ValidationError) -> Response:
        return from_validation(error).response()

    @app.errorhandler(psycopg2.OperationalError)
    def _database(error: psycopg2.OperationalError) -> Response:
        log.warning("database_unavailable", error=str(error).strip())
        return unavailable("the database does not answer").response()

    @app.errorhandler(RedisError)
    def _redis(error: RedisError) -> Response:
        log.warning("redis_unavailable", error=str(error))
        return unavailable("Redis does not answer").response()

    @app.errorhandler(HTTPException)
    def _http(error: HTTPException) -> Response:
        if isinstance(error.response, Response):
            return error.response  # flask-openapi3 aborts with the problem it was given
        status = error.code or 500
        headers = {}
        if status == 405:
            headers["Allow"] = ", ".join(sorted(getattr(error, "valid_methods", None) or []))
        if status == 404:
            detail = f"there is nothing at {request.path}"
        else:
            detail = error.description or TITLES.get(status, "error")
        kind = TITLES.get(status, "error").lower().replace(" ", "-")
        return Problem(status, kind, detail, headers=headers).response()

    @app.errorhandler(Exception)
    def _unexpected(error: Exception) -> Response:
        log.exception("unhandled_error", error=repr(error))
        return Problem(
            500, "internal-error", "something went wrong here; the log has it under this request_id"
        ).response()


def unavailable(detail: str, retry_after_s: int = 1) -> Problem:
    """A 503 with ``Retry-After``."""
    return Problem(503, "unavailable", detail, headers={"Retry-After": str(retry_after_s)})
