"""The service as it answers: decisions, what may be said of them, the ledger and its stream, dry runs, backtests."""

from __future__ import annotations

import hashlib
import json
import os
import threading

import pytest
from pydantic import SecretStr

from ots_common.database import Database
from ots_common.tokens import HEADER, Caller, sign_internal_token
from ots_signals import backtests, ledger
from ots_signals.app import create_app
from ots_signals.decisions import Mode
from ots_signals.outcomes import Barrier
from ots_signals.settings import SignalsSettings
from ots_signals.strategies import registered
from ots_signals.stream import Pace, Streams, follow
from signals_support import abstention, outcome, signal

KEY = SecretStr("s" * 40)
NOW = 1_796_060_000 * 10**9
SIGNALS = [signal(number, underlying=("AAPL", "MSFT")[number % 2]) for number in range(12)]


@pytest.fixture(scope="module")
def database(market):
    pool = Database(market.signals, application="tests", size=4)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def entries(database):
    """Twelve signals, ten of them with an outcome, one of those revised; and three abstentions."""
    records = [*SIGNALS, *(abstention(number, strategy="gap_fill", mode=Mode.REPLAY) for number in range(3))]
    ends = [outcome(one, net=0.06 if k % 2 else -0.32, barrier=(Barrier.STOP, Barrier.TARGET)[k % 2])
            for k, one in enumerate(SIGNALS[:10])]  # fmt: skip
    with database.connection() as connection:
        made = ledger.append(connection, [(one, NOW) for one in [*records, *ends]], lambda: NOW)
        return made + ledger.append(connection, [(outcome(SIGNALS[0], 1, net=0.02), NOW)], lambda: NOW)


@pytest.fixture(scope="module")
def settings(market, redis_server):
    return SignalsSettings(
        database_url=market.signals, redis_url=redis_server.url, accept_keys={"gateway": KEY}, log_level="ERROR",
        market_source="simulated", market_calendar="around-the-clock",
    )  # fmt: skip


@pytest.fixture(scope="module")
def client(settings, entries):
    return create_app(settings).test_client()


def asked(client, path, status=200, method="GET", headers=None, who=("somebody", "trader"), **more):
    caller = Caller("gateway", "u", *who, "request-01")
    token = {HEADER: sign_internal_token(caller, "signals", {"signals": KEY})}
    answer = client.open(f"/api/v1/signals{path}", method=method, headers={**token, **(headers or {})}, **more)
    assert answer.status_code == status, answer.text
    return answer


def get(client, path, status=200):
    return asked(client, path, status).json


def test_signals_come_newest_first_in_pages(client):
    first = get(client, "?limit=5")
    assert first["source"] == "simulated"
    assert [one["id"] for one in first["signals"]] == [one.id for one in reversed(SIGNALS[7:])]
    seen, following = list(first["signals"]), first["next"]
    while following:
        page = get(client, following.removeprefix("/api/v1/signals"))
        seen += page["signals"]
        following = page["next"]
    assert [one["id"] for one in seen] == [one.id for one in reversed(SIGNALS)]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 12), ("?kind=abstention", 3), ("?kind=all", 15), ("?underlying=MSFT", 6),
        ("?strategy=gap_fill&kind=all", 3), ("?mode=replay&kind=all", 3), ("?kind=all&why=spread_too_wide", 3),
        ("?session=2026-11-30", 12), ("?session=2026-11-27", 0),
        ("?start=2026-11-30T14:35:00Z", 7), ("?end=2026-11-30T14:35:00Z&kind=all", 8),
    ],
)  # fmt: skip
def test_they_are_chosen_by_what_they_are(client, query, count):
    assert len(get(client, f"{query}")["signals"]) == count


def test_a_signal_has_its_numbers_in_dollars_and_its_newest_outcome(client, entries):
    one = get(client, f"/{SIGNALS[0].id}")
    assert (one["legs"][0]["ask"], one["entry"]["capital"], one["event_at"]) == (2.15, 2.163, "2026-11-30T14:30:00Z")
    assert one["outcome"]["revision"] == 1
    assert one["outcome"]["fills"][0]["net_return"] == 0.02
    assert get(client, f"/{SIGNALS[11].id}")["outcome"] is None


