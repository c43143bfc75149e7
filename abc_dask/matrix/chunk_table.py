"""Where the values of a CSR matrix lie in its file: read once by h5py, kept as Parquet.

Two cached tables a matrix file:

- ``chunks``: offset, stored size and filter mask of every chunk of ``X/indices``, and
  behind them those of ``X/data``; types, chunk lengths and filters in the schema's
  metadata. Empty where the file is one that only HDF5 can read.
- ``indptr``: the row pointers, checked.

A task reads the rows of both that its row block needs, and the bytes from the file itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.disk.kept_table import read_cached_rows, read_note, write_cached
from abc_dask.errors import DamagedFileError
from abc_dask.matrix.chunk_index import read_chunk_index
from abc_dask.matrix.codecs import Filter, can_decode
from abc_dask.matrix.h5ad import MatrixFile, read_indptr
from abc_dask.matrix.hdf5 import opened, require_whole, stored_filters

_LAYOUT = b"abc_dask.chunks"

# Bytes of the shortest superblock, with which a file begins (HDF5's format specification, II.A).
_HEAD = 44

# A contiguous array is taken as chunks of this many elements, so that whoever must copy
# copies a piece.
_CONTIGUOUS = 1 << 17


@dataclass(frozen=True)
class StoredArray:
    """How one array is stored.

    Attributes
    ----------
    name : str
        ``X/data`` or ``X/indices``.
    dtype : str
        NumPy type with byte order.
    length : int
        Elements.
    chunk : int
        Elements of a chunk; the last one is padded, unless the array is contiguous.
    filters : tuple of (code, values)
        In the order of writing.
    first, n_chunks : int
        Rows of the chunk table.
    """

    name: str
    dtype: str
    length: int
    chunk: int
    filters: tuple[Filter, ...]
    first: int
    n_chunks: int

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a decoded chunk."""
        return self.chunk * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Chunks:
    """Some consecutive chunks of an array.

    Attributes
    ----------
    first : int
        Number of the first one within its array.
    offsets, sizes : arrays of int64, shape (n_chunks,)
        Place in the file and stored bytes.
    masks : array of int64, shape (n_chunks,)
        Bit i is set where filter i was left out.
    """

    first: int
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    masks: NDArray[np.int64]


def write_indptr(matrix: MatrixFile, target: Path) -> None:
    """Write the ``indptr`` table.

    Raises
    ------
    DamagedFileError
        If indptr does not start at 0, falls, or does not end at the number of values.
    """
    write_cached(pa.table({"indptr": read_indptr(matrix)}), target)


def write_chunks(matrix: MatrixFile, target: Path) -> None:
    """Write the ``chunks`` table.

    Raises
    ------
    DamagedFileError
        If chunks lie outside of the file, over each other, or are of impossible sizes.
    """
    arrays: list[StoredArray] = []
    parts: list[NDArray[np.int64]] = []
    with opened(matrix.path, matrix.fingerprint) as file:
        for name in ("X/indices", "X/data"):
            found = _look(file, name, sum(len(part) for part in parts))
            if found is None:
                arrays, parts = [], []
                break
            arrays.append(found[0])
            parts.append(found[1])
    table = np.concatenate([np.zeros((0, 3), np.int64), *parts])
    _require_sound(table, matrix)
    columns = {
        name: pa.array(np.ascontiguousarray(column))
        for name, column in zip(("offset", "size", "mask"), table.T, strict=True)
    }
    text = json.dumps([asdict(array) for array in arrays])
    write_cached(pa.table(columns, metadata={_LAYOUT: text}), target)


def _look(file: h5py.File, name: str, first: int) -> tuple[StoredArray, NDArray[np.int64]] | None:
    """Give an array's storage and its chunks (offset, size, mask); None: only HDF5 can read it."""
    array = file[name]
    itemsize, length = array.dtype.itemsize, len(array)
    # HDF5 counts from behind a user block, and its versions differ in who adds it
    if file.userblock_size or not length:
        return None
    # numbers of odd precision, which HDF5 converts
    if not array.id.get_type().equal(h5py.h5t.py_create(array.dtype, logical=True)):
        return None
    filters = stored_filters(array)
    if array.chunks is None:
        offset = array.id.get_offset()
        if offset is None:  # compact: within the object's header
            return None
        starts = np.arange(0, length, _CONTIGUOUS, dtype=np.int64)
        ends = np.minimum(starts + _CONTIGUOUS, length)
        rows = np.stack([offset + starts * itemsize, (ends - starts) * itemsize, starts * 0], 1)
        chunk = _CONTIGUOUS
    else:
        chunk = array.chunks[0]
        rows = _chunk_rows(array)
        partial = length % chunk and rows[-1, 1] == chunk * itemsize
        # HDF5 can be told not to filter a chunk that is not full, and does not say where
        if filters and partial and not rows[-1, 2]:
            return None
    if not can_decode(filters):
        return None
    stored = StoredArray(name, array.dtype.str, length, chunk, filters, first, len(rows))
    return stored, rows


def _chunk_rows(array: h5py.Dataset) -> NDArray[np.int64]:
    index = read_chunk_index(array)
    require_whole(array, index, array.file.filename)
    return np.stack([index.offsets, index.sizes, index.masks], axis=1)


def _require_sound(table: NDArray[np.int64], matrix: MatrixFile) -> None:
    """Every chunk lies in the file, and no two lie over each other."""
    offsets, sizes = table[:, 0], table[:, 1]
    # sizes first: an offset near 2^63 must not overflow; a file begins with what HDF5 needs
    inside = (offsets >= _HEAD) & (sizes > 0) & (sizes <= matrix.fingerprint.size)
    inside &= offsets <= matrix.fingerprint.size - sizes
    if not inside.all():
        wrong = int(np.flatnonzero(~inside)[0])
        raise DamagedFileError(
            f"{matrix.path}: X has a chunk of {sizes[wrong]:,} bytes at {offsets[wrong]:,}, "
            f"outside of the file of {matrix.fingerprint.size:,}, or over its head; "
            "bring the file again"
        )
    order = np.argsort(offsets)
    if (offsets[order][1:] < (offsets + sizes)[order][:-1]).any():
        raise DamagedFileError(
            f"{matrix.path}: chunks of X lie over each other; bring the file again"
        )


def read_arrays(table: str | Path) -> tuple[StoredArray, ...]:
    """Read how indices and data are stored; nothing where only HDF5 can read them."""
    described = json.loads(read_note(table, _LAYOUT))
    for one in described:
        one["filters"] = tuple((code, tuple(values)) for code, values in one["filters"])
    return tuple(StoredArray(**one) for one in described)


def read_chunks(table: str | Path, array: StoredArray, low: int, high: int) -> Chunks:
    """Read the chunks that hold elements `low` to `high` (half-open)."""
    first = low // array.chunk
    last = max(first, -(-high // array.chunk))
    rows = _range(table, ["offset", "size", "mask"], array.first + first, array.first + last)
    return Chunks(first, *rows)


def read_pointers(table: str | Path, start: int, stop: int) -> NDArray[np.int64]:
    """Read indptr of rows `start` to `stop`: shape (stop - start + 1,), in the file's count."""
    return _range(table, ["indptr"], start, stop + 1)[0]


def _range(path: str | Path, names: Sequence[str], start: int, stop: int) -> list[NDArray[Any]]:
    """Read rows of a cached table as arrays."""
    if stop <= start:
        return [np.zeros(0, np.int64) for _ in names]
    part = read_cached_rows(path, names, start, stop)
    # writable, as all other arrays that the loops are given: they are compiled for one kind
    return [part[name].to_numpy().copy() for name in names]
