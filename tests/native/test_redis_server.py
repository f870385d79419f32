"""Redis under our own launcher."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from ots_native.redis import RedisServer
from ots_native.settings import Ports

PASSWORD = 'a "hard" one: #\\'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis", Ports.free().redis, PASSWORD)
    yield server
    server.remove()


def test_it_asks_for_its_password(server: RedisServer) -> None:
    server.start()
    with redis.Redis.from_url(server.url) as client:
        assert client.ping()
    with redis.Redis(port=server.port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_nobody_else_can_read_the_password(server: RedisServer) -> None:
    command = server.prepare()
    assert PASSWORD not in " ".join(command)
    assert (server.folder / "redis.conf").stat().st_mode & 0o077 == 0


def test_entries_outlive_a_kill(server: RedisServer) -> None:
    server.start()
    with redis.Redis.from_url(server.url) as client:
        client.set("kept", "yes")
    server.kill()
    server.start()
    with redis.Redis.from_url(server.url) as client:
        assert client.get("kept") == b"yes"
