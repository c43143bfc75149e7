"""A gene's values in order: keys that sort as floats do, brought together by group."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.analysis import order_loops as loops
from abc_dask.analysis.gene_values import GeneValues


def ordered_keys(gene: GeneValues) -> tuple[NDArray[Any], Any, NDArray[np.int32]]:
    """Sort a gene's values.

    Returns
    -------
    keys : array of uint32 or uint64, shape (n,)
        Rising; in the order of the values, equal where those are.
    zero : uint32 or uint64
        Key of 0.
    codes : array of int32, shape (n,)
        Group of each.
    """
    kind: Any = np.uint32 if gene.values.dtype.itemsize == 4 else np.uint64
    width = 8 * np.dtype(kind).itemsize
    zero = kind(1 << (width - 1))
    keys = gene.values.view(kind).copy()
    codes = gene.codes.copy()
    loops.float_keys(keys, zero)
    other_keys, other_codes = np.empty_like(keys), np.empty_like(codes)
    if loops.sort_keys(keys, codes, other_keys, other_codes, width):
        return other_keys, zero, other_codes
    return keys, zero, codes


def split(
    keys: NDArray[Any], codes: NDArray[np.int32], n_groups: int
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Bring sorted keys together by group; return them, and where each group begins."""
    by_group, starts = np.empty_like(keys), np.empty(n_groups + 1, np.int64)
    loops.split_keys(keys, codes, by_group, starts)
    return by_group, starts


def values_of_keys(keys: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the floats that keys were made of."""
    sign = keys.dtype.type(1 << (8 * keys.itemsize - 1))
    bits = np.where(keys & sign, keys ^ sign, ~keys)
    return bits.astype(keys.dtype).view(dtype)
