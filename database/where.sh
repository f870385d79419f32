# Sourced by backup.sh and restore.sh: which databases are meant, and how they are reached.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

fail() { echo "$(basename "$0"): $*" >&2; exit 1; }

# a server's URL when one is set, else the way that ./start-dev.sh recorded
where() {
  if [ -n "${ADMIN_DATABASE_URL:-}" ]; then echo url; return; fi
  if [ "${OTS_NATIVE:-}" != 1 ] && [ -r "$root/.ots/mode" ]; then cat "$root/.ots/mode"; else echo native; fi
}

native() {
  [ -e "$root/.venv/.ots-installed" ] || fail "nothing has been started here yet: ./start-dev.sh starts the platform"
  "$root/.venv/bin/python" -I -m ots_native --root "$root" "$@"
}

# docker compose for the market that ./start-dev.sh recorded
compose() {
  local source
  source=$(sed -n 's/^MARKET_SOURCE=//p' "$root/.ots/market" 2>/dev/null)
  case $source in
    databento) export MARKET_SOURCE=databento MARKET_DATABASE=ots ;;
    simulated) export MARKET_SOURCE=simulated MARKET_DATABASE=ots_sim ;;
    *) fail "nothing has been started here yet: ./start-dev.sh starts the platform" ;;
  esac
  docker compose --project-directory "$root" "$@"
}

# what provisioning runs in, as whoever calls, so that the files are theirs
in_container() { # in_container VOLUME MODULE ARGUMENT...
  local volume=$1 module=$2
  shift 2
  compose run --rm -T --no-deps --user "$(id -u):$(id -g)" --volume "$volume" migrate python -m "ots_common.$module" "$@"
}
