"""One round of chaos: servers, a feed, collectors, and what is done to them at random moments."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2

from chaos.checker import Verdict, check
from chaos.tape import EQUITIES, OPRA, SECOND, STOCKS, Tape, make_tape
from collector_support import CollectorProcess, collecting
from data_ingestion_support import Ingestion
from ots_common.database import Database
from ots_common.provision import ProvisionSettings, provision
from ots_common.times import rfc3339
from ots_native.postgres import PostgresServer
from ots_native.redis import RedisServer
from ots_native.settings import Ports
from places import MIGRATIONS
from simulator_support import RunningSimulator, running_simulator

# what a random moment brings, and how often in proportion; `spool`: both collectors are killed and their spool is gone
KILLS = {"collector": 12, "postgres": 6, "redis": 4, "spool": 1}
WIRE = {"drop": 4, "reset": 4, "mute": 2, "trickle": 2, "refuse": 2, "error": 2, "skip": 2, "aged-out": 1}
_QUICK = {
    "stable_after_s": 0.5,
    "heartbeat_s": 5,
    "mute_after_s": 3,
    "connection_limit_wait_s": 1,
    "live_batch_records": 500,
    "live_max_batch_records": 2000,
    "live_part_bytes": 100_000,
}


@dataclass(frozen=True)
class Plan:
    """A round: everything that chance decides follows from ``seed``."""

    seed: int
    seconds: float = 20.0
    per_second: int = 400
    # how long between two blows, at most; at random down to a tenth of it
    pause_s: float = 1.2
    # the end of the feed, in which nothing is broken any more
    calm_s: float = 8.0


@dataclass
class Round:
    """What was done, and what came of it. ``before_repair``: when the feed had ended; ``after_repair``: None when
    history was not asked."""

    plan: Plan
    blows: Counter[str] = field(default_factory=Counter)
    before_repair: Verdict = field(default_factory=Verdict)
    after_repair: Verdict | None = None
    gaps: int = 0
    seconds: float = 0.0

    @property
    def kills(self) -> int:
        """How many processes were killed with SIGKILL."""
        return sum(self.blows[name] for name in KILLS) + self.blows["spool"]


class Market:
    """What ``collector_support`` wants of the fixture of that name."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.database = Database(owner, application="chaos", size=2)


