"""The one place that builds Redis keys: ``ots:<market source>:<part>:<part>...``, so that sources never mix."""

from __future__ import annotations

from urllib.parse import quote


def cache_key(source: str, *parts: str) -> str:
    """A key of ``parts``; each is quoted, so that no part can pretend to be two."""
    return ":".join(["ots", source, *(quote(part, safe="") for part in parts)])
