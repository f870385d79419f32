"""Snapshots of implied volatility of the seeded market's closes, whose true volatilities are known."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import closing

import numpy as np
import pytest
import requests
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from data_ingestion_support import Ingestion, settings_for
from ots_analytics.app import create_app
from ots_analytics.settings import AnalyticsSettings
from ots_analytics.snapshots import LEASE, Snapshotter
from ots_analytics.snapshots_metrics import CONTRACTS, LAST
from ots_common.database import connect
from ots_common.times import rfc3339, to_datetime
from ots_common.tokens import HEADER, Caller, sign_internal_token
from ots_market.symbols import parse_option_symbol
from ots_simulator.underlyings import BY_SYMBOL, RATE
from seeded_market import DAY, EQUITIES, MINUTE, OPTIONS, TODAY, make_market
from volatility_support import catch_up, import_close, import_records, settings_of

KEY = SecretStr("a" * 40)
UNDERLYINGS = sorted(BY_SYMBOL)
DAYS = (TODAY - 1, TODAY)
NOW = (TODAY + 1) * DAY + 5 * MINUTE


@pytest.fixture(scope="module")
def seeded():
    return make_market(now=NOW)


@pytest.fixture(scope="module")
def service(market, redis_server, tmp_path_factory, seeded):
    settings = settings_for(
        market, redis_server, tmp_path_factory.mktemp("spool"),
        market_calendar="around-the-clock",
    )  # fmt: skip
    ingestion = Ingestion(settings)
    with ingestion.working():
        for day in DAYS:
            import_close(ingestion, seeded, day, UNDERLYINGS)
        yield ingestion


@pytest.fixture(scope="module")
def stored(market, service):
    assert catch_up(market, NOW) == len(DAYS) * len(UNDERLYINGS)
    return market.database


def true_volatility(seeded, underlying: str, expiration, forward: float, at: int) -> float:
    """At a forward between two strikes, of the model that made the quotes: cubic through the four strikes around it."""
    day = (at - 1) // DAY
    names = [
        name
        for name in seeded.chains.chain(underlying, day).raw_symbols
        if (option := parse_option_symbol(name)) and option.expiration == expiration and option.right == "C"
    ]
    strikes = np.array([parse_option_symbol(name).strike / 1e9 for name in names])
    around = np.argsort(np.abs(np.log(strikes / forward)))[:4]
    volatilities = [seeded.true.contract(names[i], at - 1).implied_volatility for i in around]
    return float(np.polyval(np.polyfit(strikes[around] / forward - 1, volatilities, 3), 0.0))


def test_what_is_stored_is_near_the_truth(stored, seeded):
    rows = stored.dicts(
        "SELECT e.*, (extract(epoch FROM ts) * 1000000)::bigint * 1000 AS at FROM volatility_expirations e"
    )
    assert len(rows) > 4 * len(DAYS) * len(UNDERLYINGS)
    known = [row for row in rows if row["at_the_money"] is not None]
    assert len(known) > 0.95 * len(rows)
    errors = np.array(
        [
            row["at_the_money"]
            - true_volatility(seeded, row["underlying"], row["expiration"], row["forward"], row["at"])
            for row in known
        ]
    )
    assert np.median(np.abs(errors)) < 0.002
    assert np.abs(errors).max() < 0.01


def test_the_constant_maturity_is_near_the_truth(stored, seeded):
    rows = stored.dicts("SELECT *, (extract(epoch FROM ts) * 1000000)::bigint * 1000 AS at FROM volatility_snapshots")
    expirations = stored.dicts("SELECT * FROM volatility_expirations ORDER BY years")
    for row in rows:
        own = [e for e in expirations if (e["underlying"], e["ts"]) == (row["underlying"], row["ts"])]
        years = np.array([e["years"] for e in own])
        true = [true_volatility(seeded, e["underlying"], e["expiration"], e["forward"], row["at"]) for e in own]
        variance = np.interp(30 / 365, years, np.array(true) ** 2 * years)
        assert row["volatility_30d"] == pytest.approx(np.sqrt(variance / (30 / 365)), abs=0.005)


def test_the_rate_is_implied_because_no_curve_was_stated(stored):
    rows = stored.rows(
        "SELECT DISTINCT rate_kind, rate FROM volatility_expirations JOIN volatility_snapshots USING (underlying, ts)"
    )
    assert {kind for kind, _ in rows} == {"parity"}
    assert len({rate for _, rate in rows}) == len(DAYS)  # one a moment
    assert all(rate == pytest.approx(RATE, abs=0.015) for _, rate in rows)


def test_every_contract_is_used_or_counted(stored, seeded):
    for underlying, ts, used, refused in stored.rows(
        "SELECT underlying, extract(epoch FROM ts)::bigint, contracts_used, contracts_refused FROM volatility_snapshots"
    ):
        day = ts * 10**9 // DAY - 1
        assert used + sum(refused.values()) == len(seeded.chains.chain(underlying, day).raw_symbols)
        assert used > sum(refused.values()) / 3


def contents(database):
    return [
        database.rows(
            f"SELECT * FROM {table} WHERE ts <= %s ORDER BY underlying, ts, 3", (to_datetime(NOW - 5 * MINUTE),)
        )
        for table in ("volatility_snapshots", "volatility_expirations", "volatility_contracts")
    ]


def test_again_is_nothing_new(stored, market):
    before = contents(stored)
    assert catch_up(market, NOW) == 0
    assert contents(stored) == before


def test_what_became_of_each_is_counted(stored, market):
    def value(metric, **labels):
        return REGISTRY.get_sample_value(metric, labels) or 0.0

    def outcomes(underlying):
        return {
            outcome: value("ots_snapshots_total", underlying=underlying, outcome=outcome)
            for outcome in ("stored", "current", "stale")
        }

    gauges = {
        (name, state): value("ots_snapshots_contracts", underlying=name, state=state)
        for name in UNDERLYINGS
        for state in ("priced", "without")
    }
    assert all(gauges[name, "priced"] > 0 for name in UNDERLYINGS)
    before = {name: outcomes(name) for name in UNDERLYINGS}
    snapshotter = Snapshotter(settings_of(market), lambda: NOW)
    # it knows what earlier processes stored
    LAST.clear()
    CONTRACTS.clear()
    snapshotter.catch_up()
    for name in UNDERLYINGS:
        # both closes; and the session that has begun, of which nothing is quoted yet
        now = outcomes(name)
        assert now["stored"] == before[name]["stored"]
        assert now["current"] == before[name]["current"] + len(DAYS)
        assert now["stale"] == before[name]["stale"] + 1
        assert value("ots_snapshots_last_timestamp_seconds", underlying=name) == (TODAY + 1) * DAY / 1e9
    assert gauges == {key: value("ots_snapshots_contracts", underlying=key[0], state=key[1]) for key in gauges}
    contracts = stored.rows(
        "SELECT sum(cardinality(reason)) FROM volatility_contracts WHERE ts = %s", (to_datetime((TODAY + 1) * DAY),)
    )
    assert contracts == [(sum(gauges.values()),)]


def test_what_comes_later_changes_nothing_before(stored, market, service, seeded):
    before = contents(stored)
    day = TODAY + 1
    for dataset, schema in ((EQUITIES, "ohlcv-1m"), (OPTIONS, "cbbo-1m")):
        import_records(service, seeded, dataset, schema, day, day * DAY, day * DAY + 4 * MINUTE, UNDERLYINGS)
    # the session that has begun is at its fourth minute
    assert catch_up(market, NOW) == len(UNDERLYINGS)
    assert contents(stored) == before
    rows = stored.rows(
        "SELECT closing, (extract(epoch FROM ts))::bigint FROM volatility_snapshots WHERE ts > %s",
        (to_datetime(NOW - 5 * MINUTE),),
    )
    assert rows == [(False, (NOW - MINUTE) // 10**9)] * len(UNDERLYINGS)
    assert catch_up(market, NOW) == 0


def test_a_curve_counts_from_when_it_was_known(stored, market):
    before = contents(stored)
    known = to_datetime(NOW - 6 * MINUTE)  # within the second session
    with market.database.connection() as connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO rate_curves (curve_date, source, known_at, stated_by)"
            " VALUES (%s, 'stated', %s, 'test') RETURNING curve_id",
            (known.date(), known),
        )
        (curve,) = cursor.fetchone()
        cursor.execute("INSERT INTO rate_points VALUES (%s, 30, 0.0425, 'continuous')", (curve,))
    assert catch_up(market, NOW) == 2 * len(UNDERLYINGS)  # the second close, and the minute after it
    rates = stored.rows("SELECT ts, rate_kind, count(*) FROM volatility_snapshots GROUP BY 1, 2 ORDER BY 1")
    assert [kind for _, kind, _ in rates] == ["parity", "curve", "curve"]
    assert contents(stored)[0][0] == before[0][0]
    market.database.execute("DELETE FROM rate_curves")
    assert catch_up(market, NOW) == 2 * len(UNDERLYINGS)
    without_time = slice(None, -1)
    assert [r[without_time] for r in contents(stored)[0]] == [r[without_time] for r in before[0]]
    assert contents(stored)[1:] == before[1:]


def test_one_process_at_a_time(stored, market):
    with closing(connect(market.snapshots, application="tests")) as other, other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (LEASE,))
        with pytest.raises(RuntimeError, match="another process"):
            catch_up(market, NOW)
    assert catch_up(market, NOW) == 0


def process(market, metrics_port: int = 0) -> subprocess.Popen:
    """``python -m ots_analytics snapshots``, started; it lives in the present, in which all those sessions are over."""
    environment = {
        "PATH": os.environ["PATH"], "DATABASE_URL": market.snapshots, "MARKET_CALENDAR": "around-the-clock",
        "MARKET_SOURCE": "simulated", "LOG_LEVEL": "WARNING", "SNAPSHOTS_METRICS_PORT": str(metrics_port),
    }  # fmt: skip
    return subprocess.Popen([sys.executable, "-m", "ots_analytics", "snapshots"], env=environment)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def counted(port: int, outcome: str) -> float:
    """What a process says of its snapshots, all underlyings; 0 while it says nothing."""
    try:
        text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
    except requests.ConnectionError:
        return 0.0
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "ots_snapshots_total" and sample.labels["outcome"] == outcome
    )


def wait_until(done) -> None:
    deadline = time.monotonic() + 180  # a cold start compiles
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_killed_in_the_middle_the_next_goes_on(stored, market):
    """One is killed while another waits for its place; a third is refused nothing but the place."""
    market.database.execute("DELETE FROM volatility_snapshots WHERE NOT closing")
    for table in ("volatility_expirations", "volatility_contracts"):
        market.database.execute(f"DELETE FROM {table} WHERE ts > %s", (to_datetime(NOW - 5 * MINUTE),))
    columns = "underlying, ts, volatility_30d, contracts_used, data_version"
    kept = stored.rows(f"SELECT {columns} FROM volatility_snapshots ORDER BY 1, 2")
    details = [
        f"SELECT * FROM {table} ORDER BY 1, 2, 3" for table in ("volatility_expirations", "volatility_contracts")
    ]
    before = [stored.rows(query) for query in details]
    for table in ("volatility_snapshots", "volatility_expirations", "volatility_contracts"):
        market.database.execute(f"DELETE FROM {table}")

    def number() -> int:
        return market.database.rows("SELECT count(*) FROM volatility_snapshots")[0][0]

    running = [process(market), process(market)]
    try:
        wait_until(lambda: number() > 0)
        holder = market.database.rows(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND granted", (LEASE,)
        )
        assert holder == [(1,)]
        for one in running:
            one.kill()
            one.wait()
        torn = market.database.rows(
            "SELECT count(*) FROM volatility_snapshots s WHERE contracts_used > 0 AND NOT EXISTS"
            " (SELECT FROM volatility_expirations e JOIN volatility_contracts c USING (underlying, ts, expiration)"
            "  WHERE e.underlying = s.underlying AND e.ts = s.ts)"
        )
        assert torn == [(0,)]
        left = len(kept) - number()
        ports = [free_port(), free_port()]
        running = [process(market, port) for port in ports]
        wait_until(lambda: number() == len(kept))
        wait_until(lambda: sum(counted(port, "stored") for port in ports) >= left)
        assert sum(counted(port, "stored") for port in ports) == left
        running[0].terminate()
        assert running[0].wait(30) == 0
    finally:
        for one in running:
            one.kill()
            one.wait()
    assert stored.rows(f"SELECT {columns} FROM volatility_snapshots ORDER BY 1, 2") == kept
    assert [stored.rows(query) for query in details] == before


@pytest.fixture(scope="module")
def get(stored, market):
    settings = AnalyticsSettings(
        database_url=market.reader, accept_keys={"gateway": KEY}, log_level="ERROR", market_source="simulated",
        market_calendar="around-the-clock",
    )  # fmt: skip
    client = create_app(settings).test_client()

    def got(path, accept="application/json"):
        token = sign_internal_token(
            Caller("gateway", "u", "u", "viewer", "request-01"), "analytics", {"analytics": KEY}
        )
        return client.get(f"/api/v1/analytics/options/{path}", headers={HEADER: token, "Accept": accept})

    return got


@pytest.fixture
def ask(get):
    def asked(underlying, query="", accept="application/json"):
        return get(f"{underlying}/volatility-history?{query}", accept)

    return asked


FIGURES = ("mid", "implied_volatility", "delta", "gamma", "theta", "vega")


@pytest.mark.parametrize("underlying", ["SPY", "TSLA"])
def test_what_is_stored_of_a_contract_is_what_its_chain_answers(stored, get, underlying):
    at = (TODAY + 1) * DAY
    rows = stored.dicts(
        "SELECT * FROM volatility_contracts WHERE underlying = %s AND ts = %s", (underlying, to_datetime(at))
    )
    symbols = dict(stored.rows("SELECT instrument_id, replace(raw_symbol, ' ', '') FROM instruments"))
    found = {
        symbols[one]: {name: row[name][i] for name in (*FIGURES, "reason")}
        for row in rows
        for i, one in enumerate(row["instrument_ids"])
    }
    body = get(f"{underlying}?as_of={rfc3339(at)}").json
    assert body["rate"]["kind"] == "parity"  # that of all chains, as it was stored
    quoted = {one["symbol"]: one for one in body["contracts"] if one["reason"] != "no_quote"}
    assert found.keys() == quoted.keys()
    assert sum(one["reason"] is None for one in quoted.values()) > 100
    for symbol, contract in quoted.items():
        assert found[symbol]["reason"] == contract["reason"]
        for name in FIGURES:
            value, answered = found[symbol][name], contract[name]
            # stored as float4 and told in its fewest digits; answered with eight decimals
            near = None if answered is None else pytest.approx(answered, abs=6e-9 + 1.3e-7 * abs(answered))
            assert value == near, (symbol, name)


def test_a_contract_ends_with_the_close_of_its_day(stored, get):
    ((symbol,), *_) = stored.rows(
        "SELECT replace(raw_symbol, ' ', '') FROM instruments WHERE underlying = 'SPY' AND expiration = '2026-03-11'"
        " ORDER BY raw_symbol"
    )
    found = get(f"SPY/contract-history?symbol={symbol}&as_of={rfc3339(NOW)}").json["history"]
    assert [row["reason"] == "expired" for row in found] == [False, True]
    assert found[-1]["mid"] is None


def test_the_history_is_answered(ask, stored):
    answer = ask("spy", f"as_of={rfc3339(NOW)}&days=2")
    assert answer.status_code == 200, answer.text
    body = answer.json
    assert body["source"] == "simulated"
    assert body["as_of"] == rfc3339((TODAY + 1) * DAY)  # the minute bar that ends with the session
    assert body["quality"] == {"snapshots": 2, "without_volatility_30d": 0, "sessions_missing": 0, "stale": False}
    assert [row["session"] for row in body["history"]] == ["2026-03-10", "2026-03-11"]
    assert all(0.02 < row["volatility_30d"] < 1 and row["reason"] is None for row in body["history"])
    assert ask("SPY", f"as_of={rfc3339(NOW)}&days=5").json["quality"]["sessions_missing"] == 3


def test_nothing_later_is_answered(ask):
    body = ask("SPY", f"as_of={rfc3339((TODAY + 1) * DAY - 1)}").json
    assert [row["session"] for row in body["history"]] == ["2026-03-10"]
    late = ask("SPY", f"as_of={rfc3339(NOW + 3 * DAY)}").json
    assert late["quality"]["stale"] is True


@pytest.mark.parametrize("by", ["session", "expiration"])
def test_csv_has_the_same_values(ask, by):
    query = f"as_of={rfc3339(NOW)}&by={by}"
    rows = ask("AAPL", query).json["history"]
    text = ask("AAPL", query, "text/csv")
    assert text.content_type.startswith("text/csv")
    found = list(csv.DictReader(io.StringIO(text.text)))
    assert len(found) == len(rows) >= 2
    for one, row in zip(found, rows, strict=True):
        assert one.keys() == row.keys()
        for name, value in row.items():
            said = one[name]
            if isinstance(value, dict):
                assert json.loads(said) == value
            elif isinstance(value, float):
                assert float(said) == value
            elif isinstance(value, bool):
                assert said == json.dumps(value)
            else:
                assert said == ("" if value is None else str(value))


def test_where_there_is_nothing_it_says_what_there_is(ask):
    answer = ask("IBM", f"as_of={rfc3339(NOW)}")
    assert answer.status_code == 404
    assert answer.json["available"] == UNDERLYINGS
    assert "curl" in answer.json["hint"]
    assert ask("SPY", "as_of=2020-01-01").status_code == 404
    assert ask("SPY", "moments=all&days=8").status_code == 422
    assert ask("SPY", "days=0").status_code == 422
