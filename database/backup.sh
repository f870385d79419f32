#!/usr/bin/env bash
# One consistent copy of both databases, while everything goes on: database/backup.sh FOLDER [--keep N]
#
# Of the platform that ./start-dev.sh runs on this machine, in containers or without; or, where ADMIN_DATABASE_URL (and
# MARKET_DATABASE) are set, of that server's databases. docs/OPERATIONS_MANUAL.md tells more.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/where.sh"

[ $# -ge 1 ] && [ "${1#-}" = "$1" ] || fail "usage: database/backup.sh FOLDER [--keep N]"
case $(where) in
  url) "$root/.venv/bin/python" -I -m ots_common.backup "$@" ;;
  native) native backup "$@" ;;
  compose)
    mkdir -p -m 700 "$1"
    folder=$(cd "$1" && pwd)
    shift
    compose up -d --wait postgres >/dev/null
    in_container "$folder:/backups" backup /backups "$@" | sed "s#^/backups#$folder#"
    ;;
esac
