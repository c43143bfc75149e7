"""Chosen genes out of the arrays of a matrix: pure functions over NumPy arrays.

Kernels add into `out`, an array of genes x rows that the caller has zeroed, so
duplicate entries are summed in storage order, as scipy does. A corrupt index is a
`ValueError`, never a wrong gene: every index of a wanted row is checked before
anything is looked up by it. The loops themselves are in `abc_dask.matrix.search_loops`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Genes are searched in a row that has more than this many entries a gene, else every entry
# is looked up. Measured: the two take the same time at about 64, in rows of 4,000.
SEARCH_COST = 64

# Stored values that are in memory at once: 2^21 of 8 to 16 bytes, and their look-ups.
PIECE_VALUES = 1 << 21

# Stored values of unwanted rows that are read along: a chunk or two of what files have.
_SKIPPED = 1 << 15

# Types of indices that the loops look at without converting them.
SEARCHABLE = frozenset(np.dtype(kind) for kind in ("i4", "u4", "i8", "u8"))

# The largest integer up to which float64 holds every integer.
_EXACT = 2**53


@dataclass(frozen=True)
class Lookup:
    """Which columns of a matrix are asked for.

    Attributes
    ----------
    slots : array of int32, shape (n_columns,)
        Slot of each matrix column among the asked genes, -1 where nobody asked for it.
    columns : array of int64, shape (n_present,)
        Columns that are asked for, rising.
    marks : array of uint8, shape (n_columns,)
        1 for each of `columns`, else 0.
    """

    slots: NDArray[np.int32]
    columns: NDArray[np.int64]
    marks: NDArray[np.uint8]

    @classmethod
    def of(cls, positions: NDArray[np.int64], n_columns: int) -> Lookup:
        """Look genes up in a matrix.

        Parameters
        ----------
        positions : array of int64, shape (n_genes,)
            Column of each asked gene in the matrix, -1 where the matrix lacks it.
        n_columns : int
            Columns of the matrix.
        """
        slots = np.full(n_columns, -1, dtype=np.int32)
        present = np.flatnonzero(positions >= 0)
        slots[positions[present]] = present
        asked = slots >= 0
        return cls(slots, np.flatnonzero(asked), asked.view(np.uint8))


def load_loops() -> None:
    """Load the machine code for the usual types: 32-bit indices and values, no filters.

    Takes half a second or more of one core, which a thread may spend while a plan is made.
    """
    from abc_dask.matrix.search_loops import add, find_in_file, gather_from_file

    none, zero = np.zeros(0, np.int64), np.zeros(1, np.int64)
    buffer, wanted = np.zeros(8, np.uint8), np.zeros(0, np.bool_)
    words, lookup = buffer.view(np.int32), Lookup.of(none, 0)
    find_in_file(
        -1,
        zero,
        none,
        buffer,
        words,
        zero,
        wanted,
        lookup.columns,
        lookup.slots,
        lookup.marks,
        SEARCH_COST,
        0,
        0,
        none,
        none,
    )
    gather_from_file(-1, zero, none, 4, none, 0, buffer, buffer)
    values = np.zeros(0, np.float32)
    add(values, none, values)


@dataclass(frozen=True)
class Segments:
    """Consecutive elements of a stored array, wherever they lie in memory.

    Attributes
    ----------
    values : array, 1-D
        Memory in which they lie, of the stored type.
    edges : array of int64, shape (n_segments + 1,)
        Number of each segment's first element, and behind the last one.
    starts : array of int64, shape (n_segments,)
        Where in `values` each segment starts.
    """

    values: NDArray[Any]
    edges: NDArray[np.int64]
    starts: NDArray[np.int64]


@dataclass(frozen=True)
class Hits:
    """Stored entries of the chosen genes, in storage order.

    Attributes
    ----------
    entries : array of int64, shape (n_hits,)
        Their numbers, rising.
    cells : array of int64, shape (n_hits,)
        Where in a flat array of genes x rows their values belong.
    """

    entries: NDArray[np.int64]
    cells: NDArray[np.int64]


def find_hits(
    indptr: NDArray[np.int64],
    indices: NDArray[Any],
    lookup: Lookup,
    wanted: NDArray[np.bool_],
    *,
    first_cell: int,
    n_cells: int,
) -> Hits:
    """Find the entries of the chosen columns in some CSR rows.

    Few genes are searched in each row's indices, once these are seen to rise strictly
    from 0 or more to less than the number of columns; for many genes each index of such a
    row is looked up. In rows in any other order, or with an index twice, each index is
    looked up and checked.

    Parameters
    ----------
    indptr : array of int64, shape (n_rows + 1,)
        Start of each row in `indices`.
    indices : array, shape (n_values,)
        Columns of the stored entries, of any integer type.
    lookup : Lookup
    wanted : array of bool, shape (n_rows,)
        Rows to look at; the others' indices are not checked.
    first_cell, n_cells : int
        The result has `n_cells` rows, of which the first one here is `first_cell`.

    Returns
    -------
    Hits

    Raises
    ------
    ValueError
        If any index of a wanted row is out of range.
    """
    from abc_dask.matrix.search_loops import find

    words = indices if indices.dtype in SEARCHABLE else indices.astype(np.int64)
    # pages of these that no hit is written to are never touched
    entries, cells = np.empty(len(words), np.int64), np.empty(len(words), np.int64)
    n_hits = find(
        signed(words),
        indptr,
        wanted,
        lookup.columns,
        lookup.slots,
        lookup.marks,
        SEARCH_COST,
        first_cell,
        n_cells,
        entries,
        cells,
    )
    if n_hits < 0:
        raise out_of_range(indices[-n_hits - 1], len(lookup.slots))
    return Hits(entries[:n_hits], cells[:n_hits])


def signed(words: NDArray[Any]) -> NDArray[Any]:
    """See indices as signed: an unsigned one beyond those is negative then, and refused."""
    return words.view(f"i{words.itemsize}")


def out_of_range(index: int, n_columns: int) -> ValueError:
    """Return the error of an index that no column has."""
    return ValueError(f"index {int(index):,} is outside of 0 to {n_columns - 1:,}")


def take(stored: Segments, entries: NDArray[np.int64]) -> NDArray[Any]:
    """Take elements by their numbers, which must rise.

    Parameters
    ----------
    stored : Segments
        Of any type of at most 8 bytes.
    entries : array of int64, shape (n,)

    Returns
    -------
    array of the stored type, shape (n,)
    """
    from abc_dask.matrix.search_loops import gather

    kind = stored.values.dtype
    out = np.empty(len(entries), kind)
    # as bits: types that Numba does not know, such as half floats and foreign byte orders
    bits = f"u{kind.itemsize}"
    gather(stored.values.view(bits), stored.edges, stored.starts, entries, out.view(bits))
    return out


def add_hits(out: NDArray[Any], hits: Hits, values: NDArray[Any]) -> None:
    """Add the values of hits into an array of genes x rows, in storage order.

    Parameters
    ----------
    out : float array, shape (n_genes, n_rows), C order
        Added to in place.
    hits : Hits
    values : array, shape (n_hits,)

    Raises
    ------
    ValueError
        If an integer value is too large for float64.
    """
    from abc_dask.matrix.search_loops import add

    add(out.reshape(-1), hits.cells, exact(values, out.dtype))


def add_column(
    row_indices: NDArray[Any],
    data: NDArray[Any],
    start: int,
    n_rows: int,
    out: NDArray[Any],
) -> None:
    """Add some entries of one CSC column that lie in a row range.

    Parameters
    ----------
    row_indices, data : arrays, shape (n_values,)
        Row and value of each stored entry.
    start : int
        First row of the range; it is as long as `out`.
    n_rows : int
        Rows of the matrix, against which the indices are checked.
    out : array, shape (n_chosen_rows,)
        Added to in place.

    Raises
    ------
    ValueError
        If an index is out of range, or an integer value too large for float64.
    """
    check_range(row_indices, n_rows)
    inside = np.flatnonzero((row_indices >= start) & (row_indices < start + len(out)))
    with np.errstate(over="ignore", invalid="ignore"):
        np.add.at(out, row_indices[inside].astype(np.int64) - start, exact(data[inside], out.dtype))


def check_range(indices: NDArray[Any], length: int) -> None:
    """Raise `ValueError` unless 0 <= index < length for all."""
    if len(indices) and (int(indices.min()) < 0 or int(indices.max()) >= length):
        raise out_of_range(indices[(indices < 0) | (indices >= length)][0], length)


def exact(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Convert values to a float type, refusing integers that it cannot hold."""
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8 and len(values):
        largest = max(int(values.max()), -int(values.min()))
        if largest > _EXACT:
            raise ValueError(f"integer value {largest:,} does not fit a float64 exactly")
    return values.astype(dtype, copy=False)


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
