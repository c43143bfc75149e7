"""Compiled loops that turn rows into columns.

The values of a block of rows are held gene by gene until the block is complete, in as few
bytes as bounded memory asks for::

    bits    uint64 (words, genes)   which cells have a value: bit c of word w is cell 64 w + c
    pages   (n_pages, PAGE)         the values of a gene, in the order of the cells:
    links   int32 (n_pages,)        its pages are a chain that starts at heads[gene]
    tails   int64 (genes,)          where its next value goes

Words of one group of 64 cells lie together, so that a row's genes are found in the processor's
cache. A count takes a byte; 254 and 255 say that two or four bytes follow. What are no counts
take their own bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from abc_dask.matrix.compiled import compiled
from abc_dask.store.counts_loops import TABLE, UNCLEAR, count_of, fill_table, find_total

# Values of a page.
PAGE = 256

_TWO, _FOUR = 254, 255

# Values of a cell on which its total is tried before all are taken.
_PROBES = 64

_FEW_VALUES, _ALL_VALUES = False, True

# What the loops return in place of a number of values.
FULL, OUT_OF_RANGE, REPEATED, NO_COUNT = -1, -2, -3, -4


@compiled
def rises(indptr: Any, indices: Any) -> bool:
    """Tell whether columns rise in each row, each at most once."""
    for row in range(len(indptr) - 1):
        wrong = 0
        for at in range(indptr[row] + 1, indptr[row + 1]):
            wrong += indices[at] <= indices[at - 1]
        if wrong:
            return False
    return True


@compiled
def reset(bits: Any, heads: Any, tails: Any) -> None:
    """Make room for a block: every gene's chain is its first page."""
    bits[:] = 0
    for gene in range(len(heads)):
        heads[gene] = gene
        tails[gene] = gene * PAGE