def test_whoever_has_a_row_can_check_its_hash(client, entries):
    one = get(client, f"/{SIGNALS[3].id}")
    assert hashlib.sha256(bytes.fromhex(one["previous_hash"]) + one["body"].encode()).hexdigest() == one["hash"]
    assert json.loads(one["body"])["record"]["id"] == one["id"]


def test_an_outcome_has_all_its_revisions(client):
    found = get(client, f"/{SIGNALS[0].id}/outcome")
    assert [one["revision"] for one in found["outcomes"]] == [1, 0]
    assert "hypothetical" in found["statement"]
    waiting = get(client, f"/{SIGNALS[11].id}/outcome")
    assert (waiting["outcomes"], waiting["as_of"]) == ([], None)
    assert waiting["reason"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/0196a000-0000-7000-8000-000000000000", 404),
        ("/0196a000-0000-7000-8000-000000000000/outcome", 404),
        (f"/{abstention(1, strategy='gap_fill').id}/outcome", 404),
        ("?kind=everything", 422), ("?why=because", 422), ("?cursor=nonsense", 422), ("?limit=0", 422), ("?x=1", 422),
        ("/performance?group_by=weather", 422), ("/performance?group_by=strategy,strategy", 422),
        ("/verify?seq=3", 422), ("/calibration?bins=0", 422), ("/backtests/0196a000-0000-7000-8000-000000000000", 404),
        ("/backtests/0196a000-0000-7000-8000-000000000000/report.html", 404),
    ],
)  # fmt: skip
def test_what_is_not_there_or_not_meant_is_said(client, path, status):
    problem = get(client, path, status)
    assert problem["status"] == status
    assert problem["detail"]


def test_a_verdict_comes_with_its_sample(client):
    found = get(client, "/performance?group_by=strategy,symbol")
    assert found["signals"] == 10
    assert [one["group"] for one in found["groups"]] == [
        {"strategy": "opening_range", "strategy_version": "1", "symbol": name} for name in ("AAPL", "MSFT")
    ]
    for one in found["groups"]:
        assert (one["n"], one["days"], one["verdict"]["verdict"]) == (5, 1, "insufficient_data")
    # those that run, with their defaults, and the other set of parameters that the ledger knows of
    assert found["trials"] == len(registered()) + 1
    assert "consistent" not in json.dumps(found)
    assert get(client, "/performance?strategy=gap_fill")["verdict"] == "insufficient_data"


def test_statistics_are_not_computed_again_while_nothing_was_added(client):
    for path in ("/performance", "/calibration", "/ledger/head"):
        etag = asked(client, path).headers["ETag"]
        assert asked(client, path, 304, headers={"If-None-Match": etag}).text == ""
    assert get(client, "/calibration?bins=3")["n"] == 10


def test_strategies_say_their_bounds(client):
    found = get(client, "/strategies")["strategies"]
    assert [one["id"] for one in found] == list(registered())
    for one in found:
        assert {"target", "stop"} <= {parameter["name"] for parameter in one["parameters"]}
        assert all(parameter["description"] for parameter in one["parameters"])


def test_the_ledger_answers_for_itself(client, entries):
    head = get(client, "/ledger/head")
    assert (head["seq"], head["hash"]) == (26, entries[-1].hash)
    found = get(client, f"/verify?seq=20&hash={entries[19].hash}")
    assert (found["whole"], found["rows"], found["fault"]) == (True, 26, None)
    assert get(client, f"/verify?seq=20&hash={'0' * 64}")["fault"]["seq"] == 20


def events_of(pieces):
    """(id, event, data) of each."""
    found = []
    for piece in pieces:
        lines = dict(line.split(": ", 1) for line in piece.decode().strip().split("\n") if ": " in line)
        if "event" in lines:
            found.append((int(lines["id"]), lines["event"], json.loads(lines["data"])))
    return found


