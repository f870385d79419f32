"""Entries that users keep for themselves: a namespace a user, with an index of the names in it by their end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import redis

from ots_common.cache_keys import cache_key

# when it ends (ms since 1970), and its name
Position = tuple[int, str]


@dataclass(frozen=True)
class Listed:
    """An entry as it is listed. ``expires_ms``: since 1970."""

    name: str
    bytes: int
    expires_ms: int


class OwnEntries:
    """All users' entries of one market source. Everything here raises redis.RedisError."""

    def __init__(self, client: redis.Redis, source: str) -> None:
        self._client = client
        self._source = source

    def put(self, user: str, name: str, text: str, *, ttl_s: int, expires_ms: int) -> None:
        """Keep ``text`` for ``ttl_s`` seconds, which end at ``expires_ms``."""
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.set(self._key(user, name), text, ex=ttl_s)
            self._trim(pipeline, user)
            pipeline.zadd(self._index(user), {name: expires_ms})
            pipeline.execute()

    def get(self, user: str, name: str) -> bytes | None:
        """The text; None when there is none, or no more."""
        text: Any = self._client.get(self._key(user, name))
        return None if text is None else bytes(text)

    def delete(self, user: str, name: str) -> bool:
        """Forget an entry; False when there was none."""
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.delete(self._key(user, name))
            pipeline.zrem(self._index(user), name)
            return bool(pipeline.execute()[0])

    def number(self, user: str) -> int:
        """How many there are."""
        number: Any = self._client.zcount(self._index(user), _now_ms(), "+inf")
        return int(number)

    def page(self, user: str, *, after: Position | None, limit: int) -> tuple[list[Listed], Position | None]:
        """At most ``limit`` entries by their end and then by name, behind a position; and that of the next page."""
        least = max(_now_ms(), after[0] if after else 0)
        found: list[Position] = []
        start = 0
        while len(found) <= limit:
            rows: Any = self._client.zrange(
                self._index(user), least, "+inf", byscore=True, offset=start, num=limit + 1, withscores=True
            )
            several = [(int(score), name.decode()) for name, score in rows]
            found += [one for one in several if after is None or one > after]
            if len(several) <= limit:
                break
            start += limit + 1
        following = found[limit - 1] if len(found) > limit else None
        found = found[:limit]
        with self._client.pipeline(transaction=False) as pipeline:
            for _, name in found:
                pipeline.strlen(self._key(user, name))
            sizes = pipeline.execute()
        # what Redis dropped meanwhile has no length
        listed = [Listed(name, size, at) for (at, name), size in zip(found, sizes, strict=True) if size]
        return listed, following

    def _trim(self, pipeline: redis.client.Pipeline, user: str) -> None:
        pipeline.zremrangebyscore(self._index(user), "-inf", f"({_now_ms()}")

    def _key(self, user: str, name: str) -> str:
        return cache_key(self._source, "user", user, name)

    def _index(self, user: str) -> str:
        return cache_key(self._source, "user-index", user)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
