"""The manuals of whoever runs the platform: their messages are the platform's own, their commands are ones it has.

That the commands work is for tests that have a platform: tests/test_comprehensive.py runs those over HTTP,
tests/native/test_start_dev.py those of ./start-dev.sh.
"""

from __future__ import annotations

import re
import shlex

import pytest

from ots_native.__main__ import _parser
from ots_native.programs import _PACKAGES, COUNTING
from places import ROOT

MANUALS = ["OPERATIONS_MANUAL.md", "TROUBLESHOOTING.md"]
PROGRAMS = {
    "postgres", "redis", "simulator", "analytics-snapshots", "signals-worker", "ingestion-worker", *_PACKAGES,
    *(f"ingestion-{name}" for name in COUNTING),
}  # fmt: skip


def manual(name: str) -> str:
    """Without the runbooks of the alerts, which have their own tests."""
    return (ROOT / "docs" / name).read_text().split("\n## Alerts")[0]


def source() -> str:
    """All code, with texts that go over several lines in one piece and what is put into them left out."""
    files = [
        *(ROOT / "services").rglob("*.py"),
        *(ROOT / "infrastructure").rglob("*.py"),
        *(ROOT / "infrastructure").rglob("*.sh"),
        *(ROOT / "database").glob("*.sh"),
        ROOT / "start-dev.sh",
        ROOT / "docker-compose.yml",
    ]
    text = "\n".join(path.read_text() for path in files)
    return re.sub(r'"\s*\n?\s*f?"', "", text)


def test_the_messages_are_the_platforms_own():
    said = source()
    rows = [line for line in manual("TROUBLESHOOTING.md").splitlines() if re.match(r"\|.*\|$", line)]
    quoted = [text for row in rows for text in re.findall(r"`([^`]+)`", row.split("|")[1])]
    pieces = [piece.strip() for text in quoted for piece in re.split("…|<.*?>", text) if len(piece.strip()) > 5]
    assert len(pieces) > 70
    # what pydantic and gunicorn say, and what the launcher puts together
    others = {"Extra inputs are not permitted", "Waiting for analytics (unavailable)"}
    unknown = [piece for piece in pieces if piece not in said and piece not in others]
    assert not unknown, "\n".join(unknown)


@pytest.mark.parametrize("name", MANUALS)
def test_the_commands_are_ones_that_there_are(name):
    text = manual(name)
    fences = "".join(re.findall(r"```(?:bash|text)\n(.*?)```", text, re.DOTALL)).splitlines()
    inline = re.findall(r"`([^`\n]*start-dev\.sh[^`\n]*)`", text)
    start = re.compile(r"^(?:[A-Z_]+=\S+ |eval \"\$\()?\./start-dev\.sh(.*?)(?:(?<=[a-z])\)\"| \| grep.*)?$")
    found = [match[1] for line in [*fences, *inline] if (match := start.match(line))]
    assert len(found) >= len([line for line in fences if "./start-dev.sh" in line])
    assert len(found) > 3
    for arguments in found:
        words = shlex.split(re.sub(r"\"\$\(.*\)\"", "FOLDER", arguments)) or ["up"]
        parsed = _parser().parse_args(words)
        named = getattr(parsed, "program", None) or getattr(parsed, "service", None)
        assert named is None or named in PROGRAMS | {"NAME", "PROGRAM"}, arguments


def test_the_settings_are_ones_that_there_are():
    known = (ROOT / ".env.example").read_text() + "".join(
        path.read_text().upper() for path in (ROOT / "services").rglob("*settings.py")
    )
    for name in MANUALS:
        settings = set(re.findall(r"`([A-Z]+_[A-Z_]+)=?[^`]*`", manual(name)))
        unknown = {each for each in settings if each not in known}
        # of others than this platform, or set by start-dev.sh
        assert unknown <= {"KEY_", "ADMIN_DATABASE_URL"}, unknown
