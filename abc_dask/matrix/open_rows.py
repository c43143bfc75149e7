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

from abc_dask.matrix.chunk_rows import ChunkRows
from abc_dask.matrix.chunk_table import read_arrays
from abc_dask.matrix.h5ad import MatrixFile
from abc_dask.matrix.h5py_reader import MatrixReader, open_matrix
from abc_dask.matrix.kernels import Hits
from abc_dask.matrix.plain_rows import PlainRows
from abc_dask.matrix.row_reader import PIECE_VALUES, Piece, RowReader, hits_in_pieces
from abc_dask.matrix.source import opened_source


@contextlib.contextmanager
def open_rows(matrix: MatrixFile) -> Iterator[RowReader]:
    """Open a CSR matrix file for reading rows, and check that it is still the same file.

    Raises
    ------
    DamagedFileError
        If it changed since it was looked at, or cannot be read.
    """
    arrays = read_arrays(matrix.chunks) if matrix.chunks else ()
    if arrays:
        plain = not any(array.filters for array in arrays)
        with opened_source(matrix.path, matrix.fingerprint) as source:
            yield (PlainRows if plain else ChunkRows)(matrix, arrays, source)
    else:
        with open_matrix(matrix) as reader:
            yield HDF5Rows(reader)


class HDF5Rows:
    """Rows by way of h5py: any filter, any storage, one thread at a time."""

    def __init__(self, reader: MatrixReader) -> None:
        self._reader = reader
        self._data: NDArray[Any] = np.zeros(0)

    @property
    def bytes_read(self) -> int:
        """Decoded bytes of values and indices read so far."""
        return self._reader.bytes_read

    def pieces(
        self,
        start: int,
        stop: int,
        most: int = PIECE_VALUES,
        wanted: NDArray[np.bool_] | None = None,
    ) -> Iterator[Piece]:
        """Yield pieces, each numbered from 0."""
        for row, indptr, indices, data in self._reader.rows(start, stop, most, wanted):
            self._data = data
            yield Piece(row, indptr, indices)

    def values(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """Give values of the current piece."""
        return self._data[places]

    def hits(
        self, start: int, stop: int, table: NDArray[np.int32], wanted: NDArray[np.bool_]
    ) -> Iterator[tuple[Hits, NDArray[Any]]]:
        """Find the entries of chosen columns, piece by piece."""
        return hits_in_pieces(self, start, stop, table, wanted)
