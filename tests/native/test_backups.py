"""Backup and restore of a platform without containers, of which only the database server is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from ots_common.backup import backups_in
from ots_native import backups
from ots_native.env_file import complete_env_file, read_env_file
from ots_native.errors import NativeError
from ots_native.platform import Platform
from ots_native.programs import Programs
from ots_native.settings import Ports, resolve
from places import ROOT


@pytest.fixture(scope="module")
def platform(tmp_path_factory) -> Iterator[Platform]:
    """As `up` and `down` leave it, with a user and an instrument."""
    folder = tmp_path_factory.mktemp("platform")
    complete_env_file(folder / "env")
    made = Platform(
        ROOT, state=folder / "state", env_file=folder / "env", environment=dict(os.environ), say=lambda _: None
    )
    made.state.mkdir(mode=0o700)
    (made.state / "made-by-ai-ots").touch()
    values = {**read_env_file(folder / "env"), **Ports.free().as_values(), "MARKET_SOURCE": "simulated"}
    settings = resolve(values, None, running=False)
    settings.save(made.state / "record.json")
    server = made.postgres(settings)
    server.start()
    programs = Programs(ROOT, made.state, settings, server, made.redis(settings))
    environment = {"PATH": os.environ["PATH"], **programs.provision_environment()}
    subprocess.run([sys.executable, "-I", "-m", "ots_common.provision"], env=environment, check=True)
    for database, statement in (
        ("ots_sim", "INSERT INTO instruments (dataset, raw_symbol, underlying) VALUES ('EQUS.MINI', 'ABC', 'ABC')"),
        ("ots_accounts", "INSERT INTO users (username, password_hash, role) VALUES ('somebody', 'x', 'viewer')"),
    ):
        with closing(psycopg2.connect(make_dsn(server.admin_url, dbname=database))) as connection:
            connection.cursor().execute(statement)
            connection.commit()
    server.stop()
    yield made
    made.reset()


def count(platform: Platform, database: str, table: str) -> int:
    server = platform.postgres(platform.settings)
    with closing(psycopg2.connect(make_dsn(server.admin_url, dbname=database))) as connection:
        cursor = connection.cursor()
        cursor.execute(f"SELECT count(*) FROM {table}")
        return cursor.fetchone()[0]


def test_a_stopped_platform_is_backed_up_and_restored(platform, tmp_path, capfd):
    server = platform.postgres(platform.settings)
    backups.back_up(platform, tmp_path, keep=3)
    (backup,) = backups_in(tmp_path)
    assert f"{backup}: " in capfd.readouterr().out
    assert not server.is_ready()
    with pytest.raises(NativeError, match="restore failed"):
        backups.restore(platform, backup)
    assert "--replace puts the backup in its place" in capfd.readouterr().err
    backups.restore(platform, backup, check=True)
    assert "whole" in capfd.readouterr().out
    server.start()
    try:
        with closing(psycopg2.connect(server.admin_url)) as connection:
            connection.autocommit = True
            connection.cursor().execute("DROP DATABASE ots_sim")
            connection.cursor().execute("DROP DATABASE ots_accounts")
        spool = platform.state / "spool-simulated"
        for folder in ("live/EQUS.MINI", "uploads"):
            (spool / folder).mkdir(parents=True)
        # it runs, and is left running
        backups.restore(platform, backup)
        # files of a later time than the cursors in the database are no spool of theirs
        assert [path.name for path in spool.iterdir()] == ["uploads"]
        assert count(platform, "ots_sim", "instruments") == 1
        assert count(platform, "ots_accounts", "users") == 1
        backups.back_up(platform, tmp_path / "another")
    finally:
        server.stop()


def test_nothing_is_restored_under_a_platform_that_runs(platform, tmp_path, monkeypatch):
    monkeypatch.setattr(platform.supervisor, "answers", lambda: True)
    with pytest.raises(NativeError, match="down first"):
        backups.restore(platform, tmp_path)


def test_before_the_first_start_there_is_nothing_to_back_up(tmp_path):
    fresh = Platform(ROOT, state=tmp_path / "state", env_file=tmp_path / "env", say=lambda _: None)
    with pytest.raises(NativeError, match="Nothing has been started here yet"):
        backups.back_up(fresh, Path(tmp_path))
