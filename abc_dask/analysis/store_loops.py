"""Compiled loops over one gene of a store: its values by group, in order, and their ranks.

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

# Bits of a key that one pass sorts by.
_BITS = 11


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


# --- order ---------------------------------------------------------------------------------


@compiled
def float_keys(bits: Any, sign: Any) -> None:
    """Turn the bits of floats into keys that have the floats' order.

    Parameters
    ----------
    bits : array of uint32 or uint64
    sign : uint32 or uint64
        Its highest bit alone.
    """
    for k in range(len(bits)):
        bits[k] = ~bits[k] if bits[k] & sign else bits[k] | sign


@compiled
def sort_keys(keys: Any, codes: Any, other_keys: Any, other_codes: Any, width: int) -> bool:
    """Sort keys and their groups, digit by digit; return whether the result is in `other`.

    Parameters
    ----------
    keys, codes, other_keys, other_codes : arrays, shape (n,)
    width : int
        Bits of a key.
    """
    n = len(keys)
    swapped = False
    starts = np.empty(1 << _BITS, np.int64)
    for shift in range(0, width, _BITS):
        starts[:] = 0
        for k in range(n):
            starts[(keys[k] >> shift) & ((1 << _BITS) - 1)] += 1
        if n == 0 or starts[(keys[0] >> shift) & ((1 << _BITS) - 1)] == n:
            continue
        at = 0
        for digit in range(len(starts)):
            count = starts[digit]
            starts[digit] = at
            at += count
        for k in range(n):
            digit = (keys[k] >> shift) & ((1 << _BITS) - 1)
            other_keys[starts[digit]] = keys[k]
            other_codes[starts[digit]] = codes[k]
            starts[digit] += 1
        keys, other_keys = other_keys, keys
        codes, other_codes = other_codes, codes
        swapped = not swapped
    return swapped


@compiled
def split_keys(keys: Any, codes: Any, out: Any, starts: Any) -> None:
    """Bring sorted keys together by group, each group's in order.

    Parameters
    ----------
    keys, codes, out : arrays, shape (n,)
    starts : array of int64, shape (n_groups + 1,)
        Receives where each group begins.
    """
    starts[:] = 0
    for k in range(len(codes)):
        starts[codes[k] + 1] += 1
    for g in range(len(starts) - 1):
        starts[g + 1] += starts[g]
    at = starts[:-1].copy()
    for k in range(len(codes)):
        out[at[codes[k]]] = keys[k]
        at[codes[k]] += 1


@compiled
def rank_sums(keys: Any, codes: Any, zero: Any, held: Any, ranks: Any) -> float:
    """Sum the ranks of each group among all values; equal values share their mean rank.

    Parameters
    ----------
    keys, codes : arrays, shape (n,)
        Sorted; nothing is zero.
    zero : key
        Of zero.
    held : array of int64, shape (n_groups,)
        Values of each group, zeros among them.
    ranks : array of float64, shape (n_groups,)

    Returns
    -------
    float
        Sum of t**3 - t over the numbers t of equal values.
    """
    zeros = held.copy()
    for k in range(len(codes)):
        zeros[codes[k]] -= 1
    n_zeros = 0
    for g in range(len(zeros)):
        n_zeros += zeros[g]
    ranks[:] = 0.0
    ties, at, first = 0.0, 0, 0
    before_zero = True
    while True:
        if before_zero and (first == len(keys) or keys[first] > zero):
            before_zero = False
            rank = at + (n_zeros + 1) / 2
            for g in range(len(zeros)):
                ranks[g] += zeros[g] * rank
            ties += float(n_zeros) ** 3 - n_zeros
            at += n_zeros
        if first == len(keys):
            return ties
        stop = first + 1
        while stop < len(keys) and keys[stop] == keys[first]:
            stop += 1
        t = stop - first
        rank = at + (t + 1) / 2
        for k in range(first, stop):
            ranks[codes[k]] += rank
        if t > 1:
            ties += float(t) ** 3 - t
        at += t
        first = stop


@compiled
def pair_rank_sum(one: Any, held: int, two: Any, held_two: int, zero: Any) -> Any:
    """Sum the ranks of one group among the values of two.

    Parameters
    ----------
    one, two : arrays
        Sorted keys of each; nothing is zero.
    held, held_two : int
        Values of each, zeros among them.
    zero : key
        Of zero.

    Returns
    -------
    ranks : float
    ties : float
        As `rank_sums`.
    """
    zeros, zeros_two = held - len(one), held_two - len(two)
    ranks, ties = 0.0, 0.0
    i = j = at = 0
    before_zero = True
    while True:
        ends = i == len(one) and j == len(two)
        if ends and not before_zero:
            return ranks, ties
        if i < len(one) and (j == len(two) or one[i] <= two[j]):
            key = one[i]
        elif j < len(two):
            key = two[j]
        else:
            key = zero
        own = both = 0
        if before_zero and (ends or key > zero):
            before_zero = False
            own, both = zeros, zeros + zeros_two
        else:
            while i < len(one) and one[i] == key:
                i += 1
                own += 1
            both = own
            while j < len(two) and two[j] == key:
                j += 1
                both += 1
        ranks += own * (at + (both + 1) / 2)
        ties += float(both) ** 3 - both
        at += both


@compiled
def middle_keys(keys: Any, starts: Any, zero: Any, held: Any, low: Any, high: Any) -> None:
    """Write the key of each group's middle value, or of the two around its middle.

    Parameters
    ----------
    keys : array
        By group and in order; see `split_keys`.
    starts : array of int64, shape (n_groups + 1,)
    zero : key
    held : array of int64, shape (n_groups,)
    low, high : arrays of keys, shape (n_groups,)
        Zero's where a group has no value.
    """
    for g in range(len(held)):
        low[g] = high[g] = zero
        if held[g] == 0:
            continue
        first, stop = starts[g], starts[g + 1]
        negative = first
        while negative < stop and keys[negative] < zero:
            negative += 1
        negative -= first
        zeros = held[g] - (stop - first)
        for which in range(2):
            rank = (held[g] - 1) // 2 if which == 0 else held[g] // 2
            key = zero
            if rank < negative:
                key = keys[first + rank]
            elif rank >= negative + zeros:
                key = keys[first + rank - zeros]
            if which == 0:
                low[g] = key
            else:
                high[g] = key
