"""Compiled loops over bit planes: of each value its lowest bit, then of each the next one.

They are what Blosc's bit shuffle makes of a block, and what is compared when genes are read back.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from abc_dask.matrix.compiled import bits_of, compiled

# Words of a plane that are made at a time: their values lie in the processor's nearest cache.
_TILE = 16


@compiled
def to_planes(values: Any, planes: Any) -> None:
    """Write the bit planes of some values.

    Parameters
    ----------
    values : array of unsigned integers, shape (n_words * 64,)
        Contiguous.
    planes : array of uint64, shape (bits of a value, n_words)
    """
    n_words = planes.shape[1]
    used = np.uint64(0)
    for at in range(n_words * 64):
        used |= np.uint64(values[at])
    n_used = 0
    while n_used < len(planes) and used >> np.uint64(n_used):
        n_used += 1
    planes[n_used:] = 0
    for first in range(0, n_words, _TILE):
        for bit in range(n_used):
            plane = planes[bit]
            for w in range(first, min(first + _TILE, n_words)):
                plane[w] = bits_of(values, w << 6, bit)


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
        to_planes(own, here.reshape((n_planes, n_words)))
        sums[number] = weigh(here)


@compiled
def weigh_rows(words: Any, out: Any) -> None:
    """Write `weigh` of each row."""
    for k in range(len(out)):
        out[k] = weigh(words[k])


@compiled
def weigh(words: Any) -> Any:
    """Return a sum that tells words from others, and from the same ones moved or exchanged.

    Parameters
    ----------
    words : array of uint64, shape (n,)
    """
    total = np.uint64(0)
    for i in range(len(words)):
        mixed = (words[i] + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        total += (mixed ^ (mixed >> np.uint64(29))) * np.uint64(2 * i + 1)
    return total


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
