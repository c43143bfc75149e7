"""Which rows make which block of a store, which blocks which shard: pure, small, picklable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from abc_dask.disk.numpy_file import load_array
from abc_dask.matrix.h5ad import MatrixFile
from abc_dask.matrix.row_reader import RowRange
from abc_dask.store.description import SHARD_GENES


@dataclass(frozen=True)
class Segment:
    """Consecutive rows of one matrix file that stand together in a store.

    Attributes
    ----------
    matrix : MatrixFile
    name : str
        Its feature matrix, for messages.
    start, stop : int
        Rows of the file, half-open.
    first : int
        Cell of the store that the first row that is kept becomes.
    n_cells : int
        Rows that are kept.
    kept : str
        Path of a .npy file of bool for every row of the file; "" where all are kept.
    pointers : str
        Path of a .npy file of int64: number of each row's first stored value, and of the one
        behind all; "" where rows are not stored one after the other.
    slots : str
        Path of a .npy file of int32 for every column of the file: its gene in the store, -1
        where it is left out.
    """

    matrix: MatrixFile
    name: str
    start: int
    stop: int
    first: int
    n_cells: int
    kept: str
    pointers: str
    slots: str

    def rows(self) -> RowRange:
        """Return where its rows lie."""
        if not self.pointers:
            return RowRange(self.start, np.zeros(self.stop - self.start + 1, np.int64))
        pointers = load_array(self.pointers, mmap_mode="r")[self.start : self.stop + 1]
        return RowRange(self.start, np.array(pointers))

    def mask(self) -> NDArray[np.bool_]:
        """Return which of its rows are kept."""
        if not self.kept:
            return np.ones(self.stop - self.start, bool)
        kept: NDArray[np.bool_] = load_array(self.kept, mmap_mode="r")[self.start : self.stop]
        return kept


@dataclass(frozen=True)
class Values:
    """What a store holds of each value.

    Attributes
    ----------
    kind : str
        ``counts``, or ``floats`` where values are not made of counts.
    dtype : str
        NumPy name of the type of X.
    normalization : str
        What the matrix files hold: ``log2`` or ``raw``.
    source_dtype : str
        Type of their values.
    """

    kind: str
    dtype: str
    normalization: str
    source_dtype: str


class Begun(Protocol):
    """A finished store whose cells are the first ones of another (`abc_dask.store.older`)."""

    @property
    def n_cells(self) -> int:
        """Its cells."""

    @property
    def n_whole(self) -> int:
        """Blocks that are taken as they are."""

    def fill(self, columns: NDArray[Any], genes: range) -> None:
        """Write the cells of the block that is open into their columns."""

    def blocks(self, at: int) -> list[memoryview]:
        """Return the whole blocks of a gene, by its position in that store."""

    def whole(self, at: int) -> NDArray[Any]:
        """Return the values of a gene's whole blocks."""


@dataclass(frozen=True)
class PackTask:
    """One block of a store.

    Attributes
    ----------
    number : int
        Position among the blocks, from 0.
    first, n_cells : int
        Its cells in the store.
    block_cells : int
        Cells of a whole block.
    n_genes : int
    values : Values
    segments : tuple of Segment
        Where its cells come from, in order.
    older : Begun, optional
        Store whose last cells are the first ones of this block.
    """

    number: int
    first: int
    n_cells: int
    block_cells: int
    n_genes: int
    values: Values
    segments: tuple[Segment, ...] = field(repr=False)
    older: Begun | None = None


@dataclass(frozen=True)
class ShardTask:
    """Some genes of a store that are put together by one task.

    Attributes
    ----------
    number : int
        Shard: genes from ``number * SHARD_GENES``.
    n_genes : int
        Genes of the store.
    n_cells, block_cells : int
    dtype : str
    layout : str
        ``sharded`` or ``objects``.
    blocks : tuple of str
        Paths of the files of all blocks.
    folder : str
        Where `gather` wrote.
    store : str
        The unfinished store; its X has metadata already.
    older : Begun, optional
        Store whose whole blocks come before those of the files; ``older.npy`` in the folder
        says which of its genes each gene is.
    """

    number: int
    n_genes: int
    n_cells: int
    block_cells: int
    dtype: str
    layout: str
    blocks: tuple[str, ...]
    folder: str
    store: str
    older: Begun | None = None

    @property
    def genes(self) -> range:
        """Genes of this shard."""
        first = self.number * SHARD_GENES
        return range(first, min(first + SHARD_GENES, self.n_genes))

    @property
    def block_bytes(self) -> int:
        """Bytes of a whole block when decoded."""
        return self.block_cells * np.dtype(self.dtype).itemsize


def blocks_of(
    segments: list[Segment],
    block_cells: int,
    n_genes: int,
    values: Values,
    older: Begun | None = None,
) -> Iterator[PackTask]:
    """Cut the rows of matrices into blocks of the store's cells.

    Every row that is kept is in just one block, in order; all blocks but the last have
    `block_cells` cells.

    Parameters
    ----------
    segments : list of Segment
        Whole matrices, or what is wanted of them; `first` of each follows on the one before.
    block_cells : int
    n_genes : int
    values : Values
    older : Begun, optional
        Store whose cells come first; the block that they leave open is filled up.
    """
    held: list[Segment] = []
    at = 0 if older is None else older.n_cells
    number, n_held = divmod(at, block_cells)
    begun = older if n_held else None
    for segment in segments:
        rows = np.flatnonzero(segment.mask())
        done = 0
        while done < len(rows):
            n = min(block_cells - n_held, len(rows) - done)
            begin = segment.start + int(rows[done])
            end = segment.start + int(rows[done + n - 1]) + 1
            held.append(replace(segment, start=begin, stop=end, first=at, n_cells=n))
            done, n_held, at = done + n, n_held + n, at + n
            if n_held == block_cells:
                yield PackTask(
                    number, at - n_held, n_held, block_cells, n_genes, values, tuple(held), begun
                )
                number, n_held, held, begun = number + 1, 0, [], None
    if held:
        first = at - n_held
        yield PackTask(number, first, n_held, block_cells, n_genes, values, tuple(held), begun)
