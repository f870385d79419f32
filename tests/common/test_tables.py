"""A table says the same in every format."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator

import numpy as np
import pytest
from flask import Flask

from ots_common import problems
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
