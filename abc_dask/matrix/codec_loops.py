"""Compiled loops of the codecs."""

from __future__ import annotations

from typing import Any

import numpy as np

from abc_dask.matrix.compiled import compiled


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
def heap_is_sound(heap: Any) -> bool:
    """Tell whether the objects of one of HDF5's global heap collections lie one behind the other.

    Behind 16 bytes of its own each object has a number (2 bytes), 6 bytes, a size (8 bytes), and
    its content, up to the next multiple of 8. Number 0 is free space, its size from its start.
    """
    at = 16
    while at + 16 <= len(heap):
        size: Any = np.int64(0)
        for i in range(8):
            size |= np.int64(heap[at + 8 + i]) << (8 * i)
        is_free = heap[at] == 0 and heap[at + 1] == 0
        rest = len(heap) - at
        if size < 0 or size > rest:
            return False
        step = size if is_free else 16 + (size + 7) // 8 * 8
        if step == 0 or step > rest:
            return False
        at += step
    return True


@compiled
def unlzf(source: Any, out: Any) -> int:
    """Unpack LZF (liblzf's format); return the bytes written, -1 where the bytes make no sense.

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
