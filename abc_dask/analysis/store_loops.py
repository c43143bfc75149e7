"""Compiled loops over one gene of a store: its values by group, and their moments.

A gene arrives as what is not zero: the group and the value of each such cell. All other values of
a group are zeros, which are counted and never written down.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from abc_dask.matrix.compiled import compiled

# Cells that are skipped together where none of them has a count.
_TOGETHER = 64


@compiled
def find_counts(counts: Any, codes: Any, cells: Any) -> int:
    """Write the cells that have a count and a group; return how many.

    Parameters
    ----------
    counts : array, shape (n_cells,)
        Nothing is NaN.
    codes : array of int32, shape (n_cells,)
        Group of each cell, -1 where it has none.
    cells : array of int32, shape (n_cells + 1,)
    """
    n = 0
    for first in range(0, len(counts), _TOGETHER):
        stop = min(first + _TOGETHER, len(counts))
        seen = counts[first]
        for i in range(first + 1, stop):
            seen |= counts[i]
        if seen == 0:
            continue
        for i in range(first, stop):
            cells[n] = i
            n += counts[i] != 0
    kept = 0
    for k in range(n):
        cells[kept] = cells[k]
        kept += codes[cells[k]] >= 0
    return kept


@compiled
def take(source: Any, cells: Any, out: Any) -> None:
    """Write what some cells have."""
    for k in range(len(cells)):
        out[k] = source[cells[k]]


@compiled
def find_floats(column: Any, codes: Any, cells: Any, held: Any) -> int:
    """Write the cells that have a group and a value other than zero; return how many.

    NaN is no value: the group's number in `held` becomes less by one.
    """
    n = 0
    for i in range(len(column)):
        value, group = column[i], codes[i]
        if group < 0 or value == 0:
            continue
        if math.isnan(value):
            held[group] -= 1
            continue
        cells[n] = i
        n += 1
    return n


@compiled
def moments(codes: Any, values: Any, held: Any, total: Any, mean: Any, squares: Any) -> None:
    """Compute sum, mean and sum of squared differences by group, in two passes.

    Parameters
    ----------
    codes, values : arrays, shape (n,)
        Group and value of each cell that has one other than zero.
    held : array of int64, shape (n_groups,)
        Values of each group, zeros among them.
    total, mean, squares : arrays of float64, shape (n_groups,)
        NaN in a group without a value; `squares` also where one is infinite.
    """
    n_groups = len(held)
    nonzero = np.zeros(n_groups, np.int64)
    apart = np.zeros(n_groups, np.float64)
    total[:] = 0.0
    for k in range(len(codes)):
        total[codes[k]] += values[k]
        nonzero[codes[k]] += 1
    for g in range(n_groups):
        squares[g] = 0.0
        mean[g] = total[g] / held[g] if held[g] > 0 else np.nan
    for k in range(len(codes)):
        difference = values[k] - mean[codes[k]]
        apart[codes[k]] += difference
        squares[codes[k]] += difference * difference
    for g in range(n_groups):
        if held[g] == 0:
            total[g] = squares[g] = np.nan
            continue
        zeros = held[g] - nonzero[g]
        if zeros > 0:
            apart[g] -= zeros * mean[g]
            squares[g] += zeros * mean[g] * mean[g]
        # what rounding left of the differences' sum corrects the mean
        rest = apart[g] / held[g]
        if math.isfinite(mean[g]) and math.isfinite(rest):
            squares[g] = max(squares[g] - held[g] * rest * rest, 0.0)
            mean[g] += rest
        else:
            squares[g] = np.nan


@compiled
def count_above(codes: Any, values: Any, limit: float, out: Any) -> None:
    """Count the values of each group above a limit that is not negative."""
    out[:] = 0
    for k in range(len(codes)):
        out[codes[k]] += values[k] > limit


@compiled
def count_from(codes: Any, values: Any, limit: float, out: Any) -> None:
    """Count the values of each group that reach a positive limit."""
    out[:] = 0
    for k in range(len(codes)):
        out[codes[k]] += values[k] >= limit


@compiled
def sum_counts(codes: Any, counts: Any, out: Any) -> None:
    """Sum whole numbers by group."""
    out[:] = 0
    for k in range(len(codes)):
        out[codes[k]] += np.int64(counts[k])


@compiled
def rest_moments(
    held: Any, mean: Any, squares: Any, rest_held: Any, rest_mean: Any, rest_squares: Any
) -> None:
    """Put together all groups but one, for each of them, without a subtraction.

    Parameters
    ----------
    held : array of int64, shape (n_groups,)
    mean, squares : arrays of float64, shape (n_groups,)
    rest_held, rest_mean, rest_squares
        The same of the other groups' cells.
    """
    n, m, s = np.int64(0), 0.0, 0.0
    for g in range(len(held)):
        rest_held[g], rest_mean[g], rest_squares[g] = n, m, s
        n, m, s = _together(n, m, s, held[g], mean[g], squares[g])
    n, m, s = np.int64(0), 0.0, 0.0
    for g in range(len(held) - 1, -1, -1):
        rest_held[g], rest_mean[g], rest_squares[g] = _together(
            rest_held[g], rest_mean[g], rest_squares[g], n, m, s
        )
        if rest_held[g] == 0:
            rest_mean[g] = rest_squares[g] = np.nan
        n, m, s = _together(n, m, s, held[g], mean[g], squares[g])


@compiled
def _together(n: Any, m: Any, s: Any, n2: Any, m2: Any, s2: Any) -> Any:
    """Put two groups together (Chan, Golub and LeVeque 1979)."""
    if n2 == 0:
        return n, m, s
    if n == 0:
        return n2, m2, s2
    both = n + n2
    delta = m2 - m
    share = n2 / both
    return both, m + delta * share, s + s2 + delta * delta * n * share


@compiled
def put_together(codes: Any, n: Any, sums: Any, squares: Any, held: Any, found: Any) -> None:
    """Put smaller groups together: values, mean, sum of squared differences, and sum.

    Parameters
    ----------
    codes : array of int32, shape (n_small,)
        Group of each smaller one; -1 where it is left out.
    n, sums, squares : arrays, shape (n_small,)
        Their values, the sum of these, and of squared differences from their mean.
    held : array of int64, shape (n_groups,)
    found : array of float64, shape (3, n_groups)
        Sum, mean, and sum of squared differences; NaN in a group without a value.
    """
    held[:] = 0
    found[:] = 0.0
    for k in range(len(codes)):
        g = codes[k]
        if g < 0 or n[k] == 0:
            continue
        more = np.int64(n[k])
        found[0, g] += sums[k]
        held[g], found[1, g], found[2, g] = _together(
            held[g], found[1, g], found[2, g], more, sums[k] / more, squares[k]
        )
    for g in range(len(held)):
        if held[g] == 0:
            found[:, g] = np.nan
