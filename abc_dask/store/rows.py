"""Rows of any matrix file, as a store is made of them: CSR pieces of bounded size.

Columns rise in each row, each at most once; duplicates are summed in storage order, as scipy
does. Values have their final type.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.base.errors import DamagedFileError
from abc_dask.matrix.h5ad import MatrixFile
from abc_dask.matrix.h5py_reader import open_matrix
from abc_dask.matrix.index import value_dtype
from abc_dask.matrix.kernels import check_range, exact
from abc_dask.matrix.open_rows import open_rows
from abc_dask.matrix.row_reader import RowRange

# Stored values that are in memory at once.
_PIECE = 1 << 19

# The same of a CSC matrix, of which every piece costs a walk through the file.
_CSC_PIECE = 1 << 24


@dataclass(frozen=True)
class Rows:
    """Some rows of a matrix.

    Attributes
    ----------
    first : int
        Row of the file.
    indptr : array of int64, shape (n_rows + 1,)
    indices : array of integers, shape (n_values,)
    data : array, shape (n_values,)
    """

    first: int
    indptr: NDArray[np.int64]
    indices: NDArray[Any]
    data: NDArray[Any]


def read_rows(
    matrix: MatrixFile, rows: RowRange, wanted: NDArray[np.bool_] | None = None
) -> Iterator[Rows]:
    """Read rows of a matrix, in pieces.

    Parameters
    ----------
    matrix : MatrixFile
    rows : RowRange
        Where they lie in a CSR file; of other layouts only which they are.
    wanted : array of bool, shape (n_rows,), optional
        Rows that are needed; others may be left out.

    Raises
    ------
    DamagedFileError
        If the file changed, cannot be read, or holds an index out of range.
    """
    read = {"csr": _csr, "csc": _csc, "dense": _dense}[matrix.layout]
    for piece in read(matrix, rows, wanted):
        try:
            yield _canonical(piece, matrix)
        except ValueError as error:
            last = piece.first + len(piece.indptr) - 1
            raise DamagedFileError(
                f"{matrix.path}: rows {piece.first:,} to {last:,}: {error}; bring the file again"
            ) from None


def _csr(matrix: MatrixFile, rows: RowRange, wanted: NDArray[np.bool_] | None) -> Iterator[Rows]:
    with open_rows(matrix, rows) as reader:
        for piece in reader.pieces(_PIECE, wanted):
            yield Rows(piece.row, piece.indptr, piece.indices, reader.all_values())


def _dense(matrix: MatrixFile, rows: RowRange, _wanted: NDArray[np.bool_] | None) -> Iterator[Rows]:
    everything = np.arange(matrix.n_columns)
    with open_matrix(matrix) as reader:
        stop = rows.start + len(rows)
        for first, values in reader.dense(rows.start, stop, everything, most=_PIECE):
            row, column = np.nonzero(_bits(values))  # the sign of a zero is part of it
            indptr = np.append(0, np.cumsum(np.bincount(row, minlength=len(values))))
            yield Rows(first, indptr, column, values[row, column])


def _csc(matrix: MatrixFile, rows: RowRange, _wanted: NDArray[np.bool_] | None) -> Iterator[Rows]:
    """Look through all columns for some rows at a time: rows do not lie together here."""
    a_row = max(1, matrix.n_values // max(1, matrix.n_rows))
    step = max(1, _CSC_PIECE // a_row)
    stop = rows.start + len(rows)
    for first in range(rows.start, stop, step):
        yield _csc_rows(matrix, first, min(first + step, stop))


def _csc_rows(matrix: MatrixFile, start: int, stop: int) -> Rows:
    rows, columns = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
    values = [np.zeros(0, matrix.dtype)]
    with open_matrix(matrix) as reader:
        for position in range(matrix.n_columns):
            for row_indices, data in reader.column(position):
                try:
                    check_range(row_indices, matrix.n_rows)
                except ValueError as error:
                    raise DamagedFileError(
                        f"{matrix.path}: column {position:,}: {error}; bring the file again"
                    ) from None
                inside = np.flatnonzero((row_indices >= start) & (row_indices < stop))
                rows.append((row_indices[inside].astype(np.int64) - start).astype(np.int32))
                columns.append(np.full(len(inside), position, np.int32))
                values.append(data[inside])
    row = np.concatenate(rows)
    order = np.argsort(row, kind="stable")
    indptr = np.append(0, np.cumsum(np.bincount(row, minlength=stop - start)))
    return Rows(start, indptr, np.concatenate(columns)[order], np.concatenate(values)[order])


def _bits(values: NDArray[Any]) -> NDArray[Any]:
    plain = np.ascontiguousarray(values)
    return plain.view(f"u{plain.dtype.itemsize}")


def _canonical(rows: Rows, matrix: MatrixFile) -> Rows:
    from abc_dask.store.packing_loops import rises
    from abc_dask.store.plane_loops import positive_zeros

    dtype = value_dtype(rows.data.dtype)
    data = exact(rows.data, dtype)
    if not data.dtype.isnative:
        data = data.astype(data.dtype.newbyteorder("="))
    indices = rows.indices
    if not indices.dtype.isnative:
        indices = indices.astype(indices.dtype.newbyteorder("="))
    if matrix.layout != "dense":
        positive_zeros(data)
    if rises(rows.indptr, indices):
        return Rows(rows.first, rows.indptr, indices, data)
    check_range(indices, matrix.n_columns)
    row = np.repeat(np.arange(len(rows.indptr) - 1), np.diff(rows.indptr))
    key = row * matrix.n_columns + indices.astype(np.int64)
    order = np.argsort(key, kind="stable")
    key, data = key[order], data[order]
    first = np.append(True, np.diff(key) > 0)
    summed = np.zeros(int(first.sum()), data.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        np.add.at(summed, np.cumsum(first) - 1, data)
    row, column = np.divmod(key[first], matrix.n_columns)
    indptr = np.append(0, np.cumsum(np.bincount(row, minlength=len(rows.indptr) - 1)))
    return Rows(rows.first, indptr, column, summed)
