"""Levels of loggers that change while all runs: a value in Redis that every process looks at every two seconds.

Redis, because it is what every process of every installation reaches, whichever machine or container it runs in. The
value ends by itself: what was made to talk for an hour is quiet after it, also when everybody has forgotten. While
Redis is away the levels stay as they are.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import redis
import structlog

from ots_common import logs, redis_client
from ots_common.cache_keys import cache_key
from ots_common.settings import ServiceSettings

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 2.0


@dataclass(frozen=True)
class Levels:
    """``levels``: logger or stream, with or without ``service/`` before it, and its level; for ``left_s`` seconds."""

    levels: Mapping[str, str]
    left_s: int | None


class LevelStore:
    """What is kept in Redis. Raises redis.RedisError when it does not answer."""

    def __init__(self, client: redis.Redis, source: str) -> None:
        self._client = client
        self._key = cache_key(source, "log-levels")

    def put(self, levels: Mapping[str, str], for_s: int) -> None:
        """Let these be the levels, instead of all that were put before."""
        if levels:
            self._client.set(self._key, json.dumps(dict(levels), sort_keys=True), ex=for_s)
        else:
            self._client.delete(self._key)

    def get(self) -> Levels:
        """What holds now."""
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.get(self._key)
            pipeline.ttl(self._key)
            value, left_s = pipeline.execute()
        levels = _parsed(value)
        return Levels(levels, left_s if levels and left_s >= 0 else None)

    def follow(self, seen: bytes | None) -> bytes | None:
        """Apply what is kept now, unless it is what was ``seen`` last; what is kept."""
        value = self._client.get(self._key)
        kept = value if isinstance(value, bytes) else None
        if kept != seen:
            levels = _parsed(kept)
            logs.apply_levels(levels)
            log.warning("log_levels_changed", levels=dict(levels))
        return kept


def watch(settings: ServiceSettings | None) -> None:
    """Follow the levels from here on, and let floods tell what they left out. In a thread: after the fork.

    Without settings, or where they do not say where Redis is, only the latter.
    """
    store = None
    if settings is not None and "redis_url" in settings.model_fields_set:
        store = LevelStore(redis_client.connect(settings.redis_url.get_secret_value()), settings.market_source)
    threading.Thread(target=_watch, args=(store,), name="log-levels", daemon=True).start()


def _watch(store: LevelStore | None) -> None:
    seen: bytes | None = None
    while True:
        try:
            if store is not None:
                seen = store.follow(seen)
        except (redis.RedisError, OSError) as error:
            log.debug("log_levels_unknown", error=str(error))
        logs.tell_left_out()
        time.sleep(LOOK_EVERY_S)


def _parsed(value: bytes | None) -> dict[str, str]:
    try:
        found = json.loads(value) if value else {}
    except ValueError:
        return {}
    return {str(name): str(level) for name, level in found.items()} if isinstance(found, dict) else {}
