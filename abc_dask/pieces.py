"""Pieces of CSR rows, and what every way of reading them offers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from abc_dask.h5ad import PIECE_VALUES
from abc_dask.kernels import Hits, find_hits


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
            From `abc_dask.kernels.lookup_table`.
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
