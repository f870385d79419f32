"""Redis, as every service connects to it."""

from __future__ import annotations

from typing import Any

import redis
from redis.client import Pipeline

from ots_common import traces


def connect(url: str, *, timeout_s: float = 1.0) -> redis.Redis:
    """A client with its own pool that gives up after ``timeout_s`` and answers ``bytes``."""
    kind = _Traced if traces.TraceSettings().wanted else redis.Redis
    return kind.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, health_check_interval=15)


class _Traced(redis.Redis):
    """Each command is a span of its request."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        with traces.redis_command(str(args[0])):
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        return _TracedPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class _TracedPipeline(Pipeline):
    """All of its commands together are one."""

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        with traces.redis_command("PIPELINE"):
            return super().execute(raise_on_error)
