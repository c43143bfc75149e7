"""A row block and genes -> one partition; the delayed tasks; the Dask DataFrame.

A task carries paths, ranges, gene positions and the file's fingerprint. It opens what it
needs and closes it; nothing is kept in a worker's memory between tasks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.base.columns import CELL_LABEL
from abc_dask.base.errors import DamagedFileError, UnavailableFileError
from abc_dask.disk.failures import again
from abc_dask.disk.kept_table import read_cached_rows
from abc_dask.matrix.h5py_reader import MatrixReader, open_matrix
from abc_dask.matrix.kernels import Lookup, add_column, add_hits, exact
from abc_dask.matrix.open_rows import open_rows
from abc_dask.matrix.row_reader import RowRange
from abc_dask.plan.blocks import RowBlock
from abc_dask.plan.plan import Plan, PlannedMatrix
from abc_dask.plan.row_table import read_details
from abc_dask.release.annotation import Annotation


@dataclass(frozen=True)
class BlockTask:
    """All that a worker must know to make one partition: frozen, small, picklable.

    Attributes
    ----------
    block : RowBlock
        Rows of the matrix.
    matrix : PlannedMatrix
        The file, its name, its kept tables, and where the genes are in it.
    columns : tuple of str
        Names of the result's columns.
    dtype : str
        NumPy name of the result's type.
    annotations : tuple of str
        Paths of the descriptions of the columns of annotations.
    """

    block: RowBlock
    matrix: PlannedMatrix
    columns: tuple[str, ...]
    dtype: str
    annotations: tuple[str, ...] = ()

    @property
    def number(self) -> int:
        """Number of the block."""
        return self.block.number

    @property
    def label(self) -> str:
        """What dashboards and logs call it."""
        return f"extract-{self.matrix.feature_matrix_label}"

    @property
    def where(self) -> str:
        """The file and rows of the block, as messages name them."""
        return f"{self.matrix.matrix.path} rows {self.block.start:,} to {self.block.stop:,}"

    @property
    def unit(self) -> str:
        """What messages call one."""
        return "block"

    @property
    def amount(self) -> int:
        """Cells of it, which progress counts."""
        return self.block.n_cells

    @property
    def paths(self) -> tuple[str, ...]:
        """The matrix file and the tables kept of it."""
        matrix = self.matrix
        files = (matrix.matrix.path, matrix.matrix.chunks, matrix.rows, matrix.details)
        return tuple(path for path in (*files, *self.annotations) if path)


@dataclass(frozen=True)
class BlockTables:
    """What the kept tables say of the rows of a block.

    Attributes
    ----------
    labels : pyarrow array of string, length n_rows
        Cell labels.
    wanted : array of bool, shape (n_rows,)
    rows : RowRange
        Where their stored values lie.
    annotations : list of (Annotation, array)
        Codes or numbers of every row.
    """

    labels: pa.Array
    wanted: NDArray[np.bool_]
    rows: RowRange
    annotations: list[tuple[Annotation, NDArray[Any]]]


@dataclass(frozen=True)
class Partition:
    """The values of one row block.

    Attributes
    ----------
    labels : pyarrow array of string, length n_cells
        Cell label of every kept row, in the file's order.
    values : array, shape (n_genes, n_cells)
        Expression; NaN for genes that the matrix lacks, 0 where nothing is stored.
    bytes_read : int
        Decoded bytes of values and indices.
    annotations : list of (Annotation, array)
        Codes or numbers of every kept row.
    """

    labels: pa.Array
    values: NDArray[Any]
    bytes_read: int
    annotations: list[tuple[Annotation, NDArray[Any]]] = field(default_factory=list)


def tasks_of(plan: Plan) -> list[BlockTask]:
    """Return one task per block."""
    annotations = tuple(annotation.table for annotation in plan.annotations)
    return [
        BlockTask(block, plan.matrices[block.matrix], plan.columns, plan.dtype, annotations)
        for block in plan.blocks
    ]


def read_block(task: BlockTask, columns: Sequence[str] | None = None) -> Partition:
    """Read the chosen genes of one row block.

    Parameters
    ----------
    task : BlockTask
    columns : sequence of str, optional
        Read only these of the task's columns, in this order.

    Raises
    ------
    DamagedFileError
        If the file changed, cannot be read, or holds an index out of range.
    UnavailableFileError
        If its disk does not answer, after some tries.
    CacheError
        If a table that the plan refers to is damaged.
    """
    try:
        return _read_block(task, columns)
    except UnavailableFileError as error:
        return again(lambda: _read_block(task, columns), error)


def _read_block(task: BlockTask, columns: Sequence[str] | None) -> Partition:
    tables = read_block_tables(task, columns)
    positions = dict(zip(task.columns, task.matrix.positions, strict=True))
    if columns is not None:
        positions = {name: positions[name] for name in columns if name in positions}
    columns_of = np.array(list(positions.values()), dtype=np.int64)
    values, bytes_read = _read_values(task, columns_of, tables)
    values = values.astype(task.dtype, copy=False)
    labels, wanted = tables.labels, tables.wanted
    if not wanted.all():
        values = np.compress(wanted, values, axis=1)
        labels = labels.filter(pa.array(wanted))
    values[columns_of < 0] = np.nan
    annotated = [(annotation, of_rows[wanted]) for annotation, of_rows in tables.annotations]
    return Partition(labels, values, bytes_read, annotated)


def read_block_tables(task: BlockTask, columns: Sequence[str] | None = None) -> BlockTables:
    """Read what the kept tables say of the rows of a block, each table opened once.

    Parameters
    ----------
    task : BlockTask
    columns : sequence of str, optional
        Only annotations among these; all where not given.

    Raises
    ------
    DamagedFileError
        If they do not fit the plan.
    CacheError
        If a table is damaged.
    """
    start, stop = task.block.start, task.block.stop
    names = [CELL_LABEL, "cell", "first", "size"]
    (part,) = read_cached_rows(task.matrix.rows, names, (start, stop))
    wanted: NDArray[np.bool_] = part["cell"].to_numpy() >= 0
    annotations: list[tuple[Annotation, NDArray[Any]]] = []
    if task.matrix.details:
        found = [Annotation.load(Path(table)) for table in task.annotations]
        asked = [a for a in found if columns is None or a.name in columns]
        cells, beside = read_details(task.matrix.details, start, stop, [a.name for a in asked])
        wanted = cells >= 0
        annotations = [(annotation, beside[annotation.name]) for annotation in asked]
    if int(wanted.sum()) != task.block.n_cells:
        raise DamagedFileError(
            f"{task.where}: {task.matrix.rows} does not fit the plan; remove that file"
        )
    first, size = part["first"].to_numpy(), part["size"].to_numpy()
    pointers = np.append(first, first[-1:] + size[-1:])
    return BlockTables(
        part[CELL_LABEL].combine_chunks(), wanted, RowRange(start, pointers), annotations
    )


def _read_values(
    task: BlockTask, positions: NDArray[np.int64], tables: BlockTables
) -> tuple[NDArray[Any], int]:
    """Read genes x rows in the float type of the file's own values."""
    block, matrix = task.block, task.matrix.matrix
    out = np.zeros((len(positions), block.stop - block.start), dtype=task.matrix.value_dtype)
    if (positions < 0).all():
        return out, 0
    if matrix.layout == "csr":
        lookup = Lookup.of(positions, matrix.n_columns)
        with open_rows(matrix, tables.rows) as rows, named_block(task):
            for hits, values in rows.hits(lookup, tables.wanted):
                add_hits(out, hits, values)
        return out, rows.bytes_read
    with open_matrix(matrix) as reader, named_block(task):
        _FILL[matrix.layout](reader, block, positions, out)
    return out, reader.bytes_read


@contextlib.contextmanager
def named_block(task: BlockTask) -> Iterator[None]:
    """Add file and rows to a kernel's ValueError."""
    try:
        yield
    except ValueError as error:
        raise DamagedFileError(f"{task.where}: {error}; fetch the file again") from None


def _fill_csc(
    reader: MatrixReader, block: RowBlock, positions: NDArray[np.int64], out: NDArray[Any]
) -> None:
    for slot in np.flatnonzero(positions >= 0):
        for row_indices, data in reader.column(int(positions[slot])):
            add_column(row_indices, data, block.start, reader.matrix.n_rows, out[slot])


def _fill_dense(
    reader: MatrixReader, block: RowBlock, positions: NDArray[np.int64], out: NDArray[Any]
) -> None:
    present = np.flatnonzero(positions >= 0)
    for row, values in reader.dense(block.start, block.stop, positions[present]):
        first = row - block.start
        out[present, first : first + len(values)] = exact(values.T, out.dtype)


_FILL = {"csc": _fill_csc, "dense": _fill_dense}
