"""Rows of matrices: whose they are, which of them are wanted, and what tasks must know of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache as memoized

import numpy as np

from abc_dask.base.errors import TableError
from abc_dask.plan.inputs import Inputs
from abc_dask.plan.row_table import AlignedRows, write_details
from abc_dask.release.annotation import Annotation
from abc_dask.release.matrices import Assignment
from abc_dask.release.selection import Selection
from abc_dask.release.verified import Memory

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
