"""CSR rows out of a file, around HDF5 where that can be.

Compressed chunks are read and decoded in the task's own thread: those of the indices all,
those of the values only where there is a hit. For uncompressed files see `matrix.plain_rows`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.disk.kept_table import read_cached_rows
from abc_dask.matrix.chunk_rows import ChunkRows
from abc_dask.matrix.h5ad import MatrixFile
from abc_dask.matrix.h5py_reader import MatrixReader, open_matrix
from abc_dask.matrix.kernels import PIECE_VALUES
from abc_dask.matrix.plain_rows import PlainRows
from abc_dask.matrix.row_reader import Chunks, Piece, RowRange, RowReader
from abc_dask.matrix.source import opened_source


@contextlib.contextmanager
def open_rows(matrix: MatrixFile, rows: RowRange) -> Iterator[RowReader]:
    """Open rows of a CSR matrix file, and check that it is still the same file.

    Parameters
    ----------
    matrix : MatrixFile
    rows : RowRange

    Raises
    ------
    DamagedFileError
        If the file changed since it was looked at, or cannot be read.
    CacheError
        If the kept table of its chunks is damaged.
    """
    if not matrix.arrays:
        with open_matrix(matrix) as reader:
            yield HDF5Rows(reader, rows)
        return
    chunks = read_chunks(matrix, int(rows.pointers[0]), int(rows.pointers[-1]))
    plain = not any(array.filters for array in matrix.arrays)
    with opened_source(matrix.path, matrix.fingerprint) as source:
        yield (PlainRows if plain else ChunkRows)(matrix.arrays, chunks, rows, source)


def read_chunks(matrix: MatrixFile, low: int, high: int) -> list[Chunks]:
    """Read which chunks hold the stored values `low` to `high` (half-open).

    Returns
    -------
    list of Chunks
        Of each of the matrix's arrays: indices, values.
    """
    firsts = [low // array.chunk for array in matrix.arrays]
    ranges = [
        (array.first + first, array.first + max(first, -(-high // array.chunk)))
        for array, first in zip(matrix.arrays, firsts, strict=True)
    ]
    tables = read_cached_rows(matrix.chunks, ["offset", "size", "mask"], *ranges)
    return [
        # writable, as all other arrays that the loops are given: they are compiled for one kind
        Chunks(first, *(table[name].to_numpy().copy() for name in ("offset", "size", "mask")))
        for first, table in zip(firsts, tables, strict=True)
    ]


class HDF5Rows(RowReader):
    """Rows by way of h5py: any filter, any storage, one thread at a time."""

    def __init__(self, reader: MatrixReader, rows: RowRange) -> None:
        self._reader = reader
        self.rows = rows
        self._data: NDArray[Any] = np.zeros(0)

    @property
    def bytes_read(self) -> int:
        """Decoded bytes of values and indices read so far."""
        return self._reader.bytes_read

    def pieces(
        self, most: int = PIECE_VALUES, wanted: NDArray[np.bool_] | None = None
    ) -> Iterator[Piece]:
        """Yield pieces, each numbered from 0."""
        for row, indptr, indices, data in self._reader.rows(self.rows, most, wanted):
            self._data = data
            yield Piece(row, indptr, indices)

    def values(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Return values of the current piece."""
        return self._data[numbers]

    def all_values(self) -> NDArray[Any]:
        """Return all values of the current piece."""
        return self._data
