"""The layout of one matrix file, and how to get the arrays of a row range.

An h5ad file is an HDF5 file with ``X`` (a group of data, indices and indptr for CSR or
CSC, or a dense dataset), ``obs`` and ``var`` (groups with an index and columns); see the
on-disk format page of the anndata documentation. Files are untrusted: HDF5 can point
into other files, declare what is not stored, and hold indices that lie.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from abc_dask.errors import DamagedFileError
from abc_dask.files import Fingerprint
from abc_dask.hdf5 import (
    attribute,
    check_dataset,
    chunk_bytes,
    filter_names,
    member,
    opened,
    require_sound_start,
    strings,
    text,
)

# Stored values that are in memory at once: 2^21 of 8 to 16 bytes, and their look-ups.
PIECE_VALUES = 1 << 21

# Stored values of unwanted rows that are read along: a chunk or two of what files have.
_SKIPPED = 1 << 15

# HDF5's own cache of decoded chunks, an open dataset; a chunk larger than the cache
# would be decoded anew for every slice of it.
_CHUNK_CACHE = 8 << 20
_LARGEST_CHUNK_CACHE = 256 << 20


@dataclass(frozen=True)
class MatrixFile:
    """What a task must know to read rows of a matrix: frozen, small, picklable.

    Attributes
    ----------
    path : str
        The h5ad file.
    fingerprint : Fingerprint
        Its state when it was looked at; every later opening checks it.
    layout : str
        ``csr``, ``csc`` or ``dense``.
    n_rows, n_columns : int
        Cells and genes.
    n_values : int
        Stored values (nnz); cells times genes where dense.
    dtype, index_dtype : str
        NumPy names of the types of values and indices ("" where dense).
    chunk_bytes : int
        Largest decoded chunk of ``X`` in bytes, 0 for contiguous arrays.
    filters : tuple of str
        Names of the HDF5 filters of ``X``, in their order.
    chunks, indptr : str
        Paths of the cached tables of `abc_dask.chunks`; "" where there are none, and
        values are read through h5py.
    """

    path: str
    fingerprint: Fingerprint
    layout: str
    n_rows: int
    n_columns: int
    n_values: int
    dtype: str
    index_dtype: str
    chunk_bytes: int
    filters: tuple[str, ...]
    chunks: str = ""
    indptr: str = ""

    @property
    def value_bytes(self) -> int:
        """Bytes of one stored value with its index, decoded."""
        index = np.dtype(self.index_dtype).itemsize if self.index_dtype else 0
        return np.dtype(self.dtype).itemsize + index


def describe(path: str | Path) -> MatrixFile:
    """Look at a matrix file's structure, without reading its values.

    Parameters
    ----------
    path : path
        The h5ad file.

    Returns
    -------
    MatrixFile

    Raises
    ------
    MissingFileError
        If it is not there.
    DamagedFileError
        If it is not an h5ad file, is cut short, points outside of itself, declares what
        it does not hold, or uses a filter that is not installed.
    """
    fingerprint = Fingerprint.of(path)
    with opened(path) as file:
        require_sound_start(path)
        x = member(file, "X")
        if isinstance(x, h5py.Dataset):
            layout, shape, arrays = "dense", x.shape, [x]
            if x.ndim != 2:
                raise DamagedFileError(f"{path}: X has {x.ndim} dimensions, expected 2")
        else:
            layout, shape = _sparse_layout(x, path)
            arrays = [member(x, name) for name in ("data", "indices", "indptr")]
        for array in arrays:
            check_dataset(array, path)
        data = arrays[0]
        if data.dtype.kind not in "fiub" or data.dtype.itemsize > 8:
            raise DamagedFileError(f"{path}: {data.name} is of type {data.dtype}, not numeric")
        if layout != "dense":
            _check_sparse(arrays, shape, layout, path)
        return MatrixFile(
            path=str(path),
            fingerprint=fingerprint,
            layout=layout,
            n_rows=int(shape[0]),
            n_columns=int(shape[1]),
            n_values=int(data.size),
            dtype=data.dtype.str,
            index_dtype="" if layout == "dense" else arrays[1].dtype.str,
            chunk_bytes=max(chunk_bytes(array) for array in arrays),
            filters=tuple(dict.fromkeys(f for array in arrays for f in filter_names(array, path))),
        )


def read_labels(matrix: MatrixFile) -> NDArray[np.object_]:
    """Read the cell label of every row, shape (n_rows,), as str."""
    return _read_names(matrix, "obs", "cell_label", matrix.n_rows)


def read_gene_identifiers(matrix: MatrixFile) -> NDArray[np.object_]:
    """Read the gene identifier of every column, shape (n_columns,), as str."""
    return _read_names(matrix, "var", "gene_identifier", matrix.n_columns)


def read_gene_symbols(matrix: MatrixFile) -> NDArray[np.object_] | None:
    """Read the gene symbol of every column, shape (n_columns,); None where there is none."""
    with opened(matrix.path, matrix.fingerprint) as file:
        var = member(file, "var")
        if "gene_symbol" not in var:
            return None
        symbols = strings(var, "gene_symbol", matrix.path)
    if len(symbols) != matrix.n_columns:
        raise DamagedFileError(
            f"{matrix.path}: gene_symbol has {len(symbols):,} names, "
            f"X has {matrix.n_columns:,}; bring the file again"
        )
    return symbols


def read_row_sizes(matrix: MatrixFile) -> NDArray[np.int64]:
    """Count the stored values of every row, shape (n_rows,).

    For CSC, where rows are not stored together, every row counts as 0; for dense
    matrices every row counts all columns.

    Raises
    ------
    DamagedFileError
        If indptr does not start at 0, falls, or does not end at the number of values.
    """
    if matrix.layout == "dense":
        return np.full(matrix.n_rows, matrix.n_columns, dtype=np.int64)
    sizes = np.diff(read_indptr(matrix))
    return sizes if matrix.layout == "csr" else np.zeros(matrix.n_rows, dtype=np.int64)


def read_indptr(matrix: MatrixFile) -> NDArray[np.int64]:
    """Read where each row (CSR) or column (CSC) of a sparse matrix starts.

    Returns
    -------
    array of int64, shape (n_rows + 1,) or (n_columns + 1,)

    Raises
    ------
    DamagedFileError
        If indptr does not start at 0, falls, or does not end at the number of values.
    """
    with opened(matrix.path, matrix.fingerprint) as file:
        indptr: NDArray[np.int64] = file["X/indptr"][:].astype(np.int64)
    if indptr[0] != 0 or indptr[-1] != matrix.n_values or (np.diff(indptr) < 0).any():
        raise DamagedFileError(
            f"{matrix.path}: X/indptr does not rise from 0 to {matrix.n_values:,}; "
            "bring the file again"
        )
    return indptr


@contextlib.contextmanager
def open_matrix(matrix: MatrixFile) -> Iterator[MatrixReader]:
    """Open a matrix file for reading values, and check that it is still the same file.

    Raises
    ------
    DamagedFileError
        If it changed since `describe`, or cannot be read.
    """
    cache = min(max(_CHUNK_CACHE, 2 * matrix.chunk_bytes), _LARGEST_CHUNK_CACHE)
    with opened(matrix.path, matrix.fingerprint, rdcc_nbytes=cache) as file:
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
        self._file = file

    def rows(
        self,
        start: int,
        stop: int,
        most: int = PIECE_VALUES,
        wanted: NDArray[np.bool_] | None = None,
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
        indptr = self._file["X/indptr"][start : stop + 1].astype(np.int64)
        for first, last in wanted_pieces(indptr, wanted, most):
            low, high = int(indptr[first]), int(indptr[last])
            yield (
                start + first,
                indptr[first : last + 1] - low,
                self._slice("X/indices", low, high),
                self._slice("X/data", low, high),
            )

    def column(
        self, position: int, most: int = PIECE_VALUES
    ) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Yield row indices and values of one CSC column, in pieces."""
        low, high = (int(i) for i in self._file["X/indptr"][position : position + 2])
        for first in range(low, high, most):
            last = min(first + most, high)
            yield self._slice("X/indices", first, last), self._slice("X/data", first, last)

    def dense(
        self, start: int, stop: int, positions: NDArray[np.int64], most: int = PIECE_VALUES
    ) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield the first row and the chosen columns (rows x genes) of dense rows, in pieces.

        Where the chunks are narrower than the matrix, a gene's own chunks are read;
        else whole rows, since a contiguous file has no cheaper way.
        """
        x = self._file["X"]
        width = x.chunks[1] if x.chunks else x.shape[1]
        narrow = len(positions) * width < x.shape[1]
        step = max(1, most // max(1, len(positions) * width if narrow else x.shape[1]))
        if x.chunks and step > x.chunks[0]:
            step -= step % x.chunks[0]
        for first in range(start, stop, step):
            last = min(first + step, stop)
            if narrow:
                block = np.empty((last - first, len(positions)), dtype=x.dtype)
                for k, position in enumerate(positions):
                    block[:, k] = x[first:last, int(position)]
            else:
                block = x[first:last, :]
                self.bytes_read += block.nbytes
                block = block[:, positions]
            self.bytes_read += block.nbytes if narrow else 0
            yield first, block

    def _slice(self, name: str, low: int, high: int) -> NDArray[Any]:
        values: NDArray[Any] = self._file[name][low:high]
        self.bytes_read += values.nbytes
        return values


def pieces(indptr: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Cut rows into half-open ranges of at most `most` stored values, or one row.

    Every row is in exactly one range, in order.

    Examples
    --------
    >>> list(pieces(np.array([0, 2, 4, 9, 9]), 4))
    [(0, 2), (2, 3), (3, 4)]
    """
    first, n_rows = 0, len(indptr) - 1
    while first < n_rows:
        last = int(np.searchsorted(indptr, indptr[first] + most, side="right")) - 1
        last = min(max(last, first + 1), n_rows)
        yield first, last
        first = last


