"""What is done for each alert to fire, and how it is taken back."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from alerts import drill_machine as machine
from alerts.drill import Cause, Drill
from alerts.installations import reload, until
from ots_ingestion import backfill_parts

_BARS = "SELECT instrument_id FROM instruments WHERE underlying = 'AAPL' AND expiration IS NULL"
_CHAINS = ("AAPL", "MSFT", "SPY", "QQQ", "NVDA")


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
    password = drill.installation.secret("ADMIN_PASSWORD")
    body = {"username": "admin", "password": password}
    pair = json.loads(drill.api("POST", "auth/login", body, token="")[1])
    for _ in range(2):
        drill.api("POST", "auth/refresh", {"refresh_token": pair["refresh_token"]}, token="")


def _not_for_viewers(drill: Drill) -> None:
    viewer = drill.token("viewer")
    drill.together(20, lambda: [drill.api("POST", "data/rates", {}, token=viewer) for _ in range(5)])
    time.sleep(1)


def _audit_away(drill: Drill) -> None:
    drill.sql("ALTER TABLE audit.entries RENAME TO entries_away", database="accounts")


def _write(drill: Drill) -> None:
    drill.together(6, lambda: drill.api("POST", "cache/invalidate", {}))


def _audit_back(drill: Drill) -> None:
    drill.sql("ALTER TABLE audit.entries_away RENAME TO entries", database="accounts")


def _rule_that_fails(drill: Drill) -> None:
    rule = '{"groups":[{"name":"broken","rules":[{"record":"broken","expr":"up * on () up"}]}]}'
    (drill.installation.rules / "broken.yml").write_text(rule)
    reload(drill.installation, "prometheus")


def _rule_away(drill: Drill) -> None:
    (drill.installation.rules / "broken.yml").unlink()
    reload(drill.installation, "prometheus")


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
    until(lambda: drill.answers("cache"))
    for _ in range(6):
        time.sleep(1)
        drill.api("GET", "cache/stock-prices")


def _without_postgres(drill: Drill) -> None:
    drill.sql("ALTER SYSTEM SET archive_mode = 'on'")
    drill.sql("ALTER SYSTEM SET archive_command = 'true'")
    drill.stop("postgres")


def _postgres_back(drill: Drill) -> None:
    drill.start("postgres")
    until(lambda: drill.sql("SELECT 1"))


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
    address = drill.installation.address("redis")
    redis.config_set("maxclients", 1)
    for _ in range(5):
        with contextlib.suppress(OSError), socket.create_connection(address, 5) as one:
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
        until(lambda: drill.answers("analytics-snapshots"))
        time.sleep(4)


def _few_files(drill: Drill) -> None:
    pid = drill.installation.pid("ingestion-backfiller")
    _bound_files(pid, sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()) + 2)


def _files_again(drill: Drill) -> None:
    _bound_files(drill.installation.pid("ingestion-backfiller"), 1024)


def _bound_files(pid: int, most: int) -> None:
    """As the user of that process, who may: root without every power may not."""
    owner = Path(f"/proc/{pid}").stat()
    words = ["prlimit", "--pid", str(pid), f"--nofile={most}:"]
    if owner.st_uid == os.geteuid():
        subprocess.run(words, check=True)
    else:
        subprocess.run(words, check=True, user=owner.st_uid, group=owner.st_gid, extra_groups=[])


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


def _hold_all_parts(drill: Drill) -> None:
    """As a backfiller that hangs holds them: alone each waits for its holder."""
    drill.stop("ingestion-backfiller")
    _ask_for_history(drill, 42)
    drill.held.append(drill.connection())
    _hold_new_parts(drill)
    drill.start("ingestion-backfiller")


def _hold_new_parts(drill: Drill) -> None:
    with drill.held[-1].cursor() as cursor:
        cursor.execute("SELECT part_id FROM backfill_parts WHERE status IN ('waiting', 'downloading')")
        for (part,) in cursor.fetchall():
            cursor.execute(
                "SELECT pg_try_advisory_lock(%s, %s)", (backfill_parts._LEASE_CLASS, backfill_parts._key(part))
            )
    drill.held[-1].commit()


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
    """One after the other: a surface takes a second or two on a busy machine."""
    for name in _CHAINS:
        drill.api("GET", f"analytics/options/{name}/surface")


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


def _shift(drill: Drill) -> None:
    """Of every strike call and put dearer by the same, of every other strike by something else, up to 4 % of it: parity
    stays, and no surface fits. As when quotes of different moments are put together."""
    drill.sql(
        "CREATE FUNCTION drill_shift() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE more bigint; BEGIN"
        " SELECT i.strike / 100 * abs(hashint8(i.strike) % 5)"
        " INTO more FROM instruments i WHERE i.instrument_id = NEW.instrument_id AND i.expiration IS NOT NULL;"
        " IF more IS NOT NULL THEN NEW.bid := NEW.bid + more; NEW.ask := NEW.ask + more; END IF; RETURN NEW; END $$;"
        + "".join(
            f"CREATE TRIGGER drill_shift BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW"
            " EXECUTE FUNCTION drill_shift();"
            for table in ("quotes", "quote_latest")
        )
        + "UPDATE quote_latest SET ts = ts"
    )


def _shift_back(drill: Drill) -> None:
    drill.sql("DROP FUNCTION drill_shift() CASCADE")


def _refuse_rows(drill: Drill) -> None:
    """As a check that somebody put on the table by hand refuses what it does not foresee."""
    drill.sql(
        "CREATE FUNCTION drill_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'the drill refuses this trade'; END $$;"
        "CREATE TRIGGER drill_refuse BEFORE INSERT ON trades FOR EACH ROW"
        f" WHEN (NEW.instrument_id = {drill.sql(_BARS)[0][0]}) EXECUTE FUNCTION drill_refuse()"
    )


def _take_rows(drill: Drill) -> None:
    """Without the check what was buried can be stored."""
    drill.sql("DROP FUNCTION drill_refuse() CASCADE")
    time.sleep(3)
    code = drill.installation.run("ingestion-worker", "ots_ingestion", "replay-dead-letters")
    left = drill.sql("SELECT count(*) FROM dead_letters WHERE replayed_at IS NULL")[0][0]
    print(f"    replay-dead-letters: {code}; {left} letters are left")


class _Asking:
    """Four who ask all the time, as `path` says at that moment."""

    def __init__(self, drill: Drill, path: str) -> None:
        self.path = path
        self._closed = threading.Event()
        for _ in range(4):
            threading.Thread(target=self._ask, args=(drill,), daemon=True).start()

    def _ask(self, drill: Drill) -> None:
        while not self._closed.wait(0.2 * random.random()):
            at = datetime.now(UTC) - timedelta(seconds=random.randrange(3600, 20 * 86_400))
            with contextlib.suppress(Exception):
                drill.api("GET", self.path.format(at=at))

    def close(self) -> None:
        """Ask no more."""
        self._closed.set()


_OF_THE_PAST = "analytics/indicators/AAPL?indicators=sma:20&timeframe=1d&as_of="


def _ask_the_same(drill: Drill) -> None:
    """Of a moment that is over, again and again for a minute and more: kept answers."""
    at = datetime.now(UTC) - timedelta(minutes=30)
    path = f"{_OF_THE_PAST}{at:%Y-%m-%dT%H:%M:00Z}"
    status, answer = drill.api("GET", path)
    if status != 200:
        raise RuntimeError(f"{status}: {answer[:200]!r}")
    drill.held.append(_Asking(drill, path))
    time.sleep(75)


def _ask_something_else(drill: Drill) -> None:
    """Each time of another moment, and Redis emptied once: nothing that is asked for is kept."""
    drill.held[-1].path = _OF_THE_PAST + "{at:%Y-%m-%dT%H:%M:%SZ}"
    drill.redis().flushall()


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


def _lock_the_ledger(drill: Drill) -> None:
    """Nobody reads it, nobody adds to it, and no cursor moves."""
    drill.hold("LOCK TABLE signal_ledger IN ACCESS EXCLUSIVE MODE; LOCK TABLE signal_cursors IN EXCLUSIVE MODE")


def _decide_late(drill: Drill) -> None:
    """The ledger held over the close of a bar of five minutes, at which strategies look, for some seconds."""
    time.sleep((285 - time.time()) % 300)
    _lock_the_ledger(drill)
    time.sleep(30)
    drill.release()


def _no_splits(drill: Drill) -> None:
    """Bars are read with the splits known at the time: without the table's grant none are."""
    drill.sql("REVOKE SELECT ON corporate_actions FROM ots_signals")


