"""What the tests of the launcher share. They start real processes, on free ports and in folders of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ots_native.postgres import PostgresServer
from ots_native.settings import Ports
from ots_native.supervision import Supervisor


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL server not yet started."""
    server = PostgresServer(tmp_path / "postgres", Ports.free().postgres)
    yield server
    server.remove()


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    """A supervisor not yet started."""
    folder = tmp_path / "supervised"
    folder.mkdir()
    supervisor = Supervisor(folder)
    yield supervisor
    supervisor.stop()
    supervisor.remove_socket()
