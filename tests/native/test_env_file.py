"""`.env`: made, completed, never overwritten."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from native.stand_ins import CHECKOUT
from ots_native import env_file
from ots_native.env_file import SECRETS, complete_env_file, parse_env, read_env_file
from ots_native.settings import INVENTED, MONITORING, OPTIONS, Ports


def test_it_is_made_with_secrets_that_nobody_else_can_read(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    assert complete_env_file(path) == list(SECRETS)
    assert path.stat().st_mode & 0o777 == 0o600
    values = read_env_file(path)
    assert len(set(values.values())) == len(SECRETS)
    assert all(len(value) >= 43 for name, value in values.items() if name != "SIMULATOR_KEY")
    # as Databento's client wants a key to look
    assert re.fullmatch(r"db-[A-Za-z0-9_-]{29}", values["SIMULATOR_KEY"])
    assert len(base64.urlsafe_b64decode(values["JWT_SIGNING_KEY"] + "=")) == 32


def test_its_values_mean_the_same_to_bash(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    complete_env_file(path)
    script = 'set -a; . "$1"; "$2" -c "import os; print(dict(os.environ))"'
    result = subprocess.run(
        ["bash", "-c", script, "-", path, sys.executable], capture_output=True, text=True, check=True
    )
    assert read_env_file(path).items() <= eval(result.stdout).items()
    assert not re.search(r"""["'$\\`]""", path.read_text())


def test_what_is_there_stays_and_what_lacks_is_added(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("# mine\nREDIS_PASSWORD=chosen\nADMIN_PASSWORD=\nDATABENTO_API_KEY=db-1")
    assert set(complete_env_file(path)) == set(SECRETS) - {"REDIS_PASSWORD"}
    text = path.read_text()
    assert text.startswith("# mine\nREDIS_PASSWORD=chosen\nADMIN_PASSWORD=\nDATABENTO_API_KEY=db-1\n")
    assert path.stat().st_mode & 0o077 == 0
    assert read_env_file(path)["ADMIN_PASSWORD"]
    assert complete_env_file(path) == []
    assert path.read_text() == text


def test_starts_at_the_same_time_agree(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda _: complete_env_file(path), range(8)))
    assert sorted(map(len, added)) == [0] * 7 + [len(SECRETS)]


def test_a_line_that_is_no_setting_is_named() -> None:
    with pytest.raises(ValueError, match="line 2"):
        parse_env("A=1\nnonsense\n")
    assert parse_env("export A='1'\nB=x=y\n\n# C=3") == {"A": "1", "B": "x=y"}


def test_it_runs_by_itself_for_compose(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    result = subprocess.run(
        [sys.executable, "-I", env_file.__file__, path], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert "Made" in result.stderr
    assert read_env_file(path).keys() == SECRETS.keys()


def test_the_example_explains_every_name() -> None:
    explained = set(re.findall(r"^#?([A-Z_]+)=", (CHECKOUT / ".env.example").read_text(), re.MULTILINE))
    assert {*SECRETS, *OPTIONS, *INVENTED, *MONITORING, *Ports().as_values(), "MARKET_SOURCE"} <= explained


def test_the_example_holds_no_secret() -> None:
    example = read_env_file(CHECKOUT / ".env.example")
    assert {name for name in SECRETS if not example[name]} == set(SECRETS)
