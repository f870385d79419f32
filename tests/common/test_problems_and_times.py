"""Errors, times and cursors at the border."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ots_common.cache_keys import cache_key
from ots_common.paging import decode_cursor, encode_cursor
from ots_common.problems import Problem
from ots_common.times import rfc3339, to_datetime, to_nanoseconds

nanoseconds = st.integers(0, 2**63 - 1)


@given(nanoseconds)
def test_a_time_written_and_read_is_itself(at):
    assert to_nanoseconds(rfc3339(at)) == at


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("2015-12-24T11:00:00-05:00", "2015-12-24T16:00:00Z"),
        ("2015-12-24", "2015-12-24T00:00:00Z"),
        ("2015-12-24t16:00:00.5z", "2015-12-24T16:00:00.500Z"),
        # a plus sign that a URL turned into a space
        ("2015-12-24T17:00:00 01:00", "2015-12-24T16:00:00Z"),
    ],
)
def test_other_ways_to_write_a_time(text, same_as):
    assert rfc3339(to_nanoseconds(text)) == same_as


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2015-12-24T16:00:00", "2015-13-01", "2015-02-30T00:00:00Z", "1969-12-31", "2263-01-01", 5, None],
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="expected|month|day|range"):
        to_nanoseconds(text)


@given(nanoseconds)
def test_to_datetime_cuts_nanoseconds_only(at):
    assert to_nanoseconds(to_datetime(at).isoformat().replace("+00:00", "Z")) == at // 1000 * 1000


@given(
    st.lists(
        st.one_of(st.integers(-(2**62), 2**62), st.text(max_size=20).map(lambda text: text.replace("\0", "0"))),
        min_size=1,
        max_size=4,
    )
)
def test_a_cursor_comes_back_as_it_went(position):
    assert decode_cursor(encode_cursor(position), tuple(type(part) for part in position)) == position


@pytest.mark.parametrize("cursor", ["", "x", "bm90IGpzb24", "e30", "WzFd", "W251bGxd", "WzEuNV0", "ä", "WyIxIiwiMiJd"])
def test_a_made_up_cursor_is_a_422(cursor):
    with pytest.raises(Problem) as caught:
        decode_cursor(cursor, (int, int))
    assert caught.value.status == 422


def test_a_huge_number_in_a_cursor_is_a_422():
    with pytest.raises(Problem):
        decode_cursor(encode_cursor([2**70, 1]), (int, int))


@given(st.lists(st.text(), min_size=1), st.lists(st.text(), min_size=1))
def test_different_parts_make_different_keys(one, two):
    assert (cache_key("s", *one) == cache_key("s", *two)) == (one == two)
