"""What is stored, in every format: the same values, the same types on every page, only the columns asked for."""

from datetime import date

import pyarrow as pa
import pytest
from databento_dbn import RType, Schema

from dbn import MINUTE, bar, dbn_file, midnight, quote, trade
from ots_common.media_types import ARROW, CSV, PARQUET
from table_formats import FORMATS, arrow_table, assert_same, rows_of

DAY0 = date(2024, 3, 4)
OPEN = midnight(DAY0) + 14 * 3600 * 10**9 + 30 * MINUTE
TIME, NUMBER, WHOLE, TEXT = pa.timestamp("ns", "UTC"), pa.float64(), pa.int64(), pa.string()
TABLES = {
    "/bars/TABLE?timeframe=1m": ("bars", {"time": TIME, "open": NUMBER, "volume": WHOLE, "publishers": WHOLE}),
    "/bars/TABLE?timeframe=1d&adjusted=true": ("bars", {"time": TIME, "close": NUMBER, "volume": NUMBER}),
    "/trades/TABLE": ("trades", {"time": TIME, "price": NUMBER, "size": WHOLE, "received_at": TIME, "side": TEXT}),
    "/quotes/TABLE": ("quotes", {"bid": NUMBER, "ask": NUMBER, "bid_size": WHOLE, "last_price": NUMBER}),
    "/instruments": ("instruments", {"symbol": TEXT, "expiration": pa.date32(), "strike": NUMBER, "multiplier": WHOLE}),
    "/runs": ("runs", {"created_at": TIME, "total": WHOLE, "reasons": TEXT}),
    "/gaps": ("gaps", {"start": TIME, "found": WHOLE}),
    "/backfills": ("backfills", {"start": TIME, "progress": NUMBER}),
    "/dead-letters": ("dead_letters", {"first_time": TIME, "whole": pa.bool_()}),
}


@pytest.fixture(scope="module")
def stored(ingestion):
    for schema, records in (
        (Schema.TRADES, [trade(OPEN + i * 7, 50 + i / 7, sequence=2**32 - 1 - i) for i in range(20)]),
        (Schema.OHLCV_1D, [bar(midnight(DAY0), (1.1, 2.2, 0.3, 1.7), rtype=RType.OHLCV_1D)]),
        (Schema.CBBO_1M, [quote(OPEN + MINUTE, 1.25, None), quote(OPEN + 2 * MINUTE, None, None)]),
    ):
        ingestion.imported(dbn_file(schema, records, symbols={"TABLE": 1}))
    option = {"AAPL  240419C00170000": 2}
    ingestion.imported(dbn_file(Schema.CBBO_1M, [quote(OPEN, 1.0, 2.0, instrument=2)], symbols=option))
    return ingestion


@pytest.mark.parametrize("accept", FORMATS)
@pytest.mark.parametrize("url", TABLES)
def test_every_table_has_the_values_of_its_json(stored, url, accept):
    name, types = TABLES[url]
    wanted = stored.get(url)
    assert wanted.status_code == 200, wanted.text
    answer = stored.get(url, Accept=accept)
    assert answer.content_type.startswith(accept)
    assert_same(answer.content_type, answer.data, wanted.json[name])
    if accept != CSV:
        schema = arrow_table(accept, answer.data).schema
        assert {column: schema.field(column).type for column in types} == types


@pytest.mark.parametrize("accept", [ARROW, PARQUET])
def test_a_page_of_nothing_known_has_the_types_of_every_other(stored, accept):
    def types(url):
        return arrow_table(accept, stored.get(url, Accept=accept).data).schema.remove_metadata()

    one_sided, without_sides = (f"/quotes/TABLE?start={OPEN_TEXT}{m}:00Z" for m in ("31", "32"))
    assert stored.get(without_sides).json["quotes"][0]["bid"] is None
    assert types(without_sides) == types(one_sided)


OPEN_TEXT = "2024-03-04T14:"


def test_fields_choose_the_columns_in_every_format(stored):
    url = "/trades/TABLE?limit=3&fields=price,time"
    found = stored.get(url)
    assert [list(row) for row in found.json["trades"]] == [["price", "time"]] * 3
    assert found.json["next"].startswith("/api/v1/data/trades/TABLE?limit=3&fields=price%2Ctime&cursor=")
    for accept in FORMATS:
        answer = stored.get(url, Accept=accept)
        assert [list(row) for row in rows_of(answer.content_type, answer.data)] == [["price", "time"]] * 3
    for url in ("/bars/TABLE", "/trades/TABLE", "/quotes/TABLE", "/instruments"):
        refused = stored.get(f"{url}?fields=time,nonsense")
        assert refused.status_code == 422
        assert refused.json["errors"][0]["pointer"] == "#/query/fields"
        assert "nonsense" in refused.json["errors"][0]["detail"]


def test_pages_lead_on_in_every_format(stored):
    whole = stored.get("/trades/TABLE").json["trades"]
    for accept in FORMATS:
        url, found = "/trades/TABLE?limit=8", []
        while url:
            answer = stored.get(url, Accept=accept)
            found += [row["time"] for row in rows_of(answer.content_type, answer.data)]
            link = answer.headers.get("Link")
            url = link and link.removeprefix("</api/v1/data").partition(">")[0]
        assert found == [row["time"] for row in whole]
