#!/usr/bin/env bash
# Runs AI-OTS on this machine: under Docker Compose when an engine answers, else natively. See ./start-dev.sh help.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mode_file="$root/.ots/mode"
market_file="$root/.ots/market"
services="gateway cache ingestion ingestion-worker ingestion-collector ingestion-backfiller analytics analytics-snapshots signals signals-worker postgres redis prometheus alertmanager node-exporter redis-exporter postgres-exporter"

usage() {
  cat <<'END'
./start-dev.sh [--native | --compose] [COMMAND]

  up                    start everything (the default)
  monitoring            without containers: fetch Prometheus, Alertmanager and exporters (Debian's packages, not installed) and
                        start them with the rest; with Docker Compose they run anyway
  down                  stop everything; the data stay
  status                what runs; exit code 0 only if all does
  logs [SERVICE] [-f]   the last 100 lines; -f goes on
  token [--role ROLE]   log in as admin, print `export TOKEN=...`; ROLE: viewer, trader (default), operator or admin
  run PROGRAM MODULE .. one of our command lines with what that program is given: run gateway ots_gateway.signing_keys list
  backup FOLDER         copy both databases to a new folder there, while all goes on; --keep N deletes the oldest beyond N
  restore BACKUP        both databases as that folder has them, after `down`; --replace: also where there are data now;
                        --check: only say whether the backup is whole
  reset                 stop everything and delete the development data, the database included
  help                  this text

  --native              without containers, also where Docker is (OTS_NATIVE=1 does the same)
  --compose             with Docker Compose

Later commands follow the way chosen at `up`. Settings: the environment, then .env (.env.example explains them).
END
}

fail() { echo "start-dev.sh: $*" >&2; exit 1; }

docker_answers() {
  command -v docker >/dev/null 2>&1 && docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1
}

# the flag, else for later commands what `up` recorded, else what this machine offers
choose_mode() {
  if [ -n "$mode" ]; then return; fi
  if [ "$command" != up ] && [ -r "$mode_file" ]; then mode=$(cat "$mode_file"); return; fi
  if [ "${OTS_NATIVE:-}" = 1 ]; then mode=native; return; fi
  if docker_answers; then mode=compose; else mode=native; fi
}

starts() { [ "$command" = up ] || [ "$command" = monitoring ]; }

record_mode() {
  [ -d "$root/.ots" ] || mkdir -m 700 "$root/.ots" || fail "cannot write in $root"
  echo "$mode" >"$mode_file" || fail "$root/.ots belongs to another user: run this as that user"
}

setting() { # setting NAME DEFAULT: from the environment, else from .env, else the default
  local value="${!1:-}"
  if [ -z "$value" ] && [ -r "$root/.env" ]; then value=$(sed -n "s/^$1=//p" "$root/.env" | tail -n 1); fi
  echo "${value:-$2}"
}

# --- natively ---

native() {
  # to be told that nothing runs, nobody waits for an installation
  if ! starts && [ ! -e "$(setting OTS_STATE_DIR "$root/.ots")/record.json" ]; then
    case $command in
      down | reset) [ -e "$root/.ots" ] || { echo "Nothing runs."; exit 0; } ;;
      *) fail "nothing has been started here yet: ./start-dev.sh starts the platform" ;;
    esac
  fi
  if starts || [ ! -e "$root/.venv/.ots-installed" ]; then
    bash "$root/infrastructure/native/install.sh" "$root/infrastructure/native/requirements.txt" >&2
  fi
  exec "$root/.venv/bin/python" -I -m ots_native --root "$root" "$command" "$@"
}

# --- Docker Compose ---

compose() { docker compose --project-directory "$root" "$@"; }

recorded() { sed -n "s/^$1=//p" "$market_file" 2>/dev/null || true; }

