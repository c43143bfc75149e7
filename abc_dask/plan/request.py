"""What is asked of a release, and the plan that answers it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypedDict

import numpy as np
from numpy.typing import NDArray

from abc_dask.base.columns import CELL_LABEL, DATASET_LABEL, FEATURE_MATRIX_LABEL
from abc_dask.base.config import parse_bytes, setting
from abc_dask.base.errors import GeneError, UsageError
from abc_dask.base.messages import enumerate_names, names_of, plural
from abc_dask.matrix.index import MatrixIndex
from abc_dask.plan.blocks import plan_blocks, row_costs
from abc_dask.plan.inputs import Inputs
from abc_dask.plan.plan import Plan
from abc_dask.plan.row_table import Looking, align_rows, selection_digest
from abc_dask.release.annotation import Annotation
from abc_dask.release.cell_table import Assignment
from abc_dask.release.coordinates import XY, coordinates_of
from abc_dask.release.gene_names import Gene
from abc_dask.release.genes import GeneChoice
from abc_dask.release.selection import CellChoice, Selection


class RequestOptions(TypedDict, total=False):
    """What may be said of a request beside genes and normalization; see `Request.of`."""

    columns: str
    annotate: Iterable[str]
    where: str | None
    cells: Iterable[str] | str | Path | None
    block_size: int | str | None
    genes_column: str | None
    cells_column: str | None
    skip_unknown: bool


@dataclass(frozen=True)
class Request:
    """Genes of cells, as they are asked for.

    Attributes
    ----------
    genes : GeneChoice or None
        Which genes, in the order of the result; None: all genes.
    normalization : str
        ``log2`` or ``raw``.
    columns : str
        ``gene_symbol`` or ``gene_identifier``: what names the columns.
    annotate : tuple of str
        Columns of annotations.
    cells : CellChoice or None
        Which cells; None: all.
    block_size : int
        Bytes of stored values that one task reads.
    """

    genes: GeneChoice | None
    normalization: str
    columns: str
    annotate: tuple[str, ...]
    cells: CellChoice | None
    block_size: int

    @classmethod
    def of(
        cls,
        genes: Iterable[str | Path] | Path | None,
        normalization: str = "log2",
        *,
        columns: str = "gene_symbol",
        annotate: Iterable[str] = (),
        where: str | None = None,
        cells: Iterable[str] | str | Path | None = None,
        block_size: int | str | None = None,
        genes_column: str | None = None,
        cells_column: str | None = None,
        skip_unknown: bool = False,
    ) -> Self:
        """Build from what users say; parameters as `abc_dask.Atlas.extract`."""
        size = setting("block-size") if block_size is None else block_size
        return cls(
            genes=None
            if genes is None
            else GeneChoice.of(genes, genes_column, skip_unknown=skip_unknown),
            normalization=normalization,
            columns=columns,
            annotate=tuple(names_of(annotate)),
            cells=CellChoice.of(where, cells, cells_column, skip_unknown=skip_unknown),
            block_size=parse_bytes(size, option="--block-size"),
        )


COLUMN_NAMES = ("gene_symbol", "gene_identifier")


def prepare(
    inputs: Inputs,
    request: Request,
    *,
    only: Assignment | None = None,
    progress: Looking | None = None,
) -> Plan:
    """Plan an extraction.

    Parameters
    ----------
    inputs : Inputs
        Release, tables and cache.
    request : Request
        With genes.
    only : Assignment, optional
        Plan this one of the matrices; a gene may be absent from it.
    progress : callable, optional
        Wraps the iteration over the matrices, whose labels are read on first use.

    Returns
    -------
    Plan

    Raises
    ------
    UsageError, GeneError
        If the genes are off.
    ReleaseError, MissingFileError, DamagedFileError, TableError
        If tables or matrices are missing, damaged or do not fit.
    """
    chosen = inputs.choose_genes(request.genes)
    found = chosen.genes
    names = column_names(found, request.columns)
    selection = inputs.choose(request.cells)
    annotations = find_annotations(inputs, request.annotate, names)
    assignments = inputs.assignments(request.normalization, selection) if only is None else [only]
    aligned = align_rows(inputs, assignments, selection, annotations, progress)
    planned = [rows.planned(tuple(positions_of(rows.index, found).tolist())) for rows in aligned]
    if only is None:
        absent = [[m.positions[k] < 0 for m in planned] for k in range(len(found))]
        require_somewhere(found, absent)
    dtype = np.result_type(*(m.value_dtype for m in planned), np.float32)
    costs = [
        (row_costs(rows.index.matrix, rows.sizes, len(found), dtype.itemsize), rows.wanted)
        for rows in aligned
    ]
    return plan_of(
        inputs,
        request,
        selection,
        annotations,
        genes=found,
        gene_list=chosen.report,
        columns=names,
        dtype=dtype.name,
        matrices=tuple(planned),
        blocks=plan_blocks(costs, request.block_size, trim=selection is not None),
    )


def positions_of(index: MatrixIndex, genes: Sequence[Gene]) -> NDArray[np.int64]:
    """Return the column of each gene in a matrix by any of its identifiers, -1 where it has none.

    No matrix has two of the identifiers of a gene.
    """
    names = [name for gene in genes for name in gene.identifiers]
    starts = np.cumsum([0, *(len(gene.identifiers) for gene in genes)])[:-1]
    positions = np.array(index.positions(names), np.int64)
    found: NDArray[np.int64] = np.maximum.reduceat(positions, starts) if len(genes) else positions
    return found


def plan_of(
    inputs: Inputs,
    request: Request,
    selection: Selection | None,
    annotations: tuple[Annotation, ...],
    **found: Any,
) -> Plan:
    """Return a plan: what was asked, and what was found for it."""
    has_xy = {annotation.name for annotation in annotations} >= XY
    return Plan(
        release=inputs.release.version,
        synthetic=inputs.release.manifest.synthetic,
        metadata=inputs.metadata,
        normalization=inputs.release.stored_as(request.normalization),
        cell_selection=selection_digest(inputs, selection),
        n_asked=inputs.cells.n_cells if selection is None else selection.n_chosen,
        block_size=request.block_size,
        download_base=str(inputs.release.download_base),
        taxonomy=inputs.taxonomy,
        joined=inputs.joined,
        layer=inputs.layer,
        files=inputs.release.provenance,
        annotations=annotations,
        selection=None if selection is None else selection.report,
        coordinates=coordinates_of(inputs.annotations) if has_xy else None,
        **found,
    )


def find_annotations(
    inputs: Inputs, annotate: Sequence[str], columns: Sequence[str]
) -> tuple[Annotation, ...]:
    """Find columns of annotations for a view with these columns.

    Raises
    ------
    UsageError, MissingFileError, TableError
        As `abc_dask.release.annotations.Annotations.find`; if a column has the name of another.
    """
    for name in annotate:
        if name in {*columns, CELL_LABEL, DATASET_LABEL, FEATURE_MATRIX_LABEL}:
            raise UsageError(f"the view has a column {name!r} already; leave it out of --annotate")
    return inputs.annotations.find(annotate) if annotate else ()


def column_names(genes: Sequence[Gene], columns: str) -> tuple[str, ...]:
    """Name the columns.

    Raises
    ------
    UsageError
        If `columns` is not one of `COLUMN_NAMES`.
    GeneError
        If two genes would share a name.
    """
    if columns not in COLUMN_NAMES:
        raise UsageError(f"columns {columns!r} is not one of {enumerate_names(COLUMN_NAMES)}")
    by_symbol = columns == "gene_symbol"
    names = [g.symbol if by_symbol and g.symbol else g.identifier for g in genes]
    for name, count in Counter(names).items():
        if count > 1:
            raise GeneError(
                f"{count} of the genes have the symbol {name!r}; "
                "name the columns by --columns=gene_identifier"
            )
        if name in {CELL_LABEL, DATASET_LABEL, FEATURE_MATRIX_LABEL}:
            raise GeneError(f"{name!r} cannot be a gene's column; use --columns=gene_identifier")
    return tuple(names)


def require_somewhere(genes: Sequence[Gene], absent: Sequence[Sequence[bool]]) -> None:
    """Raise `GeneError` if a gene is absent from all matrices.

    Parameters
    ----------
    genes : sequence of Gene
    absent : for each gene, for each matrix, whether it is absent there
    """
    nowhere = [
        f"{gene.symbol or gene.identifier} ({gene.identifier})"
        for gene, where in zip(genes, absent, strict=True)
        if where and all(where)
    ]
    if nowhere:
        matrices = plural(len(absent[0]), "feature matrix")
        raise GeneError(
            f"{plural(len(nowhere), 'gene')} in none of the {matrices}: {enumerate_names(nowhere)}"
        )
