"""A store out of matrix files, block by block, in this process.

`abc_dask.run` does the same on a cluster, with receipts; the steps are these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.base.errors import StoreError
from abc_dask.matrix.h5ad import MatrixFile, read_indptr
from abc_dask.matrix.index import value_dtype
from abc_dask.matrix.row_reader import RowRange
from abc_dask.store.assemble import Gathered, assemble_shard, gather
from abc_dask.store.description import BLOCK_CELLS, LAYOUTS, SHARD_GENES, StoreInfo, StoreMatrix
from abc_dask.store.layout import Cells, create_values, write_metadata
from abc_dask.store.packing import WideCountsError, pack_block
from abc_dask.store.rows import read_rows
from abc_dask.store.tasks import Begun, Segment, ShardTask, Values, blocks_of

if TYPE_CHECKING:
    import pandas as pd

# Rows of a matrix that are looked at to know what its values are.
_SAMPLE = 64


@dataclass(frozen=True)
class Input:
    """A matrix file as a store takes it in.

    Attributes
    ----------
    dataset_label, feature_matrix_label : str
    matrix : MatrixFile
    genes : array of int32, shape (n_columns,)
        Gene of each column in the store, -1 where it is left out.
    kept : array of bool, shape (n_rows,), or None
        Rows that are wanted; None: all.
    sources : tuple of dict
        Where the file comes from.
    """

    dataset_label: str
    feature_matrix_label: str
    matrix: MatrixFile
    genes: NDArray[np.int32] = field(repr=False)
    kept: NDArray[np.bool_] | None = field(repr=False, default=None)
    sources: tuple[dict[str, Any], ...] = ()

    @property
    def n_cells(self) -> int:
        """Rows that are wanted."""
        return self.matrix.n_rows if self.kept is None else int(self.kept.sum())


def values_of(matrices: Sequence[MatrixFile], normalization: str) -> Values:
    """Look at some rows of every matrix: whether values are made of counts, and their type.

    Counts up to 65,535 are expected; `WideCountsError` tells of larger ones.
    """
    kinds = [are_counts(matrix, normalization) for matrix in matrices]
    return values_as_seen(matrices, normalization, kinds)


def values_as_seen(
    matrices: Sequence[MatrixFile], normalization: str, kinds: Sequence[bool]
) -> Values:
    """Return what values are, where it is known of every matrix whether they are made of counts."""
    dtype = np.result_type(*(value_dtype(np.dtype(matrix.dtype)) for matrix in matrices))
    if kinds and all(kinds):
        return Values("counts", "uint16", normalization, dtype.name)
    return Values("floats", dtype.name, normalization, dtype.name)


def are_counts(matrix: MatrixFile, normalization: str) -> bool:
    """Tell whether nearly all values of some rows are made of counts."""
    from abc_dask.store.counts_loops import count_fits, find_total

    n = fits = 0
    pointers = row_pointers(matrix)
    for start in range(0, matrix.n_rows, max(1, matrix.n_rows // 8)):
        stop = min(start + _SAMPLE // 8, matrix.n_rows)
        for rows in read_rows(matrix, RowRange(start, pointers[start : stop + 1])):
            for low, high in zip(rows.indptr[:-1], rows.indptr[1:], strict=True):
                data = rows.data[low:high]
                data = data[data != 0]
                n += len(data)
                if normalization == "raw":
                    fits += int(((data >= 0) & (data == np.floor(data)) & (data < 2**32)).sum())
                elif total := find_total(data, 0, len(data), True):  # noqa: FBT003
                    some = data[:256]
                    fits += count_fits(some, total)
                    n -= len(data) - len(some)
    return fits >= 0.9 * n


def row_pointers(matrix: MatrixFile) -> NDArray[np.int64]:
    """Return the number of each row's first stored value, and of the one behind all."""
    if matrix.layout != "csr":
        return np.zeros(matrix.n_rows + 1, np.int64)
    return read_indptr(matrix)


def segments_of(inputs: Sequence[Input], folder: Path) -> list[Segment]:
    """Write what tasks must know of each matrix, and return their rows as segments."""
    starts = [0, *accumulate(one.n_cells for one in inputs)]
    found = []
    for number, one in enumerate(inputs):
        slots = folder / f"slots-{number}.npy"
        np.save(slots, one.genes.astype(np.int32))
        kept = ""
        if one.kept is not None:
            kept = str(folder / f"kept-{number}.npy")
            np.save(kept, one.kept)
        pointers = ""
        if one.matrix.layout == "csr":
            pointers = str(folder / f"pointers-{number}.npy")
            np.save(pointers, row_pointers(one.matrix))
        found.append(
            Segment(
                one.matrix, one.feature_matrix_label, 0, one.matrix.n_rows, starts[number],
                one.n_cells, kept, pointers, str(slots),
            )
        )  # fmt: skip
    return found


def absent_genes(inputs: Sequence[Input], n_genes: int) -> NDArray[np.bool_]:
    """Return whether each matrix lacks each gene, shape (n_genes, n_matrices)."""
    absent = np.ones((n_genes, len(inputs)), bool)
    for number, one in enumerate(inputs):
        absent[one.genes[one.genes >= 0], number] = False
    return absent


