"""Lint, format and types, as CI asks for them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("services/*/ots_*", "infrastructure/*/ots_*", "monitoring/grafana/ots_*")
    for path in ROOT.glob(pattern)
    if path.is_dir() and "egg-info" not in path.name
)


@pytest.mark.parametrize(
    "command",
    [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy", *PACKAGES]],
    ids=["ruff check", "ruff format", "mypy"],
)
def test_passes(command):
    result = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
