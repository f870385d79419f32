"""Why a connection to the feed ended, what that means for the gap ledger, and when to try again."""

from __future__ import annotations

import random
from dataclasses import dataclass

from ots_ingestion.live_session import AGED_OUT, SKIPPED, UNRESOLVED, ConnectError, Control

AUTH_FAILED, KEY_DEACTIVATED, CONNECTION_LIMIT, INVALID_SUBSCRIPTION = 1, 2, 3, 5

_KEY_HINT = "set DATABENTO_API_KEY to a valid key and start the collector again"
_ENTITLEMENT_HINT = "ask Databento for live access to this dataset, or stop collecting it"
_LIMIT_HINT = "end other sessions of this key, or ask Databento for more"


@dataclass(frozen=True)
class Verdict:
    """``evidence``: as in the gap ledger, None when no more is wanted. ``state``: what to show until the next attempt.

    ``least_wait_s``: no attempt earlier. ``counts``: whether it is a failure, after which waits grow.
    """

    end: str
    evidence: str | None
    reason: str
    state: str = "backing_off"
    hint: str | None = None
    least_wait_s: float = 0.0
    counts: bool = True
    without_replay: bool = False


def disconnected(cause: str) -> Verdict:
    """The connection was lost."""
    return Verdict("disconnect", "disconnect", f"connection lost: {cause}")


def fatal(reason: str, hint: str, retry_s: float) -> Verdict:
    """It cannot work as it is."""
    return Verdict("fatal", "disconnect", reason, state="failed", hint=hint, least_wait_s=retry_s)


def of_connect_error(error: ConnectError, *, fatal_retry_s: float, limit_wait_s: float) -> Verdict:
    """Why no session came about."""
    text = str(error)
    if not error.refused:
        return disconnected(text)
    lower = text.lower()
    if "connection limit" in lower:
        return _limit(text, limit_wait_s)
    if any(word in lower for word in ("entitle", "licens", "subscri", "not authorized", "permission")):
        return fatal(f"not entitled: {text}", _ENTITLEMENT_HINT, fatal_retry_s)
    if any(word in lower for word in ("auth", "key", "cram")):
        return fatal(f"the vendor refused the API key: {text}", _KEY_HINT, fatal_retry_s)
    return fatal(f"the vendor refused: {text}", "see docs/API_REFERENCE.md, collection", fatal_retry_s)


def of_error_message(control: Control, *, fatal_retry_s: float, limit_wait_s: float) -> Verdict | None:
    """What an error message of the feed means; None for one that ends nothing."""
    code, text = control.code, control.text
    if code == UNRESOLVED:
        return None
    if code in (AUTH_FAILED, KEY_DEACTIVATED):
        return fatal(f"the vendor refused the API key: {text}", _KEY_HINT, fatal_retry_s)
    if code == INVALID_SUBSCRIPTION:
        return fatal(
            f"the vendor refused the subscription: {text}",
            "POST /api/v1/data/collection/start with schemas that the dataset has",
            fatal_retry_s,
        )
    if code == CONNECTION_LIMIT:
        return _limit(text, limit_wait_s)
    if code == SKIPPED:
        return Verdict("skipped", "skipped", f"the feed skipped records: {text}; replay fetches them")
    if code == AGED_OUT:
        return Verdict("aged_out", "disconnect", f"the feed cannot replay so far back: {text}", without_replay=True)
    return disconnected(f"the feed reports an error (code {code}): {text}")


def jittered(attempts: int, base_s: float, cap_s: float) -> float:
    """How long to wait after so many failures in a row: full jitter (Brooker 2015, Exponential Backoff And Jitter)."""
    return random.uniform(0.0, min(cap_s, base_s * 2.0 ** min(attempts - 1, 30)))  # noqa: S311


def _limit(text: str, wait_s: float) -> Verdict:
    wait = wait_s * random.uniform(1.0, 2.0)  # noqa: S311
    return Verdict("limit", "disconnect", f"too many sessions: {text}", hint=_LIMIT_HINT, least_wait_s=wait)