def matrices_of(inputs: Sequence[Input]) -> tuple[StoreMatrix, ...]:
    """Return which cells of the store belong to which matrix."""
    starts = [0, *accumulate(one.n_cells for one in inputs)]
    return tuple(
        StoreMatrix(
            one.dataset_label, one.feature_matrix_label, starts[k], starts[k + 1], one.sources
        )
        for k, one in enumerate(inputs)
    )


def shard_tasks(
    blocks: Sequence[Path],
    n_genes: int,
    values: Values,
    *,
    block_cells: int,
    n_cells: int,
    layout: str,
    folder: Path,
    store: Path,
    older: Begun | None = None,
) -> list[ShardTask]:
    """Return one task a shard.

    Parameters
    ----------
    blocks : sequence of Path
        Files of all blocks.
    n_genes : int
        Genes of the store.
    values : Values
    block_cells, n_cells : int
    layout : str
    folder : Path
        Where `gather` wrote.
    store : Path
        The unfinished store.
    older : Begun, optional
        Store whose blocks come before these.
    """
    return [
        ShardTask(
            number=number,
            n_genes=n_genes,
            n_cells=n_cells,
            block_cells=block_cells,
            dtype=values.dtype,
            layout=layout,
            blocks=tuple(map(str, blocks)),
            folder=str(folder),
            store=str(store),
            older=older,
        )
        for number in range(-(-n_genes // SHARD_GENES))
    ]


def write_store(
    store: Path,
    inputs: Sequence[Input],
    genes: pd.DataFrame,
    labels: NDArray[np.object_],
    *,
    normalization: str = "log2",
    layout: str = "sharded",
    block_cells: int = BLOCK_CELLS,
    annotations: dict[str, Any] | None = None,
    scratch: Path,
) -> StoreInfo:
    """Make a store here and now.

    Parameters
    ----------
    store : Path
        A folder that does not exist yet.
    inputs : sequence of Input
        In the order of their cells.
    genes : pandas.DataFrame
        gene_identifier, gene_symbol, ... of each gene.
    labels : array of str
        Label of each cell.
    normalization, layout, block_cells
    annotations : dict, optional
        Columns of cells.
    scratch : Path
        Folder for what is needed on the way.

    Raises
    ------
    StoreError
        If it cannot be made.
    """
    require_layout(layout, block_cells)
    held = [one.matrix for one in inputs if one.n_cells]
    if not held:
        raise StoreError("no cell of these matrices is wanted")
    values = values_of(held, normalization)
    segments = segments_of(inputs, scratch)
    try:
        blocks = _pack(segments, block_cells, len(genes), values, scratch)
    except WideCountsError:
        values = Values("counts", "uint32", normalization, values.source_dtype)
        blocks = _pack(segments, block_cells, len(genes), values, scratch)
    n_cells = sum(one.n_cells for one in inputs)
    create_values(store, (n_cells, len(genes)), values, block_cells=block_cells, layout=layout)
    gathered = gather(blocks, block_cells, scratch)
    todo = shard_tasks(
        blocks,
        len(genes),
        values,
        block_cells=block_cells,
        n_cells=n_cells,
        layout=layout,
        folder=scratch,
        store=store,
    )
    shards = [assemble_shard(task) for task in todo]
    info = described(
        values,
        matrices_of(inputs),
        gathered,
        layout=layout,
        block_cells=block_cells,
        provenance={},
    )
    cells = Cells(labels, info.matrices, annotations or {})
    absent = absent_genes(inputs, len(genes))
    return write_metadata(
        store, info, cells=cells, genes=genes, absent=absent, gathered=gathered, shards=shards
    )


def described(
    values: Values,
    matrices: tuple[StoreMatrix, ...],
    gathered: Gathered,
    *,
    layout: str,
    block_cells: int,
    provenance: dict[str, Any],
) -> StoreInfo:
    """Return a store's description, without digests."""
    return StoreInfo(
        n_cells=len(gathered.totals),
        n_genes=len(gathered.present),
        n_values=int(gathered.present.sum()),
        n_patches=len(gathered.patch_genes),
        n_uncertain=int((~gathered.certain).sum()),
        kind=values.kind,
        dtype=values.dtype,
        normalization=values.normalization,
        source_dtype=values.source_dtype,
        layout=layout,
        block_cells=block_cells,
        matrices=matrices,
        provenance=provenance,
    )


def require_layout(layout: str, block_cells: int) -> None:
    """Refuse options that make no store."""
    if layout not in LAYOUTS:
        raise StoreError(f"layout {layout!r} is neither 'sharded' nor 'objects'")
    if block_cells < 64 or block_cells > 65_536 or block_cells % 64:
        raise StoreError(
            f"{block_cells:,} cells a block are not a multiple of 64 between 64 and 65,536"
        )


def _pack(
    segments: list[Segment], block_cells: int, n_genes: int, values: Values, scratch: Path
) -> list[Path]:
    tasks = list(blocks_of(segments, block_cells, n_genes, values))
    blocks = [scratch / f"block-{task.number:05d}" for task in tasks]
    for task, target in zip(tasks, blocks, strict=True):
        pack_block(task, target)
    return blocks