class Arena:
    """A PostgreSQL and a Redis of its own, for many rounds; each has a database, a spool and a feed of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgres = PostgresServer(folder / "postgres", Ports.free().postgres)
        self.redis = RedisServer(folder / "redis", Ports.free().redis, "chaos-password")

    def __enter__(self) -> Arena:
        self.postgres.start()
        self.redis.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.redis.remove()
        self.postgres.remove()

    def round(self, plan: Plan, *, repair: bool = False) -> Round:
        """Play a tape, break things until it ends, let it settle, and count."""
        done = Round(plan)
        began = time.monotonic()
        tape = make_tape(plan.seed, plan.seconds, plan.per_second)
        with ExitStack() as stack:
            market = stack.enter_context(self._market())
            place = self.folder / f"round-{plan.seed}"
            stack.callback(shutil.rmtree, place, ignore_errors=True)
            (place / "spool").mkdir(parents=True)
            # the simulator tells its log there at the end
            notes = stack.enter_context((place / "simulator.log").open("w"))
            stack.enter_context(contextlib.redirect_stderr(notes))
            simulator = stack.enter_context(running_simulator(tape=tape.files, starts_at_ns=tape.begins_ns))
            service = collecting(market, self.redis, place / "spool", simulator, repair_max_cost_usd=1000)
            collectors = [CollectorProcess(service, place / f"collector-{i}.log", **_QUICK) for i in range(2)]
            for collector in collectors:
                stack.callback(_end, collector)
                collector.start()
            _ask(service, tape)
            self._break_things(done, simulator, collectors, place / "spool", tape)
            simulator.clear_faults()
            _settle(market.database, simulator, tape)
            done.before_repair = check(market.database, tape)
            done.gaps = market.database.rows("SELECT count(*) FROM gaps")[0][0]
            if repair:
                assert service.post("/collection/stop", json={}).status_code in (200, 202)
                _repair(service, market.database, place)
                done.after_repair = check(market.database, tape)
            if not done.before_repair.sound or (done.after_repair and not done.after_repair.sound):
                keep = Path(tempfile.gettempdir()) / f"chaos-seed-{plan.seed}"
                shutil.copytree(place, keep, dirs_exist_ok=True)
                print(f"logs and spool of seed {plan.seed} are kept in {keep}")
        done.seconds = time.monotonic() - began
        return done

    @contextmanager
    def _market(self) -> Iterator[Market]:
        name = uuid.uuid4().hex[:8]
        provision(
            ProvisionSettings(
                admin_database_url=self.postgres.admin_url,
                market_database=f"market_{name}",
                accounts_database=f"accounts_{name}",
                db_password_owner="owner-password",
                db_password_reader="reader-password",
                db_password_snapshots="snapshots-password",
                db_password_signals="signals-password",
                db_password_accounts="accounts-password",
                db_password_grafana="grafana-password",
                db_password_monitor="monitor-password",
                migrations_dir=MIGRATIONS,
            )
        )
        market = Market(self.postgres.url("ots", "owner-password", f"market_{name}"))
        try:
            yield market
        finally:
            market.database.close()
            connection = psycopg2.connect(self.postgres.admin_url)
            connection.autocommit = True
            with connection.cursor() as cursor:
                for kind in ("market", "accounts"):
                    cursor.execute(f'DROP DATABASE "{kind}_{name}" WITH (FORCE)')
            connection.close()

    def _break_things(
        self, done: Round, simulator: RunningSimulator, collectors: list[CollectorProcess], spool: Path, tape: Tape
    ) -> None:
        chance = random.Random(done.plan.seed)
        blows = {**KILLS, **WIRE}
        calm_ns = tape.ends_ns - int(done.plan.calm_s * SECOND)
        while simulator.now_ns() < calm_ns:
            time.sleep(chance.uniform(0.1, 1.0) * done.plan.pause_s)
            blow = chance.choices(list(blows), list(blows.values()))[0]
            done.blows[blow] += 1
            down_s = chance.choice((0.0, 0.0, 0.3, 0.8))
            if blow == "collector":
                victim = chance.choice(collectors)
                victim.kill()
                time.sleep(down_s)
                victim.start()
            elif blow == "spool":
                for victim in collectors:
                    victim.kill()
                shutil.rmtree(spool)
                spool.mkdir()
                for victim in collectors:
                    victim.start()
            elif blow in ("postgres", "redis"):
                server = self.postgres if blow == "postgres" else self.redis
                server.kill()
                time.sleep(down_s)
                server.start()
            else:
                _on_the_wire(chance, simulator, blow)


def _on_the_wire(chance: random.Random, simulator: RunningSimulator, blow: str) -> None:
    where = {} if blow == "refuse" else {"dataset": chance.choice((EQUITIES, EQUITIES, OPRA))}
    when = {"after_records": chance.randrange(1, 200)} if blow in ("drop", "reset", "trickle", "skip") else {}
    how = {
        "mute": {"seconds": chance.uniform(0.5, 6.0), "heartbeats": chance.random() < 0.5},
        "trickle": {"records": 5},
        "error": {"code": chance.choice((3, 6))},
        "skip": {"records": chance.randrange(1, 50), "schema": "trades"},
    }.get(blow, {})
    simulator.fault(blow, **where, **when, **how)


def _ask(service: Ingestion, tape: Tape) -> None:
    body = {
        "symbols": list(STOCKS),
        "schemas": ["trades", "bbo-1s"],
        "options": {"symbols": ["AAPL", "TSLA"], "schemas": ["trades"]},
        "start": rfc3339(tape.begins_ns),
    }
    answer = service.post("/collection/start", json=body)
    assert answer.status_code == 202, answer.text


def _settle(database: Database, simulator: RunningSimulator, tape: Tape, timeout_s: float = 120.0) -> None:
    """Wait until the feed has ended, both datasets are seen to be collected, and nothing is stored for eight seconds.

    What could not reach the database waits up to five before it tries again, and only then is the ledger what it is to
    be; a collector that was killed last may take long to begin on a busy machine.
    """
    deadline = time.monotonic() + timeout_s
    quiet_since, before, collected = time.monotonic(), -1, False
    while time.monotonic() < deadline and time.monotonic() - quiet_since < 8.0:
        time.sleep(0.2)
        count, streaming = database.rows(
            "SELECT (SELECT count(*) FROM trades) + (SELECT count(*) FROM quotes),"
            " (SELECT count(*) FROM collection_states WHERE state = 'streaming'"
            "  AND reported_at > now() - interval '3 seconds')"
        )[0]
        ended = simulator.now_ns() >= tape.ends_ns
        # once: a feed that has ended is soon mute, and then it is connected to anew every few seconds
        collected = collected or (ended and streaming == 2)
        if count != before or not ended or not collected:
            quiet_since, before = time.monotonic(), count


def _repair(service: Ingestion, database: Database, place: Path, timeout_s: float = 120.0) -> None:
    """Ask history for what the ledger names, at once instead of after its minute, until no gap is open."""
    database.execute(
        "UPDATE gaps SET repair_after = now(), opened_at = now() - interval '1 hour' WHERE closed_at IS NULL"
    )
    environment = CollectorProcess(service, place / "unused", repair_max_cost_usd=1000)._environment
    with ExitStack() as stack:
        for name in ("worker", "backfiller"):
            log = stack.enter_context((place / f"{name}.log").open("ab"))
            process = subprocess.Popen(
                [sys.executable, "-m", "ots_ingestion", name], env={**os.environ, **environment}, stdout=log, stderr=log
            )
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if not database.rows("SELECT 1 FROM gaps WHERE closed_at IS NULL LIMIT 1"):
                return
            time.sleep(0.3)


def _end(collector: CollectorProcess) -> None:
    with contextlib.suppress(Exception):
        collector.kill()
