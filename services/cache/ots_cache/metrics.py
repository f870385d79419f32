"""What the cache counts, beside what every service and every shared cache does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

from prometheus_client import Counter, Histogram
from redis.exceptions import RedisError

from ots_common.problems import Problem

Operation = Literal["keep", "read", "delete", "list"]
Outcome = Literal["done", "absent", "refused", "unavailable"]

USER_ENTRIES = Counter(
    "ots_cache_user_entries_total",
    "Entries that users keep for themselves: keep, read, delete, list; done, absent, refused (too large, too long) or"
    " unavailable (no Redis)",
    ["operation", "outcome"],
)
UPSTREAM_SECONDS = Histogram(
    "ots_cache_upstream_seconds",
    "From asking another service until its answer is there",
    ["upstream"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
UPSTREAM_FAILURES = Counter(
    "ots_cache_upstream_failures_total",
    "Questions that another service did not answer: connect, timeout, or status (it answered 5xx)",
    ["upstream", "reason"],
)


@contextmanager
def user_entry(operation: Operation) -> Iterator[None]:
    """Count what is done within, or by the function that this decorates, by how it ends."""
    try:
        yield
    except RedisError:
        _user_entries[operation, "unavailable"].inc()
        raise
    except Problem as problem:
        _user_entries[operation, "absent" if problem.status == 404 else "refused"].inc()
        raise
    _user_entries[operation, "done"].inc()


_user_entries = {
    (operation, outcome): USER_ENTRIES.labels(operation, outcome)
    for operation in get_args(Operation)
    for outcome in get_args(Outcome)
}
