"""``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header): a POST that is repeated with its key is done once.

The first request claims the key under a lease that is prolonged while it is under way, so that the key of a gateway
that was killed is free again soon; whether the service did the work is not known then: the repetition asks it again.
An answer below 500 is kept and replayed; after a 5xx the key is free.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from dataclasses import dataclass
from typing import Any

import gevent
import psycopg2
import structlog

from ots_common.database import Database
from ots_common.problems import Problem, invalid, unavailable
from ots_gateway.settings import GatewaySettings

log = structlog.get_logger(__name__)

KEPT_BYTES = 256 * 1024
# the draft's structured-field string, or the bare token that most clients send
_KEY = re.compile(r'"[\x20-\x21\x23-\x5b\x5d-\x7e]{1,255}"|[\x21\x23-\x2b\x2d-\x7e]{1,255}')
_PURGE_S = 600.0


@dataclass(frozen=True)
class Replay:
    """An answer that was kept; ``body`` None when it was too large for that."""

    fingerprint: bytes
    status: int
    headers: list[tuple[str, str]]
    body: bytes | None


@dataclass(frozen=True)
class Claim:
    """This request's turn with a key."""

    user_id: str
    key: str
    owner: str


class Fingerprint:
    """Wraps a body and sums it up as it is read."""

    def __init__(self, stream: Any, content_type: str) -> None:
        self._stream = stream
        self._digest = hashlib.sha256(content_type.encode("utf-8", "replace") + b"\n")

    def read(self, size: int = -1) -> bytes:
        """Some of the body."""
        data: bytes = self._stream.read(size)
        self._digest.update(data)
        return data

    def finish(self) -> bytes:
        """The sum of the whole body; reads what nobody has read."""
        while self.read(64 * 1024):
            pass
        return self._digest.digest()


class IdempotencyKeys:
    """The keys in the accounts database, and the leases of the requests under way in this worker."""

    def __init__(self, database: Database, settings: GatewaySettings) -> None:
        self._database = database
        self._ttl_s = settings.idempotency_ttl_s
        self._lease_s = settings.idempotency_lease_s
        self._claims: dict[str, Claim] = {}
        self._keeper: gevent.Greenlet | None = None

    def claim(self, user_id: str, header: str, request: str) -> Claim | Replay:
        """This request's turn, or what was answered before. Raises a 409, 422 or 503 problem.

        ``request`` is method and target: the same key at another one is a mistake of the client.
        """
        key = _parse(header)
        owner = str(uuid.uuid4())
        sql = (
            "INSERT INTO idempotency_keys AS k (user_id, key, request, owner, lease_ends)"
            " VALUES (%(user)s, %(key)s, %(request)s, %(owner)s, now() + make_interval(secs => %(lease)s))"
            " ON CONFLICT (user_id, key) DO UPDATE SET request = excluded.request, owner = excluded.owner,"
            " lease_ends = excluded.lease_ends, created_at = now(), fingerprint = NULL, status = NULL, headers = NULL,"
            " body = NULL WHERE k.created_at < now() - make_interval(secs => %(ttl)s)"
            " OR (k.status IS NULL AND k.lease_ends < now() AND k.request = excluded.request)"
            " RETURNING true"
        )
        found = (
            "SELECT request, fingerprint, status, headers, body FROM idempotency_keys WHERE user_id = %s AND key = %s"
        )
        try:
            if self._database.rows(
                sql,
                {"user": user_id, "key": key, "request": request, "owner": owner, "lease": self._lease_s,
                 "ttl": self._ttl_s},
            ):  # fmt: skip
                return self._hold(Claim(user_id, key, owner))
            rows = self._database.rows(found, (user_id, key))
        except psycopg2.Error as error:
            log.warning("idempotency_unavailable", error=str(error).strip())
            raise unavailable("Idempotency-Key cannot be kept now: the database does not answer") from error
        if rows and rows[0][0] != request:
            raise _reused("the Idempotency-Key was used for another request")
        if not rows or rows[0][2] is None:
            raise Problem(
                409,
                "idempotency-in-progress",
                "a request with this Idempotency-Key is under way",
                headers={"Retry-After": "1"},
            )
        _, fingerprint, status, headers, body = rows[0]
        fields = [(str(name), str(value)) for name, value in headers]
        return Replay(bytes(fingerprint), status, fields, None if body is None else bytes(body))

    def keep(
        self, claim: Claim, fingerprint: bytes, status: int, headers: list[tuple[str, str]], body: bytes | None
    ) -> None:
        """Keep the answer for the repetitions; nothing when another request has taken the key over meanwhile."""
        self._claims.pop(claim.owner, None)
        self._settle(
            "UPDATE idempotency_keys SET fingerprint = %s, status = %s, headers = %s, body = %s"
            " WHERE user_id = %s AND key = %s AND owner = %s",
            (fingerprint, status, json.dumps(headers), body, claim.user_id, claim.key, claim.owner),
        )

    def release(self, claim: Claim) -> None:
        """Free the key: nothing was done that a repetition must not do."""
        self._claims.pop(claim.owner, None)
        self._settle(
            "DELETE FROM idempotency_keys WHERE user_id = %s AND key = %s AND owner = %s AND status IS NULL",
            (claim.user_id, claim.key, claim.owner),
        )

    def _settle(self, sql: str, parameters: tuple[Any, ...]) -> None:
        try:
            self._database.execute(sql, parameters)
        except (psycopg2.Error, Problem) as error:
            # the answer is there and is told; the key is free when its lease has ended
            log.error("idempotency_not_kept", error=str(error).strip())

    def _hold(self, claim: Claim) -> Claim:
        self._claims[claim.owner] = claim
        if self._keeper is None:
            self._keeper = gevent.spawn(self._keep_leases)
        return claim

    def _keep_leases(self) -> None:
        purge_in = 0.0
        while True:
            gevent.sleep(self._lease_s / 3)
            purge_in -= self._lease_s / 3
            if self._claims:
                self._settle(
                    "UPDATE idempotency_keys SET lease_ends = now() + make_interval(secs => %s)"
                    " WHERE owner = ANY (%s::uuid[])",
                    (self._lease_s, list(self._claims)),
                )
            if purge_in <= 0:
                purge_in = _PURGE_S
                self._settle(
                    "DELETE FROM idempotency_keys WHERE created_at < now() - make_interval(secs => %s)"
                    " AND lease_ends < now()",
                    (self._ttl_s,),
                )


def check(replay: Replay, fingerprint: bytes) -> None:
    """Raises a 422 problem when the repetition has another body than the first request."""
    if replay.fingerprint != fingerprint:
        raise _reused("the Idempotency-Key was used with another body")
    if replay.body is None:
        raise Problem(409, "idempotency-too-large", "that request is done; its answer was too large to be kept")


def _parse(header: str) -> str:
    if not _KEY.fullmatch(header):
        raise invalid("#/header/Idempotency-Key", "must be 1 to 255 printable ASCII characters")
    return header.strip('"')


def _reused(detail: str) -> Problem:
    return Problem(422, "idempotency-key-reused", detail, hint="use a new key for a new request")
