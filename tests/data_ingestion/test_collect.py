"""Live collection, from the request over HTTP to rows, against the simulator's gateway through Databento's client."""

import socket
from datetime import date

import numpy as np
import pytest
import redis
import requests
from databento_dbn import InstrumentDefMsg, Schema

from collector_support import OPEN, collecting, counts, eventually, running_collector, status
from data_ingestion_support import Ingestion, settings_for
from dbn import DAY, MINUTE, PRICE, dbn_file, midnight, quote, trade
from ots_common.times import rfc3339
from ots_ingestion.announcer import closed_bars_key
from simulator_support import running_simulator

RECORDS = 3000


def tape(symbol: str, records: int = RECORDS, step_ns: int = 1_000_000) -> dict[str, bytes]:
    """Trades of one symbol, among them some that are equal in every field."""
    made = [trade(OPEN + i // 3 * step_ns, 100 + i % 2, 1, sequence=i // 4) for i in range(records)]
    return {"trades.dbn.zst": dbn_file(Schema.TRADES, made, symbols={symbol: 1})}


OPTION = "TEST  240315C00100000"
QUOTES = 5


def option_tape() -> dict[str, bytes]:
    """One option: its definition, a quote a minute, a trade a minute."""
    minutes = [OPEN + (i + 1) * MINUTE for i in range(QUOTES)]
    ids = {OPTION: 77}
    made = {
        "definition": (Schema.DEFINITION, [definition(OPEN - 3600 * 10**9, OPTION, 77)]),
        "cbbo": (Schema.CBBO_1M, [quote(at, 1.0, 1.1, instrument=77) for at in minutes]),
        "trades": (Schema.TRADES, [trade(at + 1, 1.05, 3, instrument=77) for at in minutes]),
    }
    return {
        f"{name}.dbn.zst": dbn_file(schema, records, symbols=ids, dataset="OPRA.PILLAR")
        for name, (schema, records) in made.items()
    }


def definition(at: int, symbol: str, vendor_id: int) -> bytes:
    made = np.zeros(1, np.dtype(InstrumentDefMsg._dtypes))
    made["length"], made["rtype"] = made.dtype.itemsize // 4, 19
    made["publisher_id"], made["instrument_id"], made["ts_event"], made["ts_recv"] = 30, vendor_id, at, at
    made["raw_symbol"], made["underlying"], made["instrument_class"] = symbol.encode(), b"TEST", b"C"
    made["strike_price"], made["expiration"] = 100 * PRICE, midnight(date(2024, 3, 15))
    made["activation"] = made["expiration"]
    made["contract_multiplier"] = 2**31 - 1
    made["security_update_action"] = b"A"
    return made.tobytes()


def start(service, symbols, schemas=("trades",), **more):
    return service.post(
        "/collection/start", json={"symbols": symbols, "schemas": list(schemas), "start": rfc3339(OPEN), **more}
    )


def test_from_a_request_to_rows_each_once(market, redis_server, tmp_path):
    with (
        running_simulator(tape=tape("LIVE"), starts_at_ns=OPEN) as simulator,
        running_collector(service := collecting(market, redis_server, tmp_path / "spool", simulator), tmp_path / "log"),
    ):
        answer = start(service, ["live"])
        assert answer.status_code == 202, answer.text
        assert answer.json["changed"]
        again = start(service, ["LIVE"])
        assert again.status_code == 200
        eventually(lambda: counts(market, "LIVE"), (RECORDS, RECORDS))
        now = eventually(lambda: status(service), lambda found: found["state"] == "streaming")
        assert now["records"] == RECORDS
        assert now["open_gaps"] == 0
        assert now["lease_holder"]
        stopped = service.post("/collection/stop", json={})
        assert stopped.json["stopped"] == ["EQUS.MINI"]
        eventually(lambda: status(service)["state"], "stopped")
        assert counts(market, "LIVE") == (RECORDS, RECORDS)


def test_options_by_their_underlying_with_what_the_dataset_has(market, redis_server, tmp_path):
    with (
        running_simulator(tape=option_tape(), starts_at_ns=OPEN, speed=100) as simulator,
        running_collector(
            service := collecting(market, redis_server, tmp_path / "spool", simulator),
            tmp_path / "log",
            collector_metrics_port=(port := free_port()),
        ),
    ):
        answer = service.post(
            "/collection/start",
            json={"options": {"symbols": ["TEST"], "schemas": ["bbo-1m", "trades"]}, "start": rfc3339(OPEN - DAY // 2)},
        )
        assert answer.status_code == 202, answer.text
        assert any("cbbo-1m" in note for note in answer.json["notes"])
        [asked] = answer.json["collections"]
        assert [one["schema"] for one in asked["schemas"]] == ["definition", "cbbo-1m", "trades"]
        assert asked["symbols"] == ["TEST.OPT"]
        eventually(lambda: counts(market, OPTION), (QUOTES, 3 * QUOTES))
        eventually(lambda: counts(market, OPTION, "quotes")[0], QUOTES)
        row = market.database.dicts("SELECT * FROM instruments WHERE raw_symbol = %s", (OPTION,))[0]
        assert (row["underlying"], row["strike"], row["right"], row["multiplier"]) == ("TEST", 100 * PRICE, "C", 100)
        client = redis.Redis.from_url(redis_server.url)
        bars = eventually(lambda: client.xrange(closed_bars_key("simulated")), len)
        assert bars[0][1][b"symbol"].decode() == OPTION
        assert float(bars[0][1][b"close"]) == 1.05
        text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
        assert 'ots_live_state{dataset="OPRA.PILLAR",state="streaming"} 1.0' in text
        assert 'ots_live_lag_seconds_count{dataset="OPRA.PILLAR"}' in text


@pytest.mark.parametrize(
    ("body", "pointer", "words"),
    [
        ({"schemas": ["mbp-10"]}, "#/body/schemas", "mbp-10"),
        ({"schemas": ["cbbo-1s"]}, "#/body/schemas", "has no schema cbbo-1s"),
        ({"schemas": []}, "#/body/schemas", "at least 1"),
        ({"symbols": []}, "#/body/symbols", "at least 1"),
        ({"symbols": ["'; DROP TABLE"]}, "#/body/symbols/0", "pattern"),
        ({"symbols": "AAPL"}, "#/body/symbols", "list"),
        ({"what": 1}, "#/body/what", "not permitted"),
        ({"start": "yesterday"}, "#/body/start", "expected a time"),
        ({"options": {"schemas": ["trades"]}}, "#/body/options/schemas", "OPRA.PILLAR"),
    ],
)
def test_what_cannot_be_collected_is_refused_with_the_field(equities_only, body, pointer, words):
    answer = equities_only.post("/collection/start", json=body)
    assert answer.status_code == 422, answer.text
    [error] = answer.json["errors"]
    assert error["pointer"] == pointer
    assert words in error["detail"]


def test_nothing_was_ever_asked_for(equities_only):
    assert equities_only.post("/collection/stop", json={"dataset": "NO.SUCH"}).status_code == 404
    assert equities_only.get("/collection/status?dataset=NO.SUCH").status_code == 404


def test_without_a_key_nothing_is_collected(market, redis_server, tmp_path):
    service = Ingestion(settings_for(market, redis_server, tmp_path))
    answer = service.post("/collection/start", json={})
    assert answer.status_code == 409
    assert "DATABENTO_API_KEY" in answer.json["detail"]


@pytest.fixture(scope="module")
def equities_only(market, redis_server, tmp_path_factory):
    """A service whose vendor has trades of EQUS.MINI, and nothing of options."""
    market.database.execute("DELETE FROM vendor_schemas")
    with running_simulator(tape=tape("ONLY", 3)) as simulator:
        yield collecting(market, redis_server, tmp_path_factory.mktemp("spool"), simulator)


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]
