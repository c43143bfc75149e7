"""From the stored bytes of a chunk to its values: HDF5's filters, undone without HDF5's lock.

Whatever is not here is read through h5py, with the same answer. Deflate is libdeflate's
(package deflate): measured on chunks of 20,000 values at gzip level 4 it takes half of
zlib's time and no more than ISA-L's, never writes more than it is told to, and holds no GIL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

# A filter's number in HDF5's registry, and the values that it was set up with.
Filter = tuple[int, tuple[int, ...]]

# https://github.com/HDFGroup/hdf5_plugins/blob/master/docs/RegisteredFilterPlugins.md
DEFLATE, SHUFFLE, FLETCHER32, LZF, BLOSC, ZSTD = 1, 2, 3, 32_000, 32_001, 32_015


def can_decode(filters: Sequence[Filter]) -> bool:
    """Tell whether chunks behind these filters can be decoded here.

    Two compressors in a row are left to HDF5: the length between them is stored nowhere.
    """
    codes = [code for code, _ in filters]
    known = set(codes) <= {SHUFFLE, FLETCHER32, *_UNPACK}
    shuffles = all(values and values[0] > 0 for code, values in filters if code == SHUFFLE)
    return known and shuffles and sum(code in _UNPACK for code in codes) <= 1


def decode(raw: Bytes, filters: Sequence[Filter], mask: int, n_bytes: int) -> Bytes:
    """Decode one chunk.

    Parameters
    ----------
    raw : array of uint8
        As stored.
    filters : sequence of (code, values)
        In the order in which they were applied.
    mask : int
        Bit i is set where filter i was left out (HDF5 does so where it would not pay).
    n_bytes : int
        Length of the decoded chunk.

    Returns
    -------
    array of uint8, shape (n_bytes,)

    Raises
    ------
    ValueError
        If the bytes make no sense, or decode to another length.
    """
    applied = [one for i, one in enumerate(filters) if not mask >> i & 1]
    # what each filter was given: a checksum makes four bytes more
    lengths = [n_bytes]
    for code, _ in applied:
        lengths.append(lengths[-1] + (4 if code == FLETCHER32 else 0))
    for (code, values), length in zip(applied[::-1], lengths[-2::-1], strict=True):
        if code == SHUFFLE:
            raw = _unshuffle(raw, values[0])
        elif code == FLETCHER32:
            raw = _verified(raw)
        else:
            raw = _UNPACK[code](raw, length)
    if len(raw) != n_bytes:
        raise ValueError(f"it holds {len(raw):,} bytes of {n_bytes:,}")
    return raw


def _unshuffle(raw: Bytes, itemsize: int) -> Bytes:
    from abc_dask.matrix.codec_loops import unshuffle

    out = np.empty_like(raw)
    unshuffle(raw, itemsize, out)
    return out


def _verified(raw: Bytes) -> Bytes:
    from numcodecs.fletcher32 import Fletcher32

    content = raw[:-4]
    if not len(content):
        raise ValueError("its checksum does not fit")
    one, two, three, four = Fletcher32().encode(content)[-4:]
    # HDF5 before 1.6.3 swapped the bytes of each half on some machines, and accepts both
    if raw[-4:].tobytes() not in {bytes((one, two, three, four)), bytes((two, one, four, three))}:
        raise ValueError("its checksum does not fit")
    return content


def _inflate(raw: Bytes, length: int) -> Bytes:
    import deflate

    try:
        return np.frombuffer(deflate.zlib_decompress(raw, length), np.uint8)
    except (deflate.DeflateError, ValueError):
        raise ValueError(f"it is not {length:,} bytes of deflate") from None


def _unlzf(raw: Bytes, length: int) -> Bytes:
    from abc_dask.matrix.codec_loops import unlzf

    out = np.empty(length, np.uint8)
    n = unlzf(raw, out)
    if n < 0:
        raise ValueError("it is not LZF")
    return out[:n]


def _unblosc(raw: Bytes, length: int) -> Bytes:
    from numcodecs.blosc import decompress

    # version, flags and so on, then the length as it was (Blosc 1, README_CHUNK_FORMAT)
    claimed = int.from_bytes(raw[4:8].tobytes(), "little")
    stored = int.from_bytes(raw[12:16].tobytes(), "little")
    if len(raw) < 16 or claimed != length or stored != len(raw):
        raise ValueError(f"its Blosc header does not say {length:,} bytes")
    return _array(decompress, raw, "Blosc")


def _unzstd(raw: Bytes, length: int) -> Bytes:
    from numcodecs.zstd import decompress

    if zstd_length(raw.tobytes()[:18]) not in {length, None}:
        raise ValueError(f"its Zstandard header does not say {length:,} bytes")
    return _array(decompress, raw, "Zstandard")


def zstd_length(head: bytes) -> int | None:
    """Read the content's length of a Zstandard frame, None where it is not said (RFC 8878)."""
    if len(head) < 6 or head[:4] != b"\x28\xb5\x2f\xfd":
        raise ValueError("it is not Zstandard")
    flags = head[4]
    single = flags >> 5 & 1
    size = (single, 2, 4, 8)[flags >> 6]
    at = 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]
    if not size:
        return None
    length = int.from_bytes(head[at : at + size], "little")
    return length + 256 if size == 2 else length


def _array(decompress: Callable[[Bytes], bytes], raw: Bytes, name: str) -> Bytes:
    try:
        return np.frombuffer(decompress(raw), np.uint8)
    except (RuntimeError, ValueError, MemoryError):
        raise ValueError(f"it is not {name}") from None


_UNPACK: dict[int, Callable[[Bytes, int], Bytes]] = {
    DEFLATE: _inflate,
    LZF: _unlzf,
    BLOSC: _unblosc,
    ZSTD: _unzstd,
}
