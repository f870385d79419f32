"""What is written down is true: the reference is current, links lead somewhere, variables are explained."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md")])


def test_the_api_reference_is_current():
    command = [sys.executable, "docs/generate_api_reference.py", "--check"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0, "run docs/generate_api_reference.py"


def test_the_page_of_indicators_is_current():
    command = [sys.executable, "docs/generate_indicators.py", "--check"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0, "run docs/generate_indicators.py"


def test_python_in_the_documents_runs():
    blocks = [block for path in DOCUMENTS for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)]
    assert blocks
    for block in blocks:
        command = [sys.executable, "-W", "error", "-c", block]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, block + result.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_paths_in_documents_exist(document):
    for path in re.findall(
        r"`((?:services|database|infrastructure|monitoring|tests|docs)/[\w./-]+)`", document.read_text()
    ):
        assert (ROOT / path).exists(), f"{document.name}: {path}"
