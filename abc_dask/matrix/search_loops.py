"""The hot loops, compiled by Numba: they hold no GIL and allocate nothing.

Imported by the first task that needs it, not before: Numba takes half a second to load.
Machine code is kept on disk by Numba (beside this module, else in the user's cache
folder), so only the first run on a machine compiles.

Stored elements lie in segments: elements ``edges[k]`` to ``edges[k + 1]``, numbered as in
the file, are ``words[starts[k]:]``, or lie in the file at byte ``offsets[k]``. A row may
begin in one segment and end in another. A file is known by its descriptor, and read by
the C library's own `pread`, so that a file cut short is a short read and not a signal.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from abc_dask.matrix.compiled import compiled

_pread = numba.types.ExternalFunction(
    "pread",
    numba.types.intp(numba.types.int32, numba.types.voidptr, numba.types.uintp, numba.types.int64),
)


@compiled
def find(
    words: Any,
    indptr: Any,
    wanted: Any,
    genes: Any,
    table: Any,
    marks: Any,
    search_cost: int,
    first_cell: int,
    n_cells: int,
    entries: Any,
    cells: Any,
) -> int:
    """Find the entries of some columns in CSR rows; see `abc_dask.matrix.kernels.find_hits`.

    Writes element number and slot * n_cells + cell of each hit, in storage order. Returns
    the number of hits, or -e - 1 for an index out of range at element e.
    """
    n_hits = 0
    for row in range(len(indptr) - 1):
        if wanted[row]:
            first, end = indptr[row], indptr[row + 1]
            cell = first_cell + row
            n_hits = _find_in_row(
                words[first:end],
                first,
                cell,
                genes,
                table,
                marks,
                search_cost,
                n_cells,
                n_hits,
                entries,
                cells,
            )
            if n_hits < 0:
                return n_hits
    return n_hits


@compiled
def find_in_file(
    descriptor: int,
    edges: Any,
    offsets: Any,
    buffer: Any,
    words: Any,
    indptr: Any,
    wanted: Any,
    genes: Any,
    table: Any,
    marks: Any,
    search_cost: int,
    first_cell: int,
    n_cells: int,
    entries: Any,
    cells: Any,
) -> tuple[int, int, int]:
    """Do as `find` with indices that lie in a file, some rows at a time.

    `words` is `buffer`, seen as indices: as small as a processor's cache, so that what
    is read is still in it when it is searched. It holds the longest row. Rows that are
    not wanted are not read. Returns the number of hits; and -1, or the element at which
    an index is out of range; and -1, or the element at which the file could not be read.
    """
    n_hits = row = 0
    n_rows = len(indptr) - 1
    while row < n_rows:
        if not wanted[row]:
            row += 1
            continue
        low, stop = indptr[row], row + 1
        while stop < n_rows and wanted[stop] and indptr[stop + 1] - low <= len(words):
            stop += 1
        unread = _read(descriptor, edges, offsets, words.itemsize, low, indptr[stop], buffer)
        if unread >= 0:
            return n_hits, -1, unread
        for one in range(row, stop):
            first, end = indptr[one], indptr[one + 1]
            found = _find_in_row(
                words[first - low : end - low],
                first,
                first_cell + one,
                genes,
                table,
                marks,
                search_cost,
                n_cells,
                n_hits,
                entries,
                cells,
            )
            if found < 0:
                return n_hits, -found - 1, -1
            n_hits = found
        row = stop
    return n_hits, -1, -1


@compiled
def _read(
    descriptor: int, edges: Any, offsets: Any, itemsize: int, low: int, high: int, buffer: Any
) -> int:
    """Read elements, those of neighbours in the file at once; return -1, or where it failed."""
    if low >= high:
        return -1
    k = np.searchsorted(edges, low, side="right") - 1
    at = 0
    while low < high:
        start = offsets[k] + (low - edges[k]) * itemsize
        end = min(high, edges[k + 1])
        while end < high and offsets[k + 1] == start + (end - low) * itemsize:
            k += 1
            end = min(high, edges[k + 1])
        k += 1
        if not _read_bytes(descriptor, start, (end - low) * itemsize, buffer[at:]):
            return low
        at += (end - low) * itemsize
        low = end
    return -1


@compiled
def _read_bytes(descriptor: int, start: int, size: int, buffer: Any) -> bool:
    """Read a stretch of a file; False where it ends before, or the disk fails."""
    done = 0
    while done < size:
        n = _pread(descriptor, buffer[done:].ctypes, size - done, start + done)
        if n <= 0:
            return False
        done += n
    return True


@compiled
def _find_in_row(
    part: Any,
    first: int,
    cell: int,
    genes: Any,
    table: Any,
    marks: Any,
    search_cost: int,
    n_cells: int,
    n_hits: int,
    entries: Any,
    cells: Any,
) -> int:
    """Find the entries of some columns in one row; as `find`."""
    before = n_hits
    if len(part) > 0 and _rises(part, len(table)):
        if len(genes) * search_cost < len(part):
            n_hits = _search(part, genes, table, n_hits, entries, cells)
        else:
            n_hits = _pick(part, table, marks, n_hits, entries, cells)
    else:
        n_hits = _scan(part, table, n_hits, entries, cells)
        if n_hits < 0:
            return n_hits - first
    for hit in range(before, n_hits):
        entries[hit] += first
        cells[hit] = cells[hit] * n_cells + cell
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
def _search(part: Any, genes: Any, table: Any, n_hits: int, entries: Any, cells: Any) -> int:
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
            entries[n_hits] = low
            cells[n_hits] = table[gene]
            n_hits += 1
    return n_hits


@compiled
def _pick(part: Any, table: Any, marks: Any, n_hits: int, entries: Any, cells: Any) -> int:
    """Look every index up, all of them known to be in range.

    Without a branch: each entry is written, and kept if the next one goes behind it.
    There is room, since there are never more hits than indices before. Bytes that tell
    whether a column is wanted fit a processor's first cache, slots do not.
    """
    before = n_hits
    for i in range(len(part)):
        entries[n_hits] = i
        n_hits += marks[np.uint64(part[i])]
    for hit in range(before, n_hits):
        cells[hit] = table[part[entries[hit]]]
    return n_hits


@compiled
def _scan(part: Any, table: Any, n_hits: int, entries: Any, cells: Any) -> int:
    """Look every index up; -i - 1 if index i is out of range."""
    for i in range(len(part)):
        column = part[i]
        if column < 0 or column >= len(table):
            return -i - 1
        if table[column] >= 0:
            entries[n_hits] = i
            cells[n_hits] = table[column]
            n_hits += 1
    return n_hits


@compiled
def gather(words: Any, edges: Any, starts: Any, entries: Any, out: Any) -> None:
    """Take elements by their numbers, which rise."""
    k = 0
    for i in range(len(entries)):
        while edges[k + 1] <= entries[i]:
            k += 1
        out[i] = words[starts[k] + entries[i] - edges[k]]


@compiled
def gather_from_file(
    descriptor: int,
    edges: Any,
    offsets: Any,
    itemsize: int,
    entries: Any,
    gap: int,
    buffer: Any,
    out: Any,
) -> int:
    """Take elements by their numbers, which rise, out of a file; -1, or the first not read.

    Those with less than `gap` bytes between them are read at once, into `buffer`.
    """
    i = k = 0
    while i < len(entries):
        while edges[k + 1] <= entries[i]:
            k += 1
        start = offsets[k] + (entries[i] - edges[k]) * itemsize
        end = start + itemsize
        stop, last = i + 1, k
        while stop < len(entries):
            while edges[last + 1] <= entries[stop]:
                last += 1
            at = offsets[last] + (entries[stop] - edges[last]) * itemsize
            if at < end or at - end > gap or at + itemsize - start > len(buffer):
                break
            end = at + itemsize
            stop += 1
        if not _read_bytes(descriptor, start, end - start, buffer):
            return int(entries[i])
        for one in range(i, stop):
            while edges[k + 1] <= entries[one]:
                k += 1
            at = offsets[k] + (entries[one] - edges[k]) * itemsize - start
            for byte in range(itemsize):
                out[one * itemsize + byte] = buffer[at + byte]
        i = stop
    return -1


@compiled
def add(out: Any, cells: Any, values: Any) -> None:
    """Add values one after the other, as `numpy.add.at` does."""
    for i in range(len(cells)):
        out[cells[i]] += values[i]
