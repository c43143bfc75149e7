"""Compiled loops that turn rows into columns.

The values of a block of rows are held gene by gene until the block is complete, in as few
bytes as bounded memory asks for. All of them are unsigned integers here: counts, or the bits of
floats::

    bits    uint64 (words, genes, 2)  two bits a cell: bit c of word w is cell 64 w + c.
                                      0, 1 and 2 are values; 3: its page says which
    pages   (n_pages, PAGE)           those values of a gene, in the order of the cells:
    links   int32 (n_pages,)          its pages are a chain that starts at heads[gene]
    tails   int64 (genes,)            where its next value goes

Words of one group of 64 cells lie together, so that a row's genes are found in the processor's
cache. Elements of pages are bytes for counts: 254 and 255 say that two or four bytes follow.
Floats take their own bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from abc_dask.matrix.compiled import compiled, ones, trailing_zeros
from abc_dask.store.plane_loops import planes_of

# Values of a page; unsigned numbers are not looked at for being negative.
PAGE = 256
_PAGE = np.uint64(PAGE)

_TWO, _FOUR = 254, 255

# What `push` returns where no page is left.
FULL = -1


@compiled
def rises(indptr: Any, indices: Any) -> bool:
    """Tell whether columns rise in each row, each at most once."""
    for row in range(len(indptr) - 1):
        columns = indices[indptr[row] : indptr[row + 1]]
        before, behind = columns[:-1], columns[1:]
        wrong = np.uint32(0)
        for at in range(len(behind)):
            wrong |= np.uint32(behind[at] <= before[at])
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
def _push_large(item: Any, gene: int, pages: Any, links: Any, tails: Any, state: Any) -> bool:
    """Append a count that does not fit a byte to a gene's chain; False where no page is left."""
    at = tails[gene]
    extra = 2 if item < 65536 else 4
    pages[at] = _TWO if extra == 2 else _FOUR
    for k in range(extra + 1):
        at += 1
        if at % PAGE == 0:
            at = _grow(at, links, state)
            if at < 0:
                return False
        if k < extra:
            pages[at] = (item >> (8 * k)) & 255
    tails[gene] = at
    return True


@compiled
def push(
    indptr: Any,
    indices: Any,
    items: Any,
    cells: Any,
    slots: Any,
    low: int,
    bits: Any,
    pages: Any,
    links: Any,
    tails: Any,
    state: Any,
) -> int:
    """Append the values of some rows to their genes.

    Parameters
    ----------
    indptr, indices, items : arrays
        CSR rows, whose columns are in range and rise; items are unsigned integers.
    cells : array of int64
        Cell of each row in the block; -1 where it is left out.
    slots : array of int32
        Gene of each column; -1 where it is left out.
    low : int
        First gene that is held.
    bits, pages, links, tails, state : arrays
        As above; `state[0]` is the next page.

    Returns
    -------
    int
        0; or `FULL`.
    """
    in_bytes = pages.itemsize == 1
    n_held, lowest = np.uint32(bits.shape[1]), np.uint32(low)
    # what goes to the pages of a row: two loops, so that the first one has no branch to guess
    genes, large = np.empty(len(slots), np.uint32), np.empty(len(slots), items.dtype)
    for row in range(len(indptr) - 1):
        cell = cells[row]
        if cell < 0:
            continue
        bit, here = np.uint64(1) << np.uint64(cell & 63), bits[cell >> 6]
        columns = indices[indptr[row] : indptr[row + 1]]
        values = items[indptr[row] : indptr[row + 1]]
        n_large = np.uint64(0)
        for at in range(len(columns)):
            item = values[at]
            # a gene below the lowest one, or none, is beyond the last as an unsigned number
            gene = np.uint32(np.uint32(slots[np.uint32(columns[at])]) - lowest)
            if item == 0 or gene >= n_held:
                continue
            here[gene, 0] |= bit if item != 2 else np.uint64(0)
            here[gene, 1] |= bit if item != 1 else np.uint64(0)
            genes[n_large] = gene
            large[n_large] = item
            n_large += np.uint64(item > 2)
        for at in range(np.int64(n_large)):
            gene, item = genes[at], large[at]
            if in_bytes and item >= _TWO:
                if not _push_large(item, gene, pages, links, tails, state):
                    return FULL
                continue
            tail = tails[gene]
            pages[tail] = item
            tail += 1
            if tail % PAGE == 0:
                tail = _grow(tail, links, state)
                if tail < 0:
                    return FULL
            tails[gene] = tail
    return 0


