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
from abc_dask.store.block_file import Packed
from abc_dask.store.blosc import pack_block as pack_values
from abc_dask.store.blosc import pack_planes
from abc_dask.store.counts import CERTAIN, exact_count
from abc_dask.store.rows import Rows, read_rows
from abc_dask.store.tasks import PackTask, Segment

# Genes that are written out of an arena at a time: their bits lie in one line of the cache.
_TOGETHER = 8

# Bytes of blocks that are written at a time.
_BUFFER = 1 << 20


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
    with target.open("wb", buffering=_BUFFER) as file:
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

    def require_columns(self) -> None:
        """Raise `DamagedFileError` for a column that is out of range; they rise in each row."""
        indptr, indices, n_columns = self.rows.indptr, self.rows.indices, len(self.slots)
        held = (self.cells >= 0) & (indptr[1:] > indptr[:-1])
        least, most = indices[indptr[:-1][held]], indices[indptr[1:][held] - 1]
        if (least < 0).any() or (most >= n_columns).any():
            last = self.rows.first + len(indptr) - 2
            raise DamagedFileError(
                f"{self.segment.matrix.path}: rows {self.rows.first:,} to {last:,} hold a column "
                f"that is not between 0 and {n_columns - 1:,}; bring the file again"
            )

    def no_count(self, at: int) -> StoreError:
        """Return what to raise for a raw value that is no count."""
        rows = self.rows
        row = rows.first + int(np.searchsorted(rows.indptr, at, "right")) - 1
        return StoreError(
            f"{self.segment.matrix.path}: row {row:,}, column {int(rows.indices[at]):,} "
            f"holds {rows.data[at]}, which is no count; build the store from log2 values"
        )


