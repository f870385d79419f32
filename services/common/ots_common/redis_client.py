"""Redis, as every service connects to it."""

from __future__ import annotations

import redis


def connect(url: str, *, timeout_s: float = 1.0) -> redis.Redis:
    """A client with its own pool that gives up after ``timeout_s`` and answers ``bytes``."""
    return redis.Redis.from_url(
        url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, health_check_interval=15
    )
