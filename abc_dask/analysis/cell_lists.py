"""Lists of cells as groups: those of a file, of Python, or of a selection in the explorer."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.base.errors import UsageError
from abc_dask.release.annotation import Annotation
from abc_dask.release.selection import CellChoice

if TYPE_CHECKING:
    from abc_dask.store.gene_store import GeneStore

# What the groups are a column of, in messages and tables.
COLUMN = "cells"

Cells = Iterable[str] | str | Path


@dataclass(frozen=True)
class StoreCells:
    """The cells of a store, as a choice of cells asks for them."""

    store: GeneStore

    @property
    def cells(self) -> StoreCells:
        """The table of cells: the store's own."""
        return self

    @property
    def n_cells(self) -> int:
        """Cells in the store."""
        return self.store.n_cells

    @property
    def source(self) -> str:
        """What messages call it."""
        return self.store.name

    def labels(self) -> pa.Array:
        """Return the label of every cell."""
        return self.store.labels

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a column of the cells.

        Raises
        ------
        UsageError
            If the store has no such column.
        """
        return pa.chunked_array([pa.array(self.store.annotation(name))])


@dataclass(frozen=True)
class CellList:
    """Some cells of a store under a name; small, hashable, picklable.

    Attributes
    ----------
    name : str
    packed : bytes
        A bit for each cell of the store, compressed.
    """

    name: str
    packed: bytes = field(repr=False)

    @classmethod
    def of(cls, name: str, mask: NDArray[np.bool_]) -> CellList:
        """Make a list of a mask, shape (n_cells,)."""
        return cls(name, zlib.compress(np.packbits(mask).tobytes(), 1))

    @classmethod
    def read(cls, store: GeneStore, name: str, cells: Cells, column: str | None) -> CellList:
        """Look up cells in a store.

        Parameters
        ----------
        store : GeneStore
        name : str
            Of a list in Python; a file gives its own.
        cells : path, or iterable of str
            A file of labels, or labels.
        column : str, optional
            Column of the file.

        Raises
        ------
        UsageError
            If a cell is not in the store, or there is none.
        MissingFileError, TableError
            If the file is missing or no list.
        """
        choice = CellChoice.of(None, cells, column)
        assert choice is not None
        if isinstance(cells, str | Path) and str(cells) != "-":
            name = Path(cells).name.partition(".")[0] or name
        return cls.of(name, choice.choose(StoreCells(store)).mask)

    def mask(self, n_cells: int) -> NDArray[np.bool_]:
        """Return which cells are in the list."""
        bits = np.frombuffer(zlib.decompress(self.packed), np.uint8)
        mask: NDArray[np.bool_] = np.unpackbits(bits, count=n_cells).view(np.bool_)
        return mask

    def describe(self) -> dict[str, Any]:
        """Return name and digest, as provenance has them."""
        digest = hashlib.sha256(zlib.decompress(self.packed)).hexdigest()
        return {"name": self.name, "sha256": digest}


def read_lists(
    store: GeneStore, cells: Cells | None, others: Cells | None, column: str | None = None
) -> tuple[CellList, ...]:
    """Read no list, one, or two that are compared.

    Raises
    ------
    UsageError
        If there is only the second one, or no cell of it alone, or as `CellList.read`.
    """
    if cells is None:
        if others is not None or column is not None:
            raise UsageError("name the cells whose markers are wanted (--cells-from)")
        return ()
    first = CellList.read(store, COLUMN, cells, column)
    if others is None:
        return (first,)
    second = CellList.read(store, f"other {COLUMN}", others, column)
    if first.name == second.name:
        first = CellList(COLUMN, first.packed)
        second = CellList(f"other {COLUMN}", second.packed)
    lists = (first, second)
    require_others(lists, store.n_cells)
    return lists


def require_others(lists: Sequence[CellList], n_cells: int) -> None:
    """Raise `UsageError` if all cells of the second list are in the first, to which they belong."""
    first, *others = lists
    if others and not (others[0].mask(n_cells) & ~first.mask(n_cells)).any():
        raise UsageError(
            f"every cell of {others[0].name} is in {first.name}: there is nothing to compare with"
        )


def listed_column(
    store: GeneStore, lists: Sequence[CellList]
) -> tuple[Annotation, NDArray[np.int32]]:
    """Return lists as a column of terms, -1 where a cell is in none; it belongs to the first."""
    codes = np.full(store.n_cells, -1, np.int32)
    for code, cells in reversed(list(enumerate(lists))):
        codes[cells.mask(store.n_cells)] = code
    names = tuple(cells.name for cells in lists)
    missing = int((codes < 0).sum())
    return Annotation(COLUMN, store.name, names, "category", {}, missing), codes
