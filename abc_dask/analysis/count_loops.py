"""Compiled loops that sum a gene's counts up by group, straight from bit planes.

Most counts are 1, 2 or 3. Their values are looked up in the record of their cell: four numbers of
32 bits, the cell's group and the values of these counts, which lie in one line of the cache. Other
counts are collected, and their values computed together.

Arrays of what is found have `MORE` elements more than cells: see `write_cells`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from abc_dask.analysis.store_loops import LOST, together
from abc_dask.matrix.compiled import compiled, ones, trailing_zeros
from abc_dask.store.counts_loops import log2_of_counts
from abc_dask.store.plane_loops import MORE, find_live, take_values, write_bytes, write_cells

# Numbers of a record; counts below it are looked up.
RECORD = 4

# Columns of a group's sums: difference from its pivot, its square, the pivot, and two counts in one
# whole number: values, and from bit 32 on those above 1.
SUMS = 4

_U = np.uint64


class Known(NamedTuple):
    """What is known of all cells.

    Attributes
    ----------
    records : array of uint32, shape (RECORD * n_cells,)
        Of each cell its group, and the values of the counts 1, 2 and 3, which are float32.
    values : array of float32
        The same memory.
    totals : array of uint32, shape (n_cells,)
        The cells' own; none where values are the counts themselves.
    lanes : int
        Sums of each group, a power of two: neighbours do not wait for each other.
    """

    records: NDArray[np.uint32]
    values: NDArray[np.float32]
    totals: NDArray[np.uint32]
    lanes: int


class Found(NamedTuple):
    """Memory for what is found of one gene in some cells.

    Attributes
    ----------
    small : array of uint32
        ``RECORD * cell + count`` of each cell with a small count.
    cells, counts, values : arrays of uint32, uint32, float64
        Of the other ones.
    totals, ties, doubt : arrays of uint32, int64, bool
        For `log2_of_counts`.
    """

    small: NDArray[np.uint32]
    cells: NDArray[np.uint32]
    counts: NDArray[np.uint32]
    values: NDArray[np.float64]
    totals: NDArray[np.uint32]
    ties: NDArray[np.int64]
    doubt: NDArray[np.bool_]


@compiled
def sum_up(planes: Any, rest: Any, first: int, known: Any, found: Any, sums: Any) -> Any:
    """Add a gene's counts in some cells to the sums of its groups.

    Parameters
    ----------
    planes : array of uint64, shape (n_blocks, n_planes, n_words)
        Bit planes of the counts, lowest first.
    rest : array of unsigned integers
        Counts of the cells behind.
    first : int
        First cell.
    known : Known
    found : Found
    sums : array of float64, shape (n_groups * lanes, SUMS)

    Returns
    -------
    int
        How many counts of `found` are not added yet, since the values of some need exact
        arithmetic: all but the small ones, or none.
    """
    n_small, n = split_planes(planes, first, found)
    begin = first + planes.shape[0] * planes.shape[2] * 64
    n_small, n = split_column(rest, begin, found, n_small, n)
    add_small(n_small, known, found, sums)
    if len(known.totals) == 0:
        for i in range(n):
            found.values[i] = found.counts[i]
    else:
        for i in range(n):
            found.totals[i] = known.totals[_U(found.cells[i])]
        if log2_of_counts(
            found.counts[:n], found.totals[:n], found.values[:n], found.ties, found.doubt[:n]
        ):
            return np.int64(n)
    add_values(n, known, found, sums)
    return 0


@compiled
def add_small(n: Any, known: Any, found: Any, sums: Any) -> None:
    """Add the first small counts of `found` to the sums."""
    whole = sums.view(np.int64)
    lanes, last = _U(known.lanes), _U(known.lanes - 1)
    for i in range(n):
        at = _U(found.small[i])
        group = _U(known.records[at & ~_U(RECORD - 1)]) * lanes + (_U(i) & last)
        _add(np.float64(known.values[at]), group, sums, whole)


@compiled
def add_values(n: Any, known: Any, found: Any, sums: Any) -> None:
    """Add the first values of `found` to the sums."""
    whole = sums.view(np.int64)
    lanes, last = _U(known.lanes), _U(known.lanes - 1)
    for i in range(n):
        own = _U(known.records[_U(found.cells[i]) * _U(RECORD)])
        _add(np.float64(found.values[i]), own * lanes + (_U(i) & last), sums, whole)


@compiled
def _add(value: Any, group: Any, sums: Any, whole: Any) -> None:
    """Add a value; a group's first one is its pivot, from which all are summed as differences."""
    number = whole[group, 3]
    if number == 0:
        sums[group, 2] = value
    difference = value - sums[group, 2]
    sums[group, 0] += difference
    sums[group, 1] += difference * difference
    whole[group, 3] = number + 1 + (np.int64(value > 1.0) << 32)


