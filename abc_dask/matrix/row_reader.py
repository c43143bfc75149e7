"""Pieces of CSR rows, and what every way of reading them offers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from abc_dask.matrix.kernels import Hits, find_hits

# Stored values that are in memory at once: 2^21 of 8 to 16 bytes, and their look-ups.
PIECE_VALUES = 1 << 21

# Stored values of unwanted rows that are read along: a chunk or two of what files have.
_SKIPPED = 1 << 15


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


class RowReader(Protocol):
    """Gives pieces of rows, and then the values of some of their entries."""

    @property
    def bytes_read(self) -> int:
        """Bytes of values and indices so far, decoded."""

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
        """Give values of the current piece by the places of their entries, which rise."""

    def hits(
        self, start: int, stop: int, table: NDArray[np.int32], wanted: NDArray[np.bool_]
    ) -> Iterator[tuple[Hits, NDArray[Any]]]:
        """Find the entries of chosen columns in a row range, with their values.

        Parameters
        ----------
        start, stop : int
            Rows of the file, half-open.
        table : array of int32, shape (n_columns,)
            From `abc_dask.matrix.kernels.lookup_table`.
        wanted : array of bool, shape (stop - start,)
            Rows to look at.
        """


def hits_in_pieces(
    reader: RowReader, start: int, stop: int, table: NDArray[np.int32], wanted: NDArray[np.bool_]
) -> Iterator[tuple[Hits, NDArray[Any]]]:
    """Do as `RowReader.hits` by way of its pieces."""
    for piece in reader.pieces(start, stop, wanted=wanted):
        first, n_rows = piece.row - start, len(piece.indptr) - 1
        hits = find_hits(
            piece.indptr,
            piece.indices,
            table,
            wanted[first : first + n_rows],
            first_cell=first,
            n_cells=stop - start,
        )
        if len(hits.places):
            yield hits, reader.values(hits.places)


def pieces(indptr: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Cut rows into half-open ranges of at most `most` stored values, or one row.

    Every row is in exactly one range, in order.

    Examples
    --------
    >>> list(pieces(np.array([0, 2, 4, 9, 9]), 4))
    [(0, 2), (2, 3), (3, 4)]
    """
    first, n_rows = 0, len(indptr) - 1
    while first < n_rows:
        last = int(np.searchsorted(indptr, indptr[first] + most, side="right")) - 1
        last = min(max(last, first + 1), n_rows)
        yield first, last
        first = last


def wanted_pieces(
    indptr: NDArray[np.int64], wanted: NDArray[np.bool_] | None, most: int
) -> list[tuple[int, int]]:
    """Cut rows into pieces like `pieces`, without stretches of rows that nobody wants.

    Every wanted row is in exactly one piece, in order. A stretch of few stored values is
    read along: the chunks around it are needed anyway.

    Examples
    --------
    >>> wanted_pieces(np.array([0, 9, 10**6, 10**6 + 9]), np.array([True, False, True]), 10)
    [(0, 1), (2, 3)]
    """
    if wanted is None or wanted.all():
        return list(pieces(indptr, most))
    rows = np.flatnonzero(wanted)
    if not len(rows):
        return []
    skipped = indptr[rows[1:]] - indptr[rows[:-1] + 1]
    cuts = np.flatnonzero(skipped > _SKIPPED) + 1
    found = []
    for run in np.split(rows, cuts):
        first, last = int(run[0]), int(run[-1]) + 1
        found += [(first + a, first + b) for a, b in pieces(indptr[first : last + 1], most)]
    return found
