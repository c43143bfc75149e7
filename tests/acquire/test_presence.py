"""What is there decides what is done."""

from __future__ import annotations

import dataclasses

import pytest

from abc_dask.acquire.presence import Action, Found, decide, inspect
from abc_dask.release.release import Memory
from tests.acquire.worlds import ENTRY, HASH, PART, SAME, SHORT, URL

NO_HASH = dataclasses.replace(ENTRY, file_hash=None)
OPEN = dataclasses.replace(PART, file_hash=None)


@pytest.mark.parametrize(
    ("entry", "found", "expected"),
    [
        (ENTRY, Found(), Action.FETCH),
        (ENTRY, Found("other"), Action.REFUSE),
        (ENTRY, Found("file", SAME, HASH), Action.ADOPT),
        (ENTRY, Found("link", SAME, HASH), Action.ADOPT),
        (ENTRY, Found("file", SAME), Action.VERIFY),
        (ENTRY, Found("link", SAME), Action.VERIFY),
        (ENTRY, Found("file", SAME, "1" * 32), Action.REPLACE),
        (ENTRY, Found("link", SAME, "1" * 32), Action.REFUSE),
        (ENTRY, Found("file", SHORT), Action.REPLACE),
        (ENTRY, Found("link", SHORT), Action.REFUSE),
        (NO_HASH, Found("file", SAME), Action.ADOPT_UNVERIFIED),
        (NO_HASH, Found("file", SHORT), Action.REPLACE),
        (ENTRY, Found(journal=PART, part_size=4), Action.RESUME),
        (ENTRY, Found(journal=PART, part_size=3), Action.FETCH),
        (ENTRY, Found(journal=dataclasses.replace(PART, url="https://x/f"), part_size=4),
         Action.FETCH),
        (ENTRY, Found(journal=dataclasses.replace(PART, size=11), part_size=4), Action.FETCH),
        (ENTRY, Found(journal=OPEN, part_size=4), Action.FETCH),
        (ENTRY, Found(journal=dataclasses.replace(PART, done=()), part_size=4), Action.FETCH),
        (ENTRY, Found(journal=dataclasses.replace(PART, etag=None), part_size=4),
         Action.RESUME),
        (NO_HASH, Found(journal=OPEN, part_size=4), Action.RESUME),
        (NO_HASH, Found(journal=dataclasses.replace(OPEN, etag=None), part_size=4),
         Action.FETCH),
    ],
)  # fmt: skip
def test_decision_table(entry, found, expected):
    assert decide(entry, found, URL) is expected


def test_decision_rehash_trusts_no_memory():
    assert decide(ENTRY, Found("file", SAME, HASH), URL, rehash=True) is Action.VERIFY


def test_inspect_reads_nothing_for_a_missing_file(tmp_path):
    assert inspect(tmp_path, ENTRY, Memory(tmp_path)) == Found()
