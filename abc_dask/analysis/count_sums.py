"""Sums of counts by groups of cells, several genes at a time and some blocks of cells of each.

What is known of these cells and what is decoded of a gene stay in the processor's cache: a gene of
all cells does not fit there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from abc_dask.analysis import count_loops as loops
from abc_dask.analysis.cell_groups import CellGroups, Grouping
from abc_dask.analysis.gene_values import GeneReader, GeneValues, once, opened
from abc_dask.analysis.precomputed import COUNTS, SummedGene
from abc_dask.store.counts import log2_values
from abc_dask.store.gene_store import GeneStore
from abc_dask.store.plane_loops import MORE
from abc_dask.store.reading import GeneBlocks

# Counts that come with the sums.
_COUNTS = ("gt0", "gt1")

# Cells of which all genes are looked at before the next ones.
_CELLS = 1 << 18

# Bytes of compressed genes, and of their sums, that are in memory.
_FRAME_BYTES = 16 << 20
_SUM_BYTES = 64 << 20

# Up to so many groups each has several sums.
_FEW_GROUPS = 16
_LANES = 8


def are_counts_known(store: GeneStore, normalization: str) -> bool:
    """Tell whether a store has counts that may be summed up for a normalization."""
    info = store.info
    is_known = normalization in {"log2", info.normalization} or not info.n_uncertain
    return info.kind == "counts" and is_known


@dataclass(frozen=True)
class CellRecords:
    """What is known of a store's cells, each in one line of the cache.

    Attributes
    ----------
    groups : CellGroups
    normalization : str
    least : float
        The smallest value that a count may have.
    known : abc_dask.analysis.count_loops.Known
        Cells in no group are in one behind the last.
    """

    groups: CellGroups
    normalization: str
    least: float
    known: loops.Known = field(repr=False)

    def have(self, names: Collection[str]) -> bool:
        """Tell whether some of `COUNTS` come with the sums, or are of all values above 0."""
        limits = {name: count for count, name in COUNTS.items()}
        return all(
            limits[name][1] < self.least or limits[name] == ("ge", self.least)
            for name in names
            if name not in _COUNTS
        )


@once
def cell_records(
    path: str,
    digest: str,
    grouping: Grouping,
    apart: tuple[int, ...] | None,
    normalization: str,
) -> CellRecords:
    """Look up what is known of a store's cells, once a process; 16 bytes a cell."""
    store, groups = opened(path, digest, grouping, apart)
    n_groups, is_log2 = len(groups.cells), normalization == "log2"
    records = np.empty((store.n_cells, loops.RECORD), np.uint32)
    values = records.view(np.float32)
    records[:, 0] = np.where(groups.codes < 0, n_groups, groups.codes)
    for count in range(1, loops.RECORD):
        values[:, count] = count
        if is_log2:
            values[:, count] = log2_values(np.full(store.n_cells, count, np.uint16), store.totals)
    totals = store.totals if is_log2 else store.totals[:0]
    lanes = _LANES if n_groups <= _FEW_GROUPS else 1
    ones = values[store.totals > 0, 1] if is_log2 else values[:1, 1]
    least = float(ones.min(initial=np.inf))
    known = loops.Known(records.reshape(-1), values.reshape(-1), totals, lanes)
    return CellRecords(groups, normalization, least, known)


