"""From a release to the plan of a gene-major store: which rows of which files, in which order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from abc_dask._version import FORMAT_VERSION
from abc_dask.columns import CELL_LABEL, GENE_IDENTIFIER, GENE_SYMBOL
from abc_dask.disk.kept_table import read_cached
from abc_dask.errors import ReleaseError
from abc_dask.plan.alignment import Looking, align_rows, selection_digest
from abc_dask.plan.inputs import Inputs
from abc_dask.plan.plan import annotations_identity
from abc_dask.plan.prepare import find_annotations
from abc_dask.plan.row_table import AlignedRows
from abc_dask.plan.subset import all_genes, matrix_genes
from abc_dask.release.annotation import Annotation, is_missing
from abc_dask.release.gene_names import Gene
from abc_dask.store.build import Input, require_layout
from abc_dask.store.description import STORE_VERSION

# The column of obs that says where in cell_metadata each cell stands.
CELL_ROW = "cell_metadata_row"


@dataclass(frozen=True)
class StorePlan:
    """What a store is made of.

    Attributes
    ----------
    inputs : tuple of Input
        Matrix files, in the order of their cells.
    genes : pandas.DataFrame
        gene_identifier, gene_symbol and, where known, name.
    rows : tuple of AlignedRows
        Whose rows the files hold.
    annotations : tuple of Annotation
        Columns of obs.
    normalization, layout : str
    block_cells : int
    provenance : dict
        What the store tells of where it is from.
    identity : dict
        What tells this plan from another.
    """

    inputs: tuple[Input, ...]
    genes: pd.DataFrame = field(repr=False)
    rows: tuple[AlignedRows, ...] = field(repr=False)
    annotations: tuple[Annotation, ...]
    normalization: str
    layout: str
    block_cells: int
    provenance: dict[str, Any] = field(repr=False)
    identity: dict[str, Any] = field(repr=False)

    @property
    def n_cells(self) -> int:
        """Cells that the store will have."""
        return sum(one.n_cells for one in self.inputs)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of `identity`: equal plans give equal stores."""
        return digest_of(self.identity)

    def order(self) -> NDArray[np.int64]:
        """Return the position in cell_metadata of every cell of the store."""
        return np.concatenate([rows.cells[rows.wanted] for rows in self.rows])

    def labels(self) -> NDArray[np.object_]:
        """Return the label of every cell of the store."""
        tables = [read_cached(rows.table, [CELL_LABEL])[CELL_LABEL] for rows in self.rows]
        found = [t.to_numpy()[r.wanted] for t, r in zip(tables, self.rows, strict=True)]
        return np.concatenate(found).astype(object)

    def columns(self, order: NDArray[np.int64]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the columns of obs for cells in some order, and their descriptions."""
        columns: dict[str, Any] = {CELL_ROW: order}
        described = []
        for annotation in self.annotations:
            values = annotation.values()[order]
            # numbers as they are, terms as ordered categories
            columns[annotation.name] = (
                values if annotation.is_numeric else annotation.cells(values).array
            )
            described.append(annotation.counted(int(is_missing(values).sum())).describe())
        return columns, described


def digest_of(identity: dict[str, Any]) -> str:
    """Return the SHA-256 of what tells a plan from others."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def plan_store(
    inputs: Inputs,
    *,
    normalization: str,
    annotate: Sequence[str],
    layout: str,
    block_cells: int,
    progress: Looking | None = None,
) -> StorePlan:
    """Plan a store of all cells and genes of a metadata directory.

    Parameters
    ----------
    inputs : Inputs
        Release, tables and cache.
    normalization : str
        Files to read: ``log2`` or ``raw``.
    annotate : sequence of str
        Columns of annotations that the store keeps.
    layout : str
        ``sharded`` or ``objects``.
    block_cells : int
        Cells of a block.
    progress : callable, optional
        Wraps the iteration over the matrices, whose labels are read on first use.

    Raises
    ------
    StoreError
        If layout or block_cells are off.
    UsageError
        If an annotation is unknown.
    ReleaseError, MissingFileError, DamagedFileError, TableError
        If tables or matrices are missing, damaged or do not fit.
    """
    require_layout(layout, block_cells)
    annotations = find_annotations(inputs, annotate, ())
    assignments = inputs.assignments(normalization)
    aligned = align_rows(inputs, assignments, None, (), progress)
    held = [rows for rows in aligned if rows.wanted.any()]
    if not held:
        raise ReleaseError(
            f"none of the {inputs.cells.n_cells:,} cells of {inputs.metadata} is in a "
            "feature matrix"
        )
    genes = all_genes(inputs, held)
    index = pd.Index([gene.identifier for gene in genes])
    taken = tuple(_input(rows, index) for rows in held)
    n_found = sum(one.n_cells for one in taken)
    n_asked = inputs.cells.n_cells
    planned = [rows.planned(()) for rows in aligned]
    provenance = {
        "release": inputs.release.version,
        "metadata": inputs.metadata,
        "normalization": normalization,
        "counts": {
            "cells_asked": n_asked,
            "cells": n_found,
            "cells_missing": n_asked - n_found,
            "cells_without_matrix": n_asked - sum(m.n_asked for m in planned),
            "rows_without_metadata": sum(m.n_extra for m in planned),
        },
        "matrices": [matrix.provenance for matrix in planned],
        "atlas": {
            "download_base": str(inputs.release.download_base),
            "taxonomy": inputs.taxonomy,
        },
    }
    identity = {
        "format_version": FORMAT_VERSION,
        "store_version": STORE_VERSION,
        "kind": "store",
        "release": inputs.release.version,
        "metadata": inputs.metadata,
        "normalization": normalization,
        "layout": layout,
        "block_cells": block_cells,
        "genes": hashlib.sha256("\n".join(index).encode()).hexdigest(),
        "cell_selection": selection_digest(inputs, None),
        "inputs": {m.relative_path: list(asdict(m.matrix.fingerprint).values()) for m in planned},
    } | annotations_identity(annotations)
    return StorePlan(
        inputs=taken,
        genes=_gene_frame(inputs, genes),
        rows=tuple(held),
        annotations=annotations,
        normalization=normalization,
        layout=layout,
        block_cells=block_cells,
        provenance=provenance,
        identity=identity,
    )


def _input(rows: AlignedRows, genes: pd.Index[Any]) -> Input:
    """Return a matrix as the store takes it in."""
    assert rows.matrix is not None
    entry = rows.matrix.file
    return Input(
        dataset_label=rows.matrix.dataset_label,
        feature_matrix_label=rows.matrix.feature_matrix_label,
        matrix=rows.index.matrix,
        genes=genes.get_indexer(matrix_genes(rows)).astype(np.int32),
        kept=None if rows.wanted.all() else rows.wanted,
        sources=(
            {
                "file": entry.relative_path,
                "size": entry.size,
                "md5": entry.file_hash,
                "md5_verified": rows.verified,
            },
        ),
    )


def _gene_frame(inputs: Inputs, genes: list[Gene]) -> pd.DataFrame:
    """Return gene_identifier, gene_symbol and the gene table's name of each gene."""
    frame = pd.DataFrame(
        {
            GENE_IDENTIFIER: [gene.identifier for gene in genes],
            GENE_SYMBOL: [gene.symbol for gene in genes],
        }
    )
    table = inputs.genes()
    if "name" in table.column_names:
        named = table.select([GENE_IDENTIFIER, "name"]).to_pandas().set_index(GENE_IDENTIFIER)
        frame["name"] = named["name"].reindex(frame[GENE_IDENTIFIER]).fillna("").to_numpy()
    return frame
