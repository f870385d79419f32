"""The commands, as far as they need no service."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from native.stand_ins import CHECKOUT
from ots_native.env_file import SECRETS
from ots_native.errors import NativeError
from ots_native.platform import Platform
from ots_native.private_files import socket_folder
from ots_native.processes import processes_of
from ots_native.settings import Ports, Settings, resolve

GIVEN = dict.fromkeys(SECRETS, "x" * 40)


def test_a_busy_port_is_named_with_its_owner_and_nothing_starts(tmp_path: Path) -> None:
    ports = Ports.free()
    platform = Platform(CHECKOUT, state=tmp_path / "state", env_file=tmp_path / ".env", ports=ports)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", ports.cache))
        listener.listen()
        with pytest.raises(NativeError) as refusal:
            platform.up()
    assert f"Port {ports.cache} (cache)" in str(refusal.value)
    assert f"pid {os.getpid()}: " in str(refusal.value)
    assert "OTS_PORT_CACHE=" in str(refusal.value)
    assert processes_of(platform.state) == []
    assert not platform.supervisor.answers()


def test_token_prints_nothing_to_evaluate_when_it_fails(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-m", "ots_native", "--root", tmp_path, "token"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert "./start-dev.sh" in result.stderr


def test_down_and_reset_of_what_never_ran_are_harmless(tmp_path: Path) -> None:
    platform = Platform(tmp_path)
    platform.down()
    assert platform.reset() == []


def test_folders_of_others_are_neither_used_nor_deleted(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    platform = Platform(CHECKOUT, state=tmp_path, env_file=tmp_path / ".env")
    with pytest.raises(NativeError, match="other things"):
        platform.up()
    with pytest.raises(NativeError, match="not made by AI-OTS"):
        platform.reset()
    assert (tmp_path / "thesis.tex").exists()


def test_the_simulated_market_is_refused_while_there_is_none() -> None:
    with pytest.raises(NativeError, match="no simulator yet"):
        resolve({**GIVEN, "MARKET_SOURCE": "simulated"}, None, running=False)


def test_what_up_recorded_holds_until_somebody_says_otherwise(tmp_path: Path) -> None:
    first = resolve({**GIVEN, "OTS_PORT_GATEWAY": "8100", "DATABENTO_API_KEY": "db-1"}, None, running=False)
    first.save(tmp_path / "record.json")
    recorded = Settings.load(tmp_path / "record.json")
    assert recorded == first
    assert (tmp_path / "record.json").stat().st_mode & 0o077 == 0

    again = resolve(GIVEN, recorded, running=True)
    assert again.changed_from(first) == []
    later = resolve(GIVEN, recorded, running=False)
    assert (later.instance, later.ports.gateway) == (first.instance, 8100)
    assert later.values["DATABENTO_API_KEY"] == ""
    other = resolve({**GIVEN, "OTS_PORT_GATEWAY": "8200"}, recorded, running=True)
    assert other.changed_from(first) == ["OTS_PORT_GATEWAY"]


@pytest.mark.parametrize("value", ["http", "0", "70000", "8001"])
def test_a_port_that_cannot_be_is_refused(value: str) -> None:
    with pytest.raises(NativeError, match="OTS_PORT_"):
        resolve({**GIVEN, "OTS_PORT_GATEWAY": value}, None, running=False)


def test_a_socket_too_deep_for_the_system_moves_to_a_short_folder(tmp_path: Path) -> None:
    assert socket_folder(Path("/short"), "s") == Path("/short")
    deep = tmp_path.joinpath(*["deep"] * 30)
    assert len(str(socket_folder(deep, ".s.PGSQL.15432"))) < 40


def test_start_dev_explains_itself_from_any_folder(tmp_path: Path) -> None:
    script = CHECKOUT / "start-dev.sh"
    told = subprocess.run([script, "help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "token [--role ROLE]" in told.stdout
    refused = subprocess.run([script, "dance"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "unknown: dance" in refused.stderr


def test_before_the_first_start_start_dev_answers_without_installing(tmp_path: Path) -> None:
    script = Path(shutil.copy(CHECKOUT / "start-dev.sh", tmp_path))
    token = subprocess.run([script, "--native", "token"], capture_output=True, text=True, check=False)
    assert (token.returncode, token.stdout) == (1, "")
    assert subprocess.run([script, "--native", "down"], check=False).returncode == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["start-dev.sh"]


def test_the_shared_lock_holds_all_that_start_dev_installs() -> None:
    def pins(path: Path) -> set[str]:
        return {line.split(" ")[0] for line in path.read_text().splitlines() if "==" in line and line[0].isalnum()}

    assert pins(CHECKOUT / "infrastructure/native/requirements.txt") <= pins(CHECKOUT / "requirements.txt")
