"""The commands as their users run them: what they print, and with which status they end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from databento_dbn import Schema

from backfill_support import DAYS, IDS, after_the_tape, backfilling, day, tape, trades_of
from data_ingestion_support import Ingestion, settings_for
from dbn import dbn_file, midnight, trade
from ots_ingestion.gaps import close_gap, open_gap
from simulator_support import RunningSimulator, running_simulator

ALL_TRADES = sum(len(trades_of(number)) for number in range(DAYS))
OK, FAILED, WRONG, UNAVAILABLE, REFUSED, TOO_COSTLY = range(6)
ASKED = ("AAPL", "MSFT", "--schemas", "trades", "--start", day(0).isoformat(), "--end", day(DAYS).isoformat())


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    with running_simulator(tape=tape(), starts_at_ns=after_the_tape()) as running:
        yield running


@pytest.fixture(scope="module")
def ingestion(market, redis_server, simulator: RunningSimulator, tmp_path_factory) -> Iterator[Ingestion]:
    service = Ingestion(
        settings_for(
            market,
            redis_server,
            tmp_path_factory.mktemp("spool"),
            databento_api_key=simulator.key,
            databento_historical_url=simulator.url,
            vendor_metadata_per_s=500,
        )
    )
    with service.working():
        yield service


@pytest.fixture
def command(ingestion: Ingestion, simulator: RunningSimulator):
    def run(*arguments: object, **changes: str) -> subprocess.CompletedProcess[str]:
        settings = ingestion.settings
        environment = {
            **os.environ,
            **simulator.environment,
            "DATABASE_URL": settings.database_url.get_secret_value(),
            "SPOOL_DIR": str(settings.spool_dir),
            "MARKET_SOURCE": "databento",
            **changes,
        }
        return subprocess.run(
            [sys.executable, "-m", "ots_ingestion", *map(str, arguments)],
            env={name: value for name, value in environment.items() if value != "unset"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def one_line(done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def test_help_teaches(command):
    done = command("backfill", "--help")
    assert done.returncode == 0
    for words in ("--dry-run", "--max-cost-usd", "--wait", "exit status", "examples", "AAPL.OPT"):
        assert words in done.stdout
    assert command("--help").stdout.count("backfill") >= 2


def test_a_backfill_from_price_to_proof(command, ingestion, market):
    dry = command("backfill", *ASKED, "--dry-run")
    assert dry.returncode == OK, dry.stderr
    assert f"{ALL_TRADES:,} records" in dry.stdout
    assert "USD" in dry.stdout
    one_line(command("backfill", *ASKED), TOO_COSTLY, "no max_cost_usd", "nothing was spent")
    one_line(command("backfill", *ASKED, "--max-cost-usd", "0.0000001"), TOO_COSTLY, "max_cost_usd of at least")
    with backfilling(ingestion):
        bought = command("backfill", *ASKED, "--max-cost-usd", "1", "--wait")
    assert bought.returncode == OK, bought.stderr
    assert "100%" in bought.stdout
    assert f"done: {ALL_TRADES:,} records received, {ALL_TRADES:,} stored" in bought.stdout
    assert "\r" not in bought.stdout  # no terminal
    backfill_id = ingestion.get("/backfills").json["backfills"][0]["id"]
    again = command("backfill", *ASKED, "--max-cost-usd", "1", "--wait")
    assert again.returncode == OK
    assert f"{backfill_id} was asked for already" in again.stdout
    proof = command("verify", "--backfill", backfill_id)
    assert proof.returncode == OK, proof.stderr
    assert f"{ALL_TRADES:,} records expected, {ALL_TRADES:,} rows there" in proof.stdout
    market.database.execute("DELETE FROM trades WHERE ctid IN (SELECT ctid FROM trades LIMIT 1)")
    lacking = command("verify", "--backfill", backfill_id)
    assert lacking.returncode == FAILED
    assert "records are expected" in lacking.stderr


def test_a_failed_backfill_ends_with_a_failure(command, ingestion, simulator):
    simulator.fault("http", status=403, call="timeseries.get_range", times=0)
    with backfilling(ingestion):
        done = command("backfill", "AAPL", "--schemas", "ohlcv-1m", "--start", day(0), "--max-cost-usd", "1", "--wait")
    simulator.clear_faults()
    assert done.returncode == FAILED
    assert "not entitled" in done.stderr
    assert "portal" in done.stderr


def test_files_from_import_to_proof(command, tmp_path, market):
    path = tmp_path / "file with spaces.dbn.zst"
    path.write_bytes(dbn_file(Schema.TRADES, trades_of(2), symbols={"TSLA": 1, "META": 2}, day=day(2)))
    before = command("verify", path)
    assert before.returncode == FAILED
    assert "2,200 records of EQUS.MINI trades; 0 are stored, 2,200 are missing, 0 differ" in before.stdout
    # what was compared was not stored
    assert market.database.rows("SELECT count(*) FROM instruments WHERE raw_symbol = 'META'") == [(0,)]
    taken = command("import", path)
    assert taken.returncode == OK, taken.stderr
    assert "2,200 stored" in taken.stdout
    after = command("verify", path)
    assert after.returncode == OK, after.stdout
    assert "2,200 are stored, 0 are missing, 0 differ" in after.stdout


def test_records_that_nobody_can_store_are_a_failure(command, tmp_path):
    path = tmp_path / "undated.dbn"
    path.write_bytes(dbn_file(Schema.TRADES, [trade(midnight(day(0)), 1, instrument=777)]))
    for name in ("import", "verify"):
        done = command(name, path)
        assert done.returncode == FAILED, done.stdout


def test_files_that_are_none(command, tmp_path):
    cut = tmp_path / "cut.dbn.zst"
    cut.write_bytes(dbn_file(Schema.TRADES, trades_of(0), symbols=IDS)[:-100])
    one_line(command("import", cut), FAILED, "not transferred whole")
    one_line(command("verify", cut), FAILED, "not transferred whole")
    one_line(command("import", tmp_path / "nothing.dbn"), FAILED, "nothing.dbn")
    one_line(command("import", cut, MARKET_SOURCE="simulated"), WRONG, "simulated")
    one_line(command("verify"), WRONG, "name files")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("backfill", "AAPL", "--start", "2024-03-04"), WRONG, "--schemas"),
        (("backfill", "AAPL", "--schemas", "trades", "--start", "yesterday"), WRONG, "--start"),
        (("backfill", "NOPE", "--schemas", "trades", "--start", "2024-03-04"), WRONG, "does not know NOPE"),
        (("backfill", "AAPL", "--schemas", "tbbo", "--start", "2024-03-04"), WRONG, "offers ohlcv-1m, trades"),
        (("backfill", *ASKED, "--max-cost-usd", "nan"), WRONG, "--max-cost-usd"),
        (("verify", "--backfill", "00000000-0000-4000-8000-000000000000"), WRONG, "no backfill"),
    ],
)  # fmt: skip
def test_a_wrong_question_is_one_clear_line(command, arguments, status, words):
    one_line(command(*arguments), status, words)


def test_what_is_not_there_is_one_clear_line(command, simulator):
    one_line(command("status", DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing"), UNAVAILABLE, "database")
    one_line(command("backfill", *ASKED, DATABENTO_API_KEY="unset"), REFUSED, "DATABENTO_API_KEY")
    wrong = command("backfill", *ASKED, DATABENTO_API_KEY="db-" + "w" * 29)
    one_line(wrong, REFUSED, "does not accept the key")
    assert "w" * 29 not in wrong.stderr
    one_line(command("status", DATABASE_URL="unset"), WRONG, "DATABASE_URL")


def test_status_and_gaps(command, market, ingestion):
    with market.database.connection() as connection, connection.cursor() as cursor:
        about = {"dataset": "EQUS.MINI", "schema": "trades", "symbol": None, "evidence": "disconnect"}
        open_gap(cursor, starts_ns=1, ends_ns=None, detail="going on", **about)
        over = open_gap(cursor, starts_ns=10**18, ends_ns=10**18 + 1, detail="over", **about)
        close_gap(cursor, over, closed_by="replay", found=3)
    status = command("status")
    assert status.returncode == OK, status.stderr
    assert "gaps open: 1" in status.stdout
    assert "market source: databento" in status.stdout
    listed = command("gaps")
    assert "going on" in listed.stdout
    assert "over)" not in listed.stdout
    everything = command("gaps", "--all")
    assert "closed by replay, 3 found" in everything.stdout
    assert "no open gaps" in command("gaps", "--dataset", "OTHER").stdout