@compiled
def split_planes(planes: Any, first: int, found: Any) -> Any:
    """Write where counts are, the small ones apart from the others; return how many of each."""
    n_blocks, n_planes, n_words = planes.shape
    live, lowest = np.empty(n_planes, np.uint64), np.empty(n_words * 64, np.uint8)
    n_small = n = _U(0)
    for block in range(n_blocks):
        own, begin, at = planes[block], first + block * n_words * 64, n
        low, high = own[0], own[1]
        n_low, n_live = find_live(own, live)
        n_two = 0  # planes of small counts
        while n_two < n_live and live[n_two] < 2:
            n_two += 1
        for w in range(n_words):
            large = _U(0)
            for k in range(n_two, n_live):
                large |= own[live[k], w]
            cell = _U(begin + w * 64)
            mask = (low[w] | high[w]) & ~large
            n_small = _write_small(mask, low[w], high[w], cell, found.small, n_small)
            if large != 0:
                write_bytes(own, live, n_low, w, lowest)
                n = write_cells(large, cell, found.cells, n)
        higher, cells = live[n_low:n_live], found.cells[at:n]
        take_values(own, higher, lowest, cells, begin, found.counts[at:n])
    return n_small, n


@compiled
def split_column(column: Any, first: int, found: Any, n_small: Any, n: Any) -> Any:
    """Write counts as they are behind those that were found; return how many there are then."""
    for k in range(len(column)):
        cell, count = _U(first + k), _U(column[k])
        found.small[n_small] = _U(RECORD) * cell + count
        n_small += _U((count > 0) & (count < RECORD))
        found.cells[n], found.counts[n] = cell, count
        n += _U(count >= RECORD)
    return n_small, n


@compiled
def _write_small(mask: Any, low: Any, high: Any, first: Any, small: Any, n: Any) -> Any:
    """Write the cells of a word with their counts of 1 to 3, as `write_cells` does."""
    stop = n + _U(ones(mask))
    while mask != 0:
        for _ in range(MORE):
            bit = _U(trailing_zeros(mask))
            count = ((low >> bit) & _U(1)) | (((high >> bit) & _U(1)) << _U(1))
            small[n] = ((first + bit) << _U(2)) | count
            mask &= mask - _U(1)
            n += _U(1)
    return stop


@compiled
def moments_of(sums: Any, lanes: int, held: Any, found: Any, above: Any, are_exact: Any) -> None:
    """Compute sum, mean and sum of squared differences from it by gene and group; count values.

    A group's pivot is one of its n values, so that the sum of squares about it is at most 1 + n
    times that about the mean, and usually twice.

    Parameters
    ----------
    sums : array of float64, shape (n_genes, n_groups * lanes or more, SUMS)
    lanes : int
    held : array of int64, shape (n_genes or more, n_groups)
        Values of each group, zeros among them.
    found : array of float64, shape (n_genes or more, 3, n_groups)
        NaN in a group without a value.
    above : array of int64, shape (n_genes or more, 2, n_groups)
        Values above 0, and above 1.
    are_exact : array of bool, shape (n_genes or more,)
        False if the pivot of some group lay so far from all others that its differences are not
        exact: the gene's values must be looked at again.
    """
    for gene in range(len(sums)):
        are_exact[gene] = _moments_of_one(
            sums[gene], lanes, held[gene], found[gene], above[gene, 0], above[gene, 1]
        )


@compiled
def _moments_of_one(
    sums: Any, lanes: int, held: Any, found: Any, above: Any, above_one: Any
) -> bool:
    """Do it for one gene; return whether its sums are exact."""
    whole = sums.view(np.int64)
    are_exact = True
    for g in range(len(held)):
        total, n, mean, squares, about_pivot = 0.0, 0, 0.0, 0.0, 0.0
        above_one[g] = 0
        for at in range(g * lanes, (g + 1) * lanes):
            more = whole[at, 3] & 0xFFFFFFFF
            above_one[g] += whole[at, 3] >> 32
            if more > 0:
                apart, pivot = sums[at, 0], sums[at, 2]
                total += apart + pivot * more
                about_pivot += sums[at, 1]
                own = max(sums[at, 1] - apart * apart / more, 0.0)
                n, mean, squares = together(n, mean, squares, more, pivot + apart / more, own)
        above[g] = n
        n, mean, squares = together(n, mean, squares, held[g] - n, 0.0, 0.0)
        found[0, g], found[1, g], found[2, g] = total, mean, squares
        if not (held[g] > 0 and math.isfinite(mean)):
            found[2, g] = np.nan
        are_exact &= not about_pivot * LOST > squares
        if held[g] == 0:
            found[:, g] = np.nan
    return are_exact
