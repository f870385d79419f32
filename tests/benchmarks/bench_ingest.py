"""From a DBN file to committed, indexed rows: our import against ``psql \\copy`` of the same rows, and against pandas.

    python tests/benchmarks/bench_ingest.py [--turns 7] [--records 500000] [--memory 10000000]

Makes a PostgreSQL server of its own and one market database in it. What is measured, in turns and in one run:

* ours: the whole import but its HTTP: the file verified, decoded, its symbols resolved, rows, latest values, bars built
  from trades and the run's cursor committed;
* ``psql \\copy`` of the same rows, in the order of the file, from a CSV that lies on disk already, into the same table:
  nothing is decoded, resolved or built there;
* pandas: ``DBNStore.to_df`` and ``DataFrame.to_sql`` of the first 20,000 records (SQLAlchemy, pages of 1,000 rows).

Both connect, commit and disconnect within their time. psql's CPU time is not counted, the server's is for both.

Then the memory of one import of ``--memory`` records, sampled as it goes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

from harness import Report, peer, versions  # noqa: E402

# isort: split
# (the harness holds thread pools to one thread, before numpy makes them)
import databento_dbn as dbn  # noqa: E402
import numpy as np  # noqa: E402

from ots_common.database import Database, connect  # noqa: E402
from ots_common.provision import ProvisionSettings, provision  # noqa: E402
from ots_ingestion import runs, spool  # noqa: E402
from ots_ingestion.dbn_file import verify  # noqa: E402
from ots_ingestion.importer import Importer  # noqa: E402
from ots_native.postgres import PostgresServer  # noqa: E402
from ots_native.settings import Ports  # noqa: E402
from places import MIGRATIONS, ROOT  # noqa: E402

REAL = Path(os.environ.get("OTS_REAL_DATA", ROOT.parent / "shared" / "data" / "real"))
BATCH_RECORDS = 250_000
OPEN_NS = 1_709_562_600_000_000_000
TABLES = ("trades", "quotes", "bars_1m", "price_latest", "quote_latest", "runs")


@dataclass(frozen=True)
class Case:
    """A file and the table that it fills."""

    name: str
    path: Path
    table: str


def made_trades(path: Path, records: int, symbols: int = 9) -> Path:
    """A plain DBN file of trades as a live feed orders them: nine symbols mixed, some of them equal in every field."""
    dtype = np.dtype(dbn.TradeMsg._dtypes)
    generator = np.random.default_rng(7)
    header = dbn.Metadata(
        dataset="EQUS.MINI",
        schema=dbn.Schema.TRADES,
        start=OPEN_NS,
        stype_in=dbn.SType.RAW_SYMBOL,
        stype_out=dbn.SType.INSTRUMENT_ID,
        end=None,
        limit=None,
        symbols=[f"SYM{i}" for i in range(symbols)],
        partial=[],
        not_found=[],
        mappings=[_mapping(f"SYM{i}", i + 1) for i in range(symbols)],
        version=3,
    )
    with path.open("wb") as file:
        file.write(header.encode())
        at = OPEN_NS
        for first in range(0, records, 1_000_000):
            n = min(1_000_000, records - first)
            rows = np.zeros(n, dtype)
            rows["length"], rows["rtype"], rows["publisher_id"] = dtype.itemsize // 4, 0, 95
            rows["instrument_id"] = generator.integers(1, symbols + 1, n)
            times = at + np.cumsum(generator.exponential(2_000_000, n).astype(np.int64) // 1000 * 1000)
            at = int(times[-1])
            rows["ts_event"], rows["ts_recv"] = times, times + 150_000
            rows["price"] = (100 + np.cumsum(generator.normal(0, 0.01, n))).round(2) * 1_000_000_000
            rows["size"] = generator.integers(1, 500, n)
            rows["action"], rows["side"], rows["flags"] = b"T", b"N", 128
            rows["sequence"] = np.arange(first, first + n)
            file.write(rows.tobytes())
    return path


def _mapping(symbol: str, vendor_id: int) -> object:
    from datetime import date
    from types import SimpleNamespace

    interval = SimpleNamespace(start_date=date(2024, 3, 1), end_date=date(2024, 5, 1), symbol=str(vendor_id))
    return SimpleNamespace(raw_symbol=symbol, intervals=[interval])


class Bench:
    """One database, and the ways into it."""

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        name = f"market_{uuid.uuid4().hex[:8]}"
        provision(
            ProvisionSettings(
                admin_database_url=server.admin_url,
                market_database=name,
                accounts_database=f"accounts_{uuid.uuid4().hex[:8]}",
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
        self.dsn = server.url("ots", "owner-password", name)
        self.psql = _psql(server)
        self.folder = folder
        self.database = Database(self.dsn, application="benchmark", size=1)
        with closing(connect(server.admin_url, application="benchmark")) as connection:
            self._postmaster = _stat(connection.info.backend_pid)[1]

    def server_cpu(self) -> float:
        """CPU seconds of all backends of the server that have ended."""
        return float(sum(_stat(self._postmaster)[13:15])) / os.sysconf("SC_CLK_TCK")

    def empty(self) -> None:
        """Everything that an import writes but instruments, gone; as after a VACUUM."""
        self.database.execute(f"TRUNCATE {', '.join(TABLES)} CASCADE")

    def ours(self, path: Path) -> None:
        """The import of one file."""
        run_id = uuid.uuid4()
        held = self.folder / f"{run_id}.dbn"
        held.symlink_to(path)
        summary = verify(held, max_decompressed_bytes=2**40)
        upload = spool.Upload(held, path.stat().st_size, "0" * 64)
        runs.create_run(self.database, run_id, upload, held, summary, "benchmark", BATCH_RECORDS)
        connection = connect(self.dsn, application="benchmark-import")
        try:
            run = runs.claim_next(connection, self.folder)
            assert run is not None
            Importer(connection, run, lambda _: None).run(lambda: False)
            runs.finish(connection, run.run_id)
        finally:
            connection.close()
            held.unlink()

    def csv_of(self, case: Case) -> Path:
        """The rows of an imported file as CSV, in the order of the file."""
        path = self.folder / f"{case.table}-{case.path.name}.csv"
        self._psql(f"\\copy (SELECT * FROM {case.table} ORDER BY recv_at_ns, sequence) TO '{path}' CSV")
        return path

    def copied(self, case: Case, csv: Path) -> None:
        """The same rows by ``psql \\copy`` into the same table."""
        self._psql(f"\\copy {case.table} FROM '{csv}' CSV")

    def rows(self, table: str) -> int:
        """How many there are."""
        return int(self.database.rows(f"SELECT count(*) FROM {table}")[0][0])

    def _psql(self, *commands: str) -> None:
        arguments = [part for command in commands for part in ("-c", command)]
        subprocess.run([self.psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", *arguments, self.dsn], check=True)


def _stat(pid: int) -> list[int]:
    """The numbers of /proc/<pid>/stat from its third field on (proc(5)): the state, as 0, the parent, ..."""
    text = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    return [0, *map(int, text.split()[1:])]


def _psql(server: PostgresServer) -> str:
    """The client beside the server's own binaries, so that both are of one version."""
    command = server.prepare()
    return next(str(Path(part).with_name("psql")) for part in command if Path(part).name == "postgres")


