"""What is done for each alert to fire, and why not for the few for which nothing is done here."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from alerts.drill import Cause, Drill, NotHere, reload

_BARS = "SELECT instrument_id FROM instruments WHERE underlying = 'AAPL' AND expiration IS NULL"
_CHAINS = ("AAPL", "MSFT", "SPY", "QQQ", "NVDA")


def _nothing(_: Drill) -> None: ...


def _wrong_passwords(drill: Drill) -> None:
    for name in ("ann", "ben", "cem"):
        drill.together(12, lambda name=name: _sign_in(drill, name))


def _sign_in(drill: Drill, name: str) -> None:
    drill.api("POST", "auth/login", {"username": name, "password": "not this one"}, token="")


def _wrong_again(drill: Drill) -> None:
    drill.together(12, lambda: _sign_in(drill, f"dora{int(time.monotonic()) % 3}"))
    drill.together(15, lambda: drill.api("GET", "auth/me", token="not.a.token"))


def _forgiven(drill: Drill) -> None:
    time.sleep(3)
    drill.sql("DELETE FROM login_failures", database="accounts")


def _refresh_twice(drill: Drill) -> None:
    import json

    password = drill.platform.settings.values["ADMIN_PASSWORD"]
    body = {"username": "admin", "password": password}
    pair = json.loads(drill.api("POST", "auth/login", body, token="")[1])
    for _ in range(2):
        drill.api("POST", "auth/refresh", {"refresh_token": pair["refresh_token"]}, token="")


def _not_for_viewers(drill: Drill) -> None:
    viewer = drill.token("viewer")
    for _ in range(60):
        drill.api("POST", "data/rates", {}, token=viewer)


def _audit_away(drill: Drill) -> None:
    drill.sql("ALTER TABLE audit.entries RENAME TO entries_away", database="accounts")


def _write(drill: Drill) -> None:
    drill.together(6, lambda: drill.api("POST", "cache/invalidate", {}))


def _audit_back(drill: Drill) -> None:
    drill.sql("ALTER TABLE audit.entries_away RENAME TO entries", database="accounts")


def _rule_that_fails(drill: Drill) -> None:
    rule = '{"groups":[{"name":"broken","rules":[{"record":"broken","expr":"up * on () up"}]}]}'
    (drill.platform.state / "prometheus" / "drill-rules" / "broken.yml").write_text(rule)
    reload(drill, "prometheus")


def _rule_away(drill: Drill) -> None:
    (drill.platform.state / "prometheus" / "drill-rules" / "broken.yml").unlink()
    reload(drill, "prometheus")


def _refuse(drill: Drill) -> None:
    drill.hook.refuses = True
    drill.stop("node-exporter")


def _accept(drill: Drill) -> None:
    drill.hook.refuses = False
    drill.start("node-exporter")


def _ask_the_cache(drill: Drill) -> None:
    drill.together(6, lambda: drill.api("GET", "cache/stock-prices"))
    drill.together(2, lambda: drill.api("GET", "cache/option-chains/AAPL"))


def _cache_back(drill: Drill) -> None:
    """A breaker closes with the first request that succeeds."""
    drill.start("cache")
    _until_answers(drill, drill.ports.cache)
    for _ in range(6):
        time.sleep(1)
        drill.api("GET", "cache/stock-prices")


def _without_postgres(drill: Drill) -> None:
    drill.sql("ALTER SYSTEM SET archive_mode = 'on'")
    drill.sql("ALTER SYSTEM SET archive_command = 'true'")
    drill.stop("postgres")


def _postgres_back(drill: Drill) -> None:
    drill.start("postgres")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            drill.sql("SELECT 1")
            return
        time.sleep(0.5)


def _archive_to_nowhere(drill: Drill) -> None:
    drill.sql("ALTER SYSTEM SET archive_command = 'false'")
    drill.sql("SELECT pg_reload_conf()")
    drill.sql("SELECT pg_switch_wal()")


def _archive_again(drill: Drill) -> None:
    drill.sql("ALTER SYSTEM SET archive_command = 'true'")
    drill.sql("SELECT pg_reload_conf()")


def _many_connections(drill: Drill) -> None:
    most = int(drill.sql("SHOW max_connections")[0][0])
    reserved = 5
    used = drill.sql("SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL")[0][0]
    for _ in range(most - reserved - used):
        try:
            drill.held.append(drill.connection())
        except Exception:
            break


def _deadlocks(drill: Drill) -> None:
    """Two transactions that lock each other's advisory lock; PostgreSQL ends one after a second."""
    import threading

    def second(connection: object, key: int) -> None:
        with contextlib.suppress(Exception), connection.cursor() as cursor:  # type: ignore[attr-defined]
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (key,))

    for turn in range(4):
        one, other = drill.connection(), drill.connection()
        keys = 990_000 + 2 * turn, 990_001 + 2 * turn
        for connection, key in ((one, keys[0]), (other, keys[1])):
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", (key,))
        threads = [threading.Thread(target=second, args=pair) for pair in ((one, keys[1]), (other, keys[0]))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        one.close()
        other.close()


def _ask_for_users(drill: Drill) -> None:
    drill.together(6, lambda: drill.api("GET", "users"))


def _lock_users(drill: Drill) -> None:
    """Of the gateway: where threads serve, as many wait for the table as there are connections, none for those."""
    drill.token()
    drill.hold("LOCK TABLE users IN ACCESS EXCLUSIVE MODE", database="accounts")
    drill.together(24, lambda: drill.api("GET", "users"))


def _ask_slowly(drill: Drill) -> None:
    for path in ("cache/stock-prices", "cache/option-chains/AAPL", "data/quotes/AAPL", "data/trades/AAPL"):
        drill.together(4, lambda path=path: drill.api("GET", path))


def _lock_prices(drill: Drill) -> None:
    drill.hold("LOCK TABLE price_latest, quote_latest, instruments, trades IN ACCESS EXCLUSIVE MODE")
    for _ in range(4):
        _ask_slowly(drill)


def _no_redis(drill: Drill) -> None:
    drill.stop("redis")


def _redis_back(drill: Drill) -> None:
    """Who did without it notices when it is asked the next time."""
    drill.start("redis")
    for _ in range(5):
        time.sleep(2)
        drill.api("GET", "cache/option-chains/AAPL")
        drill.api("GET", "analytics/options/AAPL/skew")


def _small_redis(drill: Drill) -> None:
    redis = drill.redis()
    drill.held.append(redis)
    redis.config_set("maxmemory", int(redis.info("memory")["used_memory"]) + 200_000)
    redis.config_set("maxmemory-policy", "allkeys-lru")
    refused = int(redis.config_get("maxclients")["maxclients"])
    redis.config_set("maxclients", 1)
    for _ in range(5):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", drill.ports.redis), 5) as one:
            one.recv(100)
    redis.config_set("maxclients", refused)


def _fill_redis(drill: Drill) -> None:
    redis = drill.redis()
    with redis.pipeline(transaction=False) as pipeline:
        for number in range(300):
            pipeline.set(f"drill:{time.monotonic_ns()}:{number}", b"x" * 1000, ex=120)
        pipeline.execute()


def _large_redis(drill: Drill) -> None:
    redis = drill.redis()
    redis.config_set("maxmemory", "256mb")
    redis.config_set("maxmemory-policy", "volatile-lru")
    drill.release()


def _die_again_and_again(drill: Drill) -> None:
    for _ in range(5):
        drill.kill("analytics-snapshots")
        _until_answers(drill, drill.ports.snapshots)
        time.sleep(4)


def _until_answers(drill: Drill, port: int) -> None:
    deadline = time.monotonic() + 40
    while drill.get(f"http://127.0.0.1:{port}/metrics")[0] != 200 and time.monotonic() < deadline:
        time.sleep(0.3)


def _few_files(drill: Drill) -> None:
    pid = drill.pid("ingestion-backfiller")
    opened = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (opened + 2, hard))