@compiled
def take(first: int, bits: Any, heads: Any, pages: Any, links: Any, out: Any) -> Any:
    """Write the columns of genes `first` and after over what `out` holds, shape (genes, cells).

    Returns
    -------
    int
        The largest value; those too large for the type of `out` are left out.
    """
    most, largest, one = np.uint64(np.iinfo(out.dtype).max), np.uint64(0), np.uint64(1)
    for k in range(len(out)):
        at, column, of_gene = np.uint64(heads[first + k]) * _PAGE, out[k], bits[:, first + k]
        for w in range(len(bits)):
            low, high = of_gene[w, 0], of_gene[w, 1]
            left = low | high
            while left:
                c = trailing_zeros(left)
                left &= left - one
                item = (low >> c & one) | (high >> c & one) << one
                if item == 3:
                    item, at = _next(at, pages, links)
                largest = max(largest, item)
                if item <= most:
                    column[np.uint64(w << 6) + c] = item
    return largest


@compiled
def take_planes(
    first: int, bits: Any, heads: Any, pages: Any, links: Any, planes: Any, used: Any, present: Any
) -> Any:
    """Write the bit planes of counts of genes `first` and after.

    Parameters
    ----------
    first : int
    bits, heads, pages, links : arrays
    planes : array of uint64, shape (genes, bits of a value, words)
        Receives a bit of each cell, the lowest first.
    used : array of int64, shape (genes,)
        Receives how many planes were written: those behind are zero, and left as they were.
    present : array of int64, shape (genes,)
        Receives how many cells have a count.

    Returns
    -------
    int
        The largest count; of those with more bits the upper ones are left out.
    """
    n_planes, n_words = planes.shape[1:]
    largest, one = np.uint64(0), np.uint64(1)
    for k in range(len(planes)):
        at, here, of_gene = np.uint64(heads[first + k]) * _PAGE, planes[k], bits[:, first + k]
        here[2:8] = 0
        n, all_bits, n_clean = np.uint64(0), np.uint64(0), 8
        for w in range(n_words):
            p0, p1 = of_gene[w, 0], of_gene[w, 1]
            n += ones(p0 | p1)
            left = p0 & p1
            p0 ^= left
            p1 ^= left
            all_bits |= np.uint64(p0 != 0) | np.uint64(p1 != 0) << one
            if left == 0:
                here[0, w] = p0
                here[1, w] = p1
                continue
            # eight planes in the processor's registers: most counts fit a byte
            p2 = p3 = p4 = p5 = p6 = p7 = np.uint64(0)
            while left:
                c = trailing_zeros(left)
                left &= left - one
                item, at = _next(at, pages, links)
                largest = max(largest, item)
                all_bits |= item
                p0 |= (item & one) << c
                p1 |= (item >> np.uint64(1) & one) << c
                p2 |= (item >> np.uint64(2) & one) << c
                p3 |= (item >> np.uint64(3) & one) << c
                p4 |= (item >> np.uint64(4) & one) << c
                p5 |= (item >> np.uint64(5) & one) << c
                p6 |= (item >> np.uint64(6) & one) << c
                p7 |= (item >> np.uint64(7) & one) << c
                if item > 255:
                    n_needed = planes_of(item, n_planes)
                    here[n_clean:n_needed] = 0
                    n_clean = max(n_clean, n_needed)
                    for b in range(8, n_needed):
                        here[b, w] |= (item >> np.uint64(b) & one) << c
            here[0, w] = p0
            here[1, w] = p1
            here[2, w] = p2
            here[3, w] = p3
            here[4, w] = p4
            here[5, w] = p5
            here[6, w] = p6
            here[7, w] = p7
        used[k] = planes_of(all_bits, n_planes)
        present[k] = n
    return largest


@compiled
def _next(at: Any, pages: Any, links: Any) -> Any:
    """Return the next value of a chain, and where the one behind it is."""
    item = np.uint64(pages[at])
    at = _after(at, links)
    if pages.itemsize == 1 and item >= _TWO:
        extra = 2 if item == _TWO else 4
        item = np.uint64(0)
        for b in range(extra):
            item |= np.uint64(pages[at]) << np.uint64(8 * b)
            at = _after(at, links)
    return item, at


@compiled
def _after(at: Any, links: Any) -> Any:
    at += np.uint64(1)
    return at if at % _PAGE else np.uint64(links[at // _PAGE - np.uint64(1)]) * _PAGE