@dataclass(frozen=True)
class Cost:
    """What one call took, in seconds: wall time, CPU of this process, CPU of the server's backends that ended in it."""

    wall: float
    client: float
    server: float


def timed(call: Callable[[], object]) -> float:
    """Seconds of wall time."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measured(bench: Bench, call: Callable[[], object]) -> Cost:
    """What ``call`` costs; it connects and disconnects by itself."""
    before, client = bench.server_cpu(), time.process_time()
    wall = timed(call)
    client = time.process_time() - client
    # a backend's CPU is counted when the server has noticed that it is gone
    deadline = time.monotonic() + 2
    while bench.server_cpu() == before and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    return Cost(wall, client, bench.server_cpu() - before)


def race(bench: Bench, case: Case, report: Report, turns: int) -> None:
    """Our import and the copy, in turns."""
    bench.empty()
    bench.ours(case.path)
    records = bench.rows(case.table)
    csv = bench.csv_of(case)
    own, theirs = [], []
    for _ in range(turns):
        bench.empty()
        own.append(measured(bench, lambda: bench.ours(case.path)))
        assert bench.rows(case.table) == records
        bench.empty()
        theirs.append(measured(bench, lambda: bench.copied(case, csv)))
        assert bench.rows(case.table) == records
    ratios = sorted(b.wall / a.wall for a, b in zip(own, theirs, strict=True))
    ratio = statistics.median(ratios)
    for how, costs, shown, judged in (
        ("DBN file to committed rows", own, "", ""),
        ("psql \\copy of a CSV", theirs, f"{ratio:.2f}", report.judge(ratio, 1.0, 1.3)),
    ):
        client, server = (
            statistics.median(values) / records * 1e6
            for values in ([c.client for c in costs], [c.server for c in costs])
        )
        speed = f"{records / statistics.median(c.wall for c in costs):,.0f}"
        # psql's own CPU is that of a process of its own, and is not counted
        cpu = f"{client:.2f} + {server:.2f}" if costs is own else f"{server:.2f}"
        report.row(case.name, how, speed, cpu, shown, f"{ratios[0]:.2f} to {ratios[-1]:.2f}" if shown else "", judged)
    csv.unlink()


def race_pandas(bench: Bench, case: Case, report: Report, records: int = 20_000) -> None:
    """``to_df`` and ``to_sql`` of the first records, for scale."""
    alchemy, databento = peer("sqlalchemy"), peer("databento")
    if alchemy is None or databento is None:
        report.row(case.name, "pandas to_df + to_sql", "not installed", "", "", "", "")
        return
    engine = alchemy.create_engine("postgresql+psycopg2://", creator=lambda: connect(bench.dsn, application="pandas"))
    frame = None

    def write() -> None:
        nonlocal frame
        frame = next(iter(databento.DBNStore.from_file(case.path).to_df(count=records)))
        frame.to_sql("pandas_rows", engine, if_exists="replace", chunksize=1000, method="multi")

    seconds = timed(write)
    bench.database.execute("DROP TABLE IF EXISTS pandas_rows")
    report.row(case.name, "pandas to_df + to_sql, no key", f"{records / seconds:,.0f}", "", "", "", "")


def memory(bench: Bench, folder: Path, records: int, report: Report) -> None:
    """The resident memory of one import, by the share of the file that is stored."""
    path = made_trades(folder / "large.dbn", records)
    bench.empty()
    samples: list[tuple[int, float]] = []
    ended = threading.Event()

    def sample() -> None:
        watcher = Database(bench.dsn, application="benchmark-watch", size=1)
        while not ended.wait(0.5):
            done = watcher.rows("SELECT coalesce(max(records_done), 0) FROM runs")[0][0]
            samples.append((int(done), resident_mb()))
        watcher.close()

    thread = threading.Thread(target=sample)
    thread.start()
    seconds = timed(lambda: bench.ours(path))
    ended.set()
    thread.join()
    path.unlink()
    tenths = [[mb for done, mb in samples if i / 10 <= done / records <= (i + 1) / 10] for i in range(10)]
    for i, mb in enumerate(tenths):
        report.row(f"{10 * i} to {10 * (i + 1)} % of {records:,}", f"{max(mb):,.0f} MB" if mb else "no sample")
    early, late = ([mb for tenth in part for mb in tenth] for part in (tenths[1:5], tenths[5:]))
    growth = max(late) / max(early) if early and late else float("nan")
    report.row(
        "the second half to 10 to 50 %", f"{growth:.2f}, {report.judge(growth, 1.1, 1.02, more_is_better=False)}"
    )
    report.row("records/s over all of it", f"{records / seconds:,.0f}")


def resident_mb() -> float:
    """Of this process, from /proc; of its peak where there is none."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> int:
    """Run everything; 1 when a floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7, help="0 leaves the races out")
    parser.add_argument("--records", type=int, default=500_000, help="of the made trades")
    parser.add_argument("--memory", type=int, default=10_000_000, help="records of the memory run; 0 leaves it out")
    options = parser.parse_args()
    report = Report()
    print(versions("databento", "databento-dbn", "numpy", "psycopg2-binary", "pandas", "SQLAlchemy"))
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        server = PostgresServer(folder / "postgres", Ports.free().postgres)
        server.start()
        try:
            bench = Bench(server, folder)
            cases = [
                Case(
                    f"{options.records:,} made trades, 9 symbols",
                    made_trades(folder / "trades.dbn", options.records),
                    "trades",
                )
            ]
            real = {
                "real GOOG chain, 275,552 cbbo-1m": ("OPRA.PILLAR/GOOG-2015-12-24/cbbo-1m.dbn.zst", "quotes"),
                "real SPY day, 250,601 trades": ("EQUS.MINI/SPY-2013-10-07/trades.dbn.zst", "trades"),
            }
            for name, (path, table) in real.items():
                if (REAL / path).exists():
                    cases.append(Case(name, REAL / path, table))
                else:
                    print(f"{name}: no real data at {REAL}")
            if options.turns:
                print(f"load of this machine's {os.cpu_count()} processors before: {os.getloadavg()[0]:.1f}")
                columns = ("input", "how", "rows/s", "CPU us a row: ours + server", "ratio", "range", "floor / goal")
                report.head("From file to committed rows", *columns)
                for case in cases:
                    race(bench, case, report, options.turns)
                race_pandas(bench, cases[0], report)
                print(f"load after: {os.getloadavg()[0]:.1f}")
            if options.memory:
                report.head("Memory of one import", "part", "peak resident")
                memory(bench, folder, options.memory, report)
        finally:
            server.remove()
    return 0 if report.met else 1


if __name__ == "__main__":
    sys.exit(main())
