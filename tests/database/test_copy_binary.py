"""numpy to PostgreSQL and back, bit for bit, and as SQL sees it."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ots_common.copy_binary import Column, array_literal, copy_in, copy_out, encode

KINDS = {
    "int2": (np.int16, st.integers(-(2**15), 2**15 - 1)),
    "int4": (np.int32, st.integers(-(2**31), 2**31 - 1)),
    "int8": (np.int64, st.integers(-(2**63), 2**63 - 1)),
    "float8": (np.float64, st.floats(allow_nan=False)),
    "timestamptz": (np.int64, st.integers(0, 4 * 10**15)),
    "char": ("S1", st.sampled_from([b"A", b"N", b"z"])),
}
row = st.tuples(*(st.one_of(st.none(), values) for _, values in KINDS.values()))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(row, min_size=1, max_size=30))
def test_round_trip_with_nulls(market, rows):
    columns = []
    for (kind, (dtype, _)), values in zip(KINDS.items(), zip(*rows, strict=True), strict=True):
        null = np.array([value is None for value in values])
        blank = b"x" if kind == "char" else 0
        array = np.array([blank if value is None else value for value in values], dtype)
        columns.append(Column(f"c_{kind}", kind, array, null))
    types = ", ".join(f"c_{kind} {'char(1)' if kind == 'char' else kind}" for kind in KINDS)
    with market.database.connection() as connection:
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE TEMP TABLE shapes (n serial, {types}) ON COMMIT DROP")
        copy_in(connection, "shapes", columns)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT c_int2, c_int4, c_int8, c_float8,"
                " (extract(epoch FROM c_timestamptz) * 1000000)::bigint, c_char FROM shapes ORDER BY n"
            )
            seen = cursor.fetchall()
        expected = [tuple(v.decode() if isinstance(v, bytes) else v for v in r) for r in rows]
        assert seen == expected
        out = copy_out(
            connection,
            "SELECT coalesce(c_int2, 0::int2), coalesce(c_int8, 0), coalesce(c_float8, 0),"
            " coalesce(c_timestamptz, 'epoch'), coalesce(c_char, 'x') FROM shapes ORDER BY n",
            [("a", "int2"), ("b", "int8"), ("c", "float8"), ("d", "timestamptz"), ("e", "char")],
        )
    for name, i, blank in (("a", 0, 0), ("b", 2, 0), ("c", 3, 0), ("d", 4, 0), ("e", 5, b"x")):
        assert out[name].tolist() == [blank if r[i] is None else r[i] for r in rows]


@pytest.mark.parametrize("query", ["SELECT NULL::int8", "SELECT 1::int4", "SELECT 1::int8, 2::int8"])
def test_another_width_than_said_is_refused(market, query):
    with market.database.connection() as connection, pytest.raises(ValueError, match="width"):
        copy_out(connection, query, [("a", "int8")])


def test_nothing_comes_as_nothing(market):
    with market.database.connection() as connection:
        assert len(copy_out(connection, "SELECT 1::int8 WHERE false", [("a", "int8")])) == 0


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="numeric"):
        encode([Column("x", "numeric", np.zeros(1))])


@pytest.mark.parametrize(
    "column",
    [
        Column("x", "int2", np.array([1, 70_000])),
        Column("x", "int4", np.array([1, -(2**31) - 1])),
        Column("x", "char", np.array([b"A", b"AB"])),
        Column("x", "int8", np.array([1])),
        Column("x", "int8", np.array([1, 2]), np.array([True])),
    ],
)
def test_what_does_not_fit_is_refused(column):
    with pytest.raises(ValueError, match="column x"):
        encode([Column("first", "int8", np.array([1, 2])), column])


def test_arrays_as_text_come_back_as_they_were(market):
    numbers = np.array([-(2**63), 0, 2**63 - 1])
    codes = np.array([b"t", b",", b" ", b'"', b"\\", b"}"])
    missing = np.array([False, True, False])
    [row] = market.database.rows(
        'SELECT %s::bigint[], %s::bigint[], %s::char(1)[]::text[], %s::"char"[]::text[]',
        (
            array_literal(numbers),
            array_literal(numbers, missing),
            array_literal(codes),
            array_literal(np.zeros(0, "S1")),
        ),
    )
    assert row == ([-(2**63), 0, 2**63 - 1], [-(2**63), None, 2**63 - 1], ["t", ",", "", '"', "\\", "}"], [])
