"""Which bytes of a file are there: ranges and the journal of a part."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abc_dask.acquire.journal import Journal, merged, missing
from abc_dask.base.records import dumps
from tests.acquire.worlds import PART


@pytest.mark.parametrize(
    ("size", "done", "expected"),
    [
        (0, [], []),
        (10, [], [(0, 4), (4, 8), (8, 10)]),
        (10, [(0, 10)], []),
        (10, [(4, 6), (0, 2)], [(2, 4), (6, 10)]),
        (10, [(9, 10)], [(0, 4), (4, 8), (8, 9)]),
    ],
)
def test_missing_table(size, done, expected):
    assert missing(size, done, 4) == expected


@given(
    st.integers(0, 200),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=8),
    st.integers(1, 50),
)
def test_missing_and_done_hold_every_byte_once(size, ranges, range_size):
    done = [(min(a, size), min(b, size)) for a, b in ranges]
    pieces = missing(size, done, range_size)
    there = {i for start, stop in done for i in range(start, stop)}
    wanted = [i for start, stop in pieces for i in range(start, stop)]
    assert len(set(wanted)) == len(wanted)
    assert there | set(wanted) == set(range(size))
    assert not there & set(wanted)
    assert all(0 < stop - start <= range_size for start, stop in pieces)
    assert {i for start, stop in merged(done) for i in range(start, stop)} == there


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"format": 2}', b"\xff", b"[" * 10000, b'{"format": 1, "done": [[0]]}'],
)
def test_a_journal_of_junk_is_no_journal(content):
    assert Journal.parse(content) is None


def test_a_journal_comes_back_as_it_was():
    assert Journal.parse(dumps(PART)) == PART
    beyond = dataclasses.replace(PART, done=((0, 11),))
    overlapping = dataclasses.replace(PART, done=((0, 4), (3, 5)))
    assert Journal.parse(dumps(beyond)) is None
    assert Journal.parse(dumps(overlapping)) is None