def _splits_again(drill: Drill) -> None:
    drill.sql("GRANT SELECT ON corporate_actions TO ots_signals")


def _nobodys_signal(drill: Drill) -> None:
    """A signal that waits for its outcome, of which the ledger knows nothing: it will have none."""
    drill.sql(
        "INSERT INTO signal_resolutions (signal_id, underlying, session, event_ns, settles_ns)"
        " VALUES ('drill', 'AAPL', current_date - 1, 0, 0)"
    )


def _no_such_signal(drill: Drill) -> None:
    drill.sql("DELETE FROM signal_resolutions WHERE signal_id = 'drill'")


_FLIP = (
    "SET session_replication_role = replica;"
    "UPDATE signal_ledger SET hash = set_byte(hash, 7, get_byte(hash, 7) # 1) WHERE seq = 1"
)


def _some_rows(drill: Drill) -> None:
    """Strategies look as each bar of five minutes closes, and mostly one of them sees its condition."""
    until(lambda: drill.sql("SELECT seq FROM signal_ledger LIMIT 1"), 600, 2)


def _flip_a_bit(drill: Drill) -> None:
    drill.sql(_FLIP)


def _worker_anew(drill: Drill) -> None:
    drill.kill("ingestion-worker")
    time.sleep(10)


def _fresh_spool(drill: Drill) -> None:
    """The files that were begun end with their connections, are stored and go."""
    _drop_once(drill)
    time.sleep(8)