# as asked for, else as `up` recorded, else Databento for whoever has a key, and for everybody else the simulated market
choose_market() {
  local earlier default=simulated
  earlier=$(recorded MARKET_SOURCE)
  if [ -n "$(setting DATABENTO_API_KEY '')" ]; then default=databento; fi
  MARKET_SOURCE=$(setting MARKET_SOURCE "${earlier:-$default}")
  case $MARKET_SOURCE in
    databento) MARKET_DATABASE=ots ;;
    simulated)
      MARKET_DATABASE=ots_sim
      COMPOSE_PROFILES=simulated${COMPOSE_PROFILES:+,$COMPOSE_PROFILES}
      services="$services simulator"
      choose_invented SIMULATOR_SEED 1
      choose_invented SIMULATOR_CALENDAR around-the-clock
      choose_invented SIMULATOR_SIZE laptop
      ;;
    *) fail "MARKET_SOURCE=$MARKET_SOURCE: it is databento or simulated." ;;
  esac
  export MARKET_SOURCE MARKET_DATABASE COMPOSE_PROFILES="${COMPOSE_PROFILES:-}"
  if [ "$command" = up ]; then record_market "$earlier"; fi
}

# what makes one invented market is kept until `reset`: its database takes no other
choose_invented() { # choose_invented NAME DEFAULT
  local earlier value
  earlier=$(recorded "$1")
  value=$(setting "$1" "${earlier:-$2}")
  if [ "$command" = up ] && [ "${earlier:-$value}" != "$value" ]; then
    fail "$1=$value: the database $MARKET_DATABASE holds the market of $1=$earlier; ./start-dev.sh reset deletes that one."
  fi
  export "$1=$value"
}

record_market() { # record_market EARLIER_SOURCE
  local name value lines
  if [ -n "$1" ] && [ "$1" != "$MARKET_SOURCE" ]; then
    echo "Market source changes from $1 to $MARKET_SOURCE, and with it the database; both keep what they hold."
  fi
  if [ "$MARKET_SOURCE" = simulated ] && [ -n "$(setting DATABENTO_API_KEY '')" ]; then
    echo "DATABENTO_API_KEY is set and not used: the market is simulated. MARKET_SOURCE=databento ./start-dev.sh changes to real data."
  fi
  lines="MARKET_SOURCE=$MARKET_SOURCE"
  for name in SIMULATOR_SEED SIMULATOR_CALENDAR SIMULATOR_SIZE; do
    if [ "$MARKET_SOURCE" = simulated ]; then value=${!name}; else value=$(recorded "$name"); fi
    lines="$lines"$'\n'"$name=$value"
  done
  echo "$lines" >"$market_file"
}

# a Python of any age makes .env; where there is none, a container's does
make_env_file() {
  local script=infrastructure/native/ots_native/env_file.py
  if command -v python3 >/dev/null 2>&1; then
    python3 -I "$root/$script" "$root/.env"
  else
    docker run --rm --user "$(id -u):$(id -g)" -v "$root:/checkout" python:3.12-slim \
      python -I "/checkout/$script" /checkout/.env
  fi
}

gateway_url() { echo "http://localhost:$(setting OTS_PORT_GATEWAY 8000)"; }

# who asks by other names than these is refused, health checks among them
check_allowed_hosts() {
  local hosts name; hosts=$(setting ALLOWED_HOSTS '')
  for name in 127.0.0.1 localhost gateway; do
    case $hosts in '' | *"\"$name\""*) ;; *) fail "ALLOWED_HOSTS=$hosts: \"$name\" must be among them." ;; esac
  done
}

compose_up() {
  check_allowed_hosts
  make_env_file
  echo "Building and starting the containers; the first time takes some minutes."
  if [ "$MARKET_SOURCE" = databento ]; then compose --profile simulated rm --stop --force simulator >/dev/null 2>&1 || true; fi
  compose up -d --build --wait || fail "not everything came up; see ./start-dev.sh status and logs."
  local url source path paths; url=$(gateway_url)
  if [ "$MARKET_SOURCE" = simulated ]; then
    source="simulated (seed $SIMULATOR_SEED); collection: on"
    paths="data/collection/status data/market-status"
  else
    source="databento; collection: $([ -n "$(setting DATABENTO_API_KEY '')" ] && echo on || echo 'off (DATABENTO_API_KEY is not set)'); imports of DBN files: on"
    paths=data/runs
  fi
  cat <<END

AI-OTS is running. Market source: $source.

  API         $url/api/v1
  Health      $url/health
  Monitoring  Prometheus http://localhost:$(setting OTS_PORT_PROMETHEUS 9090), Alertmanager http://localhost:$(setting OTS_PORT_ALERTMANAGER 9093)
  Grafana     docker compose --profile grafana up -d grafana

Next:
  eval "\$(./start-dev.sh token --role operator)"
  curl -fsS $url/health
END
  for path in $paths; do echo "  curl -fsS -H \"Authorization: Bearer \$TOKEN\" $url/api/v1/$path"; done
}

