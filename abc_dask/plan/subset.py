"""From a choice of cells to a plan of whole rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.base.columns import GENE_IDENTIFIER, GENE_SYMBOL
from abc_dask.base.errors import UsageError
from abc_dask.base.messages import format_bytes, plural
from abc_dask.disk.kept_table import read_cached, write_cached
from abc_dask.plan.blocks import plan_blocks, row_costs
from abc_dask.plan.inputs import Inputs
from abc_dask.plan.plan import Plan
from abc_dask.plan.request import (
    Request,
    find_annotations,
    plan_of,
    positions_of,
    require_somewhere,
)
from abc_dask.plan.row_table import AlignedRows, align_rows
from abc_dask.release.gene_names import Gene

_SLOT = "slot"

# Of a stored NaN, with its index.
_NAN_BYTES = 8


def write_slots(slots: NDArray[np.int32], target: Path) -> None:
    """Write which gene of the result each column of a matrix is, -1 for none."""
    write_cached(pa.table({_SLOT: pa.array(slots)}), target)


@dataclass(frozen=True)
class Genes:
    """The genes of the result, as a task must know them.

    Attributes
    ----------
    n_genes : int
    dtype : str
        NumPy name of the type of the values.
    slots : tuple of str
        For each matrix of the plan, where `write_slots` wrote.
    """

    n_genes: int
    dtype: str
    slots: tuple[str, ...]

    def of_matrix(self, number: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the gene of each column (-1: none), and the genes that the matrix lacks."""
        slots: NDArray[np.int32] = read_cached(self.slots[number], [_SLOT])[_SLOT].to_numpy()
        here = np.zeros(self.n_genes, np.bool_)
        here[slots[slots >= 0]] = True
        return slots, np.flatnonzero(~here).astype(np.int32)


@dataclass(frozen=True)
class SubsetPlan:
    """What is made of which rows.

    Attributes
    ----------
    plan : Plan
        Rows; its genes are the columns of the result.
    genes : Genes
        How they lie in each matrix.
    absent : dict of str to list of str
        Identifiers of genes that only some matrices have, with the labels of those that
        lack them.
    n_uncommon : int
        Genes left out because some matrix lacks them.
    """

    plan: Plan
    genes: Genes
    absent: dict[str, list[str]]
    n_uncommon: int


def plan_subset(inputs: Inputs, request: Request, *, in_common: bool) -> SubsetPlan:
    """Plan the reading of whole rows.

    Raises
    ------
    UsageError, GeneError
        If cells, genes or annotations are off.
    ReleaseError, MissingFileError, DamagedFileError, TableError
        If tables or matrices are missing, damaged or do not fit.
    """
    if request.cells is None and request.genes is None:
        raise UsageError("all genes of all cells are the atlas itself; choose cells or genes")
    selection = inputs.choose(request.cells)
    annotations = find_annotations(inputs, request.annotate, ())
    assignments = inputs.assignments(request.normalization, selection)
    aligned = align_rows(inputs, assignments, selection, annotations, None)
    listed = None if request.genes is None else inputs.choose_genes(request.genes)
    wanted = all_genes(inputs, aligned) if listed is None else list(listed.genes)
    positions = np.array([positions_of(rows.index, wanted) for rows in aligned])
    if request.genes is not None and aligned:
        require_somewhere(wanted, (positions < 0).T.tolist())
    common: NDArray[np.bool_] = np.all(positions >= 0, axis=0)
    n_uncommon = int((~common).sum()) if in_common else 0
    if in_common:
        wanted = [gene for gene, kept in zip(wanted, common.tolist(), strict=True) if kept]
        positions = positions[:, common]
    if not wanted:
        raise UsageError("no gene is in all matrices of these cells")
    absent = {
        gene.identifier: [
            rows.label for rows, column in zip(aligned, positions, strict=True) if column[k] < 0
        ]
        for k, gene in enumerate(wanted)
        if (positions[:, k] < 0).any()
    }
    if request.genes is None:
        _refuse_flood(aligned, positions)
    dtype = _dtype(aligned, with_nan=bool(absent))
    costs = [
        (_costs(rows, int((column < 0).sum()), dtype.itemsize), rows.wanted)
        for rows, column in zip(aligned, positions, strict=True)
    ]
    plan = plan_of(
        inputs,
        request,
        selection,
        annotations,
        genes=tuple(wanted),
        gene_list=None if listed is None else listed.report,
        columns=tuple(gene.identifier for gene in wanted),
        dtype=dtype.name,
        matrices=tuple(rows.planned(()) for rows in aligned),
        blocks=plan_blocks(costs, request.block_size, trim=True),
        kind="rows",
    )
    slots = tuple(
        _keep_slots(inputs, rows, column, plan)
        for rows, column in zip(aligned, positions, strict=True)
    )
    return SubsetPlan(plan, Genes(len(wanted), dtype.name, slots), absent, n_uncommon)


