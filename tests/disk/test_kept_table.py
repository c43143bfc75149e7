"""Kept tables: what is read is what was written, or an error; whatever becomes of the bytes."""

from __future__ import annotations

import errno
import math
import os
import struct
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abc_dask.base.errors import CacheError, ResourceError, UnavailableFileError
from abc_dask.disk.checked_parquet import is_sealed, seal
from abc_dask.disk.kept_table import (
    ROW_GROUP,
    read_cached,
    read_cached_rows,
    read_described,
    read_note,
    read_record,
    write_cached,
)


def table_of(n_rows: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    numbers = rng.integers(-5, 1 << 40, n_rows)
    return pa.table(
        {
            "label": [f"cell{n}" for n in numbers],
            "cell": numbers,
            "value": pa.array(rng.random(n_rows), mask=rng.random(n_rows) < 0.1),
        },
        metadata={b"note": b"[1, 2]"},
    )


@pytest.fixture
def kept(tmp_path):
    table = table_of(3 * ROW_GROUP + 5)
    write_cached(table, tmp_path / "t.parquet")
    return tmp_path / "t.parquet", table


@settings(max_examples=25)
@given(
    n_rows=st.sampled_from([0, 1, 9, ROW_GROUP - 1, ROW_GROUP, ROW_GROUP + 1, 3 * ROW_GROUP]),
    data=st.data(),
)
def test_any_rows_and_columns_are_those_written(tmp_path_factory, n_rows, data):
    path = tmp_path_factory.mktemp("kept") / "t.parquet"
    table = table_of(n_rows)
    write_cached(table, path)
    assert is_sealed(path)
    columns = data.draw(st.lists(st.sampled_from(table.column_names), unique=True, min_size=1))
    assert read_cached(path, columns).equals(table.select(columns))
    start = data.draw(st.integers(0, n_rows))
    stop = data.draw(st.integers(start, n_rows))
    if stop > start:
        (found,) = read_cached_rows(path, columns, (start, stop))
        assert found.equals(table.select(columns).slice(start, stop - start))
    assert read_note(path, b"note") == b"[1, 2]"
    assert read_described(path) == (table.schema, n_rows)


def test_records_of_a_table(kept, tmp_path):
    path, table = kept
    assert read_record(tuple[int, int], path, b"note") == (1, 2)
    for kind, key in ((tuple[str, ...], b"note"), (tuple[int, int], b"other")):
        write_cached(table, tmp_path / "other.parquet")
        with pytest.raises(CacheError, match=r"other\.parquet was damaged .* makes it anew"):
            read_record(kind, tmp_path / "other.parquet", key)
        assert not (tmp_path / "other.parquet").exists()
    write_cached(table.replace_schema_metadata(None), path)
    with pytest.raises(CacheError):
        read_record(int, path, b"note")


def test_it_is_plain_parquet(kept):
    path, table = kept
    assert pq.read_table(path).equals(table)
    assert pd.read_parquet(path).equals(table.to_pandas())
    assert duckdb.sql(f"SELECT count(*), max(cell) FROM '{path}'").fetchall() == [
        (len(table), max(table["cell"].to_pylist()))
    ]


def test_a_file_written_in_a_stream_is_sealed(tmp_path):
    table, path = table_of(1000), tmp_path / "t.parquet"
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        writer.write_table(table, row_group_size=300)
    assert not is_sealed(path)
    with pytest.raises(CacheError):
        read_cached(path)
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        writer.write_table(table, row_group_size=300)
    seal(path)
    assert read_cached(path).equals(table)


def read_by_nobody(path: Path) -> set[int]:
    """Places outside of all columns and of what follows them: Parquet's name, and copies of
    the columns' descriptions that older versions of Arrow write between them.
    """
    described = pq.read_metadata(path)
    last, places = 0, set(range(path.stat().st_size))
    for group in range(described.num_row_groups):
        for number in range(described.num_columns):
            column = described.row_group(group).column(number)
            last = column.data_page_offset + column.total_compressed_size
            places -= set(range(column.data_page_offset, last))
    length, _ = struct.unpack("<I4s", path.read_bytes()[-8:])
    n_sums = described.num_row_groups * described.num_columns
    sealed = path.stat().st_size - 8 - length - 8 - 4 * n_sums
    assert sealed >= last
    return {at for at in places if at < sealed}


@settings(max_examples=300)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), near_end=st.booleans())
def test_a_flipped_bit_is_never_another_value(tmp_path_factory, place, bit, near_end):
    path = tmp_path_factory.mktemp("kept") / "t.parquet"
    table = table_of(40)
    write_cached(table, path)
    spare = read_by_nobody(path)
    raw = bytearray(path.read_bytes())
    at = len(raw) - 1 - math.floor(place * 60) if near_end else math.floor(place * len(raw))
    raw[at] ^= 1 << bit
    path.write_bytes(raw)
    if at in spare:
        assert read_cached(path).equals(table)
        return
    with pytest.raises(CacheError, match="was damaged after it was written and is removed"):
        read_cached(path)
    assert not path.exists()


@given(size=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_is_not_whole(tmp_path_factory, size):
    path = tmp_path_factory.mktemp("kept") / "t.parquet"
    write_cached(table_of(40), path)
    os.truncate(path, math.floor(path.stat().st_size * size))
    assert not is_sealed(path)
    with pytest.raises(CacheError, match=r"was damaged after it was written and is removed"):
        read_note(path, b"note")


def test_only_what_is_asked_for_is_looked_at(kept):
    path, table = kept
    chunk = pq.read_metadata(path).row_group(1).column(1)
    raw = bytearray(path.read_bytes())
    raw[chunk.data_page_offset + 3] ^= 4  # the header of a page has no checksum of its own
    path.write_bytes(raw)
    assert is_sealed(path)
    assert read_cached(path, ["label"]).equals(table.select(["label"]))
    (rows,) = read_cached_rows(path, ["cell"], (5, ROW_GROUP))
    assert rows.equals(table.select(["cell"]).slice(5, ROW_GROUP - 5))
    with pytest.raises(CacheError):
        read_cached_rows(path, ["cell"], (5, ROW_GROUP + 1))
    with pytest.raises(CacheError, match="or is gone; run extract again, which makes it anew"):
        read_cached(path)


def test_a_damaged_table_that_may_not_be_removed(kept, monkeypatch):
    path, _ = kept
    os.truncate(path, 100)

    def refuse(*_arguments, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(CacheError, match="remove it and run extract again"):
        read_cached(path)
    assert path.exists()


def test_a_disk_that_does_not_answer_is_no_damage(kept, monkeypatch):
    path, table = kept

    def fail(*_arguments):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", fail)
        with pytest.raises(UnavailableFileError, match="Input/output error; run the same command"):
            read_cached(path)
    assert read_cached(path).equals(table)


@pytest.mark.parametrize(
    "error",
    [
        pa.lib.ArrowMemoryError("malloc of size 64 failed"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        pa.lib.ArrowException("Unknown error: failed to launch thread"),
    ],
)
def test_a_table_is_not_removed_where_the_system_refuses_memory(tmp_path, monkeypatch, error):
    path = tmp_path / "t.parquet"
    write_cached(pa.table({"a": [1, 2]}), path)

    def refused(*_, **__):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(pq.ParquetFile, "read", refused)
        with pytest.raises(ResourceError, match="no file is damaged"):
            read_cached(path)
    assert read_cached(path).num_rows == 2
