#!/usr/bin/env bash
# Locks the third-party requirements again: first everything together (requirements.txt, the shared lock), then each part with the
# versions that lock chose. Hashes, no index addresses, one file for Python 3.11 to 3.13. Needs uv (pip install uv).
#   infrastructure/lock.sh            keep the pinned versions where the .in files still allow them
#   infrastructure/lock.sh --upgrade  take the newest
set -euo pipefail
cd "$(dirname "$0")/.."
command -v uv >/dev/null || { echo "lock.sh needs uv: pip install uv" >&2; exit 1; }

compile() { # compile SOURCE TARGET [uv arguments]
  local source=$1 target=$2; shift 2
  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url \
    --custom-compile-command infrastructure/lock.sh "$@" "$source" -o "$target"
  echo "locked $target"
}

compile requirements.in requirements.txt "$@"
for source in services/*/requirements.in infrastructure/native/requirements.in tests/benchmarks/requirements.in; do
  compile "$source" "${source%.in}.txt" --constraints requirements.txt
done
