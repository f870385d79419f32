"""The platform against its own OpenAPI document, by schemathesis: no server error, no answer that the document lacks.

The short form runs a few examples of each operation; the long form is by command, against a platform that runs::

    OTS_BASE_URL=http://127.0.0.1:8000 OTS_ADMIN_PASSWORD=... OTS_CONTRACT_EXAMPLES=200 pytest tests/test_contract.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from ots_gateway.access import ROUTES
from ots_native.platform import Platform
from ots_native.settings import Ports

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = os.environ.get("OTS_CONTRACT_EXAMPLES", "3")
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance"
)
# they would end the session that asks, or count as wrong passwords; a file of DBN is no JSON; a stream goes on
LEFT_OUT = (
    "/api/v1/auth/logout", "/api/v1/auth/password", "/api/v1/auth/login", "/api/v1/auth/refresh",
    "/api/v1/data/imports", "/api/v1/signals/stream",
)  # fmt: skip

pytestmark = pytest.mark.platform


@contextmanager
def running(folder: Path) -> Iterator[tuple[str, str]]:
    """The address of a platform, and the password of its admin."""
    if url := os.environ.get("OTS_BASE_URL"):
        yield url, os.environ["OTS_ADMIN_PASSWORD"]
        return
    platform = Platform(
        ROOT,
        state=folder / "state",
        env_file=folder / "env",
        ports=Ports.free(),
        environment={**os.environ, "MARKET_SOURCE": "databento", "DATABENTO_API_KEY": "", "RATE_LIMIT_SCALE": "0"},
        ready_timeout_s=180,
        say=lambda _line: None,
    )
    try:
        platform.up()
        yield platform.url, platform.settings.values["ADMIN_PASSWORD"]
    finally:
        platform.reset()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    with running(tmp_path_factory.mktemp("contract")) as found:
        yield found


@pytest.fixture(scope="module")
def token(platform: tuple[str, str]) -> str:
    url, password = platform
    login = {"username": "admin", "password": password}
    return requests.post(f"{url}/api/v1/auth/login", json=login, timeout=30).json()["access_token"]


def test_every_row_of_the_table_is_described_by_its_service(platform: tuple[str, str]) -> None:
    document = requests.get(f"{platform[0]}/api/v1/openapi.json", timeout=30).json()
    operations = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert operations == {(route.method, route.pattern) for route in ROUTES}
    unknown = {
        path for path, methods in document["paths"].items() for each in methods.values() if "x-not-described" in each
    }
    assert unknown <= {"/api/v1/openapi.json", "/docs", "/docs/{asset}"}


def test_the_platform_keeps_its_contract(platform: tuple[str, str], token: str, tmp_path: Path) -> None:
    command = [
        str(Path(sys.executable).with_name("st")), "run", f"{platform[0]}/api/v1/openapi.json",
        "--header", f"Authorization: Bearer {token}", "--checks", CHECKS, "--max-examples", EXAMPLES,
        "--phases", "examples,fuzzing", "--seed", "1", "--no-color", "--continue-on-failure",
        "--generation-database", "none", "--request-timeout", "60",
    ]  # fmt: skip
    for path in LEFT_OUT:
        command += ["--exclude-path", path]
    told = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=3600, check=False)
    assert told.returncode == 0, told.stdout[-20_000:] + told.stderr[-2000:]
