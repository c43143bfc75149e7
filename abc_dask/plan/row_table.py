"""Rows of matrices: whose they are, which are wanted, and what tasks must know of them.

Two kept Parquet tables a matrix, beside those of `abc_dask.matrix.index`:

- ``matrix``: gene_identifier and gene_symbol of every column, and the layout
  (`MatrixFile`) in the schema's metadata; depends on the matrix file alone.
- ``rows``: for every row its cell_label, its cell (position in cell_metadata, -1 where
  the metadata does not list it), its size (stored values) and the number of its first
  stored value; depends on the matrix file and on the cell table.

A task reads all that it must know of its rows from the second, so that no task carries a table.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache as memoized
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.base.columns import CELL_LABEL
from abc_dask.base.errors import DamagedFileError, TableError
from abc_dask.base.messages import plural
from abc_dask.disk.kept_table import Cache, read_cached, read_cached_rows, write_cached
from abc_dask.matrix.h5ad import MatrixFile, read_labels, read_row_sizes
from abc_dask.matrix.index import MatrixIndex, duplicates, value_dtype
from abc_dask.plan.inputs import Inputs
from abc_dask.plan.plan import PlannedMatrix
from abc_dask.release.annotation import Annotation
from abc_dask.release.cell_table import Assignment
from abc_dask.release.manifest import FeatureMatrix
from abc_dask.release.release import Memory
from abc_dask.release.selection import Selection


@dataclass(frozen=True)
class AlignedRows:
    """The rows of a matrix, whose they are, and which are wanted.

    Attributes
    ----------
    index : MatrixIndex
        The file.
    table : Path
        Kept table of the rows: cell_label, cell, size, first.
    cells : array of int64, shape (n_rows,)
        Position of each row's cell in cell_metadata, -1 where it is not listed.
    sizes : array of int64, shape (n_rows,)
        Stored values of each row; where cells are chosen, those of other rows count 0.
    wanted : array of bool, shape (n_rows,)
    n_asked : int
        Cells that are asked of the matrix.
    matrix : FeatureMatrix or None
        Its entry in the manifest.
    verified : bool
        Whether the file was found to have the manifest's hash.
    details : str
        As in `PlannedMatrix`.
    """

    index: MatrixIndex
    table: Path
    cells: NDArray[np.int64] = field(repr=False, compare=False)
    sizes: NDArray[np.int64] = field(repr=False, compare=False)
    wanted: NDArray[np.bool_] = field(repr=False, compare=False)
    n_asked: int
    matrix: FeatureMatrix | None = None
    verified: bool = False
    details: str = ""

    @classmethod
    def of(
        cls,
        index: MatrixIndex,
        labels: Callable[[], pa.Array],
        cells: NDArray[np.int64] | None,
        state: object,
        cache: Cache,
    ) -> AlignedRows:
        """Align a matrix's rows with cells by label; all rows that are listed are wanted.

        Parameters
        ----------
        index : MatrixIndex
        labels : callable
            Returns the label of every cell of cell_metadata, each once; called only where
            no earlier run has aligned the same two files.
        cells : array of int64 or None
            Positions of the cells that are in this matrix; None: any may be.
        state : object
            JSON-serialisable state of the cell table.
        cache : Cache

        Raises
        ------
        DamagedFileError
            If a wanted label stands in the matrix twice, or indptr lies.
        """
        matrix = index.matrix
        table = cache.get(
            "row-table",
            [*matrix.state, state, cells is None],
            lambda target: _write_rows(matrix, labels(), cells, target),
        )
        rows = read_cached(table, ["size", "cell"])
        cell = rows["cell"].to_numpy()
        wanted = cell >= 0
        n_asked = int(wanted.sum()) if cells is None else len(cells)
        return cls(index, table, cell, rows["size"].to_numpy(), wanted, n_asked)

    @property
    def label(self) -> str:
        """feature_matrix_label."""
        return self.matrix.feature_matrix_label if self.matrix else ""

    @property
    def n_extra(self) -> int:
        """Rows that the metadata does not list."""
        return int((self.cells < 0).sum())

    @property
    def n_stored(self) -> int:
        """Stored values of the wanted rows; an estimate where columns are stored together."""
        matrix = self.index.matrix
        if matrix.layout == "csc" and matrix.n_rows:  # rows do not tell what they hold
            return matrix.n_values * int(self.wanted.sum()) // matrix.n_rows
        return int(self.sizes[self.wanted].sum())

    def chosen(self, mask: NDArray[np.bool_], cells: NDArray[np.int64] | None) -> AlignedRows:
        """Return the rows with only some cells wanted.

        Parameters
        ----------
        mask : array of bool, shape (n_cells,)
            Of all cells in cell_metadata.
        cells : array of int64 or None
            Those that are assigned to this matrix; None: those that it holds.
        """
        wanted = self.wanted & mask[self.cells]
        of_matrix = self.cells[self.cells >= 0] if cells is None else cells
        sizes = np.where(wanted, self.sizes, 0)
        return replace(self, wanted=wanted, sizes=sizes, n_asked=int(mask[of_matrix].sum()))

    def planned(self, positions: tuple[int, ...]) -> PlannedMatrix:
        """Return what a plan says of it."""
        assert self.matrix is not None
        return PlannedMatrix(
            dataset_label=self.matrix.dataset_label,
            feature_matrix_label=self.matrix.feature_matrix_label,
            relative_path=self.matrix.file.relative_path,
            file_hash=self.matrix.file.file_hash,
            verified=self.verified,
            matrix=self.index.matrix,
            rows=str(self.table),
            positions=positions,
            value_dtype=value_dtype(np.dtype(self.index.matrix.dtype)).name,
            n_asked=self.n_asked,
            n_found=int(self.wanted.sum()),
            n_extra=self.n_extra,
            details=self.details,
        )


def _write_rows(
    matrix: MatrixFile, labels: pa.Array, cells: NDArray[np.int64] | None, target: Path
) -> None:
    of_rows = read_labels(matrix)
    wanted = labels if cells is None else labels.take(pa.array(cells))
    found = pd.Index(wanted.to_pandas()).get_indexer(pd.Index(of_rows)).astype(np.int64)
    if cells is not None and len(cells):
        found = np.where(found >= 0, cells[found], -1)
    kept = found >= 0
    if len(twice := duplicates(of_rows[kept])):
        raise DamagedFileError(
            f"{matrix.path}: {plural(len(twice), 'cell label')} stand for more than one row, "
            f"such as {twice[0]!r}; every row must have a label of its own"
        )
    sizes = read_row_sizes(matrix)
    table = pa.table(
        {
            CELL_LABEL: pa.array(of_rows, pa.string()),
            "cell": pa.array(found, pa.int64()),
            "size": pa.array(sizes, pa.int64()),
            "first": pa.array(np.cumsum(sizes) - sizes, pa.int64()),
        }
    )
    write_cached(table, target)


def write_details(
    cells: NDArray[np.int64],
    wanted: NDArray[np.bool_],
    annotations: Sequence[Annotation],
    target: Path,
) -> None:
    """Write which rows of a matrix are wanted, and their annotations.

    Parameters
    ----------
    cells : array of int64, shape (n_rows,)
        Position of each row's cell in cell_metadata, -1 where it is not listed.
    wanted : array of bool, shape (n_rows,)
    annotations : sequence of Annotation
    target : Path
    """
    columns: dict[str, Any] = {"cell": np.where(wanted, cells, -1)}
    for annotation in annotations:
        columns[_beside(annotation.name)] = annotation.values()[np.where(wanted, cells, 0)]
    write_cached(pa.table({name: pa.array(values) for name, values in columns.items()}), target)


def _beside(name: str) -> str:
    """Return the column of an annotation, apart from our own names."""
    return f"annotation:{name}"


def read_details(
    table: str | Path, start: int, stop: int, names: Sequence[str]
) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]]]:
    """Read cell (-1: not wanted) and annotations (codes or numbers) of a row range."""
    (part,) = read_cached_rows(table, ["cell", *map(_beside, names)], (start, stop))
    found = {name: part[_beside(name)].to_numpy() for name in names}
    return part["cell"].to_numpy(), found


# Wraps the iteration over matrices whose files are looked at.
Looking = Callable[[Iterable[Assignment], int], Iterable[Assignment]]


def selection_digest(inputs: Inputs, selection: Selection | None) -> str:
    """Return what tells a choice of cells from others: the cell table's state, and the choice."""
    state = json.dumps(inputs.cells.state)
    chosen = "" if selection is None else selection.digest
    return hashlib.sha256((state + chosen).encode()).hexdigest()