def wanted_pieces(
    indptr: NDArray[np.int64], wanted: NDArray[np.bool_] | None, most: int
) -> list[tuple[int, int]]:
    """Cut rows into pieces like `pieces`, without stretches of rows that nobody wants.

    Every wanted row is in exactly one piece, in order. A stretch of few stored values is
    read along: the chunks around it are needed anyway.

    Examples
    --------
    >>> wanted_pieces(np.array([0, 9, 10**6, 10**6 + 9]), np.array([True, False, True]), 10)
    [(0, 1), (2, 3)]
    """
    if wanted is None or wanted.all():
        return list(pieces(indptr, most))
    rows = np.flatnonzero(wanted)
    if not len(rows):
        return []
    skipped = indptr[rows[1:]] - indptr[rows[:-1] + 1]
    cuts = np.flatnonzero(skipped > _SKIPPED) + 1
    found = []
    for run in np.split(rows, cuts):
        first, last = int(run[0]), int(run[-1]) + 1
        found += [(first + a, first + b) for a, b in pieces(indptr[first : last + 1], most)]
    return found


def _sparse_layout(x: h5py.Group, path: str | Path) -> tuple[str, tuple[int, ...]]:
    """Read format and shape, in today's words or in those of anndata before 0.7."""
    kind = text(attribute(x, "encoding-type", "h5sparse_format"))
    layout = kind.removesuffix("_matrix")
    if layout not in {"csr", "csc"}:
        raise DamagedFileError(f"{path}: X is of the kind {kind!r}, expected CSR, CSC or dense")
    shape = attribute(x, "shape", "h5sparse_shape")
    if np.ndim(shape) != 1 or len(shape) != 2 or min(int(n) for n in shape) < 0:
        raise DamagedFileError(f"{path}: X has no usable shape")
    return layout, tuple(int(n) for n in shape)