compose_status() {
  compose ps --all
  local running service all_run=0
  running=$(compose ps --services --status running)
  for service in $services; do
    if ! grep -qx "$service" <<<"$running"; then echo "$service does not run" >&2; all_run=1; fi
  done
  curl -fsS "$(gateway_url)/health" || all_run=1
  echo
  return "$all_run"
}

compose_token() {
  local role=trader answer token
  while [ $# -gt 0 ]; do
    case $1 in
      --role) [ $# -gt 1 ] || fail "--role needs a role"; role=$2; shift 2 ;;
      --role=*) role=${1#--role=}; shift ;;
      *) fail "token does not know $1" ;;
    esac
  done
  case $role in viewer | trader | operator | admin) ;; *) fail "there is no role $role" ;; esac
  # the password goes through curl's standard input: a command line can be seen by everybody
  answer=$(printf '{"username":"admin","password":"%s","role":"%s"}' "$(setting ADMIN_PASSWORD '')" "$role" |
    curl -fsS -H 'Content-Type: application/json' --data-binary @- "$(gateway_url)/api/v1/auth/login") ||
    fail "the gateway gave no token"
  token=$(sed -n 's/.*"access_token" *: *"\([A-Za-z0-9._~+\/=-]*\)".*/\1/p' <<<"$answer")
  [ -n "$token" ] || fail "the gateway gave no token"
  echo "export TOKEN=$token"
}

compose_run() {
  [ $# -gt 1 ] || fail "run needs a program and a module: run gateway ots_gateway.signing_keys list"
  local program=$1 module=$2 terminal=-T
  shift 2
  if [ -t 0 ] && [ -t 1 ]; then terminal=; fi
  # shellcheck disable=SC2086
  compose exec $terminal "$program" python -m "$module" "$@"
}

in_compose() {
  command -v docker >/dev/null 2>&1 || fail "there is no docker; ./start-dev.sh --native needs none."
  choose_market
  case $command in
    up) compose_up ;;
    monitoring) echo "Under Docker Compose the monitoring runs with the rest: ./start-dev.sh" ;;
    down) compose --profile grafana --profile simulated --profile containers down ;;
    status) compose_status ;;
    logs) compose logs --tail 100 "$@" ;;
    token) compose_token "$@" ;;
    run) compose_run "$@" ;;
    backup | restore) exec "$root/database/$command.sh" "$@" ;;
    reset)
      compose --profile grafana --profile simulated --profile containers down -v
      rm -f "$mode_file" "$market_file"
      rmdir "$root/.ots" 2>/dev/null || true
      echo "Deleted the containers and their volumes."
      ;;
  esac
}

command=
mode=
while [ $# -gt 0 ]; do
  case $1 in
    --native) mode=native ;;
    --compose) mode=compose ;;
    -h | --help | help) usage; exit 0 ;;
    up | monitoring | down | status | logs | token | run | backup | restore | reset) command=$1; shift; break ;;
    *) usage >&2; fail "unknown: $1" ;;
  esac
  shift
done
command=${command:-up}

# the flags are understood behind the command too
arguments=()
for argument in "$@"; do
  case $argument in
    --native) mode=native ;;
    --compose) mode=compose ;;
    *) arguments+=("$argument") ;;
  esac
done

choose_mode
if starts; then record_mode; fi
# bash 3.2 calls an empty array unset
set -- ${arguments[@]+"${arguments[@]}"}
if [ "$mode" = compose ]; then in_compose "$@"; else native "$@"; fi
