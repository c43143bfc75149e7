"""Compiled loops that recover counts: of log2 values by votes, of raw ones by a look at each."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from abc_dask.matrix.compiled import compiled
from abc_dask.store.counts_loops import TABLE, UNCLEAR, count_of, fill_table, find_total

_FEW_VALUES, _ALL_VALUES = False, True


@compiled
def recover_log2(
    indptr: Any, data: Any, cells: Any, totals: Any, fits: Any, counts: Any, odd: Any
) -> int:
    """Recover the counts of some rows of log2 values.

    Parameters
    ----------
    indptr, data : arrays
        CSR rows.
    cells : array of int64
        Cell of each row in the block; -1 where it is left out.
    totals : array of uint32
        Total of each cell: found here where `fits` is negative, taken as it is elsewhere.
    fits : array of int32, shape (cells, 3)
        Values of each cell, those with a count in the table, and those of which two counts
        have the same value.
    counts : array of uint32, shape (n_values,)
        Receives the counts; 0 where there is none.
    odd : array of int64, shape (n_values, 3)
        Receives the values without a count: number of the value, cell, and what `count_of`
        says of it.

    Returns
    -------
    int
        How many those are.
    """
    table = np.empty(TABLE, data.dtype)
    n_odd = 0
    for row in range(len(indptr) - 1):
        cell = cells[row]
        if cell < 0:
            continue
        values = data[indptr[row] : indptr[row + 1]]
        own = counts[indptr[row] : indptr[row + 1]]
        known = fits[cell, 0] >= 0
        total = totals[cell] if known else find_total(values, 0, len(values), _FEW_VALUES)
        n, fitted, unclear, lost, stop = _recover_row(values, total, table, own, odd, n_odd)
        if not known and 16 * lost > n:  # all of them vote
            again = find_total(values, 0, len(values), _ALL_VALUES)
            if again != total:
                total = again
                n, fitted, unclear, lost, stop = _recover_row(values, total, table, own, odd, n_odd)
        for k in range(n_odd, stop):
            odd[k, 0] += indptr[row]
            odd[k, 1] = cell
        n_odd = stop
        totals[cell] = total
        if not known:
            fits[cell, 0], fits[cell, 1], fits[cell, 2] = n, fitted, unclear
    return n_odd


@compiled
def _recover_row(
    values: Any, total: int, table: Any, counts: Any, odd: Any, n_odd: int
) -> tuple[int, int, int, int, int]:
    """Recover the counts of one cell under a total.

    Returns
    -------
    n, fitted, unclear, lost, n_odd : int
        Values; those with a count in the table, with two counts, with none; rows of `odd`.
    """
    n, unclear, lost = len(values), 0, 0
    missing = n
    if total:
        fill_table(total, table)
        missing = _look_up(values, total / 1e6, table, counts)
    else:
        counts[:] = 0
    fitted = n - missing
    at = -1
    while missing > 0:
        at += 1
        if counts[at]:
            continue
        missing -= 1
        value = values[at]
        if value == 0 and not np.signbit(value):
            n -= 1
            continue
        count = count_of(value, total) if total else 0
        if count > 0:
            counts[at] = count
            fitted += count < TABLE
            continue
        odd[n_odd, 0] = at
        odd[n_odd, 2] = count
        n_odd += 1
        unclear += count == UNCLEAR
        lost += count == 0
    return n, fitted, unclear, lost, n_odd


@partial(compiled, error_model="numpy")
def _look_up(data: Any, scale: float, table: Any, counts: Any) -> Any:
    """Write the counts of values that the table has, 0 for all others; return how many those are.

    ``2**value`` comes from a polynomial to a part in ten thousand, several at a time.
    """
    scale_of = np.float32(scale)
    for at in range(len(data)):
        value = np.float32(data[at])
        value = max(np.float32(0), value)  # not a number is 0
        value = min(np.float32(30), value)
        whole = np.int32(value)
        rest = value - np.float32(whole)
        power = (
            np.float32(1)
            + rest
            * (
                np.float32(0.69583356)
                + rest * (np.float32(0.22606716) + rest * np.float32(0.07809928))
            )
        ) * np.int32((whole + np.int32(127)) << np.int32(23)).view(np.float32)
        near = (power - np.float32(1)) * scale_of + np.float32(0.5)
        counts[at] = np.int32(min(np.float32(TABLE - 1), near))
    found = np.int32(0)
    for at in range(len(data)):
        is_right = np.uint32(table[counts[at]] == data[at])
        counts[at] *= is_right
        found += np.int32(is_right)
    return len(data) - found


@compiled
def check_counts(indptr: Any, data: Any, cells: Any, totals: Any, counts: Any) -> int:
    """Take raw values as counts; sum all of a row's up.

    Parameters
    ----------
    indptr, data, cells, counts : arrays
        As for `recover_log2`.
    totals : array of uint32
        Receives the sum of each row.

    Returns
    -------
    int
        Number of the first value that is no count; -1 where all are.
    """
    for row in range(len(indptr) - 1):
        cell = cells[row]
        if cell < 0:
            continue
        total = np.int64(0)
        for at in range(indptr[row], indptr[row + 1]):
            value = data[at]
            if not (value >= 0 and value <= 4294967295.0):
                return at
            count = np.int64(value)
            if count != value:
                return at
            counts[at] = count
            total += count
        totals[cell] = min(total, np.int64(4294967295))
    return -1
