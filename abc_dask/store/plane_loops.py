"""Compiled loops over bit planes: of each value its lowest bit, then of each the next one.

They are what Blosc's bit shuffle makes of a block, and what is compared when genes are read back.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from abc_dask.matrix.compiled import add_bits, bits_of, compiled, ones, trailing_zeros

# Elements of an array of cells that `write_cells` writes behind the last one.
MORE = 4

# Words of a plane that are made at a time: their values lie in the processor's nearest cache.
_TILE = 16


@compiled
def to_planes(values: Any, planes: Any) -> int:
    """Write the bit planes of some values, up to the highest bit that one of them has.

    Parameters
    ----------
    values : array of unsigned integers, shape (n_words * 64,)
        Contiguous.
    planes : array of uint64, shape (bits of a value, n_words)

    Returns
    -------
    int
        Planes that were written, one at least; those behind are zero, and left as they were.
    """
    n_words = planes.shape[1]
    used = np.uint64(0)
    for at in range(n_words * 64):
        used |= np.uint64(values[at])
    n_used = planes_of(used, len(planes))
    for first in range(0, n_words, _TILE):
        for bit in range(n_used):
            plane = planes[bit]
            for w in range(first, min(first + _TILE, n_words)):
                plane[w] = bits_of(values, w << 6, bit)
    return n_used


@compiled
def planes_of(bits: Any, most: int) -> int:
    """Return how many planes hold values whose bits these are together; one at least."""
    n = 1
    while n < most and bits >> np.uint64(n):
        n += 1
    return n


@compiled
def weigh_column(values: Any, block: int, planes: Any, sums: Any) -> None:
    """Write `weigh` of the bit planes of each block of a column.

    Parameters
    ----------
    values : array of unsigned integers, shape (n,)
        Contiguous; n is a multiple of 64.
    block : int
        Values of a block; the last one may be shorter.
    planes : array of uint64, shape (n_planes * block / 64,)
        Memory for one block.
    sums : array of uint64, shape (n_blocks,)
    """
    n_planes = len(planes) * 64 // block
    for number in range(len(sums)):
        own = values[number * block : (number + 1) * block]
        n_words = len(own) // 64
        here = planes[: n_planes * n_words]
        n_used = to_planes(own, here.reshape((n_planes, n_words)))
        sums[number] = weigh(here, n_used * n_words)


@compiled
def weigh_rows(planes: Any, used: Any, out: Any) -> None:
    """Write `weigh` of the planes of each gene, of which the first `used` are not zero."""
    n_words = planes.shape[2]
    for k in range(len(out)):
        out[k] = weigh(planes[k].reshape(-1), used[k] * n_words)


@compiled
def weigh(words: Any, n_used: int) -> Any:
    """Return a sum that tells words from others, and from the same ones moved or exchanged.

    Parameters
    ----------
    words : array of uint64, shape (n,)
    n_used : int
        Words that are looked at; those behind are taken to be zero.
    """
    total, first, n = np.uint64(0), np.uint64(n_used), np.uint64(len(words))
    for i in range(n_used):
        total += mix(words[i]) * np.uint64(2 * i + 1)
    return total + mix(np.uint64(0)) * (n * n - first * first)  # the odd numbers from first to n


@compiled
def mix(word: Any) -> Any:
    """Return a word whose bits depend on all lower ones of another."""
    mixed = (word + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    return mixed ^ (mixed >> np.uint64(29))


@compiled
def count_cells(columns: Any, out: Any) -> None:
    """Count the values of each column that are not zero."""
    for k in range(len(columns)):
        n = 0
        for i in range(columns.shape[1]):
            n += columns[k, i] != 0
        out[k] = n


@compiled
def positive_zeros(data: Any) -> None:
    """Make -0.0 to 0.0, as adding to nothing does."""
    for i in range(len(data)):
        if data[i] == 0:
            data[i] = 0


@compiled
def find_live(planes: Any, live: Any) -> Any:
    """Write the numbers of the planes with a bit set; return how many are below 8, and all."""
    n_low = n_live = 0
    for p in range(len(planes)):
        seen = np.uint64(0)
        for w in range(planes.shape[1]):
            seen |= planes[p, w]
        live[n_live] = p
        n_live += seen != 0
        n_low += (seen != 0) & (p < 8)
    return n_low, n_live


@compiled
def write_cells(mask: Any, first: Any, cells: Any, n: Any) -> Any:
    """Write the cells of a word from position n on; return the position behind them.

    They are written four at a time, whether there are as many or not, since a branch a bit would
    be mispredicted.
    """
    stop = n + np.uint64(ones(mask))
    while mask != 0:
        for _ in range(MORE):
            cells[n] = first + np.uint64(trailing_zeros(mask))
            mask &= mask - np.uint64(1)
            n += np.uint64(1)
    return stop


@compiled
def write_bytes(planes: Any, live: Any, n_low: int, word: Any, lowest: Any) -> None:
    """Write the lowest bytes of the 64 values of a word.

    Parameters
    ----------
    planes : array of uint64, shape (n_planes, n_words)
    live, n_low
        Of `find_live`.
    word : int
    lowest : array of uint8, shape (n_words * 64,)
    """
    first = word << 6
    lowest[first : first + 64] = 0
    for k in range(n_low):
        add_bits(lowest, first, planes[live[k], word], np.int64(live[k]))


@compiled
def take_values(planes: Any, high: Any, lowest: Any, cells: Any, first: Any, values: Any) -> None:
    """Write the values of some cells.

    Parameters
    ----------
    planes : array of uint64, shape (n_planes, n_words)
    high : array of uint64
        Planes from the eighth on that have a bit set.
    lowest : array of uint8
        Of `write_bytes`, for the words of these cells.
    cells : array, shape (n,)
    first : int
        Cell of the first value.
    values : array of unsigned integers, shape (n,)
    """
    for i in range(len(cells)):
        values[i] = lowest[np.uint64(cells[i]) - np.uint64(first)]
    for plane in high:
        for i in range(len(cells)):
            at = np.uint64(cells[i]) - np.uint64(first)
            word = planes[plane, at >> np.uint64(6)]
            bit = (word >> (at & np.uint64(63))) & np.uint64(1)
            values[i] |= values.dtype.type(bit << plane)
