"""The cells of a finished store as the first ones of another: bytes of whole blocks as they are.

Only the block that they leave open is packed anew, with the first cells that come behind them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.base.errors import StoreError
from abc_dask.disk.numpy_file import load_array
from abc_dask.store.assemble import Gathered
from abc_dask.store.blosc import decode_frame, part_of
from abc_dask.store.blosc import pack_block as pack_values
from abc_dask.store.gene_store import GeneStore, open_store


@dataclass(frozen=True)
class Older:
    """A finished store whose cells begin another one.

    Attributes
    ----------
    path : str
    digest : str
        That of its description.
    n_cells, block_cells : int
    dtype : str
        Type of X, of both stores.
    genes : str
        Path of a .npy file of int64: for each gene of the new store its position in the older
        one, -1 where that lacks it.
    """

    path: str
    digest: str
    n_cells: int
    block_cells: int
    dtype: str
    genes: str

    @property
    def n_whole(self) -> int:
        """Blocks that are taken as they are."""
        return self.n_cells // self.block_cells

    @property
    def store(self) -> GeneStore:
        """The store.

        Raises
        ------
        StoreError
            If it is another one by now.
        """
        store = _opened(self.path, self.digest)
        if store.digest != self.digest:
            raise StoreError(
                f"{self.path} is another store than when this was begun; remove the unfinished "
                "store and run the command again"
            )
        return store

    def positions(self) -> NDArray[np.int64]:
        """Read the position in the older store of each gene."""
        positions: NDArray[np.int64] = load_array(self.genes)
        return positions

    def fill(self, columns: NDArray[Any], genes: range) -> None:
        """Write the cells of the block that is open into their columns.

        Parameters
        ----------
        columns : array, shape (n_genes, n), n at least the cells that the block has of it
        genes : range
            Genes of the new store.
        """
        first = self.n_whole * self.block_cells
        n = self.n_cells - first
        for column, at in zip(
            columns, _positions(self.genes)[genes.start : genes.stop], strict=True
        ):
            column[:n] = self._values(int(at), first, n)

    def blocks(self, at: int) -> list[memoryview]:
        """Return the whole blocks of a gene, by its position in the older store."""
        if at < 0:
            values = self._values(at, 0, self.block_cells)
            block = pack_values(values, self.block_cells * values.itemsize)
            return [memoryview(block)] * self.n_whole
        frame = self.store.frame(at)
        n_blocks = -(-self.n_cells // self.block_cells)
        starts = [*np.frombuffer(frame, "<i4", n_blocks, 16).tolist(), len(frame)]
        return [memoryview(frame)[starts[k] : starts[k + 1]] for k in range(self.n_whole)]

    def whole(self, at: int) -> NDArray[Any]:
        """Return the values of a gene's whole blocks, as the older store holds them."""
        return self._values(at, 0, self.n_whole * self.block_cells)

    def _values(self, at: int, first: int, n: int) -> NDArray[Any]:
        dtype = np.dtype(self.dtype)
        if at < 0:
            return np.full(n, np.nan if dtype.kind == "f" else 0, dtype)
        out = np.empty(n, dtype)
        if n:
            size = dtype.itemsize
            frame = self.store.frame(at)
            decode_frame(part_of(frame, first * size, n * size, self.n_cells * size), out)
        return out

    def joined(self, behind: Gathered, genes: NDArray[np.int64]) -> Gathered:
        """Return what is known of all cells.

        Parameters
        ----------
        behind : Gathered
            Of the blocks that were packed; the first one begins with cells of this store.
        genes : array of int64
            Position of each gene in the older store.
        """
        store = self.store
        first = self.n_whole * self.block_cells
        here = genes >= 0
        present = behind.present.copy()
        present[here] += store.genes["n_cells"].to_numpy()[genes[here]]
        slots = np.full(store.n_genes, -1)
        slots[genes[here]] = np.flatnonzero(here)
        cells, old, values = store.patches()
        of_genes = np.concatenate([slots[old], behind.patch_genes])
        order = np.argsort(of_genes, kind="stable")
        order = order[of_genes[order] >= 0]
        return Gathered(
            present=present,
            totals=np.concatenate([store.totals, behind.totals[self.n_cells - first :]]),
            certain=np.concatenate([store.certain, behind.certain[self.n_cells - first :]]),
            patch_genes=of_genes[order],
            patch_cells=np.concatenate([cells, behind.patch_cells + first])[order],
            patch_values=np.concatenate([values, behind.patch_values])[order],
        )


@lru_cache(maxsize=2)
def _opened(path: str, _digest: str) -> GeneStore:
    return open_store(Path(path))


@lru_cache(maxsize=2)
def _positions(path: str) -> NDArray[np.int64]:
    positions: NDArray[np.int64] = load_array(path)
    return positions
