"""Parquet with a seal: a checksum of every column of every row group, and of the rest.

Parquet's own checksums cover the content of pages. What the headers of pages and the footer
say is believed, and a bit there can change a type or a count. So every stored column of
every row group has a checksum here, which is verified before anything of it is decoded, and
so have these and the file's own description. They stand before Parquet's footer, where its
readers never look: the file is plain Parquet all the same.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

# A file ends with: checksums of its columns, number of these, checksum of all that follows
# the columns, then Parquet's footer, its length, and its name (Parquet's format, "File Format").
_SEAL = struct.Struct("<II")

_TAIL = struct.Struct("<I4s")

_NAME = b"PAR1"


class SealError(ValueError):
    """A checksum does not fit."""

    def __init__(self) -> None:
        super().__init__("a checksum does not fit")


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


def read_seal(path: Path | str) -> int:
    """Read the checksum of all checksums, which tells a table from another one.

    Raises
    ------
    SealError
        If it does not fit.
    """
    with Path(path).open("rb") as file:
        return _sums(file.fileno())[1]


def is_sealed(path: Path) -> bool:
    """Tell whether a sealed table is whole, as far as its description and its size go."""
    try:
        read_seal(path)
    except (OSError, SealError):
        return False
    return True


@contextlib.contextmanager
def opened_sealed(
    path: Path | str,
    columns: Sequence[str] | None = None,
    groups: Iterable[int] | None = None,
    *,
    known: int | None = None,
    **options: Any,
) -> Iterator[pq.ParquetFile]:
    """Open a sealed table of which some columns and row groups, or all, are whole.

    Raises
    ------
    SealError
        If a checksum does not fit, or the table is not that whose seal is `known`.
    OSError, pyarrow.ArrowException
        If it cannot be read.
    """
    with Path(path).open("rb") as raw:
        sums, every = _sums(raw.fileno())  # of the description itself: before it is decoded
        if known is not None and every != known:
            raise SealError
        with pq.ParquetFile(path, **options) as file:
            _require_whole(raw.fileno(), sums, file.metadata, columns, groups)
            yield file


def _require_whole(
    descriptor: int,
    sums: NDArray[np.uint32],
    described: pq.FileMetaData,
    columns: Sequence[str] | None,
    groups: Iterable[int] | None,
) -> None:
    n_groups, n_columns = described.num_row_groups, described.num_columns
    if len(sums) != n_groups * n_columns:
        raise SealError
    names = described.schema.names
    wanted = [k for k in range(n_columns) if columns is None or names[k] in columns]
    for group in range(n_groups) if groups is None else groups:
        if group >= n_groups:
            break
        for column in wanted:
            found = _checksum(descriptor, described, group, column)
            if found != sums[group * n_columns + column]:
                raise SealError


def _checksum(descriptor: int, described: pq.FileMetaData, group: int, column: int) -> int:
    chunk = described.row_group(group).column(column)
    start = chunk.data_page_offset
    if chunk.dictionary_page_offset is not None:
        start = min(start, chunk.dictionary_page_offset)
    return zlib.crc32(_read(descriptor, start, chunk.total_compressed_size))


def _footer(descriptor: int) -> tuple[bytes, int]:
    """Return Parquet's footer, and where it begins."""
    size = os.fstat(descriptor).st_size
    length, name = _TAIL.unpack(_read(descriptor, size - _TAIL.size, _TAIL.size))
    start = size - _TAIL.size - length
    if name != _NAME:
        raise SealError
    return _read(descriptor, start, length), start


def _sums(descriptor: int) -> tuple[NDArray[np.uint32], int]:
    """Return the checksums of the columns, and that of all that follows these."""
    footer, start = _footer(descriptor)
    count, every = _SEAL.unpack(_read(descriptor, start - _SEAL.size, _SEAL.size))
    seals = _read(descriptor, start - _SEAL.size - 4 * count, 4 * count)
    if _sum_of_all(seals, footer) != every:
        raise SealError
    return np.frombuffer(seals, "<u4"), every


def _sum_of_all(seals: bytes, footer: bytes) -> int:
    """Return the checksum of all that follows the columns, but for itself."""
    count = struct.pack("<I", len(seals) // 4)
    return zlib.crc32(seals + count + footer + _TAIL.pack(len(footer), _NAME))


def _read(descriptor: int, start: int, length: int) -> bytes:
    content = os.pread(descriptor, length, start) if start >= 0 and length >= 0 else b""
    if len(content) != length:
        raise SealError
    return content
