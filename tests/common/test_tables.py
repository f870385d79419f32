"""A table says the same in every format."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flask import Flask, Response

from ots_common import media_types, problems, tables
from ots_common.media_types import ARROW, CSV, JSON, PARQUET
from ots_common.problems import Problem
from ots_common.service import StrictJSON
from ots_common.tables import Times, Whole, columns_response, parse_fields, table_response
from ots_common.times import rfc3339

NS = 1450972800_000000000
COLUMNS = {
    "symbol": np.array(["A", 'B "x", y', "", " c\r\nd"]),
    "price": np.array([0.1 + 0.2, np.nan, -0.0, 5e-324]),
    "large": np.array([2**63 - 1, -(2**63), 2**53 + 1, 0]),
    "small": np.array([1, 2, 3, 255], np.uint8),
    "volume": Whole(np.array([1, 2, 2**53 + 1, 0]), np.array([False, True, False, False])),
    "at": Times(np.array([NS, 0, NS + 1, NS + 120_000_000])),
    "day": np.array(["2015-12-24", "NaT", "2016-02-29", "1969-12-31"], "datetime64[D]"),
    "live": np.array([True, False, True, True]),
    "reason": [None, "no_bid", "", "crossed"],
    "legs": [{"a": [1, 2.5]}, None, [], "text"],
    "count": [1, None, 3, -4],
}
ROWS = [
    {"symbol": "A", "price": 0.1 + 0.2, "large": 2**63 - 1, "small": 1, "volume": 1, "at": "2015-12-24T16:00:00Z",
     "day": "2015-12-24", "live": True, "reason": None, "legs": {"a": [1, 2.5]}, "count": 1},
    {"symbol": 'B "x", y', "price": None, "large": -(2**63), "small": 2, "volume": None, "at": None, "day": None,
     "live": False, "reason": "no_bid", "legs": None, "count": None},
    {"symbol": "", "price": -0.0, "large": 2**53 + 1, "small": 3, "volume": 2**53 + 1,
     "at": "2015-12-24T16:00:00.000000001Z", "day": "2016-02-29", "live": True, "reason": "", "legs": [], "count": 3},
    {"symbol": " c\r\nd", "price": 5e-324, "large": 0, "small": 255, "volume": 0, "at": "2015-12-24T16:00:00.120Z",
     "day": "1969-12-31", "live": True, "reason": "crossed", "legs": "text", "count": -4},
]  # fmt: skip


@pytest.fixture(scope="module")
def app() -> Flask:
    made = Flask("tables")
    made.json = StrictJSON(made)
    problems.install(made)
    return made


@pytest.fixture
def asked(app: Flask) -> Iterator[None]:
    with app.test_request_context("/t"):
        yield


def test_json_has_the_rows_between_what_is_said_about_them(app):
    with app.test_request_context("/t?x=1&cursor=old"):
        answer = columns_response("rows", COLUMNS, {"as_of": "now"}, "new")
    assert list(answer.json) == ["as_of", "rows", "next"]
    assert answer.json == {"as_of": "now", "rows": ROWS, "next": "/t?x=1&cursor=new"}
    assert str(answer.json["rows"][2]["price"]) == "-0.0"
    assert answer.headers["Link"] == '</t?x=1&cursor=new>; rel="next"'


def test_csv_has_the_values_of_the_json(app):
    with app.test_request_context("/t", headers={"Accept": "text/csv"}):
        answer = columns_response("rows", COLUMNS, {"as_of": "now"})
    assert json.loads(answer.headers["X-OTS-About"]) == {"as_of": "now"}
    assert [_of_csv(row) for row in csv.DictReader(io.StringIO(answer.get_data(as_text=True), newline=""))] == [
        {**row, "reason": row["reason"] or None, "symbol": row["symbol"] or None} for row in ROWS
    ]


def _of_csv(row: dict[str, str]) -> dict[str, object]:
    read = {"price": float, "large": int, "small": int, "volume": int, "count": int, "live": json.loads}
    return {key: (read.get(key, str)(text) if key != "legs" else json.loads(text)) if text else None
            for key, text in row.items()}  # fmt: skip


def test_rows_answer_as_columns_do(app):
    for accept in ("application/json", "text/csv"):
        with app.test_request_context("/t", headers={"Accept": accept}):
            assert table_response("rows", ROWS, list(COLUMNS), {"a": 1}, None).data == (
                columns_response("rows", COLUMNS, {"a": 1}).data
            )


def test_fields_choose_and_order(asked):
    answer = columns_response("rows", COLUMNS, {}, fields=["count", "symbol"])
    assert list(answer.json["rows"][0].items()) == [("count", 1), ("symbol", "A")]


def test_an_unknown_field_is_named_with_what_there_is(asked):
    assert parse_fields(None, ["a"]) is None
    assert parse_fields(" b,a ,b,", ["a", "b"]) == ["b", "a"]
    for text in ("", " , ", "a,x"):
        with pytest.raises(Problem) as refused:
            parse_fields(text, ["a", "b"])
        assert refused.value.status == 422
        assert refused.value.errors[0].pointer == "#/query/fields"
        assert "there is a,b" in refused.value.errors[0].detail


@pytest.mark.parametrize(
    "column",
    [np.array([1.0, np.inf]), [1.0, -np.inf], [1, {"x": np.nan}], [2**63, None], np.array([2**63], np.uint64),
     np.zeros((2, 2)), np.array([1j])],
)  # fmt: skip
def test_what_json_cannot_say_raises(asked, column):
    with pytest.raises(ValueError):
        columns_response("rows", {"x": column}, {})


def test_columns_of_different_length_raise(asked):
    with pytest.raises(ValueError, match="length"):
        columns_response("rows", {"a": [1], "b": [1, 2]}, {})


def test_an_empty_table_has_its_columns(app, asked):
    empty = {"price": np.array([]), "reason": []}
    assert columns_response("rows", empty, {}).json == {"rows": [], "next": None}
    with app.test_request_context("/t", headers={"Accept": "text/csv"}):
        assert columns_response("rows", empty, {}).data == b"price,reason\r\n"


def test_times_of_a_column_are_written_as_one_time_is(asked):
    moments = np.array([1, 10**9, NS + 10**6, NS + 10**3, NS + 123_456_789, 2**63 - 1])
    rows = columns_response("rows", {"at": Times(moments)}, {}).json["rows"]
    assert [row["at"] for row in rows] == [rfc3339(moment) for moment in moments.tolist()]


@pytest.mark.parametrize(
    ("accept", "found"),
    [
        (None, "application/json"), ("*/*", "application/json"), ("text/csv", "text/csv"),
        ("text/csv; charset=utf-8", "text/csv"), ("text/html, */*;q=0.8", "application/json"),
        ("application/json;q=0.5, text/csv;q=0.9", "text/csv"), ("text/*", "text/csv"),
        ("application/json;q=0, */*;q=0.1", "text/csv"), ("text/csv, application/json", "application/json"),
    ],
)  # fmt: skip
def test_accept_chooses(app, accept, found):
    with app.test_request_context("/t", headers={"Accept": accept} if accept else {}):
        answer = columns_response("rows", {"a": [1]}, {})
        assert answer.mimetype == found
        assert "Accept" in answer.vary


def test_a_format_that_there_is_not_is_refused_with_what_there_is(app):
    header = {"Accept": "text/html, application/pdf"}
    with app.test_request_context("/t", headers=header), pytest.raises(Problem) as refused:
        columns_response("rows", {"a": [1]}, {})
    assert refused.value.status == 406
    assert refused.value.extra["available"][:2] == ["application/json", "text/csv"]


def _table(answer: Response) -> pa.Table:
    """The Arrow table that an answer is."""
    if answer.mimetype == PARQUET:
        return pq.read_table(io.BytesIO(answer.get_data()))
    return pa.ipc.open_stream(answer.get_data()).read_all()


_ARROW_TYPES = {
    "symbol": pa.string(), "price": pa.float64(), "large": pa.int64(), "small": pa.int64(), "volume": pa.int64(),
    "at": pa.timestamp("ns", "UTC"), "day": pa.date32(), "live": pa.bool_(), "reason": pa.string(),
    "legs": pa.string(), "count": pa.int64(),
}  # fmt: skip


@pytest.mark.parametrize("accept", [ARROW, PARQUET])
def test_arrow_and_parquet_have_the_values_of_the_json(app, accept):
    with app.test_request_context("/t", headers={"Accept": accept}):
        answer = columns_response("rows", COLUMNS, {"as_of": "now", "é": 1}, "more")
    assert answer.mimetype == accept
    table = _table(answer)
    assert dict(zip(table.schema.names, table.schema.types, strict=True)) == _ARROW_TYPES
    assert json.loads(table.schema.metadata[b"ots.about"]) == {"as_of": "now", "é": 1}
    assert table.schema.metadata[b"ots.next"] == b"/t?cursor=more"
    table = table.set_column(5, "at", table["at"].cast(pa.int64()))
    assert [
        {
            **row,
            "at": None if row["at"] is None else rfc3339(row["at"]),
            "day": None if row["day"] is None else row["day"].isoformat(),
            "legs": None if row["legs"] is None else json.loads(row["legs"]),
        }
        for row in table.to_pylist()
    ] == ROWS
    assert str(table["price"][2].as_py()) == "-0.0"


@pytest.mark.parametrize("accept", [ARROW, PARQUET])
def test_rows_of_a_stated_kind_have_the_same_types_on_every_page(app, accept):
    kinds = {"symbol": "text", "price": "number", "volume": "integer", "at": "time", "day": "date", "live": "flag",
             "count": "number"}  # fmt: skip
    unknown = [dict.fromkeys(ROWS[0])]
    for rows in (ROWS, unknown, []):
        with app.test_request_context("/t", headers={"Accept": accept}):
            table = _table(table_response("rows", rows, kinds, {}, None))
        expected = {name: _ARROW_TYPES[name] for name in kinds} | {"count": pa.float64()}
        assert dict(zip(table.schema.names, table.schema.types, strict=True)) == expected
        assert table.num_rows == len(rows)
        if rows is ROWS:
            assert table["at"].cast(pa.int64()).to_pylist() == [NS, None, NS + 1, NS + 120_000_000]
            assert table["count"].to_pylist() == [1.0, None, 3.0, -4.0]


@pytest.mark.parametrize("accept", [ARROW, PARQUET])
def test_an_empty_table_of_columns_has_their_types(app, accept):
    with app.test_request_context("/t", headers={"Accept": accept}):
        empty = {name: column[:0] for name, column in COLUMNS.items() if isinstance(column, np.ndarray)}
        table = _table(columns_response("rows", {**empty, "at": Times(np.zeros(0, np.int64))}, {}))
    assert dict(zip(table.schema.names, table.schema.types, strict=True)) == {
        name: _ARROW_TYPES[name] for name in [*empty, "at"]
    }


def test_random_numbers_are_the_same_to_the_last_bit_in_every_format(app):
    generator = np.random.default_rng(7)
    numbers = generator.integers(-(2**63), 2**63 - 1, 4000)
    floats = numbers.view(np.float64).copy()
    floats[~np.isfinite(floats)] = np.nan
    moments = np.abs(numbers) // 10 ** generator.integers(0, 3, 4000) * 10 ** generator.integers(0, 3, 4000)
    columns = {"float": floats, "integer": numbers, "at": Times(moments)}
    read = {}
    for accept in (JSON, CSV, ARROW, PARQUET):
        with app.test_request_context("/t", headers={"Accept": accept}):
            answer = columns_response("rows", columns, {})
        if accept in (ARROW, PARQUET):
            table = _table(answer)
            read[accept] = (table["float"].to_pylist(), table["integer"].to_pylist())
            assert (table["at"].cast(pa.int64()).to_numpy() == moments).all()
            continue
        rows = (
            answer.json["rows"] if accept == JSON else list(csv.DictReader(io.StringIO(answer.get_data(as_text=True))))
        )
        number, whole = (lambda x: x, lambda x: x) if accept == JSON else (float, int)
        read[accept] = (
            [None if row["float"] in (None, "") else number(row["float"]) for row in rows],
            [whole(row["integer"]) for row in rows],
        )
        assert [row["at"] for row in rows] == [rfc3339(moment) for moment in moments.tolist()]
    for found, integers in read.values():
        back = np.array([np.nan if value is None else value for value in found])
        assert (back.view(np.int64) == floats.view(np.int64))[~np.isnan(floats)].all()
        assert (np.isnan(back) == np.isnan(floats)).all()
        assert integers == numbers.tolist()


def _large(rows: int) -> dict[str, object]:
    return {"n": np.arange(rows), "x": np.arange(rows) / 3, "text": [f"row {i}" for i in range(rows)]}


@pytest.mark.parametrize("accept", [JSON, CSV, ARROW])
def test_a_large_table_is_sent_while_it_is_made_and_says_the_same(app, accept, monkeypatch):
    with app.test_request_context("/t", headers={"Accept": accept}):
        streamed = columns_response("rows", _large(tables.STREAM_ROWS + 1), {"a": 1}, "more")
        assert streamed.is_streamed
        pieces = list(streamed.response)
        assert max(map(len, pieces)) < sum(map(len, pieces)) / 4
        monkeypatch.setattr(tables, "STREAM_ROWS", 10**9)
        whole = columns_response("rows", _large(10_001), {"a": 1}, "more")
        assert not whole.is_streamed
        assert b"".join(pieces) == whole.data
        assert whole.headers["Link"] == streamed.headers["Link"]


def test_a_large_table_that_cannot_be_written_raises_before_it_is_begun(asked):
    broken = _large(tables.STREAM_ROWS + 1)
    broken["x"][-1] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        columns_response("rows", broken, {})


def test_without_pyarrow_its_formats_are_not_offered(app, monkeypatch):
    monkeypatch.setattr(media_types, "find_spec", lambda _name: None)
    media_types.table_types.cache_clear()
    try:
        with app.test_request_context("/t", headers={"Accept": PARQUET}), pytest.raises(Problem) as refused:
            columns_response("rows", {"a": [1]}, {})
        assert refused.value.extra == {"available": [JSON, CSV]}
        with app.test_request_context("/t", headers={"Accept": f"{ARROW}, text/csv;q=0.5"}):
            assert columns_response("rows", {"a": [1]}, {}).mimetype == CSV
    finally:
        media_types.table_types.cache_clear()


def test_a_row_of_one_unknown_value_is_still_a_row(app):
    with app.test_request_context("/t", headers={"Accept": "text/csv"}):
        text = columns_response("rows", {"x": np.array([np.nan, 1.0])}, {}).get_data(as_text=True)
    assert [row["x"] for row in csv.DictReader(io.StringIO(text))] == ["", "1.0"]


def test_what_is_said_about_a_table_fits_into_its_field(app):
    about = {"symbol": "A", "large": ["é" * 100] * 100, "as_of": "now", "middle": "x" * 2000}
    with app.test_request_context("/t", headers={"Accept": "text/csv"}):
        field = columns_response("rows", {"x": [1]}, about).headers["X-OTS-About"]
        fits = columns_response("rows", {"x": [1]}, {"text": "é"}).headers["X-OTS-About"]
    assert len(field) <= tables.ABOUT_BYTES
    assert json.loads(field) == {"symbol": "A", "as_of": "now", "middle": "x" * 2000, "left_out": ["large"]}
    assert fits == '{"text":"\\u00e9"}'


@pytest.mark.parametrize(
    "given", [[1.5, float("nan"), None, np.float64(2)], np.array([1.5, np.nan, None, 2.0], object)]
)
def test_numbers_among_python_values_are_numbers_and_nan_is_null(app, given):
    for accept in (JSON, ARROW, PARQUET):
        with app.test_request_context("/t", headers={"Accept": accept}):
            answer = columns_response("rows", {"x": given}, {})
        found = [row["x"] for row in answer.json["rows"]] if accept == JSON else _table(answer)["x"].to_pylist()
        assert found == [1.5, None, None, 2.0]


def test_a_service_without_numpy_and_pyarrow_answers_rows():
    """The gateway has neither."""
    program = (
        "import sys; sys.modules.update(dict.fromkeys(('numpy', 'pyarrow')));"
        "from flask import Flask; from ots_common.tables import table_response; import ots_gateway.app;"
        "context = Flask('x').test_request_context('/x', headers={'Accept': 'text/csv'}); context.push();"
        "print(table_response('rows', [{'a': 1.5, 'b': None}], {'a': 'number', 'b': 'time'}, {}, None).data)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout == "b'a,b\\r\\n1.5,\\r\\n'\n"
