"""What database/backup.sh and restore.sh ask Compose for. The engine is a stand-in that notes what it is told."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from places import ROOT

ENGINE = """\
#!/bin/bash
echo "$* | $MARKET_SOURCE $MARKET_DATABASE" >>"$ENGINE_LOG"
case "$*" in
  *" ps "*) echo "$RUNNING" ;;
  *ots_common.backup*) echo "/backups/backup-20240101T000000Z: 5 rows of 2 tables"; exit "${ENGINE_FAILS:-0}" ;;
  *ots_common.restore*) echo "/backup: whole" ;;
esac
"""


class Checkout:
    """A folder with the scripts, an engine on PATH, and what `up` recorded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "database").mkdir()
        for name in ("backup.sh", "restore.sh", "where.sh"):
            shutil.copy(ROOT / "database" / name, folder / "database")
        (folder / "bin").mkdir()
        (folder / "bin" / "docker").write_text(ENGINE)
        (folder / "bin" / "docker").chmod(0o755)

    def started(self, market: str) -> None:
        (self.folder / ".ots").mkdir()
        (self.folder / ".ots" / "mode").write_text("compose\n")
        (self.folder / ".ots" / "market").write_text(f"MARKET_SOURCE={market}\nSIMULATOR_SEED=1\n")

    def run(self, script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return subprocess.run(
            [self.folder / "database" / script, *map(str, arguments)],
            env={"PATH": path, "ENGINE_LOG": str(self.folder / "log"), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def log(self) -> list[str]:
        return (self.folder / "log").read_text().splitlines()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_a_backup_is_made_where_provisioning_runs_and_belongs_to_whoever_asked(checkout, tmp_path):
    checkout.started("databento")
    result = checkout.run("backup.sh", tmp_path / "kept", "--keep", 7)
    assert result.returncode == 0, result.stderr
    # as this machine names it, not the container
    assert result.stdout == f"{tmp_path}/kept/backup-20240101T000000Z: 5 rows of 2 tables\n"
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o700
    command = checkout.log()[-1]
    assert command.endswith("migrate python -m ots_common.backup /backups --keep 7 | databento ots")
    assert f"--user {os.getuid()}:{os.getgid()} --volume {tmp_path}/kept:/backups migrate" in command
    assert " run --rm -T --no-deps " in command


def test_a_backup_that_fails_is_not_taken_for_one(checkout, tmp_path):
    checkout.started("simulated")
    assert checkout.run("backup.sh", tmp_path / "kept", ENGINE_FAILS="1").returncode == 1


def test_a_restore_waits_for_the_platform_to_be_down(checkout, tmp_path):
    checkout.started("simulated")
    refused = checkout.run("restore.sh", tmp_path, "--replace", RUNNING="postgres\ngateway")
    assert (refused.returncode, "down first" in refused.stderr) == (1, True)
    assert "ots_common.restore" not in str(checkout.log())
    assert checkout.run("restore.sh", tmp_path, "--check", RUNNING="gateway").stdout == f"{tmp_path}: whole\n"
    assert checkout.run("restore.sh", tmp_path, "--replace", RUNNING="postgres").returncode == 0
    command, spool = checkout.log()[-2:]
    assert " run --rm -T --no-deps ingestion-collector python -c " in spool
    assert '"live"' in spool
    assert command.endswith(
        f"{tmp_path}:/backup:ro migrate python -m ots_common.restore /backup --replace | simulated ots_sim"
    )


@pytest.mark.parametrize("script", ["backup.sh", "restore.sh"])
def test_without_a_folder_or_a_platform_there_is_one_line(checkout, script, tmp_path):
    for arguments, told in (
        ((), "usage: "),
        (("--keep",), "usage: "),
        ((tmp_path,), "nothing has been started here yet"),
    ):
        refused = checkout.run(script, *arguments)
        assert (refused.returncode, refused.stdout, len(refused.stderr.splitlines())) == (1, "", 1)
        assert told in refused.stderr
