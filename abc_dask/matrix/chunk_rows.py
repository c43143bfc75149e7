"""Rows of compressed or contiguous CSR matrices, read around HDF5."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.base.errors import DamagedFileError
from abc_dask.matrix.codecs import decode
from abc_dask.matrix.h5ad import StoredArray
from abc_dask.matrix.kernels import PIECE_VALUES, Segments, take, wanted_pieces
from abc_dask.matrix.row_reader import Chunks, Piece, RowRange, RowReader
from abc_dask.matrix.source import Bytes, Source

# What lies between two chunks is mostly HDF5's own: not worth a system call of its own.
_GAP = 64 << 10


class ChunkRows(RowReader):
    """Rows out of chunks that are found by the kept table, decoded in the task's own thread.

    Parameters
    ----------
    arrays : tuple of StoredArray
        Indices and data.
    chunks : list of Chunks
        Those of each array that hold the rows.
    rows : RowRange
    source : Source
        Bytes of the file.
    """

    def __init__(
        self,
        arrays: tuple[StoredArray, ...],
        chunks: list[Chunks],
        rows: RowRange,
        source: Source,
    ) -> None:
        self.rows = rows
        self._held = [
            _ChunkArray(array, own, source) for array, own in zip(arrays, chunks, strict=True)
        ]
        self._within = (0, 0)

    @property
    def bytes_read(self) -> int:
        """Decoded bytes of values and indices."""
        return sum(array.bytes_read for array in self._held)

    def pieces(
        self, most: int = PIECE_VALUES, wanted: NDArray[np.bool_] | None = None
    ) -> Iterator[Piece]:
        """Yield pieces; what a piece gave is gone with the next."""
        start, indptr = self.rows.start, self.rows.pointers
        cuts = wanted_pieces(indptr, wanted, most)
        self._expect(indptr, cuts[:1])
        for number, (first, last) in enumerate(cuts):
            self._expect(indptr, cuts[number + 1 : number + 2])
            low, high = self._within = int(indptr[first]), int(indptr[last])
            yield Piece(
                start + first, indptr[first : last + 1] - low, self._held[0].between(low, high)
            )

    def values(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Return values of the current piece; only chunks with one of them are decoded."""
        return self._held[1].at(numbers + self._within[0])

    def all_values(self) -> NDArray[Any]:
        """Return all values of the current piece."""
        return self._held[1].between(*self._within)

    def _expect(self, indptr: NDArray[np.int64], cuts: list[tuple[int, int]]) -> None:
        for first, last in cuts:
            self._held[0].expect(int(indptr[first]), int(indptr[last]))


class _ChunkArray:
    """One array of a matrix, as far as a row block needs it."""

    def __init__(self, stored: StoredArray, chunks: Chunks, source: Source) -> None:
        self._stored = stored
        self._chunks = chunks
        self._source = source
        # the chunk at the end of a piece is the one at the start of the next
        self._last: tuple[int, Bytes] = (-1, np.zeros(0, np.uint8))
        # used again for every piece: new memory costs a fifth of the time of decoding
        self._raw = self._out = np.zeros(0, np.uint8)
        self.bytes_read = 0

    def between(self, low: int, high: int) -> NDArray[Any]:
        """Return elements `low` to `high`."""
        first, last = self._numbers(low, high)
        start = first * self._stored.chunk
        return self._decoded(np.arange(first, last))[low - start : high - start]

    def at(self, entries: NDArray[np.int64]) -> NDArray[Any]:
        """Return elements by their numbers, which rise."""
        low, high = int(entries[0]), int(entries[-1]) + 1
        first, last = self._numbers(low, high)
        edges = np.minimum(np.arange(first, last + 1) * self._stored.chunk, self._stored.length)
        needed = np.flatnonzero(np.diff(np.searchsorted(entries, edges)) > 0)
        starts = np.zeros(last - first, np.int64)
        starts[needed] = np.arange(len(needed)) * self._stored.chunk
        return take(Segments(self._decoded(first + needed), edges, starts), entries)

    def _numbers(self, low: int, high: int) -> tuple[int, int]:
        chunk = self._stored.chunk
        return low // chunk, max(low // chunk, -(-high // chunk))

    def _decoded(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Read and decode chunks, one behind the other, into memory that is used again."""
        n_bytes = self._stored.chunk_bytes
        if len(self._out) < len(numbers) * n_bytes:
            self._out = np.empty(len(numbers) * n_bytes, np.uint8)
        out = self._out[: len(numbers) * n_bytes]
        held, content = self._last
        missing = numbers[numbers != held]
        rows = missing - self._chunks.first
        sizes = self._chunks.sizes[rows]
        if len(self._raw) < sizes.sum():
            self._raw = np.empty(int(sizes.sum()), np.uint8)
        raw = self._source.read(self._chunks.offsets[rows], sizes, self._raw)
        ends = dict(zip(missing.tolist(), np.cumsum(sizes).tolist(), strict=True))
        for k, number in enumerate(numbers.tolist()):
            if number != held:
                size = int(self._chunks.sizes[number - self._chunks.first])
                content = self._chunk(number, raw[ends[number] - size : ends[number]])
                held = number
            begin = k * n_bytes
            out[begin : begin + len(content)] = content
            out[begin + len(content) : begin + n_bytes] = 0
        self._last = (held, content)
        self.bytes_read += len(out)
        return out.view(self._stored.dtype)

    def _chunk(self, number: int, raw: Bytes) -> Bytes:
        if not self._stored.filters:  # the last piece of a contiguous array is shorter
            return raw.copy()
        mask = int(self._chunks.masks[number - self._chunks.first])
        try:
            return decode(raw, self._stored.filters, mask, self._stored.chunk_bytes)
        except ValueError as error:
            raise DamagedFileError(
                f"{self._source.name}: chunk {number:,} of {self._stored.name} cannot be decoded: "
                f"{error}; fetch the file again"
            ) from None

    def expect(self, low: int, high: int) -> None:
        """Have the bytes of some elements read ahead, stretch by stretch."""
        first, last = (n - self._chunks.first for n in self._numbers(low, high))
        starts = self._chunks.offsets[first:last]
        stops = starts + self._chunks.sizes[first:last]
        gaps = starts[1:] - stops[:-1]
        cuts = np.flatnonzero((gaps < 0) | (gaps > _GAP))
        first_of, last_of = np.append(-1, cuts) + 1, np.append(cuts, len(starts) - 1)
        self._source.expect(starts[first_of[: len(starts)]], stops[last_of[: len(stops)]])
