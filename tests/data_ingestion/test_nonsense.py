"""Nonsense from clients: always a 4xx that names the field, never a 500."""

import pytest

from ots_common.paging import encode_cursor

CURSORS = [
    *map(encode_cursor, ([], [0], [True], [2**63 - 1], [2**62] * 4, [-(2**62), 2**62, 2**62, 2**62])),
    *map(encode_cursor, (["abc", "def"], ["2024-01-01", "x"], ["a\0b", "c"])),
    "AAAA",
    "%00",
    "x" * 600,
]
LISTS = ["/runs", "/instruments", "/gaps", "/dead-letters", "/trades/NOSUCH", "/quotes/NOSUCH", "/bars/NOSUCH"]


@pytest.mark.parametrize("cursor", CURSORS)
@pytest.mark.parametrize("path", LISTS)
def test_cursors(ingestion, path, cursor):
    answer = ingestion.get(f"{path}?cursor={cursor}")
    assert answer.status_code in (200, 404, 422), answer.text


@pytest.mark.parametrize(
    "query",
    ["limit=-1", "limit=1e9", "limit=", "start=9999-01-01", "start=0001-01-01", "end=1970-01-01", "start=%00",
     "as_of=now", "timeframe=", "adjusted=2", "dataset=%27", "schema=trades", "limit=1&limit=2", "cursor=", "x=1"],
)  # fmt: skip
@pytest.mark.parametrize("path", LISTS)
def test_queries(ingestion, path, query):
    answer = ingestion.get(f"{path}?{query}")
    assert answer.status_code in (200, 404, 422), answer.text


@pytest.mark.parametrize("symbol", ["%00", "%F0%9F%92%A9", "A" * 200, "'", "..", "%0a", "A%25"])
@pytest.mark.parametrize("path", ["/bars/", "/trades/", "/quotes/", "/corporate-actions/", "/quality/"])
def test_symbols(ingestion, path, symbol):
    assert ingestion.get(path + symbol).status_code in (404, 422)


DIVIDEND = {"kind": "dividend", "ex_date": "2020-01-02"}
SPLIT = {"kind": "split", "ex_date": "2020-01-02", "numerator": 2, "denominator": 1}
GOOD = {"symbol": "NONSENSE", "source": "somebody", "actions": [SPLIT]}


@pytest.mark.parametrize(
    "body",
    [
        None, [], "x", 1, {}, {**GOOD, "more": 1},
        {**GOOD, "source": "a\0b"}, {**GOOD, "source": ""}, {**GOOD, "symbol": "\0"}, {**GOOD, "actions": []},
        *({**GOOD, "actions": actions} for actions in (
            [SPLIT, SPLIT], [{**SPLIT, "numerator": 0}], [{**SPLIT, "numerator": 10**30}],
            [{**SPLIT, "ex_date": "2020-13-01"}], [{**SPLIT, "amount": 1}], [DIVIDEND], [{**DIVIDEND, "amount": "NaN"}],
            [{**DIVIDEND, "amount": "0.0000000001"}],
        )),
    ],
)  # fmt: skip
def test_corporate_actions(ingestion, body):
    answer = ingestion.post("/corporate-actions", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json["errors"][0]["pointer"].startswith("#/body")
    assert ingestion.get("/corporate-actions/NONSENSE").status_code == 404
