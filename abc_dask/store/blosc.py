"""Blosc1 frames, taken apart and put together without a second compression.

A frame is a header, the offsets of its blocks, and the blocks, each of which can be decoded
alone (https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst)::

    byte 0  version of the format: 2
         1  version of the codec's format: 1
         2  flags: 0x04 bitshuffle, 0x10 one stream a block, 0x80 Zstandard; 0x02 stored as it is
         3  bytes of an element
         4  uint32: bytes when decoded; bytes of a block when decoded; bytes of the frame
        16  int32 (blocks,): where each block starts
            a block: int32 length of its stream, the stream

So the block that a task makes of its cells can stand in the frame of the whole gene.
"""

from __future__ import annotations

import struct
import threading
from itertools import accumulate
from typing import Any

import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

_HEADER = struct.Struct("<BBBBIII")

_LENGTH = struct.Struct("<i")

_VERSION, _ZSTD_VERSION, _FLAGS, _STORED = 2, 1, 0x94, 0x02

_BITSHUFFLE = 0x04

# Bytes that a frame may have when decoded: Blosc's own limit is 2**31 - 17.
MAX_BYTES = (1 << 31) - (1 << 20)

LEVEL = 1

# A short block of so many bytes is compressed without Blosc, which makes a compressor for each.
_FEW_BYTES = 4096

# Bytes of a block of a Zstandard frame, at most.
_MOST_ZEROS = 128 << 10


def pack_planes(planes: NDArray[np.uint64], n_used: int) -> bytes:
    """Compress the values of one block, whose bits are shuffled already.

    Parameters
    ----------
    planes : array of uint64, shape (bits of a value, n_words)
        Their bit planes; contiguous.
    n_used : int
        Planes that are looked at, one at least; those behind are taken to be zero.

    Returns
    -------
    bytes
        The block as it stands in a frame.
    """
    stream: bytes = _compressor().compress(planes[:n_used])
    if n_used < len(planes):
        stream = _with_zeros(stream, planes.nbytes, planes[n_used:].nbytes)
    if len(stream) >= planes.nbytes:  # as Blosc has it, stored as it is
        planes[n_used:] = 0
        stream = planes.tobytes()
    return _LENGTH.pack(len(stream)) + stream


def _with_zeros(stream: bytes, n_bytes: int, n_zeros: int) -> bytes:
    """Return a Zstandard frame of what another one holds, and of zeros behind it.

    Zeros are a block of one byte and its number, which is written and read at once: behind the
    last plane that has bits they are most of a block. The frame is a magic number, a header with
    `n_bytes`, and blocks, whose three bytes of header say whether it is the last one, its kind
    and its size (RFC 8878).
    """
    described = stream[4]
    is_single, n_size = described >> 5 & 1, described >> 6
    begin = 5 + (not is_single) + (is_single if n_size == 0 else 1 << n_size)
    blocks, at = bytearray(stream[begin:]), 0
    while not blocks[at] & 1:
        at += _bytes_of(blocks, at)
    blocks[at] &= 0xFE  # no longer the last one
    for done in range(0, n_zeros, _MOST_ZEROS):
        n = min(_MOST_ZEROS, n_zeros - done)
        is_last = done + n == n_zeros
        blocks += (n << 3 | 1 << 1 | is_last).to_bytes(3, "little") + b"\0"
    if n_bytes < 256:
        head = bytes([0x20, n_bytes])
    elif n_bytes < 65_536 + 256:
        head = b"\x60" + struct.pack("<H", n_bytes - 256)
    else:
        head = b"\xa0" + struct.pack("<I", n_bytes)
    return stream[:4] + head + bytes(blocks)


def _bytes_of(blocks: bytearray, at: int) -> int:
    """Return the bytes of a block of a Zstandard frame with its header."""
    said = int.from_bytes(blocks[at : at + 3], "little")
    return 3 + (1 if said >> 1 & 3 == 1 else said >> 3)


_threads = threading.local()


def _compressor() -> Any:
    """Return this thread's compressor, whose memory is used again and again."""
    found = getattr(_threads, "compressor", None)
    if found is None:
        import zstandard

        # that of level 1, but for matches: bit planes have few short ones that save bytes, and
        # looking for them takes time
        how = zstandard.ZstdCompressionParameters(
            window_log=17, hash_log=10, min_match=7, strategy=zstandard.STRATEGY_FAST,
            chain_log=6, search_log=1, write_content_size=True,
        )  # fmt: skip
        found = _threads.compressor = zstandard.ZstdCompressor(compression_params=how)
    return found


