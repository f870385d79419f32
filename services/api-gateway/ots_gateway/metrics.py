"""What the gateway counts. The values of every label are a closed set: nothing that a client writes becomes one.

Not to be imported before the fork: gunicorn's master would have metrics of its own, which are nobody's.
"""

from __future__ import annotations

from typing import Literal, get_args

from prometheus_client import Counter, Gauge, Histogram

AuthFailure = Literal[
    "none", "malformed", "not_ours", "expired", "revoked", "key", "password", "locked", "address", "role", "refresh",
    "refresh_reused",
]  # fmt: skip
Refusal = Literal[
    "host", "path", "policy", "method", "credential", "role", "scope", "limit", "idempotency", "malformed", "slow",
    "size", "connections",
]  # fmt: skip
UpstreamFailure = Literal["connect", "timeout", "cut", "busy", "open", "status"]
KeptOutcome = Literal["kept", "held", "joined", "changed"]
TokenKind = Literal["login", "refresh", "key"]

UPSTREAM_SECONDS = Histogram(
    "ots_gateway_upstream_seconds",
    "From asking a service until the head of its answer, and the whole of a small one, is there",
    ["upstream"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120, 300),
)
UPSTREAM_FAILURES = Counter(
    "ots_gateway_upstream_failures_total",
    "Requests that a service did not answer as it should, by why: connect (takes no connection), timeout, cut (broke"
    " off before the end of its answer), busy (every connection to it was in use), open (left alone by the breaker),"
    " status (it answered 5xx)",
    ["upstream", "reason"],
)
BREAKER_OPEN = Gauge(
    "ots_gateway_breaker_open", "1 while a service is left alone", ["upstream"], multiprocess_mode="livemax"
)
BREAKER_TRANSITIONS = Counter(
    "ots_gateway_breaker_transitions_total",
    "What breakers became: open, half_open (one request tries the service), closed",
    ["upstream", "state"],
)
AUTH_FAILURES = Counter(
    "ots_gateway_auth_failures_total",
    "Credentials that let nobody in, by why: none, malformed, not_ours, expired, revoked, key (no key that works),"
    " password (wrong, or no such user), locked (an account after too many wrong ones), address (the same of an"
    " address), role (sign-in for more than the user may), refresh (not valid, or ended), refresh_reused (used twice)",
    ["reason"],
)
REFUSED = Counter(
    "ots_gateway_refused_total",
    "Requests that were not let through, by why: host, path (written in no allowed way), policy (no route there),"
    " method, credential, role, scope, limit, idempotency (of its key), malformed (not HTTP as it must be), slow, size,"
    " connections (too many)",
    ["reason"],
)
LIMIT_DECISIONS = Counter(
    "ots_gateway_limit_decisions_total", "Requests held against a rate limit", ["bucket", "decision"]
)
RATE_LIMITED = Counter("ots_gateway_rate_limited_total", "Requests over a rate limit", ["bucket"])
LIMITS_LOCAL = Gauge(
    "ots_gateway_limits_local", "Workers that count rate limits without Redis", multiprocess_mode="livesum"
)
LOCKOUTS = Counter(
    "ots_gateway_lockouts_total", "Times that wrong passwords closed an account or an address for a while"
)
TOKENS = Counter(
    "ots_gateway_tokens_total",
    "Credentials asked for: by login (a pair of tokens), refresh (the next pair), key (an API key); issued or refused",
    ["kind", "outcome"],
)
AUDIT_ENTRIES = Counter("ots_gateway_audit_entries_total", "Audit rows: written, or lost", ["outcome"])
AUDIT_LOST = Counter("ots_gateway_audit_lost_total", "Audit rows that could not be written (they are in the log)")
CLIENTS_LEFT = Counter("ots_gateway_clients_left_total", "Requests whose client left before the answer")
KEPT_ANSWERS = Counter(
    "ots_gateway_kept_answers_total",
    "Answers that are everybody's: kept, given again because their service said that they hold (held), given because it"
    " said so to another who asked at that moment (joined), or found changed",
    ["outcome"],
)
CONNECTIONS = Gauge("ots_gateway_connections", "Connections of clients that are open", multiprocess_mode="livesum")


class UpstreamFailures:
    """The failures of one service, by why; all of them are there from the start, so that the first one is an increase
    and not a series that appears.
    """

    def __init__(self, upstream: str) -> None:
        self._counters = {why: UPSTREAM_FAILURES.labels(upstream, why) for why in get_args(UpstreamFailure)}

    def count(self, why: UpstreamFailure) -> None:
        """One more."""
        self._counters[why].inc()


def count_auth_failure(why: AuthFailure) -> None:
    """A credential let nobody in."""
    _auth_failures[why].inc()


def count_refusal(why: Refusal) -> None:
    """A request was not let through."""
    _refusals[why].inc()


def count_tokens(kind: TokenKind, *, issued: bool) -> None:
    """A credential was asked for."""
    _tokens[kind, issued].inc()


def count_audit_entry(*, written: bool) -> None:
    """A row of the audit log was due."""
    _audit_entries[written].inc()
    if not written:
        AUDIT_LOST.inc()


def count_kept_answer(outcome: KeptOutcome) -> None:
    """What became of an answer that everybody may share."""
    _kept_answers[outcome].inc()


_kept_answers = {outcome: KEPT_ANSWERS.labels(outcome) for outcome in get_args(KeptOutcome)}
_auth_failures = {why: AUTH_FAILURES.labels(why) for why in get_args(AuthFailure)}
_refusals = {why: REFUSED.labels(why) for why in get_args(Refusal)}
_tokens = {
    (kind, issued): TOKENS.labels(kind, "issued" if issued else "refused")
    for kind in get_args(TokenKind)
    for issued in (True, False)
}
_audit_entries = {written: AUDIT_ENTRIES.labels("written" if written else "lost") for written in (True, False)}
