"""The hot loops, compiled by Numba: they hold no GIL, know no file, and allocate nothing.

Imported by the first task that needs it, not before: Numba takes half a second to load.
Machine code is kept on disk by Numba (beside this module, else in the user's cache
folder), so only the first run on a machine compiles.

Stored elements lie in segments: elements ``edges[k]`` to ``edges[k + 1]``, numbered as in
the file, are ``words[starts[k]:]``. A row may begin in one segment and end in another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Compile on first call, the machine code kept on disk where a folder can be written."""
    try:
        quick: _Function = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no such folder: every process compiles for itself
        quick = numba.njit(nogil=True)(function)
    return quick


@compiled
def find(
    words: Any,
    edges: Any,
    starts: Any,
    indptr: Any,
    wanted: Any,
    genes: Any,
    table: Any,
    search_cost: int,
    first_cell: int,
    n_cells: int,
    places: Any,
    cells: Any,
) -> int:
    """Find the entries of some columns in CSR rows; see `abc_dask.kernels.find_hits`.

    Writes element number and slot * n_cells + cell of each hit, in storage order. Gives
    the number of hits, or -e - 1 for an index out of range at element e.
    """
    k = n_hits = 0
    for row in range(len(indptr) - 1):
        first, end = indptr[row], indptr[row + 1]
        if not wanted[row]:
            continue
        while first < end:
            while edges[k + 1] <= first:
                k += 1
            last = min(end, edges[k + 1])
            low = starts[k] + first - edges[k]
            part = words[low : low + last - first]
            before = n_hits
            if len(genes) * search_cost < len(part) and _rises(part, len(table)):
                n_hits = _search(part, genes, table, n_hits, places, cells)
            else:
                n_hits = _scan(part, table, n_hits, places, cells)
                if n_hits < 0:
                    return n_hits - int(first)
            for hit in range(before, n_hits):
                places[hit] += first
                cells[hit] = cells[hit] * n_cells + first_cell + row
            first = last
    return n_hits


@compiled
def _rises(part: Any, n_columns: int) -> bool:
    """Tell whether indices rise strictly within range: none out of range, none twice."""
    left, right = part[:-1], part[1:]
    falls = False
    # without a way out of the loop, so that it is done some at a time
    for i in range(len(right)):
        falls |= left[i] >= right[i]
    return not falls and part[0] >= 0 and part[len(part) - 1] < n_columns


@compiled
def _search(part: Any, genes: Any, table: Any, n_hits: int, places: Any, cells: Any) -> int:
    """Look each gene up in indices that rise; genes rise too, so each search starts late."""
    low = 0
    for gene in genes:
        rest = len(part) - low
        while rest > 0:
            half = rest >> 1
            if part[low + half] < gene:
                low += half + 1
                rest -= half + 1
            else:
                rest = half
        if low == len(part):
            break
        if part[low] == gene:
            places[n_hits] = low
            cells[n_hits] = table[gene]
            n_hits += 1
    return n_hits


@compiled
def _scan(part: Any, table: Any, n_hits: int, places: Any, cells: Any) -> int:
    """Look every index up; -i - 1 if index i is out of range."""
    for i in range(len(part)):
        column = part[i]
        if column < 0 or column >= len(table):
            return -i - 1
        if table[column] >= 0:
            places[n_hits] = i
            cells[n_hits] = table[column]
            n_hits += 1
    return n_hits


@compiled
def gather(words: Any, edges: Any, starts: Any, places: Any, out: Any) -> None:
    """Take elements by their numbers, which rise."""
    k = 0
    for i in range(len(places)):
        while edges[k + 1] <= places[i]:
            k += 1
        out[i] = words[starts[k] + places[i] - edges[k]]


@compiled
def add(out: Any, cells: Any, values: Any) -> None:
    """Add values one after the other, as `numpy.add.at` does."""
    for i in range(len(cells)):
        out[cells[i]] += values[i]


@compiled
def unshuffle(source: Any, itemsize: int, out: Any) -> None:
    """Undo HDF5's byte shuffle; bytes behind the last whole item stay where they are."""
    n = len(source) // itemsize
    for byte in range(itemsize):
        plane = source[byte * n : (byte + 1) * n]
        target = out[byte::itemsize]
        for i in range(n):
            target[i] = plane[i]
    for i in range(n * itemsize, len(source)):
        out[i] = source[i]


@compiled
def fletcher32(source: Any) -> int:
    """Give HDF5's checksum: two sums of 16-bit words, high byte first, modulo 65,535."""
    one, two = np.uint64(0), np.uint64(0)
    for i in range(0, len(source), 2):
        word = np.uint64(source[i]) << np.uint64(8)
        if i + 1 < len(source):
            word |= np.uint64(source[i + 1])
        one += word
        two += one
        if i % 8192 == 0:  # well before 64 bits overflow
            one, two = _folded(one), _folded(two)
    return int((_folded(two) << np.uint64(16)) | _folded(one))


@compiled
def _folded(total: Any) -> Any:
    """Reduce modulo 65,535 as HDF5 does, which leaves 65,535 where the remainder is 0."""
    while total > np.uint64(65535):
        total = (total & np.uint64(65535)) + (total >> np.uint64(16))
    return total


@compiled
def unlzf(source: Any, out: Any) -> int:
    """Unpack LZF (liblzf's format); give the bytes written, -1 where the bytes make no sense.

    A control byte below 32 says how many literal bytes follow, less one. Any other has
    the length of a repetition in its upper 3 bits (7: the next byte is added) and the
    distance in its lower 5 bits and the byte behind.
    """
    i, n = 0, 0
    while i < len(source):
        control = int(source[i])
        i += 1
        if control < 32:
            length = control + 1
            if i + length > len(source) or n + length > len(out):
                return -1
            for j in range(length):
                out[n + j] = source[i + j]
            i += length
        else:
            length = control >> 5
            if i + (2 if length == 7 else 1) > len(source):
                return -1
            if length == 7:
                length += int(source[i])
                i += 1
            length += 2
            back = n - ((control & 31) << 8) - int(source[i]) - 1
            i += 1
            if back < 0 or n + length > len(out):
                return -1
            for j in range(length):  # may overlap itself, so byte by byte
                out[n + j] = out[back + j]
        n += length
    return n
