"""How much a chunk becomes where HDF5 decodes it: bounded before HDF5 sees it.

HDF5's own filters, and those of hdf5plugin, make room for whatever a chunk says or holds. What it
should hold is known by the shape of the dataset's chunks.
"""

from __future__ import annotations

import bz2
import zlib
from collections.abc import Sequence

import numpy as np

from abc_dask.matrix.codecs import (
    BLOSC,
    DEFLATE,
    FLETCHER32,
    LZF,
    SHUFFLE,
    ZSTD,
    Bytes,
    Filter,
    decode,
    zstd_length,
)

# https://github.com/HDFGroup/hdf5_plugins/blob/master/docs/RegisteredFilterPlugins.md
SZIP, NBIT, SCALEOFFSET, BZIP2, LZ4, BITSHUFFLE = 4, 5, 6, 307, 32_004, 32_008

# Bytes of headers and checksums by which a packed chunk may be longer than a decoded one.
_OVERHEAD = 1 << 12

# Three bytes of LZF stand for at most 264.
_LZF_RATIO = 88

# What may come of a chunk without a look at it.
HARMLESS = 1 << 27

# Where a chunk says how much it becomes: first byte, last byte, order.
_CLAIMS = {
    SZIP: (0, 4, "little"),
    LZ4: (0, 8, "big"),
    BITSHUFFLE: (0, 8, "big"),
    BLOSC: (4, 8, "little"),
}

# Filters that leave the length as it is, or nearly so.
KEEP = {SHUFFLE, FLETCHER32}


def most_bytes(length: int) -> int:
    """Return how long any step from a chunk of so many bytes to its packed form may be."""
    return length + length // 8 + _OVERHEAD


def require_bounded(raw: Bytes, filters: Sequence[Filter], mask: int, length: int) -> None:
    """Undo filters that only HDF5 can undo all of, as far as they are known here.

    Parameters
    ----------
    raw : array of uint8
        A chunk as it is stored.
    filters : sequence of (code, values)
        In the order in which they were applied.
    mask : int
        Bit i is set where filter i was left out.
    length : int
        Bytes that it should hold.

    Raises
    ------
    ValueError
        If one of the steps gives more than `most_bytes`, or that cannot be known.
    """
    most = most_bytes(length)
    applied = [one for i, one in enumerate(filters) if not mask >> i & 1]
    for n_left, (code, values) in zip(range(len(applied) - 1, -1, -1), applied[::-1], strict=True):
        found = _undone(raw, code, values, most)
        if found is not None:
            raw = found
        elif all(one in KEEP for one, _ in applied[:n_left]):
            return
        else:
            raise ValueError("it is packed twice, in a way that cannot be looked into")


def _undone(raw: Bytes, code: int, values: tuple[int, ...], most: int) -> Bytes | None:
    """Return what a filter was given; None where only HDF5 can tell."""
    if code == DEFLATE:
        return _inflated(zlib.decompressobj(), raw, most)
    if code == BZIP2:
        return _inflated(bz2.BZ2Decompressor(), raw, most)
    if code == FLETCHER32:
        return raw[:-4]
    if code == SHUFFLE:
        whole = values and values[0] > 0
        return decode(raw, [(code, values)], 0, len(raw)) if whole else raw
    if code in {NBIT, SCALEOFFSET} and len(values) > 4:  # number and size of elements
        _require(values[2] * values[4], most)
    elif code in _CLAIMS:
        start, stop, order = _CLAIMS[code]
        if len(raw) < stop:
            raise ValueError(f"it is too short for filter {code}")
        _require(int.from_bytes(raw[start:stop].tobytes(), order), most)  # type: ignore[arg-type]
    elif code == LZF:
        _require(len(raw) * _LZF_RATIO, max(most, HARMLESS))
    elif code == ZSTD:
        _require(zstd_length(raw[:18].tobytes()) or 0, most)
    return None


def _inflated(stream: zlib._Decompress | bz2.BZ2Decompressor, raw: Bytes, most: int) -> Bytes:
    try:
        content = stream.decompress(raw.tobytes(), most + 1)
    except (zlib.error, OSError, EOFError):
        raise ValueError("it cannot be unpacked") from None
    _require(len(content), most)
    return np.frombuffer(content, np.uint8)


def _require(length: int, most: int) -> None:
    if length > most:
        raise ValueError(f"it inflates to more than {most:,} bytes")
