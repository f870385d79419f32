"""The historical API, met by the real client."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

import databento
import pytest
import requests
import zstandard
from databento_dbn import Metadata, Schema

from dbn import MINUTE, bar, dbn_file, midnight, quote, trade
from simulator_support import KEY, RunningSimulator, running_simulator

DAY = date(2024, 3, 4)
NEXT = DAY + timedelta(days=1)
OPEN = midnight(DAY) + 15 * 60 * MINUTE
SECOND = 10**9
FIRST = [trade(OPEN + i * SECOND, 100 + i / 100, sequence=i, instrument=1 + i % 2) for i in range(500)]
LATER = [trade(midnight(NEXT) + i * SECOND, 50, sequence=i, instrument=2) for i in range(40)]
BARS = [bar(OPEN + i * MINUTE, (1, 2, 0.5, 1), volume=1 + i) for i in range(5)]
CALL, PUT = "AAA   240304C00100000", "AAA   240305P00100000"
NOW = midnight(NEXT) + 15 * 60 * MINUTE
DATASET = "EQUS.MINI"


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    tape = {
        # AAA and BBB on the first day; on the next, BBB has AAA's id of before, and AAA is gone
        "first.dbn.zst": dbn_file(Schema.TRADES, FIRST, symbols={"AAA": 1, "BBB": 2}),
        "later.dbn.zst": dbn_file(Schema.TRADES, LATER, symbols={"BBB": 2}, day=NEXT),
        "bars.dbn.zst": dbn_file(Schema.OHLCV_1M, BARS, symbols={"AAA": 1}),
        "call.dbn.zst": dbn_file(
            Schema.CBBO_1M, [quote(OPEN + MINUTE, 1, 2, instrument=8)], symbols={CALL: 8}, dataset="OPRA.PILLAR"
        ),
        "put.dbn.zst": dbn_file(
            Schema.CBBO_1M,
            [quote(midnight(NEXT) + MINUTE, 1, 2, instrument=8)],
            symbols={PUT: 8},
            day=NEXT,
            dataset="OPRA.PILLAR",
        ),
    }
    with running_simulator(tape=tape, starts_at_ns=NOW) as running:
        yield running


@pytest.fixture
def client(simulator: RunningSimulator) -> databento.Historical:
    return simulator.historical()


def records_of(store: databento.DBNStore) -> list[bytes]:
    return [bytes(record) for record in store]


def test_a_range_is_the_tape_byte_for_byte(client: databento.Historical, tmp_path: Path):
    path = tmp_path / "range.dbn.zst"
    client.timeseries.get_range(DATASET, start="2024-03-04", symbols="ALL_SYMBOLS", schema="trades", path=path)
    plain = zstandard.ZstdDecompressor().stream_reader(path.read_bytes(), read_across_frames=True).read()
    header = 8 + int.from_bytes(plain[4:8], "little")
    assert plain[header:] == b"".join(FIRST)
    metadata = Metadata.decode(plain[:header])
    assert (metadata.dataset, str(metadata.schema), metadata.start) == (DATASET, "trades", midnight(DAY))
    assert metadata.end == midnight(NEXT)  # a date alone means its day
    assert metadata.mappings["AAA"] == [{"start_date": DAY, "end_date": NEXT, "symbol": "1"}]


def test_start_is_inclusive_and_end_exclusive(client: databento.Historical):
    store = client.timeseries.get_range(DATASET, start=OPEN + SECOND, end=OPEN + 3 * SECOND, symbols="AAA,BBB")
    assert records_of(store) == FIRST[1:3]


def test_a_limit_is_kept(client: databento.Historical):
    store = client.timeseries.get_range(DATASET, start="2024-03-04", symbols="BBB", limit=7)
    assert records_of(store) == FIRST[1:14:2]
    assert client.metadata.get_record_count(DATASET, start="2024-03-04", symbols="BBB", limit=7) == 7


def test_symbols_known_in_part_or_not_at_all_are_said(client: databento.Historical):
    store = client.timeseries.get_range(
        DATASET, start="2024-03-04", end="2024-03-05T12:00", symbols=["AAA", "BBB", "NOPE"]
    )
    assert (store.metadata.partial, store.metadata.not_found) == (["AAA"], ["NOPE"])
    assert records_of(store) == FIRST + LATER


def test_an_id_is_who_it_was_on_the_day(client: databento.Historical):
    store = client.timeseries.get_range(
        "OPRA.PILLAR", start="2024-03-04", end="2024-03-05T12:00", symbols=8, schema="cbbo-1m", stype_in="instrument_id"
    )
    assert len(records_of(store)) == 2
    assert set(store.metadata.mappings) == {CALL, PUT}


def test_a_parent_has_the_contracts_of_every_day(client: databento.Historical):
    store = client.timeseries.get_range(
        "OPRA.PILLAR",
        start="2024-03-04",
        end="2024-03-05T12:00",
        symbols="AAA.OPT",
        schema="cbbo-1m",
        stype_in="parent",
    )
    assert len(records_of(store)) == 2
    assert (store.metadata.symbols, store.metadata.partial) == (["AAA.OPT"], [CALL, PUT])


@pytest.mark.parametrize(
    ("symbols", "schema", "start", "end"),
    [
        ("AAA", "trades", "2024-03-04", "2024-03-05"),
        ("AAA,BBB", "trades", "2024-03-04T15:01", "2024-03-05T00:00:20"),
        ("ALL_SYMBOLS", "ohlcv-1m", "2024-03-04", "2024-03-05"),
    ],
)
def test_counts_sizes_and_costs_are_those_of_what_is_delivered(
    client: databento.Historical, symbols: str, schema: str, start: str, end: str
):
    asked = {"dataset": DATASET, "symbols": symbols, "schema": schema, "start": start, "end": end}
    delivered = records_of(client.timeseries.get_range(**asked))
    assert client.metadata.get_record_count(**asked) == len(delivered) > 0
    size = sum(map(len, delivered))
    assert client.metadata.get_billable_size(**asked) == size
    price = client.metadata.list_unit_prices(DATASET)[1]["unit_prices"][schema]
    assert client.metadata.get_cost(**asked) == pytest.approx(size / 2**30 * price, abs=0)
    assert price > 0


def test_a_bar_is_history_once_it_is_over():
    tape = {"bars.dbn": dbn_file(Schema.OHLCV_1M, BARS, symbols={"AAA": 1})}
    with running_simulator(tape=tape, starts_at_ns=OPEN + 2 * MINUTE + SECOND) as simulator:
        store = simulator.historical().timeseries.get_range(
            DATASET, start="2024-03-04", symbols="AAA", schema="ohlcv-1m"
        )
        assert records_of(store) == BARS[:2]


def test_what_there_is_can_be_asked(client: databento.Historical):
    assert client.metadata.list_datasets() == [DATASET, "OPRA.PILLAR"]
    assert client.metadata.list_datasets(end_date="2024-03-04") == []
    assert client.metadata.list_schemas(DATASET) == ["ohlcv-1m", "trades"]
    assert {one["dataset"] for one in client.metadata.list_publishers()} == {DATASET, "OPRA.PILLAR"}
    assert client.metadata.list_fields("trades", "dbn")[:2] == [
        {"name": "length", "type": "uint8_t"},
        {"name": "rtype", "type": "uint8_t"},
    ]
    span = client.metadata.get_dataset_range(DATASET)
    assert span["start"] == "2024-03-04T00:00:00.000000000Z"
    assert span["end"] > "2024-03-05T15:00:00"
    assert span["schema"].keys() == {"trades", "ohlcv-1m"}
    condition = client.metadata.get_dataset_condition(DATASET)
    assert [(one["date"], one["condition"]) for one in condition] == [(str(d), "available") for d in (DAY, NEXT)]


def test_symbols_are_resolved_both_ways(client: databento.Historical):
    days = {"start_date": "2024-03-04", "end_date": "2024-03-06"}
    found = client.symbology.resolve(DATASET, ["AAA", "BBB", "NOPE"], "raw_symbol", "instrument_id", **days)
    assert found["result"] == {
        "AAA": [{"d0": "2024-03-04", "d1": "2024-03-05", "s": "1"}],
        "BBB": [{"d0": "2024-03-04", "d1": "2024-03-06", "s": "2"}],
    }
    assert (found["partial"], found["not_found"], found["status"]) == (["AAA"], ["NOPE"], 1)
    back = client.symbology.resolve("OPRA.PILLAR", [8], "instrument_id", "raw_symbol", **days)
    assert [one["s"] for one in back["result"]["8"]] == [CALL, PUT]
    parent = client.symbology.resolve("OPRA.PILLAR", "AAA.OPT", "parent", "instrument_id", **days)
    assert parent["result"].keys() == {CALL, PUT}


def test_a_wrong_key_is_401(simulator: RunningSimulator):
    with pytest.raises(databento.BentoClientError) as refused:
        simulator.historical("db-" + "x" * 29).metadata.list_datasets()
    assert refused.value.http_status == 401
    assert refused.value.json_body["detail"]["case"] == "auth_authentication_failed"


@pytest.mark.parametrize(
    ("changed", "case"),
    [
        ({"dataset": "XNAS.ITCH"}, "data_dataset_not_found"),
        ({"schema": "mbo"}, "data_schema_not_available"),
        ({"schema": "nonsense"}, "schema_invalid"),
        ({"start": "yesterday"}, "data_time_invalid"),
        ({"start": "2024-02-30"}, "data_time_invalid"),
        ({"start": "2024-03-03"}, "data_start_before_available_start"),
        ({"end": "2024-03-06"}, "data_end_after_available_end"),
        ({"end": "2024-03-04"}, "data_time_range_start_on_or_after_end"),
        ({"stype_in": "continuous"}, "symbology_invalid_request"),
        ({"stype_in": "parent"}, "symbology_invalid_symbol"),
        ({"stype_in": "instrument_id"}, "symbology_invalid_symbol"),
        ({"symbols": "NOPE"}, "symbology_invalid_request"),
        ({"symbols": ",".join(f"S{i}" for i in range(2001))}, "symbology_too_many_symbols"),
        ({"limit": "-1"}, "limit_invalid"),
        ({"encoding": "csv"}, "encoding_invalid"),
    ],
)
def test_bad_parameters_are_422(simulator: RunningSimulator, changed: dict[str, str], case: str):
    form = {"dataset": DATASET, "start": "2024-03-04", "symbols": "AAA", "schema": "trades", **changed}
    answer = requests.post(f"{simulator.url}/v0/timeseries.get_range", data=form, auth=(KEY, ""), timeout=10)
    assert (answer.status_code, answer.json()["detail"]["case"]) == (422, case)


@pytest.mark.parametrize(
    ("method", "call", "status"),
    [("POST", "batch.submit_job", 501), ("GET", "metadata.nothing", 404), ("GET", "metadata.get_cost", 405)],
)
def test_calls_that_do_not_exist_say_so(simulator: RunningSimulator, method: str, call: str, status: int):
    answer = requests.request(method, f"{simulator.url}/v0/{call}", auth=(KEY, ""), timeout=10)
    assert answer.status_code == status
    assert answer.json()["detail"]["message"]


def test_many_clients_at_once_get_the_same(client: databento.Historical):
    def get(_: int) -> list[bytes]:
        return records_of(client.timeseries.get_range(DATASET, start="2024-03-04", symbols="AAA,BBB"))

    with ThreadPoolExecutor(8) as pool:
        assert all(found == FIRST for found in pool.map(get, range(16)))


def test_entitlement_and_money_are_asked_for():
    tape = {"t.dbn": dbn_file(Schema.TRADES, FIRST, symbols={"AAA": 1, "BBB": 2})}
    with running_simulator(tape=tape, starts_at_ns=NOW, balance_usd=1e-9) as simulator:
        with pytest.raises(databento.BentoClientError) as refused:
            simulator.historical().timeseries.get_range(DATASET, start="2024-03-04", symbols="AAA")
        assert refused.value.http_status == 402
    with running_simulator(tape=tape, starts_at_ns=NOW, denied_datasets='["EQUS.MINI"]') as simulator:
        with pytest.raises(databento.BentoClientError) as refused:
            simulator.historical().metadata.list_schemas(DATASET)
        assert refused.value.http_status == 403
        with pytest.raises(databento.BentoError, match="Not entitled"):
            simulator.live().subscribe(DATASET, "trades")