def _drop_once(drill: Drill) -> None:
    for dataset in ("EQUS.MINI", "OPRA.PILLAR"):
        drill.fault(kind="drop", dataset=dataset, times=1)


def _nothing_stored(drill: Drill) -> None:
    # readers go on; whoever would write waits
    drill.hold("LOCK TABLE trades, quotes, quote_latest, price_latest, bars_1m IN EXCLUSIVE MODE")
    for days_ago in range(3):
        _ask_for_history(drill, 120 + 3 * (int(time.time()) % 60) + days_ago)


def _kept_in_the_spool(drill: Drill) -> None:
    """A file that lies there whole has an age; the one that is written has none: its connection ends once."""
    _nothing_stored(drill)
    time.sleep(5)
    _drop_once(drill)


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
    _drop_once(drill)
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
    Cause("transactions that wait for each other", ("PostgresDeadlocks",), _deadlocks, ends=False),
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
        _kept_in_the_spool,
        _released,
        prepare=_fresh_spool,
        within_s=180,
    ),
    Cause("the same lock, released after 14 s", ("LiveLagHigh",), _late_rows, _released),
    Cause("the feed mute", ("FeedMute",), _fault(kind="mute", heartbeats=True), _no_faults, within_s=120),
    Cause(
        "the feed drops connections",
        ("ReconnectStorm",),
        _fault(kind="drop", after_records=20),
        _no_faults,
        within_s=120,
        ends=False,
    ),
    Cause(
        "the feed closes both connections, again and again",
        ("GapsAppear", "GapsOpen"),
        _closed,
        _no_faults,
        _closed,
        within_s=120,
        ends=False,
    ),
    Cause("the feed refuses connections", ("CollectionDisconnected",), _no_connection, _no_faults, within_s=120),
    Cause("the feed refuses the key", ("CollectionFailed",), _wrong_key, _right_key, within_s=60),
    Cause(
        "every part of a waiting backfill held by a process that does nothing",
        ("BackfillStuck",),
        _hold_all_parts,
        _released,
        _hold_new_parts,
        within_s=120,
    ),
    Cause(
        "the vendor's history answers 500 and 400",
        ("VendorCallsFail", "BackfillPartsFail"),
        _parts_fail,
        _no_faults,
        _estimate,
        within_s=120,
        ends=False,
    ),
    Cause("bars of eight hours deleted", ("SelfCheckDiffers", "CoverageLow"), _rows_vanish, _rows_back, within_s=150),
    Cause(
        "bids and asks exchanged",
        ("QuotesCrossed", "ContractsWithoutVolatility", "SnapshotsWithoutVolatility", "SurfaceFitsFail"),
        _swap,
        _swap_back,
        _ask_chains,
        within_s=120,
        ends=False,
    ),
    Cause(
        "calls and puts of each strike dearer by something else",
        ("SurfaceViolations",),
        _shift,
        _shift_back,
        _ask_chains,
        within_s=150,
        ends=False,
    ),
    Cause(
        "a check on the table of trades that refuses AAPL's",
        ("DeadLetters",),
        _refuse_rows,
        _take_rows,
        within_s=150,
        ends=False,
    ),
    Cause(
        "Redis emptied, and each time another question after a minute of the same",
        ("CacheHitsCollapse",),
        _ask_something_else,
        _released,
        prepare=_ask_the_same,
        within_s=90,
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
        ends=False,
    ),
    Cause(
        "a lock on the ledger of signals and on the cursors",
        ("SignalsBehind", "LedgerNotVerified"),
        _lock_the_ledger,
        _released,
        within_s=200,
    ),
    Cause(
        "the same lock, over the close of a bar", ("SignalsSlow",), _decide_late, _released, within_s=420, ends=False
    ),
    Cause(
        "the grant on splits taken from those who decide",
        ("SignalsFail", "EventsGivenUp"),
        _no_splits,
        _splits_again,
        within_s=700,
        ends=False,
    ),
    Cause("an open signal that the ledger does not have", ("OutcomesOverdue",), _nobodys_signal, _no_such_signal),
    Cause(
        "one bit of the ledger flipped",
        ("LedgerFaulty",),
        _flip_a_bit,
        _flip_a_bit,
        prepare=_some_rows,
        within_s=60,
    ),
    Cause("a process killed five times", ("ServiceRestarts",), _die_again_and_again, ends=False),
    Cause("a bound on open files just above those open", ("FilesRunOut",), _few_files, _files_again),
    Cause(
        "endless loops on every processor",
        ("ProcessorsBusy",),
        machine.burn,
        machine.cool,
        prepare=machine.quiet_before,
        proof=machine.burnt,
        within_s=120,
    ),
    Cause(
        "a small disk with as many files as it can have",
        ("InodesRunOut",),
        machine.small_disk,
        machine.disk_away,
        mine="/disks/",
    ),
    Cause(
        "a disk that is filled, 100 MB a second",
        ("DiskFillsUp", "DiskAlmostFull"),
        machine.filling_disk,
        machine.disk_away,
        machine.fill,
        mine="/disks/",
    ),
    Cause(
        "a part of the memory taken, with a bound just below what was left",
        ("MemoryAlmostFull",),
        machine.take_memory,
        machine.give_memory_back,
        machine.more_memory,
    ),
    Cause(
        "a process that takes more memory than it may",
        ("ProcessKilledForMemory",),
        machine.die_of_memory,
        again=None,
    ),
    Cause("the kernel told that its clock is 0.3 s off", ("ClockOff",), machine.clock_off, machine.clock_right),
]
