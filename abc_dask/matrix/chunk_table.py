"""Where the values of a CSR matrix lie in its file: read once, kept as Parquet.

The kept table ``chunks`` has offset, stored size and filter mask of every chunk of
``X/indices``, and behind them those of ``X/data``; types, chunk lengths and filters are in
the schema's metadata. It is empty where the file is one that only HDF5 can read. A task
reads the rows that its row block needs, and the bytes from the file itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.base.errors import DamagedFileError
from abc_dask.base.records import dumps
from abc_dask.disk.kept_table import read_record, write_cached
from abc_dask.matrix.chunk_index import ChunkIndex
from abc_dask.matrix.codecs import can_decode
from abc_dask.matrix.h5ad import MatrixFile, StoredArray
from abc_dask.matrix.hdf5 import check_dataset, opened, stored_filters

_LAYOUT = b"abc_dask.chunks"

# Bytes of the shortest superblock, with which a file begins (HDF5's format specification, II.A).
_HEAD = 44

# A contiguous array is taken as chunks of this many elements, so that whoever must copy
# copies a piece.
_CONTIGUOUS = 1 << 17


def write_chunks(matrix: MatrixFile, target: Path, indexes: Mapping[str, ChunkIndex]) -> None:
    """Write the ``chunks`` table.

    Parameters
    ----------
    matrix : MatrixFile
    target : Path
    indexes : dict of str to ChunkIndex
        What `abc_dask.matrix.h5ad.look_at` read; what is not there is read here.

    Raises
    ------
    DamagedFileError
        If chunks lie outside of the file, over each other, or are of impossible sizes.
    """
    arrays: list[StoredArray] = []
    parts: list[NDArray[np.int64]] = []
    with opened(matrix.path, matrix.fingerprint) as (file, source):
        for name in (f"{matrix.layer}/indices", f"{matrix.layer}/data"):
            array = file[name]
            index = indexes.get(array.name) or check_dataset(array, source)
            found = _look(array, index, sum(len(part) for part in parts))
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
    write_cached(pa.table(columns, metadata={_LAYOUT: dumps(arrays)}), target)


def _look(
    array: h5py.Dataset, index: ChunkIndex | None, first: int
) -> tuple[StoredArray, NDArray[np.int64]] | None:
    """Return how an array is stored, and offset, size and mask of its chunks.

    None where only HDF5 can read it.
    """
    itemsize, length = array.dtype.itemsize, len(array)
    # HDF5 counts from behind a user block, and its versions differ in who adds it
    if array.file.userblock_size or not length:
        return None
    # numbers of odd precision, which HDF5 converts
    if not array.id.get_type().equal(h5py.h5t.py_create(array.dtype, logical=True)):
        return None
    filters = stored_filters(array)
    if index is None:
        offset = array.id.get_offset()
        if offset is None:  # compact: within the object's header
            return None
        starts = np.arange(0, length, _CONTIGUOUS, dtype=np.int64)
        ends = np.minimum(starts + _CONTIGUOUS, length)
        rows = np.stack([offset + starts * itemsize, (ends - starts) * itemsize, starts * 0], 1)
        chunk = _CONTIGUOUS
    else:
        chunk = array.chunks[0]
        rows = np.stack([index.offsets, index.sizes, index.masks], axis=1)
        partial = length % chunk and rows[-1, 1] == chunk * itemsize
        # HDF5 can be told not to filter a chunk that is not full, and does not say where
        if filters and partial and not rows[-1, 2]:
            return None
    if not can_decode(filters):
        return None
    stored = StoredArray(array.name[1:], array.dtype.str, length, chunk, filters, first, len(rows))
    return stored, rows


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
            "fetch the file again"
        )
    order = np.argsort(offsets)
    if (offsets[order][1:] < (offsets + sizes)[order][:-1]).any():
        raise DamagedFileError(
            f"{matrix.path}: chunks of X lie over each other; fetch the file again"
        )


def read_arrays(table: str | Path) -> tuple[StoredArray, ...]:
    """Read how indices and data are stored; nothing where only HDF5 can read them."""
    return read_record(tuple[StoredArray, ...], table, _LAYOUT)