def _files_again(drill: Drill) -> None:
    pid = drill.pid("ingestion-backfiller")
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(hard, 1024), hard))


_BURNING: list[subprocess.Popen[bytes]] = []


def _burn(_: Drill) -> None:
    for _ in range((os.cpu_count() or 1) * 2):
        _BURNING.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))


def _cool(_: Drill) -> None:
    while _BURNING:
        process = _BURNING.pop()
        process.kill()
        process.wait()


_MOUNTED: list[Path] = []


def _mounted(size: str, *words: str) -> Path:
    """A filesystem of its own, mounted where the exporter sees it. Raises NotHere where that may not be done."""
    folder = Path(tempfile.mkdtemp(prefix="ots-drill-disk-"))
    (folder / "mounted").mkdir()
    image = folder / "image"
    with image.open("wb") as file:
        file.truncate(int(size))
    source = words or ("-o", "loop", str(image))
    if not words:
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    mounted = subprocess.run(["mount", *source, folder / "mounted"], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        shutil.rmtree(folder)
        raise NotHere(f"no disk may be mounted here: {mounted.stderr.strip()}")
    _MOUNTED.append(folder)
    return folder / "mounted"


def _filling_disk(_: Drill) -> None:
    """Of 1.5 GB that take no room: what is allocated and not written is nowhere."""
    _mounted("1500000000")


def _fill(_: Drill) -> None:
    folder = _MOUNTED[-1] / "mounted"
    room = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    if room > 110_000_000:
        subprocess.run(["fallocate", "-l", "100M", folder / str(time.monotonic_ns())], check=True)
    elif room > 60_000_000:
        subprocess.run(["fallocate", "-l", "45M", folder / str(time.monotonic_ns())], check=True)
    time.sleep(1)


def _small_disk(_: Drill) -> None:
    folder = _mounted("0", "-t", "tmpfs", "-o", "size=1m,nr_inodes=40", "drill")
    for number in range(38):
        (folder / str(number)).touch()


def _disk_away(_: Drill) -> None:
    while _MOUNTED:
        folder = _MOUNTED.pop()
        subprocess.run(["umount", folder / "mounted"], check=True)
        shutil.rmtree(folder)


def _vendor_fails(drill: Drill) -> None:
    drill.fault(kind="http", status=500, times=0)
    _ask_for_history(drill, 40)


def _ask_for_history(drill: Drill, days_ago: int) -> None:
    day = datetime.now(UTC).date() - timedelta(days=days_ago)
    body = {
        "symbols": ["AAPL", "MSFT"],
        "schemas": ["trades"],
        "start": f"{day}T14:30:00Z",
        "end": f"{day}T14:40:00Z",
        "max_cost_usd": 5,
    }
    status, answer = drill.api("POST", "data/backfills", body)
    print(f"    backfill: {status} {answer[:160]!r}")


def _parts_fail(drill: Drill) -> None:
    """First the download alone is refused: what it would cost is to be known. Then everything."""
    drill.fault(kind="http", call="timeseries.get_range", status=400, times=0)
    _ask_for_history(drill, 41 + int(time.time()) % 60)
    time.sleep(5)
    drill.fault(kind="http", status=500, times=0)


def _estimate(drill: Drill) -> None:
    day = datetime.now(UTC).date() - timedelta(days=50)
    body = {"symbols": ["AAPL"], "schemas": ["trades"], "start": f"{day}", "dry_run": True}
    drill.together(1, lambda: drill.api("POST", "data/backfills", body))


def _nobody_fetches(drill: Drill) -> None:
    drill.stop("ingestion-backfiller")
    _ask_for_history(drill, 42)


def _fetch(drill: Drill) -> None:
    drill.start("ingestion-backfiller")


def _rows_vanish(drill: Drill) -> None:
    drill.sql("CREATE TABLE drill_kept AS SELECT * FROM bars_1m WHERE false")
    drill.sql(
        "WITH gone AS (DELETE FROM bars_1m WHERE ts >= now() - interval '8 hours'"
        f" AND instrument_id IN ({_BARS}) RETURNING *) INSERT INTO drill_kept SELECT * FROM gone"
    )
    print(f"    deleted: {drill.sql('SELECT count(*) FROM drill_kept')}")


def _rows_back(drill: Drill) -> None:
    drill.sql("INSERT INTO bars_1m SELECT * FROM drill_kept ON CONFLICT DO NOTHING")
    drill.sql("DROP TABLE drill_kept")


def _swap(drill: Drill) -> None:
    drill.sql(
        "CREATE FUNCTION drill_swap() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE low numeric; BEGIN"
        " low := NEW.bid; NEW.bid := NEW.ask; NEW.ask := low; RETURN NEW; END $$;"
        + "".join(
            f"CREATE TRIGGER drill_swap BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW WHEN (NEW.bid < NEW.ask)"
            " EXECUTE FUNCTION drill_swap();"
            for table in ("quotes", "quote_latest")
        )
        + "UPDATE quote_latest SET ts = ts"
    )


def _ask_chains(drill: Drill) -> None:
    for name in _CHAINS:
        drill.together(1, lambda name=name: drill.api("GET", f"analytics/options/{name}/surface"))
    time.sleep(1)


def _no_snapshots(drill: Drill) -> None:
    drill.stop("analytics-snapshots")


def _ask_the_past(drill: Drill) -> None:
    """Of half a year ago no quotes are stored; each second is a question of its own."""
    at = datetime.now(UTC) - timedelta(days=180)
    drill.api("GET", f"analytics/options/AAPL/surface?as_of={at:%Y-%m-%dT%H:%M:%SZ}")


def _snapshots_again(drill: Drill) -> None:
    drill.start("analytics-snapshots")


def _swap_back(drill: Drill) -> None:
    drill.sql("DROP FUNCTION drill_swap() CASCADE;UPDATE quote_latest SET bid = ask, ask = bid WHERE bid > ask")


def _slow_things(drill: Drill) -> None:
    drill.sql("ALTER TABLE self_check_stretches RENAME TO self_check_stretches_away")
    drill.sql(
        "CREATE FUNCTION drill_drop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;"
        + "".join(
            f"CREATE TRIGGER drill_drop BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW WHEN (NEW.instrument_id ="
            f" {drill.sql(_BARS)[0][0]}) EXECUTE FUNCTION drill_drop();"
            for table in ("price_latest", "quote_latest")
        )
    )
    drill.hold("LOCK TABLE volatility_snapshots IN EXCLUSIVE MODE")


def _slow_back(drill: Drill) -> None:
    drill.release()
    drill.sql("ALTER TABLE self_check_stretches_away RENAME TO self_check_stretches")
    drill.sql("DROP FUNCTION drill_drop() CASCADE")
    drill.kill("ingestion-worker")


def _worker_anew(drill: Drill) -> None:
    drill.kill("ingestion-worker")
    time.sleep(10)


def _nothing_stored(drill: Drill) -> None:
    # readers go on; whoever would write waits
    drill.hold("LOCK TABLE trades, quotes, quote_latest, price_latest, bars_1m IN EXCLUSIVE MODE")
    for days_ago in range(3):
        _ask_for_history(drill, 120 + 3 * (int(time.time()) % 60) + days_ago)


def _released(drill: Drill) -> None:
    drill.release()


def _late_rows(drill: Drill) -> None:
    _nothing_stored(drill)
    time.sleep(14)
    drill.release()


def _fault(**fault: object) -> Callable[[Drill], None]:
    def arm(drill: Drill) -> None:
        drill.fault(times=0, **fault)

    return arm


def _no_faults(drill: Drill) -> None:
    drill.no_faults()


def _closed(drill: Drill) -> None:
    """Each time a gap a schema, until the replay has closed it."""
    for dataset in ("EQUS.MINI", "OPRA.PILLAR"):
        drill.fault(kind="drop", dataset=dataset, times=1)
    time.sleep(7)


def _no_connection(drill: Drill) -> None:
    drill.fault(kind="refuse", times=0)
    drill.fault(kind="drop", times=0, after_records=1)


def _wrong_key(drill: Drill) -> None:
    drill.fault(kind="auth", message="drill", times=0)
    drill.kill("ingestion-collector")


def _right_key(drill: Drill) -> None:
    drill.no_faults()
    drill.kill("ingestion-collector")


CAUSES = [
    Cause(
        "a refresh token used twice; a viewer's calls of an operator's route",
        ("RefreshTokenReused", "RefusalsBurst"),
        lambda drill: (_refresh_twice(drill), _not_for_viewers(drill))[0],
        again=_not_for_viewers,
    ),
    Cause(
        "the audit table renamed while requests write",
        ("AuditRowsLost", "ErrorsLogged"),
        _audit_away,
        _audit_back,
        _write,
    ),
    Cause("a rule that cannot be evaluated", ("RulesFail",), _rule_that_fails, _rule_away),
    Cause("an exporter stopped, the webhook answers 500", ("ExporterDown", "AlertsNotDelivered"), _refuse, _accept),
    Cause(
        "wrong passwords and tokens, a thousand",
        ("AuthFailuresBurst", "Lockouts", "LimitRefusalsBurst"),
        _wrong_passwords,
        _forgiven,
        _wrong_again,
    ),
    Cause(
        "the cache service stopped while it is asked",
        (
            "ServiceDown",
            "BreakerOpen",
            "UpstreamFails",
            "HighErrorRatio",
            "AvailabilityBurnsFast",
            "AvailabilityBurnsSlowly",
        ),
        lambda drill: drill.stop("cache"),
        _cache_back,
        _ask_the_cache,
    ),
    Cause(
        "Redis stopped while it is needed",
        ("RedisDown", "RedisUnreachable", "RateLimitsWithoutRedis"),
        _no_redis,
        _redis_back,
        _ask_the_cache,
    ),
    Cause(
        "Redis with little memory, and one client at most",
        ("RedisEvicts", "RedisRefusesConnections"),
        _small_redis,
        _large_redis,
        _fill_redis,
    ),
    Cause(
        "PostgreSQL stopped",
        ("PostgresDown", "DatabaseUnreachable", "StoreFails"),
        _without_postgres,
        _postgres_back,
        _ask_the_cache,
    ),
    Cause("an archive command that fails", ("PostgresArchivingFails",), _archive_to_nowhere, _archive_again),
    Cause("connections up to the bound", ("PostgresConnectionsRunOut",), _many_connections, _released),
    Cause("transactions that wait for each other", ("PostgresDeadlocks",), _deadlocks, resolves=False),
    Cause(
        "a lock on the table of users while they are asked for",
        ("DatabasePoolExhausted", "DatabaseWaits"),
        _lock_users,
        _released,
        _ask_for_users,
    ),
    Cause(
        "a lock on the tables that answers are read from",
        ("HighLatency", "LatencyBurnsFast", "LatencyBurnsSlowly"),
        _lock_prices,
        _released,
        _ask_slowly,
    ),
    Cause(
        "a lock on the tables that are written",
        ("SpoolBehind", "SpoolFills", "WatermarkStale", "ImportsWait"),
        _nothing_stored,
        _released,
        within_s=120,
    ),
    Cause("the same lock, released after 14 s", ("LiveLagHigh",), _late_rows, _released),
    Cause("the feed mute", ("FeedMute",), _fault(kind="mute", heartbeats=True), _no_faults, within_s=120),
    Cause(
        "the feed drops connections",
        ("ReconnectStorm",),
        _fault(kind="drop", after_records=20),
        _no_faults,
        within_s=120,
        resolves=False,
    ),
    Cause(
        "the feed closes both connections, again and again",
        ("GapsAppear", "GapsOpen"),
        _closed,
        _no_faults,
        _closed,
        within_s=120,
        resolves=False,
    ),
    Cause("the feed refuses connections", ("CollectionDisconnected",), _no_connection, _no_faults, within_s=120),
    Cause("the feed refuses the key", ("CollectionFailed",), _wrong_key, _right_key, within_s=60),
    Cause("no backfiller while a backfill waits", ("BackfillStuck",), _nobody_fetches, _fetch),
    Cause(
        "the vendor's history answers 500 and 400",
        ("VendorCallsFail", "BackfillPartsFail"),
        _parts_fail,
        _no_faults,
        _estimate,
        within_s=120,
        resolves=False,
    ),
    Cause("bars of eight hours deleted", ("SelfCheckDiffers", "CoverageLow"), _rows_vanish, _rows_back, within_s=150),
    Cause(
        "bids and asks exchanged",
        ("QuotesCrossed", "ContractsWithoutVolatility", "SnapshotsWithoutVolatility", "SurfaceFitsFail"),
        _swap,
        _swap_back,
        _ask_chains,
        within_s=120,
        resolves=False,
    ),
    Cause(
        "no snapshots, and chains asked for as of when nothing is stored",
        ("NoChainsPriced",),
        _no_snapshots,
        _snapshots_again,
        _ask_the_past,
        within_s=120,
    ),
    Cause(
        "self-check's table renamed, AAPL's rows dropped, a transaction that holds the table of snapshots",
        (
            "SelfCheckFails",
            "SelfCheckLate",
            "MaintenanceLate",
            "SymbolStale",
            "SnapshotsLate",
            "PostgresLongTransaction",
        ),
        _slow_things,
        _slow_back,
        prepare=_worker_anew,
        within_s=200,
        resolves=False,
    ),
    Cause("a process killed five times", ("ServiceRestarts",), _die_again_and_again, resolves=False),
    Cause("a bound on open files just above those open", ("FilesRunOut",), _few_files, _files_again),
    Cause("endless loops on every processor", ("ProcessorsBusy",), _burn, _cool),
    Cause("a small disk with as many files as it can have", ("InodesRunOut",), _small_disk, _disk_away),
    Cause(
        "a disk that is filled, 100 MB a second", ("DiskFillsUp", "DiskAlmostFull"), _filling_disk, _disk_away, _fill
    ),
]

NOT_CAUSED = {
    "CacheHitsCollapse": "a day of hits and a quarter of an hour of none are not made in minutes",
    "ClockOff": "nobody may set the clock of a machine that others use",
    "DeadLetters": "a simulated market takes no files of anybody, and all that it sends can be stored",
    "MemoryAlmostFull": "the memory is others' too",
    "ProcessKilledForMemory": "the memory is others' too",
    "SurfaceViolations": "no fit here admits arbitrage between quoted strikes at will",
}
