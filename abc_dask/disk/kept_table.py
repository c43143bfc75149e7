"""The tables that are kept between runs: sealed Parquet.

What is kept is believed: pointers and offsets of chunks go into compiled loops as they are, so
all of it has a checksum (`abc_dask.disk.checked_parquet`).

Tasks read a few thousand rows of a table of hundreds of thousands, some hundred times a
second, so row groups are short, and pages are plain and packed by the fastest codec:
dictionaries of labels that each stand once cost half of the time of reading them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from abc_dask.base.errors import CacheError
from abc_dask.base.records import loads
from abc_dask.disk.checked_parquet import SealError, opened_sealed, seal
from abc_dask.disk.files import unreadable

T = TypeVar("T")

ROW_GROUP = 1 << 13


def write_cached(table: pa.Table, target: Path) -> None:
    """Write a table that is kept."""
    pq.write_table(table, target, compression="lz4", row_group_size=ROW_GROUP, use_dictionary=False)
    seal(target)


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


def read_cached_rows(
    path: Path | str, columns: Sequence[str], *ranges: tuple[int, int]
) -> list[pa.Table]:
    """Read ranges of rows of what `write_cached` wrote, each column in one chunk.

    Only their row groups are touched, and the file is opened once.

    Parameters
    ----------
    path : path
    columns : sequence of str
    *ranges : tuple of int
        Rows, half-open.

    Returns
    -------
    list of pyarrow.Table
        One per range, in order.

    Raises
    ------
    CacheError, UnavailableFileError
        As `read_cached`.
    """
    groups = [
        range(start // ROW_GROUP, max(start, stop - 1) // ROW_GROUP + 1) for start, stop in ranges
    ]
    found = []
    with opened_cached(path, columns, sorted(set().union(*groups))) as file:
        for (start, stop), own in zip(ranges, groups, strict=True):
            there = range(own.start, min(own.stop, file.num_row_groups))
            # small: more threads would only wait for each other
            part = file.read_row_groups(there, columns=list(columns), use_threads=False)
            found.append(part.slice(start - own.start * ROW_GROUP, stop - start).combine_chunks())
    return found


def read_described(path: Path | str) -> tuple[pa.Schema, int]:
    """Read a kept table's columns with its metadata, and its number of rows."""
    with opened_cached(path, ()) as file:
        return file.schema_arrow, file.metadata.num_rows


def read_note(path: Path | str, key: bytes) -> bytes:
    """Read what was written into a kept table's metadata under a key."""
    noted: Mapping[bytes, bytes] = read_described(path)[0].metadata or {}
    return noted[key]


def read_record(kind: type[T], path: Path | str, key: bytes) -> T:
    """Read a record (`abc_dask.base.records`) that was written into a kept table's metadata.

    Raises
    ------
    CacheError, UnavailableFileError
        As `read_cached`; also if it is not such a record, as in a table of another version.
    """
    try:
        return loads(kind, read_note(path, key))
    except (KeyError, ValueError):
        raise CacheError(_removed(Path(path))) from None


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
        with opened_sealed(path, columns, groups, **options) as file:
            yield file
    except FileNotFoundError:
        raise CacheError(  # it may just have been removed by another task that found it damaged
            f"{path} was damaged and removed, or is gone; run extract again, which makes it anew"
        ) from None
    except (SealError, pa.ArrowException, OSError) as error:
        if other := unreadable(path, error):
            raise other from None
        raise CacheError(_removed(Path(path))) from None


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
