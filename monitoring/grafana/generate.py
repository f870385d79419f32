"""Writes Grafana's dashboards from `ots_dashboards`.

python monitoring/grafana/generate.py            writes them
python monitoring/grafana/generate.py --check    exit code 1 when what is there is not current
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))  # the package is no part of a service, and installed nowhere

from ots_dashboards.dashboards import DASHBOARDS  # noqa: E402

TARGET = FOLDER / "provisioning" / "dashboards" / "json"


def files() -> dict[Path, str]:
    """The text of each file."""
    return {
        TARGET / f"{one.uid.removeprefix('ots-')}.json": json.dumps(one.to_json(), indent=2, ensure_ascii=False) + "\n"
        for one in DASHBOARDS
    }


def main(arguments: list[str]) -> int:
    """Write the files, or say which are not current."""
    wanted = files()
    present = {path: path.read_text() for path in TARGET.glob("*.json")}
    if "--check" in arguments:
        stale = sorted(path.name for path in wanted.keys() | present.keys() if wanted.get(path) != present.get(path))
        for name in stale:
            print(f"{name} is not what ots_dashboards makes: run python monitoring/grafana/generate.py")
        return 1 if stale else 0
    TARGET.mkdir(parents=True, exist_ok=True)
    for path in present.keys() - wanted.keys():
        path.unlink()
    for path, text in wanted.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