@pytest.mark.parametrize("last_seen", [0, 7, 26])
def test_the_stream_goes_on_where_it_ended(database, entries, last_seen):
    head = ledger.head(database).seq
    found = events_of(follow(database, Pace(0.01, 15, 0.2, 100), last_seen, head))
    assert [seq for seq, _, _ in found] == list(range(last_seen + 1, 27))
    assert [event for _, event, _ in found] == [entry.kind for entry in entries[last_seen:]]


def test_the_stream_names_what_it_leaves_out(database, entries):
    head = ledger.head(database).seq
    behind = events_of(follow(database, Pace(0.01, 15, 0.2, 5), 2, head))
    assert behind[0][1:] == ("gap", {"from": 3, "to": 21, "reason": behind[0][2]["reason"]})
    assert [seq for seq, _, _ in behind] == [21, 22, 23, 24, 25, 26]
    another = events_of(follow(database, Pace(0.01, 15, 0.2, 100), 90, head))
    assert [(event, data["from"], data["to"]) for _, event, data in another] == [("gap", 27, 90)]


def test_rows_that_are_added_meanwhile_come_in_order(database, entries):
    stream = Streams(database, 1, Pace(0.01, 0.02, 60, 100)).open(None)
    assert b"retry" in next(stream)
    assert next(stream) == b": nothing new\n\n"
    head = ledger.head(database).seq
    with database.connection() as connection:
        ledger.append(connection, [(signal(number), NOW) for number in (100, 101)], lambda: NOW)
    found = []
    while len(found) < 2:
        found += events_of([next(stream)])
    assert [seq for seq, _, _ in found] == [head + 1, head + 2]
    stream.close()


def test_only_so_many_follow_at_once(database, entries):
    streams = Streams(database, 2, Pace(0.01, 15, 60, 100))
    first, second = streams.open(None), streams.open(None)
    with pytest.raises(Exception, match="2 clients"):
        streams.open(None)
    first.close()
    streams.open(None).close()
    second.close()


def test_the_stream_over_http(client, entries):
    answer = asked(client, "/stream", headers={"Last-Event-ID": "20"})
    assert answer.mimetype == "text/event-stream"
    found = []
    for piece in answer.response:
        found += events_of([piece])
        if len(found) == 3:
            break
    assert [seq for seq, _, _ in found] == [21, 22, 23]
    answer.close()
    problem = asked(client, "/stream", 422, headers={"Last-Event-ID": "the last"}).json
    assert problem["errors"][0]["pointer"] == "#/header/Last-Event-ID"


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"underlying": "NOSUCH"}, 404, None),
        ({"underlying": "AAPL", "strategies": ["nonsense"]}, 422, "#/body/strategies/0"),
        ({"underlying": "AAPL", "parameters": {"target": 0.1}}, 422, "#/body/parameters"),
        ({"underlying": "AAPL", "strategies": ["gap_fill"], "parameters": {"stop": 9}}, 422, "#/body/parameters/stop"),
        ({"underlying": "AAPL", "minutes": 0}, 422, "#/body/minutes"),
        ({"underlying": "AAPL", "as_of": "yesterday"}, 422, "#/body/as_of"),
    ],
)  # fmt: skip
def test_a_dry_run_says_what_is_wrong_with_its_question(client, body, status, pointer):
    problem = asked(client, "/evaluate", status, "POST", json=body).json
    assert pointer is None or problem["errors"][0]["pointer"] == pointer


REQUEST = {"strategies": ["opening_range"], "start": "2025-01-06", "end": "2025-01-07", "market": "fair:3"}