# Which cells lack which genes.
_Absent = tuple[slice, NDArray[np.bool_]]


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
        self.counts, self.odd = np.zeros(0, np.uint32), np.zeros((0, 3), np.int64)
        self.planes, self.nothing = np.zeros((0, 0, 0), np.uint64), b""
        self.used = np.zeros(_TOGETHER, np.int64)

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
        for rows in read_rows(segment.matrix, segment.rows(), kept):
            first = rows.first - segment.start
            here = cells[first : first + len(rows.indptr) - 1]
            self._push_rows(_Given(segment, rows, here, slots), arena)

    def _push_rows(self, given: _Given, arena: Arena) -> None:
        from abc_dask.store.packing_loops import FULL, push

        given.require_columns()
        n = push(
            given.rows.indptr, given.rows.indices, self._items(given, arena), given.cells,
            given.slots, arena.low, arena.bits, arena.pages, arena.links, arena.tails, arena.state,
        )  # fmt: skip
        if n == FULL:
            raise _FullError

    def _items(self, given: _Given, arena: Arena) -> NDArray[Any]:
        """Return values as the unsigned integers that wait in an arena; 0 for nothing."""
        from abc_dask.store.recover_loops import check_counts, recover_log2

        rows, cells = given.rows, given.cells
        if not self.is_counts:
            return rows.data.astype(self.dtype, copy=False).view(_unsigned(self.dtype))
        n = len(rows.data)
        if len(self.counts) < n:
            # used again; memory that is not touched is not there
            self.counts, self.odd = np.empty(n, np.uint32), np.empty((n, 3), np.int64)
        counts = self.counts[:n]
        if self.task.values.normalization == "raw":
            wrong = check_counts(rows.indptr, rows.data, cells, self.totals, counts)
            if wrong >= 0:
                raise given.no_count(wrong)
            return counts
        n_odd = recover_log2(
            rows.indptr, rows.data, cells, self.totals, self.fits, counts, self.odd
        )
        if n_odd:
            self._keep_odd(given, self.odd[:n_odd], range(arena.low, arena.high))
        return counts

    def _keep_odd(self, given: _Given, odd: NDArray[np.int64], held: range) -> None:
        """Keep values without a count as patches; but decide on near ties by exact arithmetic."""
        from abc_dask.store.counts_loops import NEAR_TIE

        at, cells, said = odd.T
        genes = given.slots[given.rows.indices[at]].astype(np.int64)
        ours = (genes >= held.start) & (genes < held.stop)
        patches = np.stack([genes, cells, said], axis=1)[ours]
        values = given.rows.data[at[ours]]
        for k in np.flatnonzero(patches[:, 2] == NEAR_TIE).tolist():
            value, total = float(values[k]), int(self.totals[patches[k, 1]])
            if float(np.float32(value)) == value:
                patches[k, 2] = exact_count(value, total)
        left = patches[:, 2] <= 0
        # a count cannot be appended behind those of later cells: it goes the way of patches,
        # and into its column when that is written
        self.late = np.concatenate([self.late, patches[~left]])
        self.patches.append(patches[left])
        self.patch_values.append(values[left].astype(self.task.values.source_dtype))

    def _write(self, arena: Arena, file: BinaryIO) -> None:
        """Write the blocks of the genes that an arena holds."""
        late, self.late = self.late, self.late[:0]
        absent = self._absent(arena.low, arena.high)
        is_whole = self.task.n_cells == self.task.block_cells
        make = self._planes if self.is_counts and is_whole and not self.task.older else self._dense
        sizes: list[int] = []
        for first in range(arena.low, arena.high, _TOGETHER):
            genes = range(first, min(first + _TOGETHER, arena.high))
            here = late
            if len(late):
                here = late[(late[:, 0] >= genes.start) & (late[:, 0] < genes.stop)]
            blocks = make(arena, genes, here, absent)
            file.write(b"".join(blocks))
            sizes += map(len, blocks)
        before = self.ends[arena.low - 1] if arena.low else 0
        self.ends[arena.low : arena.high] = before + np.cumsum(sizes)

    def _planes(
        self, arena: Arena, genes: range, late: NDArray[np.int64], _absent: list[_Absent]
    ) -> list[bytes]:
        """Pack whole blocks of counts, which go through the arena alone."""
        from abc_dask.store.packing_loops import take_planes
        from abc_dask.store.plane_loops import weigh_rows

        if not len(self.planes):
            shape = (_TOGETHER, 8 * self.dtype.itemsize, self.task.block_cells // 64)
            self.planes = np.empty(shape, np.uint64)
        planes, used = self.planes[: len(genes)], self.used[: len(genes)]
        here = slice(genes.start, genes.stop)
        largest = take_planes(
            genes.start - arena.low, arena.bits, arena.heads, arena.pages, arena.links, planes,
            used, self.present[here],
        )  # fmt: skip
        for gene, cell, count in late.tolist():
            k = gene - genes.start
            self.present[gene] += 1
            largest = max(largest, count)
            planes[k, used[k] :] = 0
            used[k] = max(int(used[k]), min(count.bit_length(), planes.shape[1]))
            for bit in range(used[k]):
                planes[k, bit, cell >> 6] |= np.uint64((count >> bit & 1) << (cell & 63))
        self._require_width(largest)
        weigh_rows(planes, used, self.sums[here])
        found = []
        for own, n_used, n in zip(planes, used.tolist(), self.present[here].tolist(), strict=True):
            if n:
                found.append(pack_planes(own, n_used))
            else:
                self.nothing = self.nothing or pack_planes(own, n_used)
                found.append(self.nothing)
        return found

    def _dense(
        self, arena: Arena, genes: range, late: NDArray[np.int64], absent: list[_Absent]
    ) -> list[bytes]:
        """Pack blocks of any kind by way of their columns."""
        from abc_dask.store import plane_loops as loops
        from abc_dask.store.packing_loops import take

        task, here = self.task, slice(genes.start, genes.stop)
        at = slice(genes.start - arena.low, genes.stop - arena.low)
        columns = np.zeros((len(genes), -(-task.n_cells // 64) * 64), self.dtype)
        for cells, lacks in absent:
            columns[lacks[at], cells] = np.nan
        bits = columns.view(_unsigned(self.dtype))
        largest = take(at.start, arena.bits, arena.heads, arena.pages, arena.links, bits)
        if self.is_counts:
            for gene, cell, count in late.tolist():
                columns[gene - genes.start, cell] = count
                largest = max(largest, count)
            self._require_width(largest)
        n_older = 0
        if task.older is not None:
            n_older = task.older.n_cells - task.first
            task.older.fill(columns, genes)
        # those of an older store are counted there
        loops.count_cells(columns[:, n_older : task.n_cells], self.present[here])
        for cells, lacks in absent:  # what is absent is no value
            self.present[here] -= lacks[at] * (cells.stop - cells.start)
        planes = np.empty((8 * self.dtype.itemsize, columns.shape[1] // 64), np.uint64)
        for gene, column in zip(genes, bits, strict=True):
            loops.weigh_column(column, len(column), planes.reshape(-1), self.sums[gene : gene + 1])
        block_bytes = task.block_cells * self.dtype.itemsize
        return [pack_values(column[: task.n_cells], block_bytes) for column in columns]

    def _require_width(self, largest: int) -> None:
        if largest > np.iinfo(self.dtype).max:
            raise WideCountsError(f"a count of {largest:,} does not fit {self.dtype}")

    def _absent(self, low: int, high: int) -> list[_Absent]:
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
