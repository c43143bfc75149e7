"""From a request to a plan: tables, matrices, genes, alignment, row blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from abc_dask.columns import CELL_LABEL, DATASET_LABEL, FEATURE_MATRIX_LABEL
from abc_dask.errors import GeneError, UsageError
from abc_dask.messages import enumerate_names, plural
from abc_dask.plan.alignment import Progress, align_rows, selection_digest
from abc_dask.plan.inputs import Source
from abc_dask.plan.plan import Plan, plan_blocks, row_costs
from abc_dask.release.annotation import Annotation
from abc_dask.release.genes import Gene, find_genes
from abc_dask.release.matrices import Assignment
from abc_dask.release.selection import CellChoice

COLUMN_NAMES = ("gene_symbol", "gene_identifier")


def prepare(
    source: Source,
    genes: Sequence[str],
    *,
    normalization: str = "log2",
    columns: str = "gene_symbol",
    block_size: int,
    annotate: Sequence[str] = (),
    cells: CellChoice | None = None,
    only: Assignment | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Plan an extraction.

    Parameters
    ----------
    source : Source
        Release, tables and cache.
    genes : sequence of str
        Symbols or identifiers.
    normalization : str
        ``log2`` or ``raw``.
    columns : str
        ``gene_symbol`` or ``gene_identifier``: what names the columns.
    block_size : int
        Bytes of stored values that one task reads.
    annotate : sequence of str
        Columns of annotations.
    cells : CellChoice, optional
        Which cells; all where not given.
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
    if columns not in COLUMN_NAMES:
        raise UsageError(f"columns {columns!r} is not one of {enumerate_names(COLUMN_NAMES)}")
    found = find_genes(source.genes(), genes)
    names = column_names(found, columns)
    selection = source.choose(cells)
    annotations = find_annotations(source, annotate, names)
    assignments = source.assignments(normalization, selection) if only is None else [only]
    aligned = align_rows(source, assignments, selection, annotations, progress)
    identifiers = [gene.identifier for gene in found]
    planned = [rows.planned(rows.index.positions(identifiers)) for rows in aligned]
    if only is None:
        absent = [[m.positions[k] < 0 for m in planned] for k in range(len(found))]
        require_somewhere(found, absent)
    dtype = np.result_type(*(m.value_dtype for m in planned), np.float32)
    costs = [
        (row_costs(rows.index.matrix, rows.sizes, len(found), dtype.itemsize), rows.wanted)
        for rows in aligned
    ]
    return Plan(
        release=source.release.version,
        metadata=source.metadata,
        normalization=normalization,
        genes=tuple(found),
        columns=names,
        dtype=dtype.name,
        cell_selection=selection_digest(source, selection),
        n_asked=source.cells.n_cells if selection is None else selection.n_chosen,
        block_size=block_size,
        matrices=tuple(planned),
        blocks=plan_blocks(costs, block_size, trim=selection is not None),
        download_base=str(source.release.download_base),
        taxonomy=source.taxonomy,
        annotations=annotations,
        selection=None if selection is None else selection.report,
    )


def find_annotations(
    source: Source, annotate: Sequence[str], columns: Sequence[str]
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
    return source.annotations.find(annotate) if annotate else ()


def column_names(genes: list[Gene], columns: str) -> tuple[str, ...]:
    """Name the columns.

    Raises
    ------
    GeneError
        If two genes would share a name.
    """
    by_symbol = columns == "gene_symbol"
    names = [g.symbol if by_symbol and g.symbol else g.identifier for g in genes]
    for name, count in Counter(names).items():
        if count > 1:
            raise GeneError(
                f"{count} of the genes have the symbol {name!r}; "
                "name the columns by --columns gene_identifier"
            )
        if name in {CELL_LABEL, DATASET_LABEL, FEATURE_MATRIX_LABEL}:
            raise GeneError(f"{name!r} cannot be a gene's column; use --columns gene_identifier")
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


def provenance(plan: Plan) -> dict[str, Any]:
    """Give what is known of a view before it is made, JSON-serialisable."""
    return {
        "release": plan.release,
        "metadata": plan.metadata,
        "normalization": plan.normalization,
        "dtype": plan.dtype,
        "genes": [] if plan.kind else _genes(plan),
        "counts": {
            "cells_asked": plan.n_asked,
            "cells": plan.n_cells,
            "cells_missing": plan.n_asked - plan.n_cells,
            "cells_without_matrix": plan.n_asked - sum(m.n_asked for m in plan.matrices),
            "rows_without_metadata": sum(m.n_extra for m in plan.matrices),
            "blocks": len(plan.blocks),
        },
        "matrices": [
            {
                "dataset_label": m.dataset_label,
                "feature_matrix_label": m.feature_matrix_label,
                "file": m.relative_path,
                "size": m.matrix.fingerprint.size,
                "md5": m.file_hash,
                "md5_verified": m.verified,
                "cells_asked": m.n_asked,
                "cells_found": m.n_found,
                "cells_missing": m.n_asked - m.n_found,
                "rows_without_metadata": m.n_extra,
                "genes_absent": sum(position < 0 for position in m.positions),
            }
            for m in plan.matrices
        ],
        "plan": plan.digest,
        "block_size": plan.block_size,
        "atlas": {"download_base": plan.download_base, "taxonomy": plan.taxonomy},
    } | _choices(plan)


def _genes(plan: Plan) -> list[dict[str, Any]]:
    return [
        {
            "column": column,
            "gene_identifier": gene.identifier,
            "gene_symbol": gene.symbol,
            "absent_in": [m.feature_matrix_label for m in plan.matrices if m.positions[k] < 0],
        }
        for k, (gene, column) in enumerate(zip(plan.genes, plan.columns, strict=True))
    ]


def _choices(plan: Plan) -> dict[str, Any]:
    """Give what was chosen, where something was; terms and colours are not told here."""
    chosen: dict[str, Any] = {}
    if plan.annotations:
        chosen["annotations"] = [{"name": a.name, "source": a.source} for a in plan.annotations]
    if plan.selection is not None:
        chosen["selection"] = dict(plan.selection)
    return chosen