def _check_sparse(
    arrays: list[h5py.Dataset], shape: tuple[int, ...], layout: str, path: str | Path
) -> None:
    data, indices, indptr = arrays
    for array in (indices, indptr):
        if array.dtype.kind not in "iu":
            raise DamagedFileError(f"{path}: {array.name} is of type {array.dtype}, not integer")
    if any(array.ndim != 1 for array in arrays) or len(data) != len(indices):
        raise DamagedFileError(f"{path}: X/data and X/indices differ in length")
    major = shape[0] if layout == "csr" else shape[1]
    if len(indptr) != major + 1:
        raise DamagedFileError(
            f"{path}: X/indptr has {len(indptr):,} entries, its shape asks for {major + 1:,}"
        )


def _read_names(matrix: MatrixFile, group: str, column: str, length: int) -> NDArray[np.object_]:
    """Read an axis's names: the column of that name where there is one, else the index."""
    with opened(matrix.path, matrix.fingerprint) as file:
        frame = member(file, group)
        if not isinstance(frame, h5py.Group):
            raise DamagedFileError(
                f"{matrix.path}: {group} is in the layout of anndata before 0.7; "
                "write the file anew with a current anndata"
            )
        name = column if column in frame else text(attribute(frame, "_index") or "_index")
        names = strings(frame, name, matrix.path)
    if len(names) != length:
        raise DamagedFileError(
            f"{matrix.path}: {group} has {len(names):,} names, X has {length:,}; "
            "bring the file again"
        )
    return names
