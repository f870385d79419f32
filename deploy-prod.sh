#!/usr/bin/env bash
# AI-OTS on AWS: ./deploy-prod.sh --help, docs/DEPLOYMENT_GUIDE.md. What it does is in infrastructure/deploy/ots_deploy.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# the standard library is enough, so any Python from 3.11 on is
for python in ${OTS_PYTHON:+"$OTS_PYTHON"} python3 python3.13 python3.12 python3.11; do
  if command -v "$python" >/dev/null 2>&1 && "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    PYTHONPATH="$root/infrastructure/deploy:$root/infrastructure/native" PYTHONDONTWRITEBYTECODE=1 exec "$python" -m ots_deploy "$@"
  fi
done
echo "deploy-prod.sh: needs Python 3.11 or later on PATH (or OTS_PYTHON=/path/to/python3.12)." >&2
exit 3
