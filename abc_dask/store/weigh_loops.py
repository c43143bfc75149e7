"""Compiled loops over whole columns: what is compared when genes are read back."""

from __future__ import annotations

from typing import Any

import numpy as np

from abc_dask.matrix.compiled import compiled


@compiled
def count_cells(columns: Any, out: Any) -> None:
    """Count the values of each column that are not zero."""
    for k in range(len(columns)):
        n = 0
        for i in range(columns.shape[1]):
            n += columns[k, i] != 0
        out[k] = n


@compiled
def weigh_rows(words: Any, out: Any) -> None:
    """Write `weigh` of each row."""
    for k in range(len(out)):
        out[k] = weigh(words[k])


@compiled
def weigh(words: Any) -> Any:
    """Return a sum that tells a column from one of other, moved or exchanged values.

    Parameters
    ----------
    words : array of uint32 or uint64, shape (n,)
    """
    total = np.uint64(0)
    for i in range(len(words)):
        mixed = (np.uint64(words[i]) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        total += (mixed ^ (mixed >> np.uint64(29))) * np.uint64(2 * i + 1)
    return total


@compiled
def positive_zeros(data: Any) -> None:
    """Make -0.0 to 0.0, as adding to nothing does."""
    for i in range(len(data)):
        if data[i] == 0:
            data[i] = 0
