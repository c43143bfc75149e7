"""Compiled loops of reading."""

from __future__ import annotations

from typing import Any

from abc_dask.matrix.compiled import compiled


@compiled
def split_texts(source: Any, offsets: Any, texts: Any) -> bool:
    """Split texts, each behind its length, into Arrow's offsets and characters.

    Parameters
    ----------
    source : array of uint8
        From the count of texts on.
    offsets : array of int32, shape (n + 1,)
    texts : array of uint8
        At least as long as `source`.

    Returns
    -------
    bool
        False if a length leads out of the array.
    """
    at, out = 4, 0
    offsets[0] = 0
    for k in range(len(offsets) - 1):
        if at + 4 > len(source):
            return False
        length = 0
        for b in range(4):
            length |= int(source[at + b]) << (8 * b)
        at += 4
        if length > len(source) - at:
            return False
        for _ in range(length):
            texts[out] = source[at]
            at += 1
            out += 1
        offsets[k + 1] = out
    return True
