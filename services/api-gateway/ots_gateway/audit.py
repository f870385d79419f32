"""The audit log: a row for every login, every write and every refusal."""

from __future__ import annotations

import psycopg2
import structlog
from flask import Request
from prometheus_client import Counter

from ots_common.database import Database
from ots_common.problems import Problem
from ots_gateway.user_tokens import User

log = structlog.get_logger("audit")

LOST = Counter("ots_gateway_audit_lost_total", "Audit rows that could not be written (they are in the log)")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
LOGIN_PATH = "/api/v1/auth/login"


def event_of(method: str, path: str, status: int, *, forwarded: bool) -> str | None:
    """What an answer means to the audit log; None when it means nothing.

    A write is what a service was asked to do, whatever it answered.
    """
    if path == LOGIN_PATH and method == "POST":
        return {200: "login", 401: "login_failed", 403: "login_failed"}.get(status)
    if forwarded and method not in SAFE_METHODS:
        return "write"
    return "refused" if status in (401, 403) else None


def record(database: Database, request: Request, request_id: str, user: User | None, status: int, event: str) -> None:
    """Write a row. The deed is done by then: a row that cannot be written is logged as an error and counted."""
    row = {
        "request_id": request_id,
        "username": user.username if user else None,
        "role": user.role.label if user else None,
        "address": request.remote_addr or "unknown",
        "method": request.method[:16],
        "path": "".join(c if c.isprintable() else "?" for c in request.path)[:500],
        "status": status,
        "event": event,
    }
    try:
        database.execute(
            "INSERT INTO audit_log (request_id, username, role, address, method, path, status, event) VALUES"
            " (%(request_id)s, %(username)s, %(role)s, %(address)s, %(method)s, %(path)s, %(status)s, %(event)s)",
            row,
        )
    except (psycopg2.Error, Problem) as error:
        LOST.inc()
        log.error("audit_row_lost", error=str(error).strip(), row=row)