@compiled
def _grow(at: Any, links: Any, state: Any) -> Any:
    """Return where a chain goes on whose page ends before `at`; -1 where no page is left."""
    page = state[0]
    if page >= len(links):
        return -1
    state[0] = page + 1
    links[(at - 1) // PAGE] = page
    return page * PAGE


@compiled
def _push_large(count: Any, gene: int, pages: Any, links: Any, tails: Any, state: Any) -> bool:
    """Append a count that does not fit a byte to a gene's chain; False where no page is left."""
    at = tails[gene]
    extra = 2 if count < 65536 else 4
    pages[at] = _TWO if extra == 2 else _FOUR
    for k in range(extra + 1):
        at += 1
        if at % PAGE == 0:
            at = _grow(at, links, state)
            if at < 0:
                return False
        if k < extra:
            pages[at] = (count >> (8 * k)) & 255
    tails[gene] = at
    return True


@compiled
def _total_of(data: Any, first: int, last: int) -> int:
    """Return a cell's total: found from a few values, and tried on some more."""
    total = find_total(data, first, last, _FEW_VALUES)
    n, hits = 0, 0
    if total:
        for at in range(first, last, max(1, (last - first) // _PROBES)):
            if data[at] != 0:
                n += 1
                hits += count_of(data[at], total) != 0
    if total and 16 * hits >= 15 * n:
        return total
    return find_total(data, first, last, _ALL_VALUES)


@compiled
def _near_count(value: float, scale: float) -> Any:
    """Return the count nearest to a value, if it is small.

    ``2**value`` comes from a polynomial to a part in ten thousand.
    """
    whole = int(value)
    rest = np.float32(value - whole)
    power = np.float32(
        np.float32(1)
        + rest
        * (np.float32(0.69583356) + rest * (np.float32(0.22606716) + rest * np.float32(0.07809928)))
    ) * np.float32(1 << whole)
    return int((power - np.float32(1)) * np.float32(scale) + np.float32(0.5))


@compiled
def push_log2(
    indptr: Any,
    indices: Any,
    data: Any,
    cells: Any,
    slots: Any,
    low: int,
    high: int,
    bits: Any,
    pages: Any,
    links: Any,
    tails: Any,
    state: Any,
    totals: Any,
    fits: Any,
    patches: Any,
    values: Any,
) -> Any:
    """Recover the counts of some rows of log2 values and append them to their genes.

    Parameters
    ----------
    indptr, indices, data : arrays
        CSR rows.
    cells : array of int64
        Cell of each row in the block; -1 where it is left out.
    slots : array of int32
        Gene of each column; -1 where it is left out.
    low, high : int
        Genes that are held.
    bits, pages, links, tails, state : arrays
        As above; `state` is next page, number of patches.
    totals : array of uint32
        Total of each cell: found here where `fits` is negative, taken as it is elsewhere.
    fits : array of int32, shape (cells, 3)
        Values of each cell, those with a count in the table, and those of which two counts
        have the same value.
    patches : array of int64, shape (n_values, 3)
        Receives gene, cell, and what `count_of` says of it.
    values : array, shape (n_values,)
        Receives their values.

    Returns
    -------
    int
        Number of patches; or what went wrong.
    """
    table = np.empty(TABLE, data.dtype)
    for row in range(len(indptr) - 1):
        cell = cells[row]
        if cell < 0:
            continue
        first, last = indptr[row], indptr[row + 1]
        known = fits[cell, 0] >= 0
        if not known:
            totals[cell] = _total_of(data, first, last)
        total = totals[cell]
        if total:
            fill_table(total, table)
        word, bit = cell >> 6, np.uint64(1) << np.uint64(cell & 63)
        scale = total / 1e6
        n, hits, unclear = 0, 0, 0
        for at in range(first, last):
            column = indices[at]
            if column < 0 or column >= len(slots):
                return OUT_OF_RANGE
            gene, value = slots[column], data[at]
            is_held = low <= gene < high
            if gene < 0 or (known and not is_held) or (value == 0 and not np.signbit(value)):
                continue
            n += 1
            count = 0
            if value > 0 and value < 32 and total:
                near = _near_count(value, scale)
                is_small = near < TABLE and table[near] == value
                count = near if is_small else count_of(value, total)
            hits += 0 < count < TABLE
            unclear += count == UNCLEAR
            if is_held and count > 0:
                bits[word, gene - low] |= bit
                if count < _TWO:
                    tail = tails[gene - low]
                    pages[tail] = count
                    tail += 1
                    if tail % PAGE == 0:
                        tail = _grow(tail, links, state)
                    tails[gene - low] = tail
                    if tail < 0:
                        return FULL
                elif not _push_large(count, gene - low, pages, links, tails, state):
                    return FULL
            elif is_held:
                patches[state[1], 0] = gene
                patches[state[1], 1] = cell
                patches[state[1], 2] = count
                values[state[1]] = value
                state[1] += 1
        if not known:
            fits[cell, 0], fits[cell, 1], fits[cell, 2] = n, hits, unclear
    return state[1]


@compiled
def push_counts(
    indptr: Any,
    indices: Any,
    data: Any,
    cells: Any,
    slots: Any,
    low: int,
    high: int,
    bits: Any,
    pages: Any,
    links: Any,
    tails: Any,
    state: Any,
    totals: Any,
) -> int:
    """Append counts of some rows to their genes; sum all of a row's up, whatever their genes.

    Parameters are those of `push_log2`. `state[2]` is the row of what is no count.
    """
    n_columns = len(slots)
    for row in range(len(indptr) - 1):
        cell = cells[row]
        if cell < 0:
            continue
        word, bit = cell >> 6, np.uint64(1) << np.uint64(cell & 63)
        total = np.int64(0)
        for at in range(indptr[row], indptr[row + 1]):
            column = indices[at]
            if column < 0 or column >= n_columns:
                return OUT_OF_RANGE
            value = data[at]
            if not (value >= 0 and value <= 4294967295.0):
                state[2] = row
                state[3] = at
                return NO_COUNT
            count = np.int64(value)
            if count != value:
                state[2] = row
                state[3] = at
                return NO_COUNT
            total += count
            gene = slots[column]
            if count == 0 or gene < low or gene >= high:
                continue
            bits[word, gene - low] |= bit
            if count < _TWO:
                tail = tails[gene - low]
                pages[tail] = count
                tail += 1
                if tail % PAGE == 0:
                    tail = _grow(tail, links, state)
                tails[gene - low] = tail
                if tail < 0:
                    return FULL
            elif not _push_large(count, gene - low, pages, links, tails, state):
                return FULL
        totals[cell] = min(total, np.int64(4294967295))
    return 0


@compiled
def push_floats(
    indptr: Any,
    indices: Any,
    data: Any,
    cells: Any,
    slots: Any,
    low: int,
    high: int,
    bits: Any,
    pages: Any,
    links: Any,
    tails: Any,
    state: Any,
) -> int:
    """Append values of some rows to their genes, by their bits: `data` is unsigned integers."""
    n_columns = len(slots)
    for row in range(len(indptr) - 1):
        cell = cells[row]
        if cell < 0:
            continue
        word, bit = cell >> 6, np.uint64(1) << np.uint64(cell & 63)
        for at in range(indptr[row], indptr[row + 1]):
            column = indices[at]
            if column < 0 or column >= n_columns:
                return OUT_OF_RANGE
            gene = slots[column]
            if data[at] == 0 or gene < low or gene >= high:
                continue
            bits[word, gene - low] |= bit
            tail = tails[gene - low]
            pages[tail] = data[at]
            tail += 1
            if tail % PAGE == 0:
                tail = _grow(tail, links, state)
            if tail < 0:
                return FULL
            tails[gene - low] = tail
    return 0


@compiled
def take_counts(first: int, bits: Any, heads: Any, pages: Any, links: Any, out: Any) -> Any:
    """Write the columns of genes `first` and after, shape (genes, cells); return the largest count.

    Counts too large for the type of `out` are written as 0.
    """
    most = np.int64(np.iinfo(out.dtype).max)
    largest = np.int64(0)
    out[:] = 0
    for k in range(len(out)):
        at = heads[first + k] * PAGE
        for w in range(len(bits)):
            word = bits[w, first + k]
            base = w << 6
            while word:
                lowest = word & (~word + np.uint64(1))
                c = _trailing(lowest)
                word ^= lowest
                count = np.int64(pages[at])
                at = _after(at, links)
                if count >= _TWO:
                    extra = 2 if count == _TWO else 4
                    count = np.int64(0)
                    for b in range(extra):
                        count |= np.int64(pages[at]) << (8 * b)
                        at = _after(at, links)
                largest = max(largest, count)
                if count <= most:
                    out[k, base + c] = count
    return largest


@compiled
def take_floats(first: int, bits: Any, heads: Any, pages: Any, links: Any, out: Any) -> None:
    """Write the columns of genes `first` and after over what `out` holds, by their bits."""
    for k in range(len(out)):
        at = heads[first + k] * PAGE
        for w in range(len(bits)):
            word = bits[w, first + k]
            base = w << 6
            while word:
                lowest = word & (~word + np.uint64(1))
                c = _trailing(lowest)
                word ^= lowest
                out[k, base + c] = pages[at]
                at = _after(at, links)


@compiled
def _after(at: int, links: Any) -> Any:
    return at + 1 if (at + 1) % PAGE else links[at // PAGE] * PAGE


@compiled
def _trailing(lowest: int) -> Any:
    """Return the number of the only bit that is set."""
    # the exponent of a float64, which holds any power of two
    return (np.float64(lowest).view(np.int64) >> 52) - 1023
