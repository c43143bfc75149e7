"""Pieces of CSR rows as the kernels want them, around HDF5 where that can be.

An uncompressed file is mapped: kernels look into it where it lies, and pages go back when
a piece is done. Compressed chunks are read and decoded in the task's own thread: those of
the indices all, those of the values only where there is a hit.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from abc_dask.chunks import Chunks, StoredArray, read_arrays, read_chunks, read_pointers
from abc_dask.codecs import decode
from abc_dask.errors import DamagedFileError
from abc_dask.h5ad import PIECE_VALUES, MatrixFile, MatrixReader, open_matrix, wanted_pieces
from abc_dask.kernels import Segments, looks_in_place, take
from abc_dask.sources import Bytes, Source, opened_source

# What lies between two chunks is mostly HDF5's own: not worth a system call of its own.
_GAP = 64 << 10

# Pages between two that are needed which a disk reads along in the time of another request.
_PAGE_GAP = 8 << 10


@dataclass(frozen=True)
class Piece:
    """Some rows of a CSR matrix.

    Attributes
    ----------
    row : int
        First row.
    indptr : array of int64, shape (n_rows + 1,)
        Start of each row, in the numbers of `indices`.
    indices : Segments
        Columns of the stored entries.
    """

    row: int
    indptr: NDArray[np.int64]
    indices: Segments


class RowReader(Protocol):
    """Gives pieces of rows, and then the values of some of their entries."""

    @property
    def bytes_read(self) -> int:
        """Bytes of values and indices so far: decoded, or where mapped, looked at."""

    def pieces(
        self,
        start: int,
        stop: int,
        most: int = PIECE_VALUES,
        wanted: NDArray[np.bool_] | None = None,
    ) -> Iterator[Piece]:
        """Yield the rows of a range in pieces of at most `most` stored values (or one row).

        Stretches of rows that are not wanted are left out where that saves reading.
        """

    def values(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """Give values of the current piece by the numbers of their entries, which rise."""


@contextlib.contextmanager
def open_rows(matrix: MatrixFile) -> Iterator[RowReader]:
    """Open a CSR matrix file for reading rows, and check that it is still the same file.

    Raises
    ------
    DamagedFileError
        If it changed since it was looked at, or cannot be read.
    """
    arrays = read_arrays(matrix.chunks) if matrix.chunks else ()
    if arrays:
        with opened_source(matrix.path, matrix.fingerprint) as source:
            yield ChunkRows(matrix, arrays, source)
    else:
        with open_matrix(matrix) as reader:
            yield HDF5Rows(reader)


class HDF5Rows:
    """Rows by way of h5py: any filter, any storage, one thread at a time."""

    def __init__(self, reader: MatrixReader) -> None:
        self._reader = reader
        self._data: NDArray[Any] = np.zeros(0)

    @property
    def bytes_read(self) -> int:
        """Decoded bytes of values and indices read so far."""
        return self._reader.bytes_read

    def pieces(
        self,
        start: int,
        stop: int,
        most: int = PIECE_VALUES,
        wanted: NDArray[np.bool_] | None = None,
    ) -> Iterator[Piece]:
        """Yield pieces, each numbered from 0."""
        for row, indptr, indices, data in self._reader.rows(start, stop, most, wanted):
            self._data = data
            yield Piece(row, indptr, Segments.whole(indices))

    def values(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """Give values of the current piece."""
        return self._data[places]


class ChunkRows:
    """Rows out of chunks whose places are known.

    Parameters
    ----------
    matrix : MatrixFile
        With the paths of its cached tables.
    arrays : tuple of StoredArray
        Indices and data.
    source : Source
        Bytes of the file.
    """

    def __init__(self, matrix: MatrixFile, arrays: tuple[StoredArray, ...], source: Source) -> None:
        self._matrix = matrix
        self._arrays = arrays
        self._source = source
        self._held: list[_ChunkArray] = []
        self._within = (0, 0)

    @property
    def bytes_read(self) -> int:
        """Decoded or, where mapped, looked-at bytes of values and indices."""
        return sum(array.bytes_read for array in self._held)

    def pieces(
        self,
        start: int,
        stop: int,
        most: int = PIECE_VALUES,
        wanted: NDArray[np.bool_] | None = None,
    ) -> Iterator[Piece]:
        """Yield pieces, numbered as in the file; what a piece gave is gone with the next."""
        indptr = read_pointers(self._matrix.indptr, start, stop)
        low, high = int(indptr[0]), int(indptr[-1])
        self._held = [
            _ChunkArray(one, read_chunks(self._matrix.chunks, one, low, high), self._source)
            for one in self._arrays
        ]
        indices = self._held[0]
        cuts = wanted_pieces(indptr, wanted, most)
        self._expect(indptr, cuts[:1])
        for number, (first, last) in enumerate(cuts):
            self._expect(indptr, cuts[number + 1 : number + 2])
            self._within = int(indptr[first]), int(indptr[last])
            yield Piece(start + first, indptr[first : last + 1], indices.segments(*self._within))
            for array in self._held:
                array.release(*self._within)

    def values(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """Give values of the current piece; only chunks with one of them are decoded."""
        data = self._held[1]
        data.expect_places(places)
        return take(data.segments(*self._within, places=places), places)

    def _expect(self, indptr: NDArray[np.int64], cuts: list[tuple[int, int]]) -> None:
        for first, last in cuts:
            self._held[0].expect(int(indptr[first]), int(indptr[last]))


class _ChunkArray:
    """One array of a matrix, as far as a row block needs it."""

    def __init__(self, stored: StoredArray, chunks: Chunks, source: Source) -> None:
        self._stored = stored
        self._chunks = chunks
        self._source = source
        self._dtype = np.dtype(stored.dtype)
        # the chunk at the end of a piece is the one at the start of the next
        self._last: tuple[int, Bytes] = (-1, np.zeros(0, np.uint8))
        self.bytes_read = 0

    def segments(self, low: int, high: int, places: NDArray[np.int64] | None = None) -> Segments:
        """Give elements `low` to `high`, or at least those at `places` among them."""
        chunk = self._stored.chunk
        first, last = low // chunk, max(low // chunk, -(-high // chunk))
        edges = np.minimum(np.arange(first, last + 1) * chunk, self._stored.length)
        starts, odd = np.divmod(self._chunks.offsets[self._rows(first, last)], self._itemsize)
        # HDF5 sets a chunk where there is room: a few lie between the items of the file
        if self._words is not None and not odd.any():
            self.bytes_read += (high - low if places is None else len(places)) * self._itemsize
            return Segments(self._words, edges, starts)
        needed = np.arange(first, last)
        if places is not None:
            needed = needed[np.diff(np.searchsorted(places, edges)) > 0]
        starts[needed - first] = np.arange(len(needed)) * chunk
        return Segments(self._decoded(needed), edges, starts)

    @cached_property
    def _words(self) -> NDArray[Any] | None:
        """The whole file as items of this array, where kernels can look at them in place."""
        view = self._source.view
        if view is None or self._stored.filters:
            return None
        if self._stored.name == "X/indices" and not looks_in_place(self._dtype):
            return None
        return view[: len(view) // self._itemsize * self._itemsize].view(self._dtype)

    @property
    def _itemsize(self) -> int:
        return self._dtype.itemsize

    def _rows(self, first: int, last: int) -> slice:
        return slice(first - self._chunks.first, last - self._chunks.first)

    def _decoded(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Read and decode chunks, one behind the other."""
        n_bytes = self._stored.chunk_bytes
        out = np.zeros(len(numbers) * n_bytes, np.uint8)
        held, content = self._last
        missing = numbers[numbers != held]
        rows = missing - self._chunks.first
        sizes = self._chunks.sizes[rows]
        raw = self._source.read(self._chunks.offsets[rows], sizes)
        ends = dict(zip(missing.tolist(), np.cumsum(sizes).tolist(), strict=True))
        for place, number in enumerate(numbers.tolist()):
            if number != held:
                size = int(self._chunks.sizes[number - self._chunks.first])
                content = self._chunk(number, raw[ends[number] - size : ends[number]])
                held = number
            out[place * n_bytes : place * n_bytes + len(content)] = content
        self._last = (held, content)
        self.bytes_read += len(out)
        return out.view(self._dtype)

    def _chunk(self, number: int, raw: Bytes) -> Bytes:
        if not self._stored.filters:  # the last piece of a contiguous array is shorter
            return raw
        mask = int(self._chunks.masks[number - self._chunks.first])
        try:
            return decode(raw, self._stored.filters, mask, self._stored.chunk_bytes)
        except ValueError as error:
            raise DamagedFileError(
                f"{self._source.name}: chunk {number:,} of {self._stored.name} cannot be decoded: "
                f"{error}; bring the file again"
            ) from None

    def expect(self, low: int, high: int) -> None:
        """Have the bytes of some elements read ahead, stretch by stretch."""
        self._expect(*self._places(low, high), _GAP)

    def expect_places(self, places: NDArray[np.int64]) -> None:
        """Have the pages read that hold some elements looked at in place, by their numbers."""
        if self._words is None:
            return
        chunk = self._stored.chunk
        offsets = self._chunks.offsets[places // chunk - self._chunks.first]
        at = offsets + places % chunk * self._itemsize
        pages = at // mmap.PAGESIZE
        # neighbours share a page: most go before the sorting
        pages = np.unique(pages[np.append(True, pages[1:] != pages[:-1])[: len(pages)]])
        pages *= mmap.PAGESIZE
        self._expect(pages, pages + mmap.PAGESIZE, _PAGE_GAP)

    def _expect(self, starts: NDArray[np.int64], stops: NDArray[np.int64], gap: int) -> None:
        """Hand ranges on, those with little between them as one."""
        gaps = starts[1:] - stops[:-1]
        cuts = np.flatnonzero((gaps < 0) | (gaps > gap))
        first, last = np.append(-1, cuts) + 1, np.append(cuts, len(starts) - 1)
        self._source.expect(starts[first[: len(starts)]], stops[last[: len(stops)]])

    def release(self, low: int, high: int) -> None:
        """Give back what was looked at in place, and whatever lies between."""
        starts, ends = self._places(low, high)
        if self._words is not None and len(starts):
            self._source.release(int(starts.min()), int(ends.max()))

    def _places(self, low: int, high: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give first and last place in the file of the chunks of some elements."""
        rows = self._rows(low // self._stored.chunk, -(-high // self._stored.chunk))
        offsets = self._chunks.offsets[rows]
        return offsets, offsets + self._chunks.sizes[rows]
