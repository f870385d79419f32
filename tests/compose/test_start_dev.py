"""Which market ./start-dev.sh asks Compose for. The engine is a stand-in that notes what it is told."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from places import ROOT

ENGINE = """\
#!/bin/bash
echo "$* | $MARKET_SOURCE $MARKET_DATABASE ${COMPOSE_PROFILES:-none} ${SIMULATOR_SEED:-none}" >>"$ENGINE_LOG"
"""


class Checkout:
    """A folder with start-dev.sh and an engine on PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = folder / "engine.log"
        shutil.copy(ROOT / "start-dev.sh", folder)
        script = folder / "infrastructure/native/ots_native"
        script.mkdir(parents=True)
        shutil.copy(ROOT / "infrastructure/native/ots_native/env_file.py", script)
        (folder / "bin").mkdir()
        engine = folder / "bin" / "docker"
        engine.write_text(ENGINE)
        engine.chmod(0o755)

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return subprocess.run(
            [self.folder / "start-dev.sh", *arguments],
            env={"PATH": path, "HOME": os.environ.get("HOME", "/"), "ENGINE_LOG": str(self._log), **settings},
            capture_output=True,
            text=True,
            check=False,
        )

    def asked_to_start(self, **settings: str) -> str:
        """The market that `up` asked for: its source, its database, Compose's profiles, the seed."""
        result = self.run("up", **settings)
        assert result.returncode == 0, result.stdout + result.stderr
        starts = [line for line in self._log.read_text().splitlines() if " up -d " in line]
        return starts[-1].partition(" | ")[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_the_market_is_simulated_unless_there_is_a_key(checkout: Checkout) -> None:
    assert checkout.asked_to_start() == "simulated ots_sim simulated 1"
    assert "Market source: simulated (seed 1); collection: on." in checkout.run("up").stdout


def test_with_a_key_the_data_are_real(checkout: Checkout) -> None:
    assert checkout.asked_to_start(DATABENTO_API_KEY="db-1") == "databento ots none none"


def test_the_choice_is_kept_until_reset(checkout: Checkout) -> None:
    assert checkout.asked_to_start(SIMULATOR_SEED="7") == "simulated ots_sim simulated 7"
    assert checkout.asked_to_start() == "simulated ots_sim simulated 7"
    told = checkout.run("up", DATABENTO_API_KEY="db-1").stdout
    assert "DATABENTO_API_KEY is set and not used" in told
    assert "Market source: simulated (seed 7)" in told

    refused = checkout.run("up", SIMULATOR_SEED="8")
    assert refused.returncode == 1
    assert "holds the market of SIMULATOR_SEED=7" in refused.stderr
    assert checkout.run("down", SIMULATOR_SEED="8").returncode == 0

    told = checkout.run("up", MARKET_SOURCE="databento").stdout
    assert "Market source changes from simulated to databento" in told
    assert checkout.asked_to_start() == "databento ots none none"
    assert checkout.asked_to_start(MARKET_SOURCE="simulated") == "simulated ots_sim simulated 7"

    assert checkout.run("reset").returncode == 0
    assert checkout.asked_to_start(SIMULATOR_SEED="8") == "simulated ots_sim simulated 8"


def test_hosts_without_those_that_health_checks_ask_for_are_refused(checkout: Checkout) -> None:
    refused = checkout.run("up", ALLOWED_HOSTS='["api.example.com","127.0.0.1","localhost"]')
    assert refused.returncode == 1
    assert '"gateway" must be among them' in refused.stderr
    assert checkout.asked_to_start(ALLOWED_HOSTS='["api.example.com","127.0.0.1","localhost","gateway"]')


def test_a_market_that_is_none_is_refused_before_anything_starts(checkout: Checkout) -> None:
    refused = checkout.run("up", MARKET_SOURCE="real")
    assert refused.returncode == 1
    assert "it is databento or simulated" in refused.stderr
    assert " up -d " not in (checkout.folder / "engine.log").read_text()


def test_a_command_line_runs_in_the_container_of_its_program(checkout: Checkout) -> None:
    checkout.asked_to_start()
    assert checkout.run("run", "gateway", "ots_gateway.signing_keys", "list").returncode == 0
    last = (checkout.folder / "engine.log").read_text().splitlines()[-1]
    # no terminal is asked for where there is none
    assert " exec -T gateway python -m ots_gateway.signing_keys list | " in last
    refused = checkout.run("run", "gateway")
    assert (refused.returncode, "needs a program and a module" in refused.stderr) == (1, True)


def test_backup_and_restore_are_the_scripts_of_the_database(checkout: Checkout) -> None:
    checkout.asked_to_start()
    (checkout.folder / "database").mkdir()
    for name in ("backup", "restore"):
        script = checkout.folder / "database" / f"{name}.sh"
        script.write_text(f'#!/bin/bash\necho "{name} $*"\n')
        script.chmod(0o755)
        assert checkout.run(name, "somewhere", "--check").stdout == f"{name} somewhere --check\n"
