"""Live collection, from the request over HTTP to rows, against the simulator's gateway through Databento's client."""

import pytest
from databento_dbn import Schema

from collector_support import OPEN, collecting, counts, eventually, running_collector, status
from dbn import dbn_file, trade
from ots_common.times import rfc3339
from simulator_support import running_simulator

RECORDS = 3000


def tape(symbol: str, records: int = RECORDS, step_ns: int = 1_000_000) -> dict[str, bytes]:
    """Trades of one symbol, among them some that are equal in every field."""
    made = [trade(OPEN + i // 3 * step_ns, 100 + i % 2, 1, sequence=i // 4) for i in range(records)]
    return {"trades.dbn.zst": dbn_file(Schema.TRADES, made, symbols={symbol: 1})}


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
