"""The live path: from a record's time at the feed to its committed, indexed row, by the collector as it runs.

    python tests/benchmarks/bench_live.py [--rates 1000,10000,50000] [--seconds 20] [--burst 200000] [--records 0]

Its own PostgreSQL, Redis and market database; a tape of trades and bbo-1s of fifty symbols, half of each, whose
times are the wall clock's; the simulator's live gateway, which sends each record at its time; and
``python -m ots_ingestion collector``, with Databento's own client in it, at its default settings.

Latency is measured from outside: a connection of its own asks every few milliseconds how many records of each schema
are committed (a number that moves in the transaction of the rows), and the n-th record of a schema was committed at the
latest when the first answer of n or more had come. So each latency contains the gateway's tick (10 ms), the way to the
client, the sync of the spool, the batch, the commit, and up to one interval of the watcher: never less than the truth.

* rates: whether the latency stays where it is over the run, CPU of collector and server a record, memory, losses;
* burst: so many records within 0.1 s of the feed's time; how long until the last of them is committed;
* ``--records N --long-rate R``: one long run for memory, by the quarters of it.

Exits with 1 when a record is lost, doubled, buried or missing in the ledger's opinion, or a run did not keep up.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

from harness import Report, versions  # noqa: E402

# isort: split
# (the harness holds thread pools to one thread, before numpy makes them)
import databento_dbn as dbn  # noqa: E402
import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from collector_support import CollectorProcess, collecting, status  # noqa: E402
from conftest import MarketDatabase, provisioned  # noqa: E402
from data_ingestion_support import Ingestion  # noqa: E402
from ots_common.database import connect  # noqa: E402
from ots_ingestion.collection import Collection, want  # noqa: E402
from ots_native.postgres import PostgresServer  # noqa: E402
from ots_native.redis import RedisServer  # noqa: E402
from ots_native.settings import Ports  # noqa: E402
from simulator_support import RunningSimulator, running_simulator  # noqa: E402

DATASET = "EQUS.MINI"
SYMBOLS = tuple(f"SYM{i:02d}" for i in range(50))
SCHEMAS = ("trades", "bbo-1s")
TABLES = {"trades": "trades", "bbo-1s": "quotes"}
WATCH_S = 0.005
SECOND = 1_000_000_000
TICKS_S = os.sysconf("SC_CLK_TCK")
Int64 = NDArray[np.int64]


# -- the tape ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tape:
    """What the feed will say. ``times``: schema -> index times (ns), ascending, of its records."""

    folder: Path
    times: dict[str, Int64]

    @property
    def records(self) -> int:
        """Of both schemas."""
        return sum(map(len, self.times.values()))

    @property
    def first_ns(self) -> int:
        """The time of the first of all records."""
        return min(int(one[0]) for one in self.times.values())


def make_tape(folder: Path, records: int, begins_ns: int, length_ns: int) -> Tape:
    """Trades and bbo-1s in turns, evenly spaced over ``length_ns``."""
    folder.mkdir()
    spaced = begins_ns + np.arange(records, dtype=np.int64) * length_ns // records
    times = {"trades": spaced[0::2], "bbo-1s": spaced[1::2]}
    generator = np.random.default_rng(11)
    for schema, of_schema in times.items():
        with (folder / f"{schema}.dbn").open("wb") as file:
            file.write(_header(schema, begins_ns))
            for first in range(0, len(of_schema), 1_000_000):
                make = _trades if schema == "trades" else _quotes
                file.write(make(of_schema[first : first + 1_000_000], first, generator).tobytes())
    return Tape(folder, times)


def _header(schema: str, begins_ns: int) -> bytes:
    day = datetime.fromtimestamp(begins_ns // SECOND, UTC).date()

    def mapping(i: int, symbol: str) -> Any:
        interval = SimpleNamespace(start_date=day, end_date=day + timedelta(days=1), symbol=str(i + 1))
        return SimpleNamespace(raw_symbol=symbol, intervals=[interval])

    return dbn.Metadata(
        dataset=DATASET,
        schema=dbn.Schema.from_str(schema),
        start=begins_ns,
        end=None,
        stype_in=dbn.SType.RAW_SYMBOL,
        stype_out=dbn.SType.INSTRUMENT_ID,
        limit=None,
        symbols=list(SYMBOLS),
        partial=[],
        not_found=[],
        mappings=[mapping(i, symbol) for i, symbol in enumerate(SYMBOLS)],
        version=3,
    ).encode()


def _rows(message: Any, rtype: int, times: Int64, generator: np.random.Generator) -> NDArray[Any]:
    dtype = np.dtype(message._dtypes)
    rows = np.zeros(len(times), dtype)
    rows["length"], rows["rtype"], rows["publisher_id"] = dtype.itemsize // 4, rtype, 95
    rows["instrument_id"] = generator.integers(1, len(SYMBOLS) + 1, len(times))
    rows["ts_event"], rows["ts_recv"] = times, times
    rows["price"] = (100 + generator.normal(0, 1, len(times))).round(2) * SECOND
    rows["size"] = generator.integers(1, 500, len(times))
    rows["side"], rows["flags"] = b"N", 128
    return rows


def _trades(times: Int64, first: int, generator: np.random.Generator) -> NDArray[Any]:
    rows = _rows(dbn.TradeMsg, 0, times, generator)
    rows["action"], rows["sequence"] = b"T", np.arange(first, first + len(times)) % 2**32
    return rows


def _quotes(times: Int64, first: int, generator: np.random.Generator) -> NDArray[Any]:
    rows = _rows(dbn.BBOMsg, 195, times, generator)
    rows["sequence"] = np.arange(first, first + len(times)) % 2**32
    rows["bid_px_00"] = rows["price"] - 10_000_000
    rows["ask_px_00"] = rows["price"] + 10_000_000
    for name in ("bid_sz_00", "ask_sz_00", "bid_ct_00", "ask_ct_00"):
        rows[name] = generator.integers(1, 50, len(times))
    return rows


# -- what processes use ------------------------------------------------------------------------------------------------


def _fields_of(pid: int) -> list[str]:
    # the name in brackets may hold anything
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def cpu_s(pid: int) -> float:
    """User and system time of a process with all its threads."""
    fields = _fields_of(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS_S


def tree_cpu_s(pid: int, without: int) -> float:
    """Of a process, its children that live but for one, and those that have ended."""
    fields = _fields_of(pid)
    total = sum(map(int, fields[11:15])) / TICKS_S
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if int(child) != without:
            try:
                total += cpu_s(int(child))
            except FileNotFoundError:
                continue
    return total


def memory_mb(pid: int, field: str = "VmRSS") -> float:
    """Resident memory now, or at its peak (``VmHWM``)."""
    return int(Path(f"/proc/{pid}/status").read_text().split(f"{field}:")[1].split()[0]) / 1024


# -- the rig -----------------------------------------------------------------------------------------------------------


class Watcher:
    """Asks how much is committed, in a thread and on a connection of its own."""

    def __init__(self, dsn: str, collector: int) -> None:
        self._connection = connect(dsn, application="benchmark-watch")
        self._connection.autocommit = True
        self.backend: int = self._connection.info.backend_pid
        self._collector = collector
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        # (when the answer had come, trades, quotes)
        self.seen: list[tuple[int, int, int]] = [(0, 0, 0)]
        # (records, MB)
        self.memory: list[tuple[int, float]] = []
        self.longest_s = 0.0

    def start(self) -> Watcher:
        self._thread.start()
        return self

    @property
    def records(self) -> int:
        """Committed so far."""
        return sum(self.seen[-1][1:])

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        next_memory = 0.0
        asked = time.monotonic()
        with self._connection.cursor() as cursor:
            while not self._stop.wait(WATCH_S):
                cursor.execute("SELECT schema, records FROM collection_schemas WHERE dataset = %s", (DATASET,))
                counts = dict(cursor.fetchall())
                now, before = time.monotonic(), asked
                self.longest_s, asked = max(self.longest_s, now - before), now
                found = (time.time_ns(), counts.get("trades", 0), counts.get("bbo-1s", 0))
                if found[1:] != self.seen[-1][1:]:
                    self.seen.append(found)
                if now >= next_memory:
                    next_memory = now + 0.2
                    self.memory.append((self.records, memory_mb(self._collector)))

    def latencies_ms(self, tape: Tape) -> tuple[NDArray[np.float64], Int64]:
        """Of each committed record: from its index time to its commit; and its index time, ascending."""
        seen = np.array(self.seen, np.int64)
        found, times = [], []
        for column, schema in enumerate(SCHEMAS, start=1):
            of_schema = tape.times[schema][: seen[-1, column]]
            at = np.searchsorted(seen[:, column], np.arange(len(of_schema)), side="right")
            found.append((seen[at, 0] - of_schema) / 1e6)
            times.append(of_schema)
        together = np.concatenate(times)
        order = np.argsort(together, kind="stable")
        return np.concatenate(found)[order], together[order]


@dataclass(frozen=True)
class Run:
    """What a run of a tape gave. CPU in µs a record."""

    offered: int
    stored: int
    spoiled: str
    latencies_ms: NDArray[np.float64]
    own_mean_ms: float
    seconds: float
    collector_us: float
    server_us: float
    feed_us: float
    before_mb: float
    peak_mb: float
    memory: list[tuple[int, float]]
    longest_watch_ms: float

    @property
    def lost(self) -> int:
        """Records offered less rows."""
        return self.offered - self.stored

    def percentile(self, q: float) -> float:
        """Of the latencies, ms."""
        return float(np.percentile(self.latencies_ms, q)) if len(self.latencies_ms) else float("nan")

    def median_of_quarter(self, quarter: int) -> float:
        """The median latency of the records of one quarter (0 to 3) of the run, ms."""
        part = np.array_split(self.latencies_ms, 4)[quarter]
        return float(np.median(part)) if len(part) else float("nan")

    @property
    def keeps_up(self) -> bool:
        """Whether the latency of the last quarter is the second's, and no more than a second."""
        last = self.median_of_quarter(3)
        return last <= 1.5 * self.median_of_quarter(1) + 100 and last <= 1000


