"""Compiled loops between log2 values and counts.

A cell's values are ``float32(log2(k / T * 1e6 + 1))``, computed in float64 and rounded once,
where k is a count and T the cell's total. The logarithm of one library may differ from that
of another in the last bits of the float64; that shows after the rounding only where the
float64 lies next to the middle between two float32. Such values are told from all others by
`_near_tie`, and are left to exact arithmetic (`abc_dask.store.counts.exact_log2`).
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from abc_dask.matrix.compiled import compiled

# Counts whose values are looked up, a cell.
TABLE = 64

# What is said of a value in place of its count: exact arithmetic must decide; two neighbouring
# counts have this value.
NEAR_TIE, UNCLEAR = -1, -2

# Below the value of a count of one in a total of 2**32.
_LEAST = 3e-4

# Units in the last place by which a float64 logarithm may be wrong.
_DOUBT = 8

# Values by which a total is judged at first, and where that fails.
_FEW, _MANY = 24, 256

# Smallest counts that are tried for a cell's smallest values: at first, and where that fails.
_QUICK, _THOROUGH = 4, 255

# Distinct smallest values that are tried: all but one of them may be corrupt.
_BASES = 4


@compiled
def _near_tie(y: float) -> Any:
    """Tell whether the rounding of a float64 to float32 depends on its last bits."""
    low = np.float64(y).view(np.int64) & 0x1FFFFFFF
    return abs(low - 0x10000000) <= _DOUBT


@compiled
def count_of(value: float, total: int) -> int:
    """Return the count behind a value; 0 if there is none, or `NEAR_TIE` or `UNCLEAR`."""
    if not (value > _LEAST and value < 32.0):
        return 0
    near = int((2.0**value - 1.0) * (total / 1e6) + 0.5)
    found = 0
    for k in range(max(1, near - 1), near + 2):
        if k > 0xFFFFFFFF:
            return 0
        y = math.log2(k / total * 1e6 + 1.0)
        if _near_tie(y):
            if abs(y - value) < 1e-5:
                return NEAR_TIE
        elif np.float32(y) == value:
            found = UNCLEAR if found else k
    return found


@compiled
def count_fits(values: Any, total: int) -> int:
    """Count how many values have a count under a total."""
    fits = 0
    for at in range(len(values)):
        fits += count_of(values[at], total) != 0
    return fits


@compiled
def _fits(values: Any, first: int, last: int, most: int, total: int) -> int:
    """Count how many of some evenly spaced values have a count under a total.

    Under a large enough total every value has one: neighbouring counts then have neighbouring
    float32 as values. A value votes only where its counts lie far apart.
    """
    step = max(1, (last - first) // most)
    fits = 0
    for at in range(first, last, step):
        k = count_of(values[at], total)
        if k != 0:
            v = np.float64(values[at])
            gap = 1e6 / total / (2.0**v * 0.6931471805599453)
            if gap > 16.0 * 2.0 ** (math.floor(math.log2(v)) - 23.0):
                fits += 1
    return fits


@compiled
def _votes(values: Any, first: int, last: int, most: int) -> int:
    """Count the evenly spaced values that are not zero."""
    step = max(1, (last - first) // most)
    votes = 0
    for at in range(first, last, step):
        if values[at] != 0:
            votes += 1
    return votes


@compiled
def _smallest(values: Any, first: int, last: int, most: int, bases: Any) -> int:
    """Collect the smallest distinct positive values of evenly spaced ones; return how many."""
    step = max(1, (last - first) // most)
    n = 0
    for at in range(first, last, step):
        v = values[at]
        if not (v > _LEAST and v < 32.0):
            continue
        if n == len(bases) and v >= bases[n - 1]:
            continue
        k = 0
        while k < n and bases[k] < v:
            k += 1
        if k < n and bases[k] == v:
            continue
        if n < len(bases):
            n += 1
        for j in range(n - 1, k, -1):
            bases[j] = bases[j - 1]
        bases[k] = v
    return n


@compiled
def find_total(values: Any, first: int, last: int, thorough: bool) -> int:  # noqa: FBT001
    """Return the total under which most of a cell's values have counts; 0 if there is none.

    Totals follow from a smallest value and its count; the other values vote. Of totals with
    as many votes the least wins: 2 T with counts twice as large gives the same values.
    """
    most = _MANY if thorough else _FEW
    bases = np.empty(_BASES, np.float64)
    n_bases = _smallest(values, first, last, (1 << 62) if thorough else most, bases)
    n_votes = _votes(values, first, last, most)
    best, best_fits = 0, 0
    for k0 in range(1, (_THOROUGH if thorough else _QUICK) + 1):
        for b in range(n_bases):
            x = 2.0 ** bases[b] - 1.0
            middle = k0 * 1e6 / x
            if not middle < 4294967295.0:
                continue
            # what the rounding of the value leaves open
            reach = int(middle * (x + 1.0) / x * 9e-8 * max(1.0, bases[b])) + 1
            reach = min(reach, 8)
            near = int(middle + 0.5)
            for total in range(max(1, near - reach), near + reach + 1):
                if count_of(bases[b], total) != k0:
                    continue
                fits = _fits(values, first, last, most, total)
                if fits > best_fits:
                    best, best_fits = total, fits
                    if fits == n_votes:
                        return best
    return best if 2 * best_fits > n_votes else 0


# Coefficients of log2(m) = t * (C[0] + C[1] * t**2 + ...), t = (m - 1) / (m + 1): as far as it
# takes for the last bit, m being between the roots of 1/2 and 2.
_C = tuple(2.0 / math.log(2.0) / (2 * k + 1) for k in range(10))

# Bits of the float64 that is the root of 1/2.
_ROOT = 0x3FE6A09E667F3BCD

# Units in the last place within which a logarithm by this series is looked at again.
_LOOK_AGAIN = 1 << 10

# a division that may raise, or a call, is done one by one, others several at a time
_quickly = partial(compiled, error_model="numpy")


@_quickly
def _log2_roughly(x: float) -> float:
    """Return a logarithm that is wrong by a few units in the last place."""
    bits = np.float64(x).view(np.int64)
    exponent = (bits - _ROOT) >> 52
    m = np.int64(bits - (exponent << 52)).view(np.float64)
    t = (m - 1.0) / (m + 1.0)
    q = t * t
    y = _C[9] * q + _C[8]
    y = y * q + _C[7]
    y = y * q + _C[6]
    y = y * q + _C[5]
    y = y * q + _C[4]
    y = y * q + _C[3]
    y = y * q + _C[2]
    y = y * q + _C[1]
    y = y * q + _C[0]
    return np.float64(exponent) + y * t


@_quickly
def _is_in_doubt(y: float) -> Any:
    """Tell whether a logarithm by the series may round to a neighbour of the float32."""
    above = np.float64(y).view(np.int64) - 0x10000000 + _LOOK_AGAIN
    return above & 0x1FFFFFFF <= 2 * _LOOK_AGAIN


@_quickly
def _values_roughly(counts: Any, totals: Any, out: Any, doubt: Any) -> bool:
    """Write values, several at a time; return whether some may be rounded to a neighbour."""
    some = False
    for i in range(len(counts)):
        y = _log2_roughly(np.float64(counts[i]) / np.float64(totals[i]) * 1e6 + 1.0)
        out[i] = np.float32(y)
        doubt[i] = _is_in_doubt(y) | (counts[i] == 0) | (totals[i] == 0)
        some |= doubt[i]
    return some


@_quickly
def fill_table(total: int, table: Any) -> None:
    """Write the values of counts 1 to len(table) - 1.

    NaN for 0, and where exact arithmetic must decide.
    """
    for k in range(len(table)):
        y = _log2_roughly(np.float64(k) / np.float64(total) * 1e6 + 1.0)
        table[k] = np.float32(np.nan) if _is_in_doubt(y) else np.float32(y)
    table[0] = 0.0
    for k in range(len(table)):
        if np.isnan(table[k]):
            y = math.log2(k / total * 1e6 + 1.0)
            table[k] = np.float32(np.nan) if _near_tie(y) else np.float32(y)
    table[0] = np.nan


# Cells that are looked at together: few of them with a count are taken one by one.
_SOME_CELLS = 512


@compiled
def _are_many(counts: Any) -> bool:
    """Return whether over two thirds are not 0: several logarithms at a time are quicker then."""
    n = 0
    for count in counts:
        n += count != 0
    return n * 3 > len(counts) * 2


@compiled
def log2_of_counts(counts: Any, totals: Any, out: Any, ties: Any, doubt: Any) -> int:
    """Write the values of a column of counts; return how many need exact arithmetic.

    Parameters
    ----------
    counts, totals : arrays of unsigned integers, shape (n,)
    out : array of float, shape (n,)
    ties : array of int64
        Receives the positions of values that exact arithmetic must decide, as far as it goes.
    doubt : array of bool, shape (n,)
        Memory.
    """
    n_ties = 0
    for first in range(0, len(counts), _SOME_CELLS):
        stop = min(first + _SOME_CELLS, len(counts))
        if _are_many(counts[first:stop]):
            part = slice(first, stop)
            if not _values_roughly(counts[part], totals[part], out[part], doubt[part]):
                continue
        else:
            doubt[first:stop] = True
        for i in range(first, stop):
            if not doubt[i]:
                continue
            k = counts[i]
            if k == 0:
                out[i] = 0.0
                continue
            if totals[i] == 0:
                out[i] = np.nan
                continue
            y = math.log2(k / totals[i] * 1e6 + 1.0)
            out[i] = np.float32(y)
            if _near_tie(y):
                if n_ties < len(ties):
                    ties[n_ties] = i
                n_ties += 1
    return n_ties