def _decompress(streams: bytes, out: NDArray[np.uint8]) -> None:
    """Decode streams that stand one after another, which are as long as an array in all."""
    import zstandard

    found = getattr(_threads, "decompressor", None)
    if found is None:
        found = _threads.decompressor = zstandard.ZstdDecompressor()
    try:
        with found.stream_reader(streams, read_across_frames=True) as reader:
            size = reader.readinto(out)
            more = reader.read(1)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
    if size != len(out) or more:
        raise ValueError(f"blocks of {'more' if more else size} bytes, expected {len(out):,}")


def pack_block(values: NDArray[Any], block_bytes: int) -> bytes:
    """Compress the values of one block.

    Parameters
    ----------
    values : array, shape (n,)
        Contiguous; at most `block_bytes` in all. A whole block has a multiple of 64.
    block_bytes : int
        Bytes of a whole block.

    Returns
    -------
    bytes
        The block as it stands in a frame.
    """
    from abc_dask.store.plane_loops import to_planes

    size = values.itemsize
    if values.nbytes == block_bytes:
        planes = np.empty((8 * size, len(values) // 64), np.uint64)
        n_used = to_planes(values.view(f"u{size}"), planes)
        return pack_planes(planes, n_used)
    if len(values) % 8 and values.nbytes <= _FEW_BYTES:
        # Blosc does not shuffle these bits
        stream: bytes = _compressor().compress(values)
        stream = stream if len(stream) < values.nbytes else values.tobytes()
        return _LENGTH.pack(len(stream)) + stream
    # how the bits of a short block are shuffled is Blosc's own matter
    frame: bytes = _compress(values, block_bytes)
    if not frame[2] & _STORED:
        return frame[20:]
    # one that does not become smaller is packed as the last of two: so it is a block all the same
    both = np.concatenate([np.zeros(block_bytes // size, values.dtype), values])
    frame = _compress(both, block_bytes)
    (start,) = struct.unpack_from("<i", frame, 20)
    return frame[start:]


def _compress(values: NDArray[Any], block_bytes: int) -> bytes:
    frame: bytes = blosc.compress(
        values, b"zstd", LEVEL, blosc.BITSHUFFLE, block_bytes, values.itemsize
    )
    return frame


def frame_of(
    blocks: list[memoryview], n_bytes: int, block_bytes: int, itemsize: int
) -> list[bytes | memoryview]:
    """Return the pieces of the frame that holds some blocks.

    Parameters
    ----------
    blocks : list of memoryview
        All but the last hold `block_bytes` when decoded.
    n_bytes : int
        Bytes of the frame when decoded.
    block_bytes, itemsize : int
    """
    begin = _HEADER.size + 4 * len(blocks)
    *starts, whole = accumulate(map(len, blocks), initial=begin)
    if whole > MAX_BYTES or n_bytes > MAX_BYTES:
        raise ValueError(f"a gene of {n_bytes:,} bytes does not fit one Blosc frame")
    within = min(block_bytes, n_bytes)
    head = _HEADER.pack(_VERSION, _ZSTD_VERSION, _FLAGS, itemsize, n_bytes, within, whole)
    return [head, struct.pack(f"<{len(starts)}i", *starts), *blocks]


def part_of(frame: bytes, start: int, n_bytes: int, whole: int) -> bytes:
    """Return the frame of some blocks of a frame.

    Parameters
    ----------
    frame : bytes
    start, n_bytes : int
        What is wanted, when decoded: from the start of a block to the end of one.
    whole : int
        Bytes of all when decoded.

    Raises
    ------
    ValueError
        If it is no frame of this size, or these are no whole blocks.
    """
    edges, block_bytes, itemsize = _edges(frame, whole)
    stop = start + n_bytes
    if start % block_bytes or (stop % block_bytes and stop != whole) or stop > whole:
        raise ValueError(f"bytes {start:,} to {stop:,} are no whole blocks of {block_bytes:,}")
    first, last = start // block_bytes, -(-stop // block_bytes)
    within = memoryview(frame)
    blocks = [within[edges[k] : edges[k + 1]] for k in range(first, last)]
    return b"".join(frame_of(blocks, n_bytes, block_bytes, itemsize))


def _edges(frame: bytes, whole: int) -> tuple[list[int], int, int]:
    """Return where a frame's blocks begin and end, their bytes when decoded, and an element's."""
    if len(frame) < _HEADER.size:
        raise ValueError(f"{len(frame)} bytes are no Blosc frame")
    _, _, _, itemsize, said, block_bytes, size = _HEADER.unpack_from(frame)
    n_blocks = -(-whole // block_bytes) if block_bytes else 0
    if said != whole or size != len(frame) or size < _HEADER.size + 4 * n_blocks:
        raise ValueError(f"a Blosc frame of {said:,} bytes, expected {whole:,}")
    edges = [*struct.unpack_from(f"<{n_blocks}i", frame, _HEADER.size), size]
    if edges != sorted(edges) or edges[0] < _HEADER.size:
        raise ValueError("the blocks of a Blosc frame are out of order")
    return edges, block_bytes, itemsize


class Blocks:
    """A frame of known blocks that are decoded some at a time.

    Parameters
    ----------
    frame : bytes
    n_bytes : int
        Bytes of all blocks when decoded.
    block_bytes : int
        The same of each, but for the last one.
    itemsize : int

    Raises
    ------
    ValueError
        If it is no such frame.
    """

    def __init__(self, frame: bytes, n_bytes: int, block_bytes: int, itemsize: int) -> None:
        self._frame = memoryview(frame)
        self._edges, found, has = _edges(frame, n_bytes)
        self._n_bytes, self._block_bytes = n_bytes, min(block_bytes, n_bytes)
        if (found, has, frame[2]) != (self._block_bytes, itemsize, _FLAGS):
            raise ValueError(
                f"a Blosc frame of elements of {has} bytes in blocks of {found:,}, expected "
                f"{itemsize} and {self._block_bytes:,}"
            )
        self._itemsize = itemsize

    def planes(self, first: int, stop: int) -> NDArray[np.uint8]:
        """Decode blocks as they were before their bits were shuffled back.

        A block of n elements begins with a bit of each of them, the lowest, then the next one of
        each, and so on. The last block, if it is shorter, holds the elements as they are, unless
        they are a multiple of eight.

        Raises
        ------
        ValueError
            If they cannot be decoded.
        """
        streams = [self._stream(block) for block in range(first, stop)]
        n_bytes = min(stop * self._block_bytes, self._n_bytes) - first * self._block_bytes
        found = np.empty(n_bytes, np.uint8)
        if all(streams):  # one decoder for all of them: Blosc makes a new one for each block
            _decompress(b"".join(streams), found)
        else:
            self._decode(first, stop, found, _FLAGS & ~_BITSHUFFLE)
        return found

    def values(self, block: int, out: NDArray[Any]) -> None:
        """Decode one block into an array of just its size; errors as above."""
        self._decode(block, block + 1, out, _FLAGS)

    def _stream(self, block: int) -> memoryview:
        """Return the compressed stream of a block; nothing if it is none."""
        start, stop = self._edges[block : block + 2]
        n_bytes = min(self._block_bytes, self._n_bytes - block * self._block_bytes)
        (size,) = struct.unpack_from("<i", self._frame, start) if stop - start > 4 else (0,)
        is_one = size < n_bytes and size == stop - start - 4
        return self._frame[start + 4 : stop] if is_one else self._frame[:0]

    def _decode(self, first: int, stop: int, out: NDArray[Any], flags: int) -> None:
        n = stop - first
        starts = self._edges[first:stop]
        end = self._edges[stop]
        begin = _HEADER.size + 4 * n
        size, within = begin + end - starts[0], min(self._block_bytes, out.nbytes)
        head = _HEADER.pack(
            _VERSION, _ZSTD_VERSION, flags, self._itemsize, out.nbytes, within, size
        )
        moved = struct.pack(f"<{n}i", *(start - starts[0] + begin for start in starts))
        try:
            blosc.decompress(b"".join((head, moved, self._frame[starts[0] : end])), out)
        except RuntimeError as error:
            raise ValueError(str(error)) from None


def decode_frame(frame: bytes | memoryview, out: NDArray[Any]) -> None:
    """Decode a frame into an array of just its size.

    Raises
    ------
    ValueError
        If it is no frame of this size.
    """
    if len(frame) < _HEADER.size:
        raise ValueError(f"{len(frame)} bytes are no Blosc frame")
    version, _, _, has, n_bytes, _, whole = _HEADER.unpack_from(frame)
    if version != _VERSION or whole != len(frame) or n_bytes != out.nbytes:
        raise ValueError(
            f"a Blosc frame of {whole:,} bytes for {n_bytes:,}, expected {len(frame):,} for "
            f"{out.nbytes:,}"
        )
    if has != out.itemsize:
        raise ValueError(f"elements of {has} bytes, expected {out.itemsize}")
    try:
        blosc.decompress(frame, out)
    except RuntimeError as error:
        raise ValueError(str(error)) from None
