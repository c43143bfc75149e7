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

from abc_dask.disk.retry import patiently
from abc_dask.errors import DamagedFileError
from abc_dask.matrix.h5ad import MatrixFile
from abc_dask.matrix.h5py_reader import MatrixReader, open_matrix
from abc_dask.matrix.kernels import add_column, add_hits, exact, lookup_table, value_dtype
from abc_dask.matrix.open_rows import open_rows
from abc_dask.matrix.row_reader import RowReader
from abc_dask.plan.plan import Plan, RowBlock
from abc_dask.plan.row_table import read_details, read_row_labels
from abc_dask.release.annotation import Annotation


@dataclass(frozen=True)
class BlockTask:
    """All that a worker must know to make one partition: frozen, small, picklable.

    Attributes
    ----------
    block : RowBlock
        Rows of the matrix.
    dataset_label, feature_matrix_label : str
        Name of the matrix.
    matrix : MatrixFile
        Layout and fingerprint of the file.
    rows : str
        Path of the cached table of its rows.
    columns : tuple of str
        Names of the result's columns.
    positions : tuple of int
        Column of each gene in the matrix, -1 where it is absent.
    dtype : str
        NumPy name of the result's type.
    details : str
        Path of the cached table that says which rows are wanted, with their
        annotations; "" where all that the metadata lists are, and there are none.
    annotations : tuple of str
        Paths of the descriptions of the columns of annotations.
    """

    block: RowBlock
    dataset_label: str
    feature_matrix_label: str
    matrix: MatrixFile
    rows: str
    columns: tuple[str, ...]
    positions: tuple[int, ...]
    dtype: str
    details: str = ""
    annotations: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """Name the block as messages do."""
        return f"{self.matrix.path} rows {self.block.start:,} to {self.block.stop:,}"


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
    """Give one task a block."""
    tasks = []
    for block in plan.blocks:
        matrix = plan.matrices[block.matrix]
        tasks.append(
            BlockTask(
                block=block,
                dataset_label=matrix.dataset_label,
                feature_matrix_label=matrix.feature_matrix_label,
                matrix=matrix.matrix,
                rows=matrix.rows,
                columns=plan.columns,
                positions=matrix.positions,
                dtype=plan.dtype,
                details=matrix.details,
                annotations=tuple(annotation.table for annotation in plan.annotations),
            )
        )
    return tasks


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
    return patiently(lambda: _read_block(task, columns))


def _read_block(task: BlockTask, columns: Sequence[str] | None) -> Partition:
    block = task.block
    found = [Annotation.load(Path(table)) for table in task.annotations]
    asked = [a for a in found if columns is None or a.name in columns]
    labels, kept, beside = read_cells(task, [annotation.name for annotation in asked])
    if int(kept.sum()) != block.n_cells:
        raise DamagedFileError(f"{task.where}: {task.rows} does not fit the plan; remove that file")
    named = dict(zip(task.columns, task.positions, strict=True))
    chosen = task.columns if columns is None else [name for name in columns if name in named]
    positions = np.array([named[name] for name in chosen], dtype=np.int64)
    values, bytes_read = _read_values(task, positions, kept)
    values = values.astype(task.dtype, copy=False)
    if not kept.all():
        values = np.compress(kept, values, axis=1)
        labels = labels.filter(pa.array(kept))
    values[positions < 0] = np.nan
    annotated = [(annotation, beside[annotation.name][kept]) for annotation in asked]
    return Partition(labels, values, bytes_read, annotated)


def read_cells(
    task: BlockTask, names: Sequence[str]
) -> tuple[pa.Array, NDArray[np.bool_], dict[str, NDArray[Any]]]:
    """Read labels, whether they are wanted, and annotations of the rows of a block."""
    labels, listed = read_row_labels(task.rows, task.block.start, task.block.stop)
    if not task.details:
        return labels, listed.to_numpy() >= 0, {}
    cells, beside = read_details(task.details, task.block.start, task.block.stop, names)
    return labels, cells >= 0, beside


def _read_values(
    task: BlockTask, positions: NDArray[np.int64], kept: NDArray[np.bool_]
) -> tuple[NDArray[Any], int]:
    """Read genes x rows in the float type of the file's own values."""
    block, matrix = task.block, task.matrix
    dtype = value_dtype(np.dtype(matrix.dtype))
    out = np.zeros((len(positions), block.stop - block.start), dtype=dtype)
    if (positions < 0).all():
        return out, 0
    if matrix.layout == "csr":
        with open_rows(matrix) as rows, named_block(task):
            _fill_csr(rows, task, positions, kept, out)
        return out, rows.bytes_read
    with open_matrix(matrix) as reader, named_block(task):
        _FILL[matrix.layout](reader, block, positions, out)
    return out, reader.bytes_read


@contextlib.contextmanager
def named_block(task: BlockTask) -> Iterator[None]:
    """Say in which rows a kernel found nonsense."""
    try:
        yield
    except ValueError as error:
        raise DamagedFileError(f"{task.where}: {error}; bring the file again") from None


def _fill_csr(
    reader: RowReader,
    task: BlockTask,
    positions: NDArray[np.int64],
    kept: NDArray[np.bool_],
    out: NDArray[Any],
) -> None:
    start, stop = task.block.start, task.block.stop
    table = lookup_table(positions, task.matrix.n_columns)
    for hits, values in reader.hits(start, stop, table, kept):
        add_hits(out, hits, values)


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
