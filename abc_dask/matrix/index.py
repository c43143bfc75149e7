"""A matrix file as it was found: layout, genes, and where its values lie; read once, then kept.

The kept table ``chunks`` has offset, stored size and filter mask of every chunk of
``X/indices``, and behind them those of ``X/data``; types, chunk lengths and filters are in
the schema's metadata. It is empty where the file is one that only HDF5 can read. A task
reads the rows that its row block needs, and the bytes from the file itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from abc_dask.base.columns import GENE_IDENTIFIER, GENE_SYMBOL
from abc_dask.base.errors import DamagedFileError
from abc_dask.base.records import dumps
from abc_dask.disk.files import Fingerprint
from abc_dask.disk.kept_table import Cache, read_cached, read_record, write_cached
from abc_dask.matrix.chunk_index import ChunkIndex
from abc_dask.matrix.codecs import can_decode
from abc_dask.matrix.h5ad import (
    MatrixFile,
    StoredArray,
    look_at,
    read_gene_identifiers,
    read_gene_symbols,
)
from abc_dask.matrix.hdf5 import check_dataset, opened, stored_filters

_CHUNKS = b"abc_dask.chunks"

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
    write_cached(pa.table(columns, metadata={_CHUNKS: dumps(arrays)}), target)


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
    return read_record(tuple[StoredArray, ...], table, _CHUNKS)


_LAYOUT = b"abc_dask.layout"


@dataclass(frozen=True)
class MatrixIndex:
    """A matrix file that was looked at.

    Attributes
    ----------
    matrix : MatrixFile
        Its layout.
    table : Path
        Cached table of its genes.
    """

    matrix: MatrixFile
    table: Path

    @classmethod
    def of(cls, path: Path, cache: Cache, layer: str = "X", prefix: str = "") -> MatrixIndex:
        """Look at a matrix file, or find what an earlier run saw of the same file.

        Parameters
        ----------
        path : Path
        cache : Cache
        layer, prefix : str
            As `MatrixFile` has them.

        Raises
        ------
        MissingFileError, DamagedFileError
            As `abc_dask.matrix.h5ad.look_at`; also if a gene identifier stands twice.
        """
        fingerprint = Fingerprint.of(path)
        # read once, on the first look, and used for the table of chunks as well
        indexes: dict[str, ChunkIndex] = {}
        table = cache.get(
            "matrix",
            [str(path), *astuple(fingerprint), *([] if layer == "X" else [layer])],
            lambda target: indexes.update(_write_genes(path, target, layer)),
        )
        matrix = replace(read_record(MatrixFile, table, _LAYOUT), prefix=prefix)
        return cls(_with_chunks(matrix, cache, indexes), table)

    @cached_property
    def genes(self) -> pa.Table:
        """gene_identifier and gene_symbol of every column, in the file's order."""
        return read_cached(self.table)

    def positions(self, identifiers: list[str]) -> tuple[int, ...]:
        """Return the column of each gene, -1 where the matrix lacks it."""
        columns = read_cached(self.table, [GENE_IDENTIFIER])[GENE_IDENTIFIER]
        found = pc.index_in(columns, value_set=pa.array(identifiers, pa.string()))
        positions = np.full(len(identifiers), -1)
        present = found.is_valid().to_numpy()
        positions[found.drop_null().to_numpy()] = np.flatnonzero(present)
        return tuple(positions.tolist())


def _with_chunks(matrix: MatrixFile, cache: Cache, indexes: Mapping[str, ChunkIndex]) -> MatrixFile:
    """Add what tasks need to read rows around HDF5."""
    if matrix.layout != "csr":
        return matrix
    chunks = cache.get(
        "chunks",
        replace(matrix, prefix="").state,
        lambda target: write_chunks(matrix, target, indexes),
    )
    return replace(matrix, arrays=read_arrays(chunks), chunks=str(chunks))


def _write_genes(path: Path, target: Path, layer: str) -> dict[str, ChunkIndex]:
    matrix, indexes = look_at(path, layer)
    identifiers = read_gene_identifiers(matrix)
    if len(twice := duplicates(identifiers)):
        raise DamagedFileError(
            f"{path}: gene_identifier {twice[0]!r} stands for more than one column"
        )
    symbols = read_gene_symbols(matrix)
    if symbols is None:
        symbols = np.full(len(identifiers), "", dtype=object)
    table = pa.table(
        {
            GENE_IDENTIFIER: pa.array(identifiers, pa.string()),
            GENE_SYMBOL: pa.array(symbols, pa.string()),
        },
        metadata={_LAYOUT: dumps(matrix)},
    )
    write_cached(table, target)
    return indexes


def duplicates(names: NDArray[np.object_]) -> list[str]:
    """Return the names that occur more than once."""
    index = pd.Index(names)
    return [] if index.is_unique else list(index[index.duplicated()].unique())


def union_of_genes(indexes: Mapping[Any, MatrixIndex]) -> pa.Table:
    """Return the genes of all matrices, each identifier once, in order of appearance."""
    seen: dict[str, str] = {}
    for index in indexes.values():
        table = index.genes
        pairs = zip(table[GENE_IDENTIFIER].to_pylist(), table[GENE_SYMBOL].to_pylist(), strict=True)
        for identifier, symbol in pairs:
            seen.setdefault(identifier, symbol or "")
    return pa.table({GENE_IDENTIFIER: list(seen), GENE_SYMBOL: list(seen.values())})


def value_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the float type that holds every value of a stored type.

    Parameters
    ----------
    dtype : numpy.dtype
        Type of the stored values: float, integer or bool.

    Returns
    -------
    numpy.dtype
        float32 for float32, float16, bool and integers up to 16 bits, else float64.

    Examples
    --------
    >>> value_dtype(np.dtype("uint16")), value_dtype(np.dtype("int32"))
    (dtype('float32'), dtype('float64'))
    """
    small = dtype.itemsize <= 2 or (dtype.kind == "f" and dtype.itemsize == 4)
    return np.dtype(np.float32 if small else np.float64)
