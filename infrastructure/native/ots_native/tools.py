"""Prometheus, Alertmanager and the exporters: found on this machine, or taken from Debian's packages uninstalled.

Nothing is installed and no root is needed: the packages are downloaded (apt verifies them as ever) with lists and state
of their own, and unpacked into a folder of the user's cache that every checkout shares.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ots_native.errors import NativeError
from ots_native.private_files import locked

# our name, as the project itself calls it -> Debian's package, and the program's name there
PACKAGES = {
    "prometheus": ("prometheus", "prometheus"),
    "promtool": ("prometheus", "promtool"),
    "alertmanager": ("prometheus-alertmanager", "prometheus-alertmanager"),
    "amtool": ("prometheus-alertmanager", "amtool"),
    "node_exporter": ("prometheus-node-exporter", "prometheus-node-exporter"),
    "redis_exporter": ("prometheus-redis-exporter", "prometheus-redis-exporter"),
    "postgres_exporter": ("prometheus-postgres-exporter", "prometheus-postgres-exporter"),
}
# Debian's builds look for pages and templates where they would be installed; what is unpacked elsewhere is told to look
# below the folder that it runs in, by a path of the same length
_INSTALLED, _BESIDE = b"/usr/share/prometheus", b"./share/prometheus///"
_APT = """\
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Log "{folder}/log";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
"""


def tools_folder() -> Path:
    """Where `fetch_tools` puts them: of the user, shared by all checkouts."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "ai-ots" / "monitoring-tools"


def find_tool(name: str, *, fetched: bool = True) -> Path | None:
    """The program of PACKAGES called `name` on PATH, else (if `fetched`) among those that `fetch_tools` put aside."""
    program = PACKAGES[name][1]
    for candidate in (name, program):
        found = shutil.which(candidate)
        if found:
            return Path(found)
    kept = tools_folder() / program
    return kept if fetched and os.access(kept, os.X_OK) else None


def fetch_tools(say: Callable[[str], None], names: Sequence[str] = tuple(PACKAGES)) -> None:
    """Take what this machine lacks of `names` from Debian's packages. Raises NativeError where that cannot be."""
    if all(find_tool(name) for name in names):
        return
    for command in ("apt-get", "dpkg-deb"):
        if shutil.which(command) is None:
            raise NativeError(
                f"There is no {command} here to take Debian's packages with: put {', '.join(names)} on PATH "
                "(https://prometheus.io/download; macOS: `brew install prometheus alertmanager node_exporter`)."
            )
    folder = tools_folder()
    with locked(folder.with_suffix(".lock")):
        missing = [name for name in names if find_tool(name) is None]
        if not missing:
            return
        packages = sorted({PACKAGES[name][0] for name in missing})
        say(f"Fetching {', '.join(packages)} from Debian's packages into {folder}; nothing is installed.")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fetching-", dir=folder.parent) as fetching:
            _download(Path(fetching), packages)
            _unpack(Path(fetching), folder)
        if lacking := [name for name in missing if find_tool(name) is None]:
            raise NativeError(f"Debian's packages {', '.join(packages)} hold no {', '.join(lacking)}.")


def give_pages(folder: Path, tool: Path) -> None:
    """Let `tool`, when it runs in `folder`, find what Debian's package holds beside the program."""
    if tool.parent == tools_folder():
        (folder / "share").unlink(missing_ok=True)
        (folder / "share").symlink_to(tools_folder() / "share")


def _download(folder: Path, packages: Sequence[str]) -> None:
    for part in ("state/lists/partial", "cache/archives/partial", "log"):
        (folder / part).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "apt.conf").write_text(_APT.format(folder=folder), encoding="utf-8")
    environment = {**os.environ, "APT_CONFIG": str(folder / "apt.conf"), "LC_ALL": "C"}
    said = ""
    # an archive that does not answer is no matter as long as the packages come from another: the download decides
    for command in (["apt-get", "update"], ["apt-get", "download", *packages]):
        result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        said += result.stdout + result.stderr
    if result.returncode != 0:
        reasons = [line for line in said.splitlines() if line.startswith(("E:", "W:", "Err:"))]
        raise NativeError("\n".join([f"apt-get cannot download {', '.join(packages)}:", *reasons[-6:]]))


def _unpack(folder: Path, tools: Path) -> None:
    """Move what the downloaded packages hold to `tools`, the programs last and each in one step."""
    for package in folder.glob("*.deb"):
        command = ["dpkg-deb", "-x", str(package), str(folder / "unpacked")]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise NativeError(f"{package.name} cannot be unpacked: {result.stderr.strip()}")
    usr = folder / "unpacked" / "usr"
    for share in (usr / "share" / "prometheus").glob("*"):
        target = tools / "share" / "prometheus" / share.name
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        share.rename(target)
    for _, program in PACKAGES.values():
        unpacked = usr / "bin" / program
        if unpacked.exists():
            unpacked.write_bytes(unpacked.read_bytes().replace(_INSTALLED, _BESIDE))
            unpacked.replace(tools / program)