class Rig:
    """The servers that all runs use; a database, a spool, a simulator and a collector of its own for each run."""

    def __init__(self, server: PostgresServer, redis_server: RedisServer, folder: Path, profile: Path | None) -> None:
        self._server = server
        self._redis = redis_server
        self._folder = folder
        self._profile = profile
        self._number = 0

    def run(self, records: int, length_s: float, patience_s: float = 120.0) -> Run:
        """Play ``records`` over ``length_s`` and wait until all are committed, or ``patience_s`` longer."""
        self._number += 1
        folder = self._folder / f"run-{self._number}"
        folder.mkdir()
        length_ns = int(length_s * SECOND)
        # so long does a busy machine need to make the tape and to start what plays and what hears it
        begins_ns = time.time_ns() + int((30 + records / 150_000) * SECOND)
        _refuse_midnight(begins_ns, begins_ns + length_ns)
        tape = make_tape(folder / "tape", records, begins_ns, length_ns)
        with (
            provisioned(self._server) as (name, _),
            # whole days, of which it is none: the simulator's clock is then the wall's
            running_simulator(
                tape=tape.folder, tape_shift="days", environment={"MARKET_CALENDAR": "around-the-clock"}
            ) as simulator,
        ):
            market = MarketDatabase(self._server, name)
            try:
                service = collecting(market, self._redis, folder / "spool", simulator)
                with self._collector(service, folder / "log") as (collector, metrics_port):
                    return self._play(market, service, simulator, collector, metrics_port, tape, length_s + patience_s)
            finally:
                market.database.close()

    @contextmanager
    def _collector(self, service: Ingestion, log: Path) -> Iterator[tuple[int, int]]:
        port = Ports.free().redis
        made = CollectorProcess(
            service, log, live_batch_ms=250, live_sync_ms=100, log_level="WARNING", collector_metrics_port=port
        ).start()
        assert made.process is not None
        try:
            yield made.process.pid, port
        finally:
            made.stop()
            print(log.read_text()[-3000:], file=sys.stderr)

    def _play(
        self,
        market: MarketDatabase,
        service: Ingestion,
        simulator: RunningSimulator,
        collector: int,
        metrics_port: int,
        tape: Tape,
        patience_s: float,
    ) -> Run:
        asked = Collection(DATASET, True, "raw_symbol", SYMBOLS, SCHEMAS, requested_by="benchmark")
        with market.database.connection() as connection, connection.cursor() as cursor:
            want(cursor, asked)
        _until_streaming(service, tape.first_ns)
        watcher = Watcher(market.owner, collector).start()
        server, feed = self._server_pid(), simulator.process.pid
        time.sleep(max(0.0, tape.first_ns / SECOND - time.time()))

        def used() -> tuple[float, float, float]:
            return cpu_s(collector), tree_cpu_s(server, watcher.backend), cpu_s(feed)

        before, before_mb, began = used(), memory_mb(collector), time.monotonic()
        with _profiled(self._profile, collector):
            while watcher.records < tape.records and time.monotonic() - began < patience_s:
                time.sleep(0.02)
        after, seconds = used(), time.monotonic() - began
        watcher.stop()
        latencies, _ = watcher.latencies_ms(tape)
        ours, servers, feeds = ((b - a) * 1e6 / tape.records for a, b in zip(before, after, strict=True))
        rows = [int(market.database.rows(f"SELECT count(*) FROM {table}")[0][0]) for table in TABLES.values()]
        return Run(
            tape.records,
            sum(rows),
            _spoiled(status(service)),
            latencies,
            _own_mean_ms(metrics_port),
            seconds,
            ours,
            servers,
            feeds,
            before_mb,
            memory_mb(collector, "VmHWM"),
            watcher.memory,
            watcher.longest_s * 1000,
        )

    def _server_pid(self) -> int:
        return int((self._server.data / "postmaster.pid").read_text().split()[0])


