"""A block of cells -> for every gene one Blosc block.

A task reads the rows of one block of the store's cells, out of one matrix file or several, and
writes one file (`abc_dask.store.block_file`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from abc_dask.base.errors import DamagedFileError, StoreError
from abc_dask.disk.numpy_file import load_array
from abc_dask.store.arena import Arena, memory, most_genes
from abc_dask.store.block_file import Packed, weigh_columns
from abc_dask.store.blosc import pack_block as pack_values
from abc_dask.store.counts import CERTAIN, exact_count
from abc_dask.store.rows import Rows, read_rows
from abc_dask.store.tasks import PackTask, Segment

# Genes that are written out of an arena at a time: their bits lie in one line of the cache.
_TOGETHER = 8


class WideCountsError(StoreError):
    """A count does not fit 16 bits: the store must be made with 32."""


@dataclass(frozen=True)
class PackCounts:
    """What a task tells of its work.

    Attributes
    ----------
    n_values, n_patches : int
        Values that are not zero, and those of them that are patches.
    n_uncertain : int
        Cells whose counts are not certain.
    seconds : float
        Time of the task.
    """

    n_values: int
    n_patches: int
    n_uncertain: int
    seconds: float


def pack_block(task: PackTask, target: Path) -> PackCounts:
    """Read the cells of one block and write their values gene by gene.

    Parameters
    ----------
    task : PackTask
    target : Path
        File to write.

    Raises
    ------
    DamagedFileError
        If a matrix file changed, cannot be read, or holds nonsense.
    WideCountsError
        If a count does not fit the type of X.
    StoreError
        If raw counts are no whole numbers.
    """
    began = time.perf_counter()
    packing = _Packing(task)
    with target.open("wb") as file:
        packed = packing.run(file)
        packed.save(file)
    return PackCounts(
        n_values=int(packed.present.sum()) + len(packed.patch_genes),
        n_patches=len(packed.patch_genes),
        n_uncertain=int((~packed.certain).sum()),
        seconds=time.perf_counter() - began,
    )


@dataclass(frozen=True)
class _Given:
    """Rows for the loops: their cells in the block, and the genes of their columns."""

    segment: Segment
    rows: Rows
    cells: NDArray[np.int64]
    slots: NDArray[np.int32]

    def arrays(self, data: NDArray[Any]) -> tuple[Any, Any, Any, Any, Any]:
        """Return what all loops begin with."""
        return self.rows.indptr, self.rows.indices, data, self.cells, self.slots


class _FullError(Exception):
    """The genes asked for do not fit the arena."""


class _Packing:
    """The work of one task."""

    def __init__(self, task: PackTask) -> None:
        self.task = task
        self.dtype = np.dtype(task.values.dtype)
        n_cells, n_genes = task.n_cells, task.n_genes
        self.ends = np.zeros(n_genes, np.int64)
        self.sums = np.zeros(n_genes, np.uint64)
        self.present = np.zeros(n_genes, np.int64)
        self.totals = np.zeros(n_cells, np.uint32)
        self.fits = np.full((n_cells, 3), -1, np.int32)
        self.patches: list[NDArray[np.int64]] = []
        self.patch_values: list[NDArray[Any]] = []
        self.late = np.zeros((0, 3), np.int64)

    @property
    def is_counts(self) -> bool:
        return self.task.values.kind == "counts"

    def run(self, file: BinaryIO) -> Packed:
        """Go through the rows as often as memory asks for, for some genes at a time."""
        n_genes = self.task.n_genes
        itemsize = 1 if self.is_counts else self.dtype.itemsize
        most = min(n_genes, most_genes(self.task.block_cells, itemsize))
        low = 0
        while low < n_genes:
            high = min(low + most, n_genes)
            try:
                self._pack_genes(low, high, file)
            except _FullError:
                if most == 1:
                    raise StoreError(
                        f"one gene of {self.task.n_cells:,} cells does not fit the memory of a "
                        "task; make the store with a smaller --block-cells"
                    ) from None
                most = -(-(high - low) // 2)
                continue
            low = high
        n, hits, unclear = self.fits.T
        is_log2 = self.is_counts and self.task.values.normalization == "log2"
        certain = (
            (hits >= CERTAIN) & (4 * hits.astype(np.int64) >= 3 * n) & (unclear <= 0) | (n == 0)
            if is_log2
            else np.ones(len(n), bool)
        )
        where = np.concatenate([np.zeros((0, 3), np.int64), *self.patches])
        values = np.concatenate([np.zeros(0, self.task.values.source_dtype), *self.patch_values])
        order = np.lexsort((where[:, 1], where[:, 0]))
        return Packed(
            ends=self.ends,
            sums=self.sums,
            present=self.present,
            totals=self.totals,
            certain=certain,
            patch_genes=where[order, 0],
            patch_cells=where[order, 1],
            patch_values=values[order],
        )

    def _pack_genes(self, low: int, high: int, file: BinaryIO) -> None:
        bits = np.dtype(np.uint8) if self.is_counts else _unsigned(self.dtype)
        arena = Arena(self.task.block_cells, range(low, high), bits, memory())
        before = self.fits.copy(), self.totals.copy(), len(self.patches)
        try:
            for segment in self.task.segments:
                self._push(segment, arena)
        except _FullError:
            self.fits, self.totals = before[:2]
            del self.patches[before[2] :], self.patch_values[before[2] :]
            self.late = self.late[:0]
            raise
        self._write(arena, file)

    def _push(self, segment: Segment, arena: Arena) -> None:
        slots = load_array(segment.slots)
        kept = segment.mask()
        number = np.cumsum(kept) - 1 + segment.first - self.task.first
        cells = np.where(kept, number, -1)
        if int(kept.sum()) != segment.n_cells:
            raise StoreError(f"{segment.kept} does not fit the plan; remove the unfinished store")
        push = {
            ("counts", "log2"): self._push_log2,
            ("counts", "raw"): self._push_counts,
        }.get((self.task.values.kind, self.task.values.normalization), self._push_floats)
        for rows in read_rows(segment.matrix, segment.rows(), kept):
            first = rows.first - segment.start
            here = cells[first : first + len(rows.indptr) - 1]
            push(_Given(segment, rows, here, slots), arena)

    def _push_log2(self, given: _Given, arena: Arena) -> None:
        from abc_dask.store.packing_loops import push_log2

        # all of it at most; memory that is not touched is not there
        most = len(given.rows.data)
        patches, values = np.empty((most, 3), np.int64), np.empty(most, given.rows.data.dtype)
        arena.state[1] = 0
        n = push_log2(
            *given.arrays(given.rows.data), arena.low, arena.high,
            arena.bits, arena.pages, arena.links, arena.tails, arena.state,
            self.totals, self.fits, patches, values,
        )  # fmt: skip
        _check(n, given, arena)
        if not n:
            return
        patches, values = patches[:n], values[:n]
        patches = self._settled(patches, values)
        left = patches[:, 2] <= 0
        self.patches.append(patches[left])
        self.patch_values.append(values[left].astype(self.task.values.source_dtype))

    def _settled(self, patches: NDArray[np.int64], values: NDArray[Any]) -> NDArray[np.int64]:
        """Decide by exact arithmetic on values next to the middle of two float32."""
        patches = patches.copy()
        for k in np.flatnonzero(patches[:, 2] == -1).tolist():
            value, total = float(values[k]), int(self.totals[patches[k, 1]])
            if float(np.float32(value)) == value:
                patches[k, 2] = exact_count(value, total)
        # a count cannot be appended behind those of later cells: it goes the way of patches,
        # and into its column when that is written
        settled = patches[patches[:, 2] > 0]
        self.late = np.concatenate([self.late, settled])
        return patches

    def _push_counts(self, given: _Given, arena: Arena) -> None:
        from abc_dask.store.packing_loops import push_counts

        n = push_counts(
            *given.arrays(given.rows.data), arena.low, arena.high,
            arena.bits, arena.pages, arena.links, arena.tails, arena.state, self.totals,
        )  # fmt: skip
        _check(n, given, arena)

    def _push_floats(self, given: _Given, arena: Arena) -> None:
        from abc_dask.store.packing_loops import push_floats

        data = given.rows.data.astype(self.dtype, copy=False).view(_unsigned(self.dtype))
        n = push_floats(
            *given.arrays(data), arena.low, arena.high,
            arena.bits, arena.pages, arena.links, arena.tails, arena.state,
        )  # fmt: skip
        _check(n, given, arena)

    def _write(self, arena: Arena, file: BinaryIO) -> None:
        """Write the blocks of the genes that an arena holds."""
        low, high = arena.low, arena.high
        task = self.task
        block_bytes = task.block_cells * self.dtype.itemsize
        late, self.late = self.late, self.late[:0]
        absent = self._absent(low, high)
        nothing = b""
        for first in range(low, high, _TOGETHER):
            last = min(first + _TOGETHER, high)
            columns = self._columns(arena, range(first, last), late, absent)
            for k, gene in enumerate(range(first, last)):
                values = columns[k, : task.n_cells]
                if self.present[gene] or absent or task.older is not None:
                    block = pack_values(values, block_bytes)
                else:
                    block = nothing = nothing or pack_values(values, block_bytes)
                file.write(block)
                self.ends[gene] = (self.ends[gene - 1] if gene else 0) + len(block)

    def _columns(
        self,
        arena: Arena,
        genes: range,
        late: NDArray[np.int64],
        absent: list[tuple[slice, NDArray[np.bool_]]],
    ) -> NDArray[Any]:
        from abc_dask.store import packing_loops as loops
        from abc_dask.store.weigh_loops import count_cells

        task = self.task
        first, last, at = genes.start, genes.stop, genes.start - arena.low
        shape = (len(genes), -(-task.block_cells // 64) * 64)
        if self.is_counts:
            columns = np.empty(shape, self.dtype)
            largest = loops.take_counts(
                at, arena.bits, arena.heads, arena.pages, arena.links, columns
            )
            for gene, cell, count in late[(late[:, 0] >= first) & (late[:, 0] < last)].tolist():
                columns[gene - first, cell] = count
                largest = max(largest, count)
            if largest > np.iinfo(self.dtype).max:
                raise WideCountsError(f"a count of {largest:,} does not fit {self.dtype}")
        else:
            columns = np.zeros(shape, self.dtype)
            for cells, lacks in absent:
                columns[lacks[at : at + len(genes)], cells] = np.nan
            bits = columns.view(_unsigned(self.dtype))
            loops.take_floats(at, arena.bits, arena.heads, arena.pages, arena.links, bits)
        n_older = 0
        if task.older is not None:
            n_older = task.older.n_cells - task.first
            task.older.fill(columns, genes)
        values = columns[:, : task.n_cells]
        # those of an older store are counted there
        count_cells(values[:, n_older:], self.present[first:last])
        for cells, lacks in absent:  # what is absent is no value
            self.present[first:last] -= lacks[at : at + len(genes)] * (cells.stop - cells.start)
        weigh_columns(values, self.sums[first:last])
        return columns

    def _absent(self, low: int, high: int) -> list[tuple[slice, NDArray[np.bool_]]]:
        """Return which cells lack which genes, where X itself says so."""
        if self.is_counts:
            return []
        found = []
        for segment in self.task.segments:
            slots = load_array(segment.slots)
            lacks = np.ones(self.task.n_genes, bool)
            lacks[slots[slots >= 0]] = False
            first = segment.first - self.task.first
            if lacks[low:high].any():
                found.append((slice(first, first + segment.n_cells), lacks[low:high]))
        return found


def _unsigned(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(f"u{dtype.itemsize}")


def _check(n: int, given: _Given, arena: Arena) -> None:
    """Raise what a loop returned in place of a number."""
    from abc_dask.store.packing_loops import FULL, NO_COUNT, OUT_OF_RANGE

    segment, rows = given.segment, given.rows
    if n == FULL:
        raise _FullError
    last = rows.first + len(rows.indptr) - 2
    if n == OUT_OF_RANGE:
        raise DamagedFileError(
            f"{segment.matrix.path}: rows {rows.first:,} to {last:,} hold a column that is not "
            f"between 0 and {segment.matrix.n_columns - 1:,}; bring the file again"
        )
    if n == NO_COUNT:
        row, at = arena.state[2:4].tolist()
        raise StoreError(
            f"{segment.matrix.path}: row {rows.first + row:,}, column {int(rows.indices[at]):,} "
            f"holds {rows.data[at]}, which is no count; build the store from log2 values"
        )
