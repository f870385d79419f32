"""The process: when it starts, what it says of itself, its certificate, and the seeded market behind both servers."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import databento
import pytest
import requests
from cryptography import x509
from databento_dbn import InstrumentDefMsg, OHLCVMsg, Schema, TradeMsg
from pydantic import ValidationError

from dbn import MINUTE, dbn_file, trade
from ots_simulator import tls
from ots_simulator.app import make_market
from ots_simulator.query import parse_timestamp
from ots_simulator.settings import SimulatorSettings
from ots_simulator.tls import ensure_certificate
from simulator_support import KEY, Listener, RunningSimulator, running_simulator

SECOND = 10**9
# a Tuesday, in hours in which the exchange is open too
NOW = parse_timestamp("2024-03-05T16:30:20Z")[0]


@pytest.fixture(scope="module")
def seeded() -> Iterator[RunningSimulator]:
    with running_simulator(starts_at_ns=NOW) as running:
        yield running


def settings(folder: Path, **changed: object) -> SimulatorSettings:
    return SimulatorSettings(simulator_key=KEY, simulator_tls_dir=folder, **changed)


def test_it_refuses_production_and_weak_keys(tmp_path: Path):
    with pytest.raises(ValidationError, match="for development"):
        settings(tmp_path, ots_environment="production")
    for weak in ("db-short", "xx-" + "a" * 29):
        with pytest.raises(ValidationError) as refused:
            SimulatorSettings(simulator_key=weak, simulator_tls_dir=tmp_path)
        assert weak not in str(refused.value)


def test_the_command_says_what_is_wrong_with_its_settings():
    command = [sys.executable, "-m", "ots_simulator"]
    ended = subprocess.run(command, env={"OTS_ENVIRONMENT": "production"}, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "simulator_key" in ended.stderr
    assert not ended.stdout


def test_the_authority_is_there_before_the_market(tmp_path: Path):
    # a market that cannot be made: the certificate was written all the same, for those who start beside the simulator
    environment = {"SIMULATOR_KEY": KEY, "SIMULATOR_TLS_DIR": str(tmp_path / "tls"), "SIMULATOR_TAPE": str(tmp_path)}
    command = [sys.executable, "-m", "ots_simulator"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode != 0
    assert not ended.stdout
    x509.load_pem_x509_certificate((tmp_path / "tls" / "ca.pem").read_bytes())


def test_the_certificate_is_kept_and_its_key_private(tmp_path: Path):
    folder = tmp_path / "new"
    certificate, key = ensure_certificate(folder)
    before = certificate.read_bytes()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "ca.pem").stat().st_mode) == 0o644
    ensure_certificate(folder)
    assert certificate.read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["ca.pem", "server.key", "server.pem"]
    made = x509.load_pem_x509_certificate(before)
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "market-simulator"]


@pytest.mark.parametrize("harm", ["ends soon", "damaged", "no authority", "of another"])
def test_a_certificate_that_will_not_do_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str):
    if harm == "ends soon":
        monkeypatch.setattr(tls, "_LIFE", timedelta(days=20))
    certificate, _ = ensure_certificate(tmp_path)
    monkeypatch.undo()
    if harm == "damaged":
        certificate.write_text("nonsense")
    elif harm == "no authority":
        (tmp_path / "ca.pem").unlink()
    elif harm == "of another":
        (tmp_path / "ca.pem").write_bytes(
            ensure_certificate(tmp_path / "other")[0].parent.joinpath("ca.pem").read_bytes()
        )
    ensure_certificate(tmp_path)
    made = x509.load_pem_x509_certificate(certificate.read_bytes())
    made.verify_directly_issued_by(x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes()))
    assert made.not_valid_after_utc > datetime.now(UTC) + timedelta(days=300)


def test_a_tape_brings_its_own_time_unless_moved(tmp_path: Path):
    (tmp_path / "a.dbn").write_bytes(dbn_file(Schema.TRADES, [trade(NOW, 1)]))
    source, clock = make_market(settings(tmp_path, simulator_tape=tmp_path), None)
    assert NOW <= clock.now() < NOW + 60 * SECOND
    moved, clock = make_market(settings(tmp_path, simulator_tape=tmp_path, simulator_tape_shift="minutes"), None)
    assert clock.now() - 2 * MINUTE < moved.last_ns <= clock.now()
    assert source.last_ns == NOW


def test_it_says_how_it_is(seeded: RunningSimulator):
    health = requests.get(f"{seeded.url}/simulator/health/live", timeout=5).json()
    assert (health["status"], health["source"], health["speed"]) == ("ok", "seeded", 1.0)
    metrics = requests.get(f"{seeded.url}/simulator/metrics", timeout=5).text
    assert "ots_simulator_live_sessions" in metrics
    assert "process_resident_memory_bytes" in metrics


def test_it_declares_its_sessions(seeded: RunningSimulator):
    days = {"start": "2024-03-02", "end": "2024-03-05"}
    calendar = requests.get(f"{seeded.url}/simulator/calendar", params=days, timeout=5).json()
    assert calendar["calendar"] == "SIM24"
    assert [one["date"] for one in calendar["sessions"]] == ["2024-03-02", "2024-03-03", "2024-03-04"]
    assert calendar["sessions"][0]["closes"] == "2024-03-03T00:00:00.000000000Z"
    assert requests.get(f"{seeded.url}/simulator/calendar?start=soon", timeout=5).status_code == 422


def test_the_exchanges_calendar_may_be_kept_instead():
    with running_simulator(starts_at_ns=NOW, environment={"MARKET_CALENDAR": "xnys"}) as simulator:
        days = {"start": "2024-03-08", "end": "2024-03-12"}
        calendar = requests.get(f"{simulator.url}/simulator/calendar", params=days, timeout=5).json()
        assert [one["opens"][:16] for one in calendar["sessions"]] == ["2024-03-08T14:30", "2024-03-11T13:30"]
        # a week of its days is a whole week
        asked = {"dataset": "EQUS.MINI", "schema": "ohlcv-1d", "symbols": "AAPL"}
        store = simulator.historical().timeseries.get_range(start="2024-02-26", end="2024-03-04", **asked)
        assert len(list(store)) == 5
        assert store.metadata.partial == []


def test_it_knows_the_truth(seeded: RunningSimulator):
    truth = requests.get(f"{seeded.url}/simulator/truth/AAPL", params={"at": NOW - SECOND}, timeout=5).json()
    assert truth["spot"] > 0
    assert requests.get(f"{seeded.url}/simulator/truth/NOPE", timeout=5).status_code == 404


def test_live_and_history_are_one_market(seeded: RunningSimulator):
    start = NOW - 5 * MINUTE
    live = Listener(seeded).subscribe("trades", "AAPL", start=start).subscribe("ohlcv-1m", "AAPL", start=start).start()
    live.until(lambda records: sum("Finished" in getattr(r, "msg", "") for r in records) == 2)
    live.close()
    history = seeded.historical().timeseries
    asked = {"dataset": "EQUS.MINI", "symbols": "AAPL", "start": start, "end": NOW}
    trades = [bytes(one) for one in history.get_range(schema="trades", **asked)]
    assert len(trades) > 50
    assert [bytes(one) for one in live.of(TradeMsg)][: len(trades)] == trades
    bars = [bytes(one) for one in history.get_range(schema="ohlcv-1m", **asked)]
    assert len(bars) >= 4
    assert [bytes(one) for one in live.of(OHLCVMsg)][: len(bars)] == bars


def test_chains_are_new_every_day_and_live_tells_so():
    midnight = parse_timestamp("2024-03-06")[0]
    with running_simulator(starts_at_ns=midnight - 3 * SECOND) as simulator:
        live = Listener(simulator, "OPRA.PILLAR").subscribe("definition", "AAPL.OPT", stype_in="parent").start()
        defined = live.until_count(InstrumentDefMsg, 100)
        live.close()
        before = {
            (m.stype_out_symbol, m.instrument_id) for m in live.of(databento.SymbolMappingMsg) if m.start_ts < midnight
        }
        after = {
            (m.stype_out_symbol, m.instrument_id) for m in live.of(databento.SymbolMappingMsg) if m.start_ts >= midnight
        }
        assert len(before) > 100
        assert len(after) > 100
        assert not before & after
        assert {(d.raw_symbol, d.instrument_id) for d in defined} <= after
