"""The tables that are kept between runs: Parquet with a seal.

What is kept is believed: pointers and places of chunks go into compiled loops as they are. So
every stored column of every row group has a checksum, which is verified before anything of
it is decoded, and so have these and the file's own description. They stand before
Parquet's footer, where its readers never look: the file is plain Parquet all the same.

Tasks read a few thousand rows of a table of hundreds of thousands, some hundred times a
second, so row groups are short, and pages are plain and packed by the fastest codec:
dictionaries of labels that each stand once cost half of the time of reading them.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from abc_dask.errors import CacheError
from abc_dask.files import unreadable

ROW_GROUP = 1 << 13

# A file ends with: checksums of its columns, number of these, checksum of all that follows
# the columns, then Parquet's footer, its length, and its name (Parquet's format, "File Format").
_SEAL = struct.Struct("<II")
_TAIL = struct.Struct("<I4s")
_NAME = b"PAR1"


def write_cached(table: pa.Table, target: Path) -> None:
    """Write a table that is kept."""
    pq.write_table(table, target, compression="lz4", row_group_size=ROW_GROUP, use_dictionary=False)
    seal(target)


def seal(path: Path) -> None:
    """Put checksums into a Parquet file that was just written, flat columns only."""
    with path.open("r+b") as file:
        footer, end = _footer(file.fileno())
        described = pq.read_metadata(path)
        sums = [
            _checksum(file.fileno(), described, group, column)
            for group in range(described.num_row_groups)
            for column in range(described.num_columns)
        ]
        seals = np.array(sums, "<u4").tobytes()
        file.seek(end)
        file.write(seals + _SEAL.pack(len(sums), _sum_of_all(seals, footer)) + footer)
        file.write(_TAIL.pack(len(footer), _NAME))


def is_sealed(path: Path) -> bool:
    """Tell whether a kept table is whole, as far as its description and its size go."""
    try:
        with path.open("rb") as file:
            _sums(file.fileno())
    except (OSError, _DamageError):
        return False
    return True


def read_cached(path: Path | str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table that is kept, checksums verified.

    Raises
    ------
    CacheError
        If it is damaged, or gone.
    UnavailableFileError
        If its disk does not answer.
    """
    with opened_cached(path, columns) as file:
        return file.read(columns=None if columns is None else list(columns))


def read_cached_rows(path: Path | str, columns: Sequence[str], start: int, stop: int) -> pa.Table:
    """Read rows `start` to `stop` of what `write_cached` wrote, each column in one chunk.

    Only their row groups are touched.

    Raises
    ------
    CacheError, UnavailableFileError
        As `read_cached`.
    """
    first, last = start // ROW_GROUP, max(start, stop - 1) // ROW_GROUP
    with opened_cached(path, columns, range(first, last + 1)) as file:
        groups = range(first, min(last + 1, file.num_row_groups))
        # small: more threads would only wait for each other
        part = file.read_row_groups(groups, columns=list(columns), use_threads=False)
    return part.slice(start - first * ROW_GROUP, stop - start).combine_chunks()


def read_described(path: Path | str) -> tuple[pa.Schema, int]:
    """Read a kept table's columns with its metadata, and its number of rows."""
    with opened_cached(path, ()) as file:
        return file.schema_arrow, file.metadata.num_rows


def read_note(path: Path | str, key: bytes) -> bytes:
    """Read what was written into a kept table's metadata under a key."""
    noted: Mapping[bytes, bytes] = read_described(path)[0].metadata
    return noted[key]


@contextlib.contextmanager
def opened_cached(
    path: Path | str,
    columns: Sequence[str] | None = None,
    groups: Iterable[int] | None = None,
    **options: Any,
) -> Iterator[pq.ParquetFile]:
    """Open a kept table of which some columns and row groups, or all, are whole.

    Raises
    ------
    CacheError, UnavailableFileError
        As `read_cached`.
    """
    try:
        with Path(path).open("rb") as raw:
            sums = _sums(raw.fileno())  # of the description itself: before it is decoded
            with pq.ParquetFile(path, **options) as file:
                _require_whole(raw.fileno(), sums, file.metadata, columns, groups)
                yield file
    except FileNotFoundError:
        raise CacheError(  # it may just have been removed by another task that found it damaged
            f"{path} was damaged and removed, or is gone; run extract again, which makes it anew"
        ) from None
    except (_DamageError, pa.ArrowException, OSError) as error:
        if other := unreadable(path, error):
            raise other from None
        raise CacheError(_removed(Path(path))) from None


class _DamageError(Exception):
    """A checksum does not fit."""


def _removed(path: Path) -> str:
    """Remove a damaged table, which is made anew where it is not there, and say so."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return f"{path} was damaged after it was written; remove it and run extract again"
    return (
        f"{path} was damaged after it was written and is removed; "
        "run extract again, which makes it anew"
    )


def _require_whole(
    descriptor: int,
    sums: NDArray[np.uint32],
    described: pq.FileMetaData,
    columns: Sequence[str] | None,
    groups: Iterable[int] | None,
) -> None:
    n_groups, n_columns = described.num_row_groups, described.num_columns
    if len(sums) != n_groups * n_columns:
        raise _DamageError
    names = described.schema.names
    wanted = [k for k in range(n_columns) if columns is None or names[k] in columns]
    for group in range(n_groups) if groups is None else groups:
        if group >= n_groups:
            break
        for column in wanted:
            found = _checksum(descriptor, described, group, column)
            if found != sums[group * n_columns + column]:
                raise _DamageError


def _checksum(descriptor: int, described: pq.FileMetaData, group: int, column: int) -> int:
    chunk = described.row_group(group).column(column)
    start = chunk.data_page_offset
    if chunk.dictionary_page_offset is not None:
        start = min(start, chunk.dictionary_page_offset)
    return zlib.crc32(_read(descriptor, start, chunk.total_compressed_size))


def _footer(descriptor: int) -> tuple[bytes, int]:
    """Give Parquet's footer, and where it begins."""
    size = os.fstat(descriptor).st_size
    length, name = _TAIL.unpack(_read(descriptor, size - _TAIL.size, _TAIL.size))
    start = size - _TAIL.size - length
    if name != _NAME:
        raise _DamageError
    return _read(descriptor, start, length), start


def _sums(descriptor: int) -> NDArray[np.uint32]:
    """Give the checksums of the columns, which have one themselves."""
    footer, start = _footer(descriptor)
    count, every = _SEAL.unpack(_read(descriptor, start - _SEAL.size, _SEAL.size))
    seals = _read(descriptor, start - _SEAL.size - 4 * count, 4 * count)
    if _sum_of_all(seals, footer) != every:
        raise _DamageError
    return np.frombuffer(seals, "<u4")


def _sum_of_all(seals: bytes, footer: bytes) -> int:
    """Give the checksum of all that follows the columns, but for itself."""
    count = struct.pack("<I", len(seals) // 4)
    return zlib.crc32(seals + count + footer + _TAIL.pack(len(footer), _NAME))


def _read(descriptor: int, start: int, length: int) -> bytes:
    content = os.pread(descriptor, length, start) if start >= 0 and length >= 0 else b""
    if len(content) != length:
        raise _DamageError
    return content
