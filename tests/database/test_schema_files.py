"""The schema as it stands is written down, and current."""

import os
import subprocess
import sys

import pytest

from ots_common.database import Database
from places import ROOT


def test_the_schema_files_are_current(postgres_url):
    database = Database(postgres_url, application="tests", size=1)
    version = int(database.rows("SHOW server_version_num")[0][0]) // 10_000
    database.close()
    if version != 18:
        pytest.skip(f"they are written with PostgreSQL 18; this is {version}")
    command = [sys.executable, "database/schema/generate.py", "--check"]
    environment = {**os.environ, "ADMIN_DATABASE_URL": postgres_url}
    result = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    assert result.returncode == 0, "run python database/schema/generate.py"