def matrix_genes(rows: AlignedRows) -> pd.Index[Any]:
    """Return the gene identifier of each column of a matrix."""
    columns: pd.Index[Any] = pd.Index(rows.index.genes[GENE_IDENTIFIER].to_pandas())
    return columns


def _refuse_flood(aligned: Sequence[AlignedRows], positions: NDArray[np.intp]) -> None:
    """Raise `UsageError` if most of the values to store would be NaN: genes that matrices lack."""
    n_cells = np.array([int(rows.wanted.sum()) for rows in aligned])
    lacking = (positions < 0).sum(axis=1)
    n_nan, n_stored = int((n_cells * lacking).sum()), sum(rows.n_stored for rows in aligned)
    if n_nan > n_stored:
        size = format_bytes(n_nan * _NAN_BYTES)
        raise UsageError(
            f"{plural(len(aligned), 'feature matrix')} of these cells have different genes: "
            f"{n_nan:,} NaN ({size}) would be stored beside {n_stored:,} values; choose cells of "
            "one matrix by --where, name genes, or leave out genes that some matrix lacks by "
            "--genes-in-common"
        )


def all_genes(inputs: Inputs, aligned: Sequence[AlignedRows]) -> list[Gene]:
    """Return the genes of any matrix, in the order of the gene table."""
    names = inputs.gene_names()
    held: dict[str, str] = {}
    for rows in aligned:
        table = rows.index.genes
        pairs = (table[GENE_IDENTIFIER].to_pylist(), table[GENE_SYMBOL].to_pylist())
        held |= {i: s or "" for i, s in zip(*pairs, strict=True) if i not in held}
    listed = [gene for gene in names.by_identifier.values() if gene.identifier in held]
    others = [Gene(i, s) for i, s in held.items() if i not in names.by_identifier]
    return [*listed, *others]


def _dtype(aligned: Sequence[AlignedRows], *, with_nan: bool) -> np.dtype[Any]:
    """Return the type of the stored values, wide enough for all matrices and for NaN.

    Not float16, of which scipy has no sparse matrices.
    """
    kinds = [np.dtype(rows.index.matrix.dtype).newbyteorder("=") for rows in aligned]
    dtype = np.result_type(*kinds) if kinds else np.dtype(np.float32)
    if dtype == np.float16 or (with_nan and dtype.kind != "f"):
        return np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)
    return dtype


def _costs(rows: AlignedRows, n_absent: int, itemsize: int) -> Any:
    matrix = rows.index.matrix
    sizes = rows.sizes
    if matrix.layout == "csc" and matrix.n_rows:  # rows do not say what they hold
        sizes = np.full(matrix.n_rows, -(-matrix.n_values // matrix.n_rows))
    filled = np.where(rows.wanted, n_absent * (itemsize + 4), 0)
    return row_costs(matrix, np.where(rows.wanted, sizes, 0), 0, 0) + filled


def _keep_slots(inputs: Inputs, rows: AlignedRows, column: Any, plan: Plan) -> str:
    """Return where it is kept which gene of the result each column of a matrix is."""
    slots = np.full(rows.index.matrix.n_columns, -1, np.int32)
    present = np.flatnonzero(column >= 0)
    slots[column[present]] = present
    genes = hashlib.sha256("\n".join(plan.columns).encode()).hexdigest()
    state = [rows.index.table.name, genes]
    return str(inputs.cache.get("slots", state, lambda target: write_slots(slots, target)))