class CountSums:
    """Sums up genes by groups of cells.

    Parameters
    ----------
    store : GeneStore
        Of counts: see `are_counts_known`.
    records : CellRecords
    genes : sequence of int
        Those that will be read, in this order.
    names : collection of str
        Some of `COUNTS`, which the records have.
    """

    def __init__(
        self, store: GeneStore, records: CellRecords, genes: Sequence[int], names: Collection[str]
    ) -> None:
        self._store, self._all, self._names = store, records, names
        self._known = records.known
        self.n_groups = len(records.groups.cells)
        self._genes = genes
        info = store.info
        dtype, self._block = np.dtype(info.dtype), info.block_cells
        self._whole = store.n_cells // self._block
        self._step = max(1, _CELLS // self._block)
        most = min(self._step, self._whole) * self._block
        self._rest = np.empty(store.n_cells % self._block, dtype)
        self._found = memory(most + len(self._rest))
        shape = ((self.n_groups + 1) * self._known.lanes, loops.SUMS)
        n_bytes = 8 * (shape[0] * shape[1] + 6 * self.n_groups)
        n_sums = max(1, min(len(self._genes), _SUM_BYTES // n_bytes))
        self._sums = np.empty((n_sums, *shape))
        self._held = np.empty((n_sums, self.n_groups), np.int64)
        self._moments = np.empty((n_sums, 3, self.n_groups))
        self._above = np.empty((n_sums, len(_COUNTS), self.n_groups), np.int64)
        self._are_exact = np.empty(n_sums, np.bool_)
        self._ranks: dict[int, int] = {}

    def read(self, gene: int) -> SummedGene | GeneValues:
        """Sum up a gene by its position.

        One with patches, or whose sums are not exact, is read value by value.

        Raises
        ------
        StoreError
            If its bytes are damaged.
        """
        if self._is_patched(gene):
            return self._values.read(gene)
        if gene not in self._ranks:
            self._sum_up(self._together(gene))
        rank = self._ranks[gene]
        if not self._are_exact[rank]:
            return self._values.read(gene)
        above, above_one = self._above[rank]
        counts = {name: above_one if name == "gt1" else above for name in self._names}
        return SummedGene(self._held[rank], self._moments[rank], counts)

    def _is_patched(self, gene: int) -> bool:
        return self._store.info.n_patches > 0 and len(self._store.axes.patches(gene)[0]) > 0

    @cached_property
    def _values(self) -> GeneReader:
        return GeneReader(self._store, self._all.groups, self._all.normalization)

    def _together(self, gene: int) -> list[GeneBlocks]:
        """Read a gene and those behind it, as far as they may be in memory; none out of order."""
        first = self._genes.index(gene)
        found: list[GeneBlocks] = []
        n_bytes = 0
        for one in self._genes[first : first + len(self._sums)]:
            n_bytes += self._store.axes.chunk(one).size
            if found and (n_bytes > _FRAME_BYTES or self._is_patched(one)):
                break
            found.append(self._store.blocks(one))
        self._ranks = {self._genes[first + rank]: rank for rank in range(len(found))}
        return found

    def _sum_up(self, genes: Sequence[GeneBlocks]) -> None:
        """Sum up some genes, all of them in some cells before the next cells."""
        self._count_held(list(self._ranks))
        self._sums[: len(genes)] = 0
        for first in range(0, max(self._whole, 1), self._step):
            stop = min(first + self._step, self._whole)
            rest = self._rest if stop == self._whole else self._rest[:0]
            for gene, sums in zip(genes, self._sums, strict=False):
                planes = gene.planes(first, stop, rest)
                begin, own = first * self._block, self._found
                n = loops.sum_up(planes, rest, begin, self._known, own, sums)
                if n:
                    log2_values(own.counts[:n], own.totals[:n], own.values[:n])
                    loops.add_values(n, self._known, own, sums)
        loops.moments_of(
            self._sums[: len(genes)], self._known.lanes, self._held, self._moments, self._above,
            self._are_exact,
        )  # fmt: skip

    def _count_held(self, genes: Sequence[int]) -> None:
        """Count the values that each group has of some genes."""
        absent, groups = self._store.axes.absent[genes], self._all.groups
        self._held[: len(genes)] = groups.cells
        for rank in np.flatnonzero(absent.any(axis=1)):
            self._held[rank] = groups.held(absent[rank])


def memory(n_cells: int) -> loops.Found:
    """Return memory for so many cells."""
    n = n_cells + MORE
    return loops.Found(
        small=np.empty(n, np.uint32),
        cells=np.empty(n, np.uint32),
        counts=np.empty(n, np.uint32),
        values=np.empty(n),
        totals=np.empty(n, np.uint32),
        ties=np.empty(1, np.int64),
        doubt=np.empty(n, np.bool_),
    )
