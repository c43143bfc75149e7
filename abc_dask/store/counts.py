"""Counts out of log2 values and back, bit for bit.

The atlas's log2 files hold ``float32(log2(k / T * 1e6 + 1))`` for the count k of a gene in a
cell with T counts in all, computed in float64 and rounded once. The count and the total are
not in the file, but follow from it: the smallest value of a cell belongs to a count of 1, or
to another small one; that gives T, and T is right if it makes whole counts of the cell's other
values. So one store of counts answers for both normalizations.
"""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Values with a count from which on a cell's counts are certain. Fewer values could all be even
# by chance, and then half of each count with half of the total would give the same values; each
# further value makes that half as likely at most.
CERTAIN = 32

_EXACT = Context(prec=60)

_LN2 = _EXACT.ln(Decimal(2))


def exact_log2(count: int, total: int) -> np.float32:
    """Return ``log2(count / total * 1e6 + 1)`` rounded once, whatever the machine's logarithm.

    Parameters
    ----------
    count, total : int
        The argument of the logarithm is a float64, as IEEE 754 defines it.

    Examples
    --------
    >>> bool(exact_log2(1, 10_000) == np.float32(np.log2(101)))
    True
    """
    x = Decimal(count / total * 1e6 + 1.0)
    y = _EXACT.divide(_EXACT.ln(x), _LN2)
    near = np.float32(float(y))
    around = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    # no tie: the logarithm of a rational number is irrational, or a whole number
    best: np.float32 = min(around, key=lambda v: abs(Decimal(float(v)) - y))
    return best


def log2_values(
    counts: NDArray[Any], totals: NDArray[Any], out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Return the log2 values of counts.

    Parameters
    ----------
    counts : array of unsigned integers, shape (n,)
    totals : array of unsigned integers, shape (n,)
        Total count of each one's cell. A count without a total gives NaN.
    out : array of float32 or float64, shape (n,), optional
        Receives the values; new memory where not given.

    Returns
    -------
    array, shape (n,)
    """
    from abc_dask.store.counts_loops import log2_of_counts

    values = np.empty(len(counts), np.float32) if out is None else out
    ties, doubt = np.empty(1024, np.int64), np.empty(len(counts), np.bool_)
    n_ties = log2_of_counts(counts, totals, values, ties, doubt)
    if n_ties > len(ties):
        ties = np.empty(n_ties, np.int64)
        log2_of_counts(counts, totals, values, ties, doubt)
    for at in ties[:n_ties].tolist():
        values[at] = exact_log2(int(counts[at]), int(totals[at]))
    return values


def exact_count(value: float, total: int) -> int:
    """Return the count whose exact value this is; 0 if there is none."""
    near = round((2.0**value - 1.0) * total / 1e6)
    for count in range(max(1, near - 1), near + 2):
        if exact_log2(count, total) == np.float32(value):
            return count
    return 0