@contextmanager
def _profiled(path: Path | None, pid: int) -> Iterator[None]:
    """Let py-spy, where it is installed and asked for, sample the collector."""
    if path is None:
        yield
        return
    import subprocess

    command = [str(Path(sys.executable).with_name("py-spy")), "record", "-t", "-f", "raw", "-r", "50", "-o", str(path)]
    process = subprocess.Popen([*command, "-d", "3600", "-p", str(pid)], stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.send_signal(2)
        process.wait(30)


def _refuse_midnight(begins_ns: int, ends_ns: int) -> None:
    day = 86_400 * SECOND
    if time.time_ns() // day != ends_ns // day:
        raise SystemExit("a run would cross midnight UTC, where a feed's ids change: start it later")


def _until_streaming(service: Ingestion, first_ns: int) -> None:
    while True:
        now = status(service)
        if now["state"] == "streaming":
            return
        if time.time_ns() > first_ns - SECOND:
            raise RuntimeError(f"the collector is not streaming when the tape begins: {now}")
        time.sleep(0.1)


def _spoiled(found: dict[str, Any]) -> str:
    """What should not have been: gaps, dead letters, a second connection."""
    wrong = {name: found[name] for name in ("open_gaps", "dead_letters") if found[name]}
    if found["connections"] != 1:
        wrong["connections"] = found["connections"]
    return ", ".join(f"{name} {number}" for name, number in wrong.items())


def _own_mean_ms(port: int) -> float:
    """The mean of the collector's own histogram, ots_live_lag_seconds."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line and line[0] != "#")
    label = f'{{dataset="{DATASET}"}}'
    return 1000 * float(lines[f"ots_live_lag_seconds_sum{label}"]) / float(lines[f"ots_live_lag_seconds_count{label}"])


# -- the report --------------------------------------------------------------------------------------------------------


def judge(report: Report, run: Run, *, steady: bool = True) -> str:
    """What is wrong with a run; nothing is right."""
    wrong = []
    if run.lost or len(run.latencies_ms) != run.offered:
        wrong.append(f"LOST {run.lost}")
    if run.spoiled:
        wrong.append(run.spoiled)
    if steady and not run.keeps_up:
        wrong.append("FALLS BEHIND")
    report.met = report.met and not wrong
    return "; ".join(wrong) or "0 lost"


def at_rate(rig: Rig, report: Report, rate: int, seconds: float) -> None:
    """One line of the table of rates."""
    run = rig.run(int(rate * seconds), seconds)
    report.row(
        f"{rate:,}",
        f"{run.percentile(50):,.0f}",
        f"{run.percentile(99):,.0f}",
        f"{float(run.latencies_ms.max()):,.0f}",
        f"{run.latencies_ms.mean():,.0f} / {run.own_mean_ms:,.0f}",
        f"{run.median_of_quarter(1):,.0f} -> {run.median_of_quarter(3):,.0f}",
        f"{run.collector_us:.1f} / {run.server_us:.1f} / {run.feed_us:.1f}",
        f"{run.before_mb:,.0f} -> {run.peak_mb:,.0f}",
        f"{run.longest_watch_ms:,.0f}",
        judge(report, run),
    )


def burst(rig: Rig, report: Report, records: int) -> None:
    """Twice as many must take no more memory."""
    for number in (records, 2 * records):
        run = rig.run(number, 0.1)
        report.row(
            f"{number:,}",
            f"{run.percentile(100) / 1000:.2f}",
            f"{number / (run.percentile(100) / 1000):,.0f}",
            f"{run.before_mb:,.0f} -> {run.peak_mb:,.0f}",
            judge(report, run, steady=False),
        )


def long_run(rig: Rig, report: Report, records: int, rate: int) -> None:
    """Resident memory by the share of the records that is committed."""
    run = rig.run(records, records / rate, patience_s=600)
    quarters = [[mb for done, mb in run.memory if i / 4 <= done / records <= (i + 1) / 4] for i in range(4)]
    for i, mb in enumerate(quarters):
        report.row(f"{25 * i} to {25 * (i + 1)} % of {records:,}", f"{max(mb):,.0f} MB" if mb else "no sample")
    growth = max(quarters[3]) / max(quarters[1]) if quarters[3] and quarters[1] else float("nan")
    report.row("last quarter to second", f"{growth:.2f}, {report.judge(growth, 1.1, 1.02, more_is_better=False)}")
    report.row("latency p50 / p99, ms", f"{run.percentile(50):,.0f} / {run.percentile(99):,.0f}")
    report.row("median by quarter, ms", ", ".join(f"{run.median_of_quarter(i):,.0f}" for i in range(4)))
    report.row(f"at {rate:,} records/s", judge(report, run))


def main() -> int:
    """Run everything; 1 when something was lost or a rate is not sustained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="1000,10000,50000", help="records a second, comma-separated; empty: none")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each rate")
    parser.add_argument("--burst", type=int, default=200_000, help="records of the burst; 0 leaves it out")
    parser.add_argument("--records", type=int, default=0, help="of the long run for memory; 0 leaves it out")
    parser.add_argument("--long-rate", type=int, default=50_000, help="records a second of the long run")
    parser.add_argument("--profile", type=Path, help="where py-spy writes the stacks of the last run's collector")
    options = parser.parse_args()
    report = Report()
    print(versions("databento", "databento-dbn", "numpy", "psycopg2-binary"))
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        server = PostgresServer(folder / "postgres", Ports.free().postgres)
        redis_server = RedisServer(folder / "redis", Ports.free().redis, "benchmark-password")
        server.start()
        try:
            redis_server.start()
            rig = Rig(server, redis_server, folder, options.profile)
            if options.rates:
                columns = ["records/s", "p50 ms", "p99 ms", "max ms", "mean: watched / own histogram ms"]
                columns += ["p50 of 2nd -> 4th quarter", "CPU µs/record: collector / PostgreSQL / simulator"]
                report.head("Live: event to commit", *columns, "collector MB", "watcher's longest pause ms", "verdict")
                for rate in options.rates.split(","):
                    at_rate(rig, report, int(rate), options.seconds)
            if options.burst:
                report.head("A burst", "records", "all committed after s", "records/s", "collector MB", "verdict")
                burst(rig, report, options.burst)
            if options.records:
                report.head("Memory of a long run", "part", "peak resident of the collector")
                long_run(rig, report, options.records, options.long_rate)
        finally:
            redis_server.remove()
            server.remove()
    return 0 if report.met else 1


if __name__ == "__main__":
    sys.exit(main())
