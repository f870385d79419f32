"""What counts as one record and what as two."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ots_ingestion.identity import RepeatCounter, digest

rows = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60)


def counted(records, cuts):
    counter = RepeatCounter()
    found = []
    borders = [0, *sorted({cut % (len(records) + 1) for cut in cuts}), len(records)]
    for first, last in itertools.pairwise(borders):
        part = np.array(records[first:last], np.int64).reshape(-1, 3)
        found += counter.count(part[:, 1], part[:, 0], part[:, 2], part[:, 0]).tolist()
    return found


def expected(records):
    """The definition, record by record: equal ones earlier in the same stretch of equal time."""
    found = []
    for i, record in enumerate(records):
        first = i
        while first and records[first - 1][0] == record[0]:
            first -= 1
        found.append(records[first:i].count(record))
    return found


@given(records=rows, cuts=st.lists(st.integers(0, 60), max_size=5))
def test_repeats_are_counted_alike_wherever_the_file_is_cut(records, cuts):
    assert counted(records, cuts) == expected(records)


@given(
    st.lists(st.tuples(st.integers(0, 2**63 - 1), st.integers(-(2**31), 2**31)), min_size=1, max_size=200, unique=True)
)
def test_different_rows_have_different_digests(values):
    columns = [np.array(column, np.int64) for column in zip(*values, strict=True)]
    assert len(set(digest(4, columns).tolist())) == len(values)


def test_equal_rows_of_two_schemas_differ():
    column = [np.array([1, 2, 3])]
    assert not np.isin(digest(1, column), digest(3, column)).any()
