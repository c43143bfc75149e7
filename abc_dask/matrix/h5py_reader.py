"""Reading matrices through h5py: layouts and filters that the faster ways do not know."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from abc_dask.matrix.chunk_guard import ChunkGuard
from abc_dask.matrix.h5ad import MatrixFile
from abc_dask.matrix.hdf5 import opened
from abc_dask.matrix.kernels import PIECE_VALUES, wanted_pieces
from abc_dask.matrix.row_reader import RowRange

# HDF5's own cache of decoded chunks, an open dataset; a chunk larger than the cache
# would be decoded anew for every slice of it.
_CHUNK_CACHE = 8 << 20

_LARGEST_CHUNK_CACHE = 256 << 20


@contextlib.contextmanager
def open_matrix(matrix: MatrixFile) -> Iterator[MatrixReader]:
    """Open a matrix file for reading values, and check that it is still the same file.

    Raises
    ------
    DamagedFileError
        If it changed since `describe`, or cannot be read.
    """
    cache = min(max(_CHUNK_CACHE, 2 * matrix.chunk_bytes), _LARGEST_CHUNK_CACHE)
    with opened(matrix.path, matrix.fingerprint, rdcc_nbytes=cache) as (file, _):
        yield MatrixReader(matrix, file)
    matrix.fingerprint.require(matrix.path)


class MatrixReader:
    """Slices of an open matrix, in pieces of bounded size.

    Attributes
    ----------
    matrix : MatrixFile
        What is being read.
    bytes_read : int
        Decoded bytes of values and indices read so far.
    """

    def __init__(self, matrix: MatrixFile, file: h5py.File) -> None:
        self.matrix = matrix
        self.bytes_read = 0
        self._matrix = file[matrix.layer]
        arrays = [self._matrix] if matrix.layout == "dense" else self._matrix.values()
        self._guards = {array.name: ChunkGuard(array) for array in arrays}

    def rows(
        self, rows: RowRange, most: int = PIECE_VALUES, wanted: NDArray[np.bool_] | None = None
    ) -> Iterator[tuple[int, NDArray[np.int64], NDArray[Any], NDArray[Any]]]:
        """Yield CSR rows in pieces of at most `most` stored values (or one row).

        Rows that are not wanted are left out where that saves reading.

        Yields
        ------
        row : int
            First row of the piece.
        indptr, indices, data : arrays
            As of a CSR matrix of these rows alone.
        """
        indptr = rows.pointers
        for first, last in wanted_pieces(indptr, wanted, most):
            low, high = int(indptr[first]), int(indptr[last])
            yield (
                rows.start + first,
                indptr[first : last + 1] - low,
                self._slice("indices", low, high),
                self._slice("data", low, high),
            )

    def column(
        self, position: int, most: int = PIECE_VALUES
    ) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Yield row indices and values of one CSC column, in pieces."""
        low, high = (int(i) for i in self._matrix["indptr"][position : position + 2])
        for first in range(low, high, most):
            last = min(first + most, high)
            yield (
                self._slice("indices", first, last),
                self._slice("data", first, last),
            )

    def dense(
        self, start: int, stop: int, positions: NDArray[np.int64], most: int = PIECE_VALUES
    ) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield the first row and the chosen columns (rows x genes) of dense rows, in pieces.

        Where the chunks are narrower than the matrix, a gene's own chunks are read;
        else whole rows, since a contiguous file has no cheaper way.
        """
        x = self._matrix
        guard = self._guards[x.name]
        width = x.chunks[1] if x.chunks else x.shape[1]
        narrow = len(positions) * width < x.shape[1]
        step = max(1, most // max(1, len(positions) * width if narrow else x.shape[1]))
        if x.chunks and step > x.chunks[0]:
            step -= step % x.chunks[0]
        for first in range(start, stop, step):
            last = min(first + step, stop)
            if narrow:
                block = np.empty((last - first, len(positions)), dtype=x.dtype)
                for k, position in enumerate(positions.tolist()):
                    guard.require((first, last), (position, position + 1))
                    block[:, k] = x[first:last, position]
            else:
                guard.require((first, last), (0, x.shape[1]))
                block = x[first:last, :]
                self.bytes_read += block.nbytes
                block = block[:, positions]
            self.bytes_read += block.nbytes if narrow else 0
            yield first, block

    def _slice(self, name: str, low: int, high: int) -> NDArray[Any]:
        array = self._matrix[name]
        self._guards[array.name].require((low, high))
        values: NDArray[Any] = array[low:high]
        self.bytes_read += values.nbytes
        return values
