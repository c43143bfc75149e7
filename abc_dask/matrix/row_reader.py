"""Pieces of CSR rows, and what every way of reading them offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.matrix.kernels import PIECE_VALUES, Hits, Lookup, find_hits


@dataclass(frozen=True)
class RowRange:
    """Consecutive rows of a CSR matrix.

    Attributes
    ----------
    start : int
        First row.
    pointers : array of int64, shape (n_rows + 1,)
        Number of each row's first stored value in the file, and behind the last one.
    """

    start: int
    pointers: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.pointers) - 1


@dataclass(frozen=True)
class Chunks:
    """Some consecutive chunks of an array.

    Attributes
    ----------
    first : int
        Number of the first one within its array.
    offsets, sizes : arrays of int64, shape (n_chunks,)
        Place in the file and stored bytes.
    masks : array of int64, shape (n_chunks,)
        Bit i is set where filter i was left out.
    """

    first: int
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    masks: NDArray[np.int64]


@dataclass(frozen=True)
class Piece:
    """Some rows of a CSR matrix.

    Attributes
    ----------
    row : int
        First row.
    indptr : array of int64, shape (n_rows + 1,)
        Start of each row in `indices`, from 0.
    indices : array, shape (n_values,)
        Columns of the stored entries.
    """

    row: int
    indptr: NDArray[np.int64]
    indices: NDArray[Any]


class RowReader(ABC):
    """Reads rows in pieces, and then the values of some of their entries.

    Attributes
    ----------
    rows : RowRange
        What is read.
    """

    rows: RowRange

    @property
    @abstractmethod
    def bytes_read(self) -> int:
        """Decoded bytes of values and indices read so far."""

    @abstractmethod
    def pieces(
        self, most: int = PIECE_VALUES, wanted: NDArray[np.bool_] | None = None
    ) -> Iterator[Piece]:
        """Yield the rows in pieces of at most `most` stored values (or one row).

        Stretches of rows that are not wanted are left out where that saves reading. What
        a piece holds is gone with the next.
        """

    @abstractmethod
    def values(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Return values of the current piece by the numbers of their entries, which rise."""

    @abstractmethod
    def all_values(self) -> NDArray[Any]:
        """Return all values of the current piece; they are gone with the next."""

    def hits(
        self, lookup: Lookup, wanted: NDArray[np.bool_]
    ) -> Iterator[tuple[Hits, NDArray[Any]]]:
        """Find the entries of chosen columns, with their values.

        Parameters
        ----------
        lookup : Lookup
        wanted : array of bool, shape (n_rows,)
            Rows to look at.
        """
        for piece in self.pieces(wanted=wanted):
            first, n_rows = piece.row - self.rows.start, len(piece.indptr) - 1
            hits = find_hits(
                piece.indptr,
                piece.indices,
                lookup,
                wanted[first : first + n_rows],
                first_cell=first,
                n_cells=len(self.rows),
            )
            if len(hits.entries):
                yield hits, self.values(hits.entries)
