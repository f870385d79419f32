#!/usr/bin/env bash
# Runs the tests: sets up what they need, and starts PostgreSQL and Redis (and for the end-to-end tests the whole platform) on
# free ports. Arguments go to pytest:   ./tests/run.sh tests/house -x
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
infrastructure/native/install.sh requirements.txt
export PATH="$PWD/.venv/bin:$PATH"
exec python -m pytest "$@"
