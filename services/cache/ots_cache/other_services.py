"""Asking another service, in the name of the user that one is asked by, with a token of one's own."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import structlog
from flask import g

from ots_cache.metrics import UPSTREAM_FAILURES, UPSTREAM_SECONDS
from ots_common import traces
from ots_common.problems import Problem, unavailable
from ots_common.service import caller
from ots_common.settings import ServiceSettings
from ots_common.tokens import HEADER, Caller, sign_internal_token

log = structlog.get_logger(__name__)

# the largest answer that is taken: a chain of 20,000 contracts has about half of it
_MOST_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Told:
    """What a service answered; the names of ``headers`` in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class OtherService:
    """One service that this one may call. Calls wait at most ``timeout_s`` for each step."""

    def __init__(self, me: str, name: str, url: str | None, settings: ServiceSettings, *, timeout_s: float) -> None:
        self._me = me
        self._name = name
        self._url = urlsplit(url) if url else None
        self._keys = settings.signing_keys
        self._timeout_s = timeout_s

    def get(self, target: str, headers: Mapping[str, str]) -> Told:
        """The answer to GET ``target`` (path and query). Raises a 503 problem when there is none."""
        if self._url is None or self._name not in self._keys:
            raise unavailable(f"this installation does not say where {self._name} is, or how to call it")
        asked = time.perf_counter()
        connection = http.client.HTTPConnection(self._url.hostname or "", self._url.port or 80, timeout=self._timeout_s)
        try:
            with traces.call_of(self._name, "GET"):
                connection.request("GET", target, headers={**headers, **self._own_headers()})
                response = connection.getresponse()
                body = response.read(_MOST_BYTES + 1)
            told = {name.lower(): value for name, value in response.getheaders()}
        except TimeoutError as error:
            UPSTREAM_FAILURES.labels(self._name, "timeout").inc()
            raise Problem(
                504, "upstream-timeout", f"{self._name} did not answer within {self._timeout_s:g} s"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            UPSTREAM_FAILURES.labels(self._name, "connect").inc()
            log.warning("upstream_failed", service=self._name, error=str(error))
            raise unavailable(f"{self._name} does not answer") from error
        finally:
            UPSTREAM_SECONDS.labels(self._name).observe(time.perf_counter() - asked)
            connection.close()
        if response.status >= 500:
            UPSTREAM_FAILURES.labels(self._name, "status").inc()
        if len(body) > _MOST_BYTES:
            raise Problem(502, "upstream-too-large", f"{self._name} answered with more than {_MOST_BYTES} bytes")
        return Told(response.status, told, body)

    def _own_headers(self) -> dict[str, str]:
        who = caller()
        mine = Caller(self._me, who.user, who.username, who.role, g.request_id)
        headers = {HEADER: sign_internal_token(mine, self._name, self._keys), "X-Request-ID": g.request_id}
        trace = traces.traceparent() or g.get("traceparent")
        return headers | ({"traceparent": trace} if trace else {})
