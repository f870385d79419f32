"""What may not be in the repository, and what must agree with each other."""

import re
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def tracked() -> list[Path]:
    """The files git tracks; all of them where this is no checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def pins(path: Path) -> dict[str, str]:
    """name -> version."""
    return dict(re.findall(r"^([A-Za-z0-9_.-]+)==([^ ;\\]+)", path.read_text(), re.MULTILINE))


LOCKS = sorted([*ROOT.glob("services/*/requirements.txt"), ROOT / "infrastructure/native/requirements.txt"])


@pytest.mark.parametrize("lock", LOCKS, ids=lambda p: p.parent.name)
def test_every_lock_agrees_with_the_shared_one(lock):
    shared = pins(ROOT / "requirements.txt")
    mine = pins(lock)
    assert mine
    assert {name: shared.get(name) for name in mine} == mine


@pytest.mark.parametrize("lock", [*LOCKS, ROOT / "requirements.txt"], ids=lambda p: p.parent.name)
def test_every_pin_has_hashes_and_no_address(lock):
    text = lock.read_text()
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text[text.index("\n", text.index("#    ")) :].strip())
    assert all("--hash=sha256:" in block for block in blocks if "==" in block)
    assert "://" not in text
    assert "index-url" not in text


def test_no_secret_no_data_no_machine_path():
    addresses = re.compile(r"--(extra-)?index-url|--find-links|-----BEGIN [A-Z ]*PRIVATE KEY")
    home = str(Path.home())
    for path in tracked():
        assert not path.name.endswith((".dbn", ".zst", ".parquet", ".pem")), path
        assert path.stat().st_size < 512 * 1024, path
        if path.name == "test_repository.py":
            continue
        text = path.read_text(errors="replace")
        assert not addresses.search(text), path
        if len(home) > 5:
            assert f"{home}/" not in text, path
        assert f"{ROOT}/" not in text, path
    assert ROOT / ".env" not in tracked()


@pytest.mark.parametrize(
    "script", ["start-dev.sh", "deploy-prod.sh", "tests/run.sh", ".ci/run", "infrastructure/lock.sh"]
)
def test_scripts_can_be_run(script):
    path = ROOT / script
    assert path.stat().st_mode & stat.S_IXUSR
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0


def test_licence_is_mit():
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
