"""What the cache counts, beside what every service and every shared cache does."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

USER_ENTRIES = Counter(
    "ots_cache_user_entries_total",
    "Entries that users keep for themselves: keep, read, delete, list; done, absent, refused (too large, or invalid) or"
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
