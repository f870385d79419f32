#!/usr/bin/env bash
# Both databases as a backup has them: database/restore.sh BACKUP [--replace | --check]
#
# BACKUP is a folder that database/backup.sh made. --replace: also where there are data now, which are lost. --check: only
# say whether every byte is as it was written. Which databases: as in backup.sh; the platform must be stopped.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/where.sh"

[ $# -ge 1 ] && [ "${1#-}" = "$1" ] || fail "usage: database/restore.sh BACKUP [--replace | --check]"
case $(where) in
  url) MIGRATIONS_DIR="$root/database/migrations" "$root/.venv/bin/python" -I -m ots_common.restore "$@" ;;
  native) native restore "$@" ;;
  compose)
    [ -d "$1" ] || fail "$1 is no folder"
    backup=$(cd "$1" && pwd)
    shift
    if [ "${1:-}" != --check ]; then
      if compose ps --services --status running | grep -qx gateway; then
        fail "The platform runs, and would write meanwhile: ./start-dev.sh down first."
      fi
      compose up -d --wait postgres >/dev/null
    fi
    in_container "$backup:/backup:ro" restore /backup "$@" | sed "s#^/backup#$backup#"
    # the restored cursors point into files that have been stored, and deleted, since: without a spool the collector states
    # a gap from where the database ends, and asks the feed for a replay
    if [ "${1:-}" != --check ]; then
      compose run --rm -T --no-deps ingestion-collector python -c \
        'import os, shutil; shutil.rmtree(os.path.join(os.environ["SPOOL_DIR"], "live"), ignore_errors=True)'
    fi
    ;;
esac