def align_rows(
    inputs: Inputs,
    assignments: Sequence[Assignment],
    selection: Selection | None,
    annotations: Sequence[Annotation],
    progress: Looking | None,
) -> list[AlignedRows]:
    """Find whose rows the matrices hold, and which are wanted.

    Raises
    ------
    ReleaseError, MissingFileError, DamagedFileError, TableError
        If matrices are missing, damaged or do not fit.
    """
    inputs.release.require(a.feature_matrix.file for a in assignments)
    labels = memoized(inputs.cells.labels)
    memory = Memory(inputs.release.download_base)
    aligned = []
    owners = np.zeros(inputs.cells.n_cells, dtype=np.int64)
    for assignment in progress(assignments, len(assignments)) if progress else assignments:
        matrix = assignment.feature_matrix
        state = list(inputs.cells.state)
        rows = AlignedRows.of(inputs.index(matrix), labels, assignment.cells, state, inputs.cache)
        np.add.at(owners, rows.cells[rows.wanted], 1)
        if selection is not None:
            rows = rows.chosen(selection.mask, assignment.cells)
        aligned.append(
            replace(
                rows,
                matrix=matrix,
                verified=inputs.is_verified(matrix.file, memory),
                details=_details(inputs, rows, selection, annotations),
            )
        )
    if (owners > 1).any():
        label = labels()[int(np.flatnonzero(owners > 1)[0])].as_py()
        raise TableError(f"cell {label!r} is in more than one feature matrix")
    return aligned


def _details(
    inputs: Inputs,
    rows: AlignedRows,
    selection: Selection | None,
    annotations: Sequence[Annotation],
) -> str:
    """Return the kept table of which rows are wanted, and their annotations, for the tasks."""
    if selection is None and not annotations:
        return ""
    state = [rows.table.name, selection_digest(inputs, selection), [a.table for a in annotations]]
    table = inputs.cache.get(
        "details",
        state,
        lambda target: write_details(rows.cells, rows.wanted, annotations, target),
    )
    return str(table)
