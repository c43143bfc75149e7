"""Compiled loops over one gene of a store: its values by group, and their moments.

A gene arrives as what is not zero: the group and the value of each such cell. All other values of
a group are zeros, which are counted and never written down.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from abc_dask.matrix.compiled import compiled
from abc_dask.store.plane_loops import find_live, take_values, write_bytes, write_cells

# Columns of sums: value, difference from a pivot, its square, values that are not zero, above 0,
# above 1. They fill a line of the cache.
SUMS = 8

# Parts of a sum of squares that rounding may have lost.
LOST = 1e-4


@compiled
def find_counts(planes: Any, rest: Any, cells: Any, counts: Any) -> Any:
    """Write the cells that have a count, and the counts; return how many.

    Parameters
    ----------
    planes : array of uint64, shape (n_blocks, n_planes, n_words)
        Bit planes of the counts, lowest first.
    rest : array
        Counts of the cells behind.
    cells : array of int32, shape (n_cells + MORE,)
    counts : array, shape (n_cells + MORE,)
    """
    n_blocks, n_planes, n_words = planes.shape
    live, lowest = np.empty(n_planes, np.uint64), np.empty(n_words * 64, np.uint8)
    n = np.uint64(0)
    for block in range(n_blocks):
        own, begin, at = planes[block], block * n_words * 64, n
        n_low, n_live = find_live(own, live)
        for w in range(n_words):
            mask = np.uint64(0)
            for k in range(n_live):
                mask |= own[live[k], w]
            if mask != 0:
                write_bytes(own, live, n_low, w, lowest)
                n = write_cells(mask, np.uint64(begin + w * 64), cells, n)
        take_values(own, live[n_low:n_live], lowest, cells[at:n], begin, counts[at:n])
    first = n_blocks * n_words * 64
    for i in range(len(rest)):
        cells[n] = first + i
        counts[n] = rest[i]
        n += np.uint64(rest[i] != 0)
    return np.int64(n)


@compiled
def keep_grouped(codes: Any, cells: Any, counts: Any, groups: Any, n: int) -> int:
    """Drop cells that are in no group, write the groups of the others, and return how many."""
    kept = 0
    for k in range(n):
        cell = cells[k]
        group = codes[cell]
        cells[kept] = cell
        counts[kept] = counts[k]
        groups[kept] = group
        kept += group >= 0
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
def sum_up(codes: Any, values: Any, pivot: float, sums: Any) -> None:
    """Sum values up by group.

    Parameters
    ----------
    codes, values : arrays, shape (n,)
        Group and value of each cell that has one other than zero.
    pivot : float
        Near most values.
    sums : array of float64, shape (n_groups, SUMS)
    """
    sums[:] = 0.0
    for k in range(len(codes)):
        value = np.float64(values[k])
        difference = value - pivot
        own = sums[codes[k]]
        own[0] += value
        own[1] += difference
        own[2] += difference * difference
        own[3] += 1.0
        own[4] += value > 0.0
        own[5] += value > 1.0


@compiled
def moments(sums: Any, held: Any, found: Any, doubtful: Any) -> bool:
    """Compute sum, mean and sum of squared differences by group; return whether some are in doubt.

    Parameters
    ----------
    sums : array of float64, shape (n_groups, SUMS)
        Of `sum_up`.
    held : array of int64, shape (n_groups,)
        Values of each group, zeros among them.
    found : array of float64, shape (3, n_groups)
        NaN in a group without a value; the third one also where a value is infinite.
    doubtful : array of bool, shape (n_groups,)
        Groups whose values lie so close together, and so far from the pivot, that the difference
        of squares is not exact.
    """
    some = False
    for g in range(len(held)):
        total, apart, squares, n = sums[g, 0], sums[g, 1], sums[g, 2], sums[g, 3]
        doubtful[g] = False
        if held[g] == 0:
            found[:, g] = np.nan
            continue
        mean = total / held[g]
        found[0, g], found[1, g], found[2, g] = total, mean, 0.0
        if not math.isfinite(mean):
            found[2, g] = np.nan
        elif n > 0:
            own = squares - apart * apart / n if n > 1 else 0.0
            zeros = held[g] - n
            between = total / n * (total / held[g]) * zeros
            found[2, g] = max(own, 0.0) + between
            doubtful[g] = n > 1 and not found[2, g] > squares * LOST
            some |= doubtful[g]
    return some


@compiled
def refine(codes: Any, values: Any, held: Any, found: Any, doubtful: Any) -> None:
    """Compute the sum of squared differences of groups in doubt once more, from the mean itself.

    Parameters are those of `sum_up` and `moments`.
    """
    n_groups = len(held)
    zeros = held.astype(np.float64)
    apart, squares = np.zeros(n_groups, np.float64), np.zeros(n_groups, np.float64)
    for k in range(len(codes)):
        g = codes[k]
        if doubtful[g]:
            difference = values[k] - found[1, g]
            apart[g] += difference
            squares[g] += difference * difference
            zeros[g] -= 1.0
    for g in range(n_groups):
        if doubtful[g]:
            mean = found[1, g]
            squares[g] += zeros[g] * mean * mean
            # what rounding left of the differences' sum corrects the mean
            rest = (apart[g] - zeros[g] * mean) / held[g]
            found[2, g] = max(squares[g] - held[g] * rest * rest, 0.0)
            found[1, g] += rest


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
        n, m, s = together(n, m, s, held[g], mean[g], squares[g])
    n, m, s = np.int64(0), 0.0, 0.0
    for g in range(len(held) - 1, -1, -1):
        rest_held[g], rest_mean[g], rest_squares[g] = together(
            rest_held[g], rest_mean[g], rest_squares[g], n, m, s
        )
        if rest_held[g] == 0:
            rest_mean[g] = rest_squares[g] = np.nan
        n, m, s = together(n, m, s, held[g], mean[g], squares[g])


@compiled
def together(n: Any, m: Any, s: Any, n2: Any, m2: Any, s2: Any) -> Any:
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
def add_counts(codes: Any, counts: Any, out: Any) -> None:
    """Add counts of smaller groups; codes are those of `put_together`."""
    for k in range(len(codes)):
        if codes[k] >= 0:
            out[codes[k]] += np.int64(counts[k])


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
        held[g], found[1, g], found[2, g] = together(
            held[g], found[1, g], found[2, g], more, sums[k] / more, squares[k]
        )
    for g in range(len(held)):
        if held[g] == 0:
            found[:, g] = np.nan
