"""Answers that several processes share, in Redis."""

from __future__ import annotations

import redis


class SharedCache:
    """Keeps made bodies for a while; without Redis everything is made anew."""

    def __init__(self, client: redis.Redis, source: str) -> None:
        self._client = client
        self._source = source