def test_a_backtest_is_asked_for_run_and_read(client, settings, database, monkeypatch):
    made = asked(client, "/backtests", 202, "POST", json=REQUEST)
    path = made.headers["Location"].removeprefix("/api/v1/signals")
    assert made.json["state"] == "queued"
    assert get(client, path)["report"] is None
    assert get(client, f"{path}/report.html", 409)["detail"].startswith("it is queued")
    monkeypatch.setenv("DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("LOG_LEVEL", "ERROR")
    backtests.run_next("", os.getppid())
    done = get(client, path)
    assert (done["state"], done["error"]) == ("done", None)
    assert done["report"]
    page = asked(client, f"{path}/report.html")
    assert page.mimetype == "text/html"
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    # what is tried on an invented market was not tried on data
    assert database.rows("SELECT count(*) FROM signal_trials") == [(0,)]
    assert asked(client, path, 409, "DELETE").json["detail"] == "it is done"


def test_a_backtest_that_waits_is_cancelled_and_never_run(client, settings, monkeypatch):
    path = asked(client, "/backtests", 202, "POST", json=REQUEST).headers["Location"].removeprefix("/api/v1/signals")
    assert "somebody" in asked(client, path, 403, "DELETE", who=("another", "trader")).json["detail"]
    assert asked(client, path, 200, "DELETE").json["state"] == "cancelled"
    monkeypatch.setenv("DATABASE_URL", settings.database_url.get_secret_value())
    backtests.run_next("", os.getppid())
    assert get(client, path)["state"] == "cancelled"
    assert {one["state"] for one in get(client, "/backtests")["backtests"]} == {"cancelled", "done"}
    first = get(client, "/backtests?limit=1")
    assert len(get(client, first["next"].removeprefix("/api/v1/signals"))["backtests"]) == 1


def test_a_backtest_whose_process_died_is_run_again(client, settings, database, monkeypatch):
    path = asked(client, "/backtests", 202, "POST", json=REQUEST).headers["Location"].removeprefix("/api/v1/signals")
    database.execute("UPDATE signal_backtests SET state = 'running', attempts = 1 WHERE state = 'queued'")
    monkeypatch.setenv("DATABASE_URL", settings.database_url.get_secret_value())
    backtests.run_next("", os.getppid())
    assert get(client, path)["state"] == "done"
    assert get(client, path)["attempts"] == 2


def test_a_backtest_of_nothing_fails_and_says_why(client, settings, monkeypatch):
    request = {**REQUEST, "market": "stored"}
    path = asked(client, "/backtests", 202, "POST", json=request).headers["Location"].removeprefix("/api/v1/signals")
    monkeypatch.setenv("DATABASE_URL", settings.database_url.get_secret_value())
    backtests.run_next("", os.getppid())
    found = get(client, path)
    assert found["state"] == "failed"
    assert found["error"]


@pytest.mark.parametrize(
    "body", [{}, {**REQUEST, "strategies": ["x"]}, {**REQUEST, "end": "2024-01-01"}, {**REQUEST, "market": "mine"}]
)
def test_a_backtest_that_cannot_be_is_refused(client, body):
    assert asked(client, "/backtests", 422, "POST", json=body).json["errors"]


def test_no_more_wait_than_may(market, database, entries, redis_server):
    settings = SignalsSettings(
        database_url=market.signals, redis_url=redis_server.url, accept_keys={"gateway": KEY}, log_level="ERROR",
        backtests_queued=1, streams=0,
    )  # fmt: skip
    client = create_app(settings).test_client()
    path = asked(client, "/backtests", 202, "POST", json=REQUEST).headers["Location"].removeprefix("/api/v1/signals")
    assert asked(client, "/backtests", 503, "POST", json=REQUEST).headers["Retry-After"]
    asked(client, path, 200, "DELETE")
    assert asked(client, "/stream", 503).headers["Retry-After"]


def test_only_one_backtester_runs_one(settings, database, monkeypatch, client):
    """Who does not get the lock leaves the queue as it is."""
    path = asked(client, "/backtests", 202, "POST", json=REQUEST).headers["Location"].removeprefix("/api/v1/signals")
    monkeypatch.setenv("DATABASE_URL", settings.database_url.get_secret_value())
    with database.connection() as connection:
        assert backtests._locked(connection)
        thread = threading.Thread(target=backtests.run_next, args=("", os.getppid()))
        thread.start()
        thread.join(60)
        assert get(client, path)["state"] == "queued"
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock_all()")
    asked(client, path, 200, "DELETE")
