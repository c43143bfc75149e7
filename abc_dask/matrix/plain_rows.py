"""Rows of an uncompressed file, read by the loops themselves.

Indices go through a buffer that stays in the processor's cache: each byte is copied there
once, searched, and forgotten. No page of the file becomes memory of the process, and a
file that is cut short meanwhile is an error, not a signal, as it would be if it were mapped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.matrix.h5ad import StoredArray
from abc_dask.matrix.kernels import (
    PIECE_VALUES,
    SEARCH_COST,
    SEARCHABLE,
    Hits,
    Lookup,
    out_of_range,
    wanted_pieces,
)
from abc_dask.matrix.row_reader import Chunks, Piece, RowRange, RowReader
from abc_dask.matrix.source import Bytes, FileSource

# Measured: 256 KiB to 1 MiB take the same time, a fifth less than looking at mapped pages.
_BUFFER = 1 << 19

# Bytes between two values for which a system call costs as much as reading along.
_GAP = 8 << 10

# The same for a disk. Measured on one of 2.4 GB/s and 100,000 requests a second, for two values
# a row: 16 KiB takes 2.9 s, 8 and 32 KiB 3.6 s, 4 KiB 5.3 s.
_DISK_GAP = 16 << 10

# Pieces whose indices are under way while one is searched. Measured: 4 take a fifth longer.
_AHEAD = 2


class PlainRows(RowReader):
    """Rows whose indices and values lie in the file as they are.

    Parameters
    ----------
    arrays : tuple of StoredArray
        Indices and data, without filters.
    chunks : list of Chunks
        Those of each array that hold the rows.
    rows : RowRange
    source : FileSource
    """

    bytes_read = 0

    def __init__(
        self,
        arrays: tuple[StoredArray, ...],
        chunks: list[Chunks],
        rows: RowRange,
        source: FileSource,
    ) -> None:
        self.rows = rows
        self._indices, self._data = (
            _PlainArray.of(array, own, source) for array, own in zip(arrays, chunks, strict=True)
        )
        self._low = self._high = 0
        self._buffer: Bytes = np.empty(_BUFFER, np.uint8)
        self._rooms: list[Bytes] = [np.zeros(0, np.uint8), np.zeros(0, np.uint8)]

    def pieces(
        self, most: int = PIECE_VALUES, wanted: NDArray[np.bool_] | None = None
    ) -> Iterator[Piece]:
        """Yield pieces; what a piece gave is gone with the next."""
        start, indptr = self.rows.start, self.rows.pointers
        for first, last in self._ahead(indptr, wanted_pieces(indptr, wanted, most)):
            self._low, self._high = int(indptr[first]), int(indptr[last])
            indices = self._between(0, self._indices)
            self.bytes_read += indices.nbytes
            yield Piece(start + first, indptr[first : last + 1] - self._low, indices)

    def values(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Return values of the current piece."""
        self._data.expect_entries(numbers + self._low)
        return self._values(numbers + self._low)

    def all_values(self) -> NDArray[Any]:
        """Return all values of the current piece."""
        values = self._between(1, self._data)
        self.bytes_read += values.nbytes
        return values

    def _between(self, number: int, array: _PlainArray) -> NDArray[Any]:
        """Read a piece of an array into memory that is used again."""
        n_bytes = (self._high - self._low) * array.dtype.itemsize
        if len(self._rooms[number]) < n_bytes:
            self._rooms[number] = np.empty(n_bytes, np.uint8)
        return array.between(self._low, self._high, self._rooms[number])

    def hits(
        self, lookup: Lookup, wanted: NDArray[np.bool_]
    ) -> Iterator[tuple[Hits, NDArray[Any]]]:
        """Find the entries of chosen columns, piece by piece; hits are numbered as in the file."""
        indptr, indices = self.rows.pointers, self._indices
        if indices.dtype not in SEARCHABLE:
            yield from super().hits(lookup, wanted)
            return
        cuts = wanted_pieces(indptr, wanted, PIECE_VALUES)
        sizes = np.diff(indptr)
        most = max((int(indptr[last] - indptr[first]) for first, last in cuts), default=0)
        found = Hits(np.empty(most, np.int64), np.empty(most, np.int64))
        longest = int(sizes.max(initial=0)) * indices.dtype.itemsize
        if longest > len(self._buffer):
            self._buffer = np.empty(longest // 8 * 8 + 8, np.uint8)
        search = _Search(indices, lookup, self._buffer, found, len(wanted))
        before: Hits | None = None
        for first, last in self._ahead(indptr, cuts):
            rows = wanted[first:last]
            hits = search.run(indptr[first : last + 1], rows, first)
            self.bytes_read += int(sizes[first:last][rows].sum()) * indices.dtype.itemsize
            self._data.expect_entries(hits.entries)
            # a piece late, so that a disk reads values while the next indices are searched
            if before is not None:
                yield before, self._values(before.entries)
            if not len(hits.entries):
                before = None
                continue
            before = Hits(hits.entries.copy(), hits.cells.copy())
        if before is not None:
            yield before, self._values(before.entries)

    def _ahead(
        self, indptr: NDArray[np.int64], cuts: list[tuple[int, int]]
    ) -> Iterator[tuple[int, int]]:
        """Go through cuts, and have the indices of the next ones read ahead."""
        for number, cut in enumerate(cuts):
            upto = number + 1 + _AHEAD
            for first, last in cuts[:upto] if number == 0 else cuts[upto - 1 : upto]:
                self._indices.expect(int(indptr[first]), int(indptr[last]))
            yield cut

    def _values(self, entries: NDArray[np.int64]) -> NDArray[Any]:
        values = self._data.at(entries, self._buffer)
        self.bytes_read += values.nbytes
        return values


@dataclass(frozen=True)
class _PlainArray:
    """One array, as far as a row block needs it: elements ``edges[k]`` lie at ``offsets[k]``."""

    dtype: np.dtype[Any]
    edges: NDArray[np.int64]
    offsets: NDArray[np.int64]
    source: FileSource

    @classmethod
    def of(cls, stored: StoredArray, chunks: Chunks, source: FileSource) -> _PlainArray:
        numbers = np.arange(chunks.first, chunks.first + len(chunks.offsets) + 1)
        edges = np.minimum(numbers * stored.chunk, stored.length)
        return cls(np.dtype(stored.dtype), edges, chunks.offsets, source)

    def between(self, low: int, high: int, room: Bytes | None = None) -> NDArray[Any]:
        """Copy elements `low` to `high`; into `room`, where that is given."""
        starts, stops = self._ranges(low, high)
        return self.source.read(starts, stops - starts, room).view(self.dtype)

    def at(self, entries: NDArray[np.int64], buffer: Bytes) -> NDArray[Any]:
        """Copy elements by their numbers, which rise, by way of a buffer."""
        from abc_dask.matrix.search_loops import gather_from_file

        itemsize = self.dtype.itemsize
        out = np.empty(len(entries) * itemsize, np.uint8)
        unread = gather_from_file(
            self.source.descriptor,
            self.edges,
            self.offsets,
            itemsize,
            entries,
            _GAP,
            buffer,
            out,
        )
        if unread >= 0:
            self.fail(unread)
        return out.view(self.dtype)

    def fail(self, number: int) -> None:
        """Raise what kept an element from being read."""
        self.between(number, number + 1)
        # it can be read now: a disk that failed once, or a file that was cut and mended
        self.source.fail(number)

    def expect(self, low: int, high: int) -> None:
        """Have elements `low` to `high` read ahead."""
        self.source.expect(*self._ranges(low, high))

    def expect_entries(self, entries: NDArray[np.int64]) -> None:
        """Have some elements read ahead, those near each other at once."""
        if not len(entries):
            return
        some = entries[:: max(1, len(entries) // 4)]
        if self.source.is_warm(self._offsets_of(some)):
            return
        starts = self._offsets_of(entries)
        cuts = np.flatnonzero((np.diff(starts) < 0) | (np.diff(starts) > _DISK_GAP))
        first, last = np.append(-1, cuts) + 1, np.append(cuts, len(starts) - 1)
        self.source.expect(starts[first], starts[last] + self.dtype.itemsize)

    def _offsets_of(self, entries: NDArray[np.int64]) -> NDArray[np.int64]:
        k = np.searchsorted(self.edges, entries, side="right") - 1
        at: NDArray[np.int64] = self.offsets[k] + (entries - self.edges[k]) * self.dtype.itemsize
        return at

    def _ranges(self, low: int, high: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the stretches of the file in which elements `low` to `high` lie, in order."""
        if low >= high:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        first, last = np.searchsorted(self.edges, [low, high - 1], side="right") - 1
        itemsize = self.dtype.itemsize
        starts = self.offsets[first : last + 1].copy()
        stops = starts + np.diff(self.edges[first : last + 2]) * itemsize
        starts[0] += (low - self.edges[first]) * itemsize
        stops[-1] -= (self.edges[last + 1] - high) * itemsize
        joined = np.flatnonzero(starts[1:] != stops[:-1])
        return starts[np.append(0, joined + 1)], stops[np.append(joined, len(stops) - 1)]


@dataclass(frozen=True)
class _Search:
    """What stays the same from one piece of a row block to the next."""

    indices: _PlainArray
    lookup: Lookup
    buffer: Bytes
    found: Hits
    n_cells: int

    def run(self, indptr: NDArray[np.int64], wanted: NDArray[np.bool_], first: int) -> Hits:
        """Search some rows; the hits are good until the next call."""
        from abc_dask.matrix.search_loops import find_in_file

        array = self.indices
        n_hits, wrong, unread = find_in_file(
            array.source.descriptor,
            array.edges,
            array.offsets,
            self.buffer,
            # as signed: an unsigned index beyond those is negative then, and refused
            self.buffer.view(f"i{array.dtype.itemsize}"),
            indptr,
            wanted,
            self.lookup.columns,
            self.lookup.slots,
            self.lookup.marks,
            SEARCH_COST,
            first,
            self.n_cells,
            self.found.entries,
            self.found.cells,
        )
        if unread >= 0:
            array.fail(unread)
        if wrong >= 0:
            raise out_of_range(array.between(wrong, wrong + 1)[0], len(self.lookup.slots))
        return Hits(self.found.entries[:n_hits], self.found.cells[:n_hits])
