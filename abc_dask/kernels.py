"""The hot loops: chosen genes out of the arrays of a matrix, as pure NumPy functions.

Every kernel adds into `out`, an array of genes x rows that the caller has zeroed, so
duplicate entries are summed in storage order, as scipy does. A corrupt index is a
`ValueError`, never a wrong gene: bounds are checked before anything is looked up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# The largest integer up to which float64 holds every integer.
_EXACT = 2**53


def value_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Give the float type that holds every value of a stored type.

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


def lookup_table(positions: NDArray[np.int64], n_columns: int) -> NDArray[np.int32]:
    """Give the slot of each matrix column, -1 for columns that nobody asked for.

    Parameters
    ----------
    positions : array of int64, shape (n_genes,)
        Column of each gene in the matrix, -1 where the matrix lacks it.
    n_columns : int
        Columns of the matrix.

    Returns
    -------
    array of int32, shape (n_columns,)
    """
    table = np.full(n_columns, -1, dtype=np.int32)
    present = np.flatnonzero(positions >= 0)
    table[positions[present]] = present
    return table


def add_rows(
    indptr: NDArray[np.int64],
    indices: NDArray[Any],
    data: NDArray[Any],
    table: NDArray[np.int32],
    out: NDArray[Any],
) -> None:
    """Add the chosen columns of some CSR rows.

    Parameters
    ----------
    indptr : array of int64, shape (n_rows + 1,)
        Start of each row in `indices`, the first one 0.
    indices, data : arrays, shape (n_values,)
        Column and value of each stored entry, in any order within a row.
    table : array of int32, shape (n_columns,)
        From `lookup_table`.
    out : array, shape (n_genes, n_rows)
        Added to in place.

    Raises
    ------
    ValueError
        If an index is out of range, or an integer value too large for float64.
    """
    check_range(indices, len(table))
    slots = table.take(indices, mode="clip")
    hits = np.flatnonzero(slots >= 0)
    rows = np.searchsorted(indptr, hits, side="right") - 1
    with np.errstate(over="ignore", invalid="ignore"):  # sums of infinities are NaN, as in scipy
        np.add.at(out, (slots[hits], rows), exact(data[hits], out.dtype))


def add_column(
    row_indices: NDArray[Any],
    data: NDArray[Any],
    start: int,
    n_rows: int,
    out: NDArray[Any],
) -> None:
    """Add some entries of one CSC column that lie in a row range.

    Parameters
    ----------
    row_indices, data : arrays, shape (n_values,)
        Row and value of each stored entry.
    start : int
        First row of the range; it is as long as `out`.
    n_rows : int
        Rows of the matrix, against which the indices are checked.
    out : array, shape (n_chosen_rows,)
        Added to in place.

    Raises
    ------
    ValueError
        If an index is out of range, or an integer value too large for float64.
    """
    check_range(row_indices, n_rows)
    inside = np.flatnonzero((row_indices >= start) & (row_indices < start + len(out)))
    with np.errstate(over="ignore", invalid="ignore"):
        np.add.at(out, row_indices[inside].astype(np.int64) - start, exact(data[inside], out.dtype))


def check_range(indices: NDArray[Any], length: int) -> None:
    """Raise `ValueError` unless 0 <= index < length for all."""
    if len(indices) and (int(indices.min()) < 0 or int(indices.max()) >= length):
        wrong = indices[(indices < 0) | (indices >= length)][0]
        raise ValueError(f"index {int(wrong):,} is outside of 0 to {length - 1:,}")


def exact(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Convert values to a float type, refusing integers that it cannot hold."""
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8 and len(values):
        largest = max(int(values.max()), -int(values.min()))
        if largest > _EXACT:
            raise ValueError(f"integer value {largest:,} does not fit a float64 exactly")
    return values.astype(dtype, copy=False)
