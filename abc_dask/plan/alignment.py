"""Rows of matrices: whose they are, which of them are wanted, and what tasks must know of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache as memoized

import numpy as np
from numpy.typing import NDArray

from abc_dask.errors import TableError
from abc_dask.matrix.index import MatrixIndex
from abc_dask.matrix.kernels import value_dtype
from abc_dask.plan.inputs import Source
from abc_dask.plan.plan import PlannedMatrix
from abc_dask.plan.row_table import MatrixRows, write_details
from abc_dask.release.annotation import Annotation
from abc_dask.release.matrices import Assignment
from abc_dask.release.selection import Selection
from abc_dask.release.verified import Memory

Progress = Callable[[Iterable[Assignment], int], Iterable[Assignment]]


def selection_digest(source: Source, selection: Selection | None) -> str:
    """Give what tells a choice of cells from others: the cell table's state, and the choice."""
    state = json.dumps(source.cells.state)
    chosen = "" if selection is None else selection.digest
    return hashlib.sha256((state + chosen).encode()).hexdigest()


@dataclass(frozen=True)
class AlignedRows:
    """A matrix whose rows are known.

    Attributes
    ----------
    assignment : Assignment
    index : MatrixIndex
    rows : MatrixRows
    verified : bool
        Whether the file was found to have the manifest's hash.
    sizes : array of int64, shape (n_rows,)
        Stored values of each row; where cells are chosen, those of other rows count 0.
    wanted : array of bool, shape (n_rows,)
    n_asked : int
        Cells asked of this matrix.
    details : str
        As in `PlannedMatrix`.
    """

    assignment: Assignment
    index: MatrixIndex
    rows: MatrixRows
    verified: bool
    sizes: NDArray[np.int64]
    wanted: NDArray[np.bool_]
    n_asked: int
    details: str

    def planned(self, positions: tuple[int, ...]) -> PlannedMatrix:
        """Give what a plan says of it."""
        matrix = self.assignment.feature_matrix
        return PlannedMatrix(
            dataset_label=matrix.dataset_label,
            feature_matrix_label=matrix.feature_matrix_label,
            relative_path=matrix.file.relative_path,
            file_hash=matrix.file.file_hash,
            verified=self.verified,
            matrix=self.index.matrix,
            rows=str(self.rows.table),
            positions=positions,
            value_dtype=value_dtype(np.dtype(self.index.matrix.dtype)).name,
            n_asked=self.n_asked,
            n_found=int(self.wanted.sum()),
            n_extra=self.rows.n_extra,
            details=self.details,
        )


def align_rows(
    source: Source,
    assignments: Sequence[Assignment],
    selection: Selection | None,
    annotations: Sequence[Annotation],
    progress: Progress | None,
) -> list[AlignedRows]:
    """Find whose rows the matrices hold, and which are wanted.

    Raises
    ------
    ReleaseError, MissingFileError, DamagedFileError, TableError
        If matrices are missing, damaged or do not fit.
    """
    source.release.require(a.feature_matrix.file for a in assignments)
    labels = memoized(source.cells.labels)
    memory = Memory(source.release.download_base)
    aligned = []
    owners = np.zeros(source.cells.n_cells, dtype=np.int64)
    for assignment in progress(assignments, len(assignments)) if progress else assignments:
        index = source.index(assignment.feature_matrix)
        rows = MatrixRows.of(
            index, labels, assignment.cells, list(source.cells.state), source.cache
        )
        sizes, cells = rows.sizes, rows.cells
        wanted, n_asked = cells >= 0, rows.n_asked
        np.add.at(owners, cells[wanted], 1)
        if selection is not None:
            wanted &= selection.mask[cells]
            sizes = np.where(wanted, sizes, 0)
            of_matrix = cells[cells >= 0] if assignment.cells is None else assignment.cells
            n_asked = int(selection.mask[of_matrix].sum())
        aligned.append(
            AlignedRows(
                assignment=assignment,
                index=index,
                rows=rows,
                verified=source.is_verified(assignment.feature_matrix.file, memory),
                sizes=sizes,
                wanted=wanted,
                n_asked=n_asked,
                details=_details(source, rows, (cells, wanted), selection, annotations),
            )
        )
    if (owners > 1).any():
        label = labels()[int(np.flatnonzero(owners > 1)[0])].as_py()
        raise TableError(f"cell {label!r} is in more than one feature matrix")
    return aligned


def _details(
    source: Source,
    rows: MatrixRows,
    cells_and_wanted: tuple[NDArray[np.int64], NDArray[np.bool_]],
    selection: Selection | None,
    annotations: Sequence[Annotation],
) -> str:
    """Keep which rows are wanted, and their annotations, for the tasks."""
    if selection is None and not annotations:
        return ""
    state = [rows.table.name, selection_digest(source, selection), [a.table for a in annotations]]
    cells, wanted = cells_and_wanted
    table = source.cache.get(
        "details", state, lambda target: write_details(cells, wanted, annotations, target)
    )
    return str(table)
