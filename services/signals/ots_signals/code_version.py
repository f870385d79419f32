"""Which code decided: part of every record, so that a change of the code shows in what it decided."""

from __future__ import annotations

import hashlib
import subprocess
from functools import lru_cache
from pathlib import Path

import ots_chains
import ots_market
import ots_quant
import ots_signals

_PACKAGES = (ots_signals, ots_chains, ots_market, ots_quant)


@lru_cache(maxsize=1)
def code_version() -> str:
    """The commit of the checkout.

    With changes that are in no commit ``+`` and a digest of the sources follow; without a repository it is
    ``sources-`` and that digest.
    """
    folder = Path(ots_signals.__file__).resolve().parent
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return f"sources-{sources_digest()[:16]}"
    changed = _git(folder, "status", "--porcelain", "--untracked-files=all", "--", "..", "../../chains", "../../quant")
    return f"{commit}+{sources_digest()[:16]}" if changed or changed is None else commit


@lru_cache(maxsize=1)
def sources_digest() -> str:
    """SHA-256 of all modules that a decision can depend on, in hexadecimal."""
    found = hashlib.sha256()
    for package in _PACKAGES:
        folder = Path(package.__file__ or "").resolve().parent
        for path in sorted(folder.rglob("*.py")):
            found.update(f"{package.__name__}/{path.relative_to(folder)}\n".encode())
            found.update(path.read_bytes())
    return found.hexdigest()


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip()
