"""./start-dev.sh as a stranger types it: the commands of README and docs/DEVELOPMENT_SETUP.md, in a fresh clone."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from ots_native.errors import NativeError
from ots_native.monitoring import PROGRAMS
from ots_native.settings import Ports
from ots_native.tools import fetch_tools
from places import ROOT


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Iterator[Path]:
    """A clone with ports of its own, in which nothing is installed yet."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    folder = tmp_path_factory.mktemp("clone") / "ai-ots"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    yield folder
    run(folder, "./start-dev.sh reset")


PORTS = {f"OTS_PORT_{name.upper()}": str(port) for name, port in asdict(Ports.free()).items()}
LAST_BACKUP = '"$(ls -d ~/ots-backups/backup-* | tail -n 1)"'


def run(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTS_")}
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**environment, **PORTS, "OTS_NATIVE": "1", "OTS_READY_TIMEOUT_S": "300"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def succeeds(folder: Path, command: str) -> str:
    result = run(folder, command)
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
    return result.stdout


def printed(document: str) -> set[str]:
    """The ./start-dev.sh lines of a document, inline ones and those of code blocks."""
    text = (ROOT / document).read_text().split("\n## Alerts")[0]
    lines = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    inline = re.findall(r"`([^`\n]*start-dev\.sh[^`\n]*)`", text)
    found = {line.strip() for line in "\n".join(lines + inline).splitlines() if "start-dev.sh" in line}
    return {line for line in found if not line.startswith("curl")}


def watched(clone: Path, executed: set[str]) -> None:
    """Prometheus and what belongs to it join a platform that goes on running, and leave it so."""
    executed |= {"./start-dev.sh monitoring", "OTS_MONITORING=off ./start-dev.sh"}
    try:
        fetch_tools(print, tuple(PROGRAMS))
    except NativeError:
        return  # Debian is out of reach: what tests/alerts says of it is skipped there too
    before = running(clone)
    assert "Prometheus http://localhost:" in succeeds(clone, "./start-dev.sh monitoring")
    with_them = running(clone)
    assert with_them.keys() - before.keys() == {*PROGRAMS.values()} - before.keys()
    assert {name: with_them[name] for name in before} == before, "something was started anew"
    succeeds(clone, "OTS_MONITORING=off ./start-dev.sh")
    without = running(clone)
    assert not without.keys() & {*PROGRAMS.values()}
    assert {name: without[name] for name in before.keys() - {*PROGRAMS.values()}}.items() <= before.items()


def running(clone: Path) -> dict[str, str]:
    """The programs that run, with their process ids."""
    lines = (line.split() for line in succeeds(clone, "./start-dev.sh status").splitlines())
    return {words[0]: words[2] for words in lines if len(words) > 2 and words[1] == "running"}


def test_the_life_of_a_platform(clone):
    executed = set()

    def typed(line: str, then: str = "", before: str = "") -> str:
        executed.add(line)
        return succeeds(clone, before + line + then)

    out = typed("./start-dev.sh --native")
    url = f"http://localhost:{PORTS['OTS_PORT_GATEWAY']}"
    assert url in out
    assert "Grafana" in out
    assert "./start-dev.sh monitoring" in out
    assert (clone / ".env").stat().st_mode & 0o777 == 0o600
    assert "Market source: simulated (seed 1); collection: on." in out
    # the lines it ends with are to be pasted
    following = [line.strip() for line in out[out.index("Next:") :].splitlines()[1:] if line.strip()]
    assert [line.split()[0] for line in following] == ["eval", "curl", "curl", "curl"]
    succeeds(clone, "set -eu\n" + "\n".join(following))
    secrets = (clone / ".env").read_text()
    assert "runs already" in typed("./start-dev.sh")
    assert (clone / ".env").read_text() == secrets
    assert "Health: ok" in typed("./start-dev.sh status")
    assert "Starting gunicorn" in typed("./start-dev.sh logs analytics")
    assert "up" in typed("./start-dev.sh help")
    for line in ('eval "$(./start-dev.sh token --role operator)"', 'eval "$(./start-dev.sh token)"'):
        answer = typed(line, f'; curl -fsS -H "Authorization: Bearer $TOKEN" {url}/api/v1/auth/me')
        assert ('"role":"operator"' in answer) is ("operator" in line)
    for line in sorted(each for each in printed("docs/OPERATIONS_MANUAL.md") if each.startswith("./start-dev.sh run ")):
        typed(line)
    at_home = f"HOME={clone.parent}; "
    assert "rows of" in typed("./start-dev.sh backup ~/ots-backups --keep 14", before=at_home)
    assert "whole" in typed(f"./start-dev.sh restore {LAST_BACKUP} --check", before=at_home)
    refused = run(clone, f"{at_home}./start-dev.sh restore {LAST_BACKUP} --replace")
    assert (refused.returncode != 0, "./start-dev.sh down first" in refused.stderr) == (True, True)
    watched(clone, executed)
    refused = run(clone, "./start-dev.sh token --role emperor")
    assert (refused.returncode != 0, refused.stdout) == (True, "")
    typed("./start-dev.sh down")
    assert succeeds(clone, f"pgrep -f '{clone}/[.]ots' || true") == ""
    typed("./start-dev.sh down")
    assert run(clone, "./start-dev.sh status").returncode != 0
    assert "restored ots_sim and ots_accounts" in typed(
        f"./start-dev.sh restore {LAST_BACKUP} --replace", before=at_home
    )
    # every secret anew, as after a leak; one alone is no other
    typed("mv .env .env.leaked")
    moved = Ports.free().gateway
    # the port that is printed may be taken here: another stands in for it
    out = succeeds(clone, f"OTS_PORT_GATEWAY={moved} MARKET_SOURCE=databento ./start-dev.sh")
    executed |= {"OTS_PORT_GATEWAY=9000 ./start-dev.sh", "MARKET_SOURCE=databento ./start-dev.sh"}
    assert "fresh secrets" in out
    assert not {*secrets.splitlines()} & {line for line in (clone / ".env").read_text().splitlines() if "=" in line}
    assert "Market source changes from simulated to databento" in out
    assert "Market source: databento; collection: off" in out
    following = [line.strip() for line in out[out.index("Next:") :].splitlines()[1:] if line.strip()]
    succeeds(clone, "set -eu\n" + "\n".join(following))
    assert '"market_source":"databento"' in succeeds(clone, f"curl -fsS http://localhost:{moved}/health")
    typed("./start-dev.sh reset")
    assert not list((clone / ".ots").glob("postgres*"))
    typed("sed -i '/^METRICS_TOKEN=/d' .env")
    assert "METRICS_TOKEN" not in (clone / ".env").read_text()
    manual = {line for line in printed("docs/OPERATIONS_MANUAL.md") if " backup " in line or " restore " in line}
    assert {line for line in manual if "TIME" not in line} <= executed | {"./start-dev.sh backup ~/ots-backups"}
    for document in ("README.md", "docs/DEVELOPMENT_SETUP.md"):
        assert printed(document) <= executed, document
