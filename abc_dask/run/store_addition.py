"""Matrices that are added to a finished store: its own cells come first, as they are.

The matrices that the store holds are not read again, and need not be on disk.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from abc_dask.base.columns import GENE_IDENTIFIER, GENE_SYMBOL
from abc_dask.base.errors import StoreError, TableError, UsageError
from abc_dask.base.messages import enumerate_names, plural
from abc_dask.plan.inputs import Inputs
from abc_dask.plan.request import find_annotations
from abc_dask.plan.row_table import Looking, align_rows
from abc_dask.plan.subset import all_genes
from abc_dask.release.cell_table import Assignment
from abc_dask.release.gene_names import Gene
from abc_dask.run.store_plan import (
    StoreOptions,
    StorePlan,
    gene_frame,
    identity_of,
    nowhere,
    provenance_of,
    require_terms,
)
from abc_dask.run.store_work import StoreWork
from abc_dask.store.gene_store import GeneStore
from abc_dask.store.older import Older

_GENES, _ROWS = "older-genes.npy", "older-rows.npy"


@dataclass(frozen=True)
class StoreAddition(StorePlan):
    """A store that begins with the cells of another one.

    Attributes
    ----------
    older : GeneStore
    older_rows : array of int64
        Row in cell_metadata of each of its cells, -1 for none.
    """

    older: GeneStore = field(kw_only=True, repr=False)
    older_rows: NDArray[np.int64] = field(kw_only=True, repr=False)

    @property
    def n_before(self) -> int:
        """Cells of the finished store."""
        return self.older.info.n_cells

    @property
    def bytes_before(self) -> int:
        """Bytes of it."""
        return self.older.n_bytes

    def write(self, folder: Path) -> StoreWork:
        """Write down what tasks and the end of the work must know."""
        work = super().write(folder)
        positions = pd.Index(self.older.genes.index).get_indexer(self.genes[GENE_IDENTIFIER])
        np.save(folder / _GENES, positions.astype(np.int64))
        np.save(folder / _ROWS, self.older_rows)
        info = self.older.info
        older = Older(
            path=self.older.name,
            digest=self.older.digest,
            n_cells=info.n_cells,
            block_cells=info.block_cells,
            dtype=info.dtype,
            genes=str(folder / _GENES),
        )
        return replace(work, older=older, older_rows=str(folder / _ROWS))


def plan_addition(
    inputs: Inputs,
    options: StoreOptions,
    older: GeneStore,
    *,
    progress: Looking | None = None,
) -> StoreAddition:
    """Plan a store of the cells of a finished one, and of the matrices that it lacks.

    Annotations are those of this release, of all cells; where it does not list the cells of the
    finished store (another atlas), there can be none.

    Parameters
    ----------
    inputs : Inputs
        Release, tables and cache.
    options : StoreOptions
        Normalization and cells of a block must be those of `older`.
    older : GeneStore
    progress : callable, optional
        Wraps the iteration over the matrices.

    Raises
    ------
    UsageError
        If options differ from those of the store, or there is nothing to add.
    StoreError
        If the store's matrices are others in this release, or have other cells.
    AbcDaskError
        As `plan_store`.
    """
    _require_same(options, older)
    held = {(m.dataset_label, m.feature_matrix_label): m for m in older.info.matrices}
    new: list[Assignment] = []
    known: list[Assignment] = []
    for assignment in inputs.assignments(options.normalization):
        matrix = assignment.feature_matrix
        is_known = (matrix.dataset_label, matrix.feature_matrix_label) in held
        (known if is_known else new).append(assignment)
    if not new:
        raise UsageError(f"{older.name} has all matrices of {inputs.metadata} already")
    labels = inputs.cells.labels()
    rows = pd.Index(labels.to_pandas()).get_indexer(older.labels.to_pandas()).astype(np.int64)
    for assignment in known:
        _require_same_matrix(older, assignment, rows)
    aligned = align_rows(inputs, new, None, (), progress)
    kept = [one for one in aligned if one.wanted.any()]
    if not kept:
        raise nowhere(inputs)
    twice = np.intersect1d(rows, np.concatenate([one.cells[one.wanted] for one in kept]))
    if len(twice):
        raise TableError(
            f"cell {labels[int(twice[0])].as_py()!r} is in {older.name} already "
            f"({plural(len(twice), 'cell')} in all)"
        )
    unlisted = int((rows < 0).sum())
    if unlisted and options.annotate:
        raise UsageError(
            f"{plural(unlisted, 'cell')} of {older.name} are not in {inputs.metadata}, so that "
            "it has no annotations for them; leave out --annotate"
        )
    if not options.annotate:
        options = replace(options, annotate=_older_columns(older, inputs, unlisted))
    annotations = find_annotations(inputs, options.annotate, ())
    require_terms(options.precompute, annotations)
    if older.info.precomputed and not options.precompute:
        warnings.warn(
            f"the precomputed statistics of {older.name} are left out: they are not of all cells; "
            "--precompute makes new ones",
            stacklevel=2,
        )
    genes = _genes(inputs, all_genes(inputs, kept), older)
    planned = [one.planned(()) for one in aligned]
    files = {m.relative_path: list(asdict(m.matrix.fingerprint).values()) for m in planned}
    provenance = provenance_of(inputs, options, planned)
    return StoreAddition(
        options=options,
        genes=genes,
        rows=tuple(kept),
        annotations=annotations,
        provenance=_joined(provenance, older, unlisted),
        identity=identity_of(inputs, options, genes, annotations, files)
        | {"added to": older.digest},
        older=older,
        older_rows=rows,
    )


def _older_columns(older: GeneStore, inputs: Inputs, unlisted: int) -> tuple[str, ...]:
    """Return the annotations that the store has, which the new one gets too, or say that not."""
    provenance = older.info.provenance or {}
    columns = tuple(one["name"] for one in provenance.get("annotations", []))
    if columns and unlisted:
        warnings.warn(
            f"{enumerate_names(columns)} of {older.name} are left out: {plural(unlisted, 'cell')} "
            f"of it are not in {inputs.metadata}, whose cells are added",
            stacklevel=2,
        )
        return ()
    return columns


def _require_same(options: StoreOptions, older: GeneStore) -> None:
    info = older.info
    for name, asked, has in (
        ("normalization", options.normalization, info.normalization),
        ("cells of a block", options.block_cells, info.block_cells),
    ):
        if asked != has:
            raise UsageError(
                f"{older.name} has the {name} {has}, {asked} is asked for; a store that is added "
                "to keeps its own"
            )


def _require_same_matrix(older: GeneStore, assignment: Assignment, rows: NDArray[np.int64]) -> None:
    """Refuse a matrix that is another one in the release than in the store."""
    entry, matrix = assignment.feature_matrix.file, assignment.feature_matrix
    name = f"{matrix.dataset_label}/{matrix.feature_matrix_label}"
    (span,) = (
        m
        for m in older.info.matrices
        if (m.dataset_label, m.feature_matrix_label)
        == (matrix.dataset_label, matrix.feature_matrix_label)
    )
    for source in span.sources:
        known = source.get("md5") and entry.file_hash
        if source["size"] != entry.size or (known and source["md5"] != entry.file_hash):
            raise StoreError(
                f"{older.name} was made of another file of {name} ({source['size']:,} bytes, in "
                f"this release {entry.size:,}); build the store anew, without --add-to"
            )
    if assignment.cells is None:
        return
    here = rows[span.first : span.stop]
    gone = ~np.isin(here, assignment.cells)
    new = np.setdiff1d(assignment.cells, here)
    told = older.info.provenance.get("matrices", [])
    missing = next((m["cells_missing"] for m in told if m["file"] == entry.relative_path), 0)
    if gone.any() or len(new) > missing:
        raise StoreError(
            f"this release lists other cells of {name} than {older.name} has "
            f"({int(gone.sum()):,} no more, {max(0, len(new) - missing):,} new); build the store "
            "anew, without --add-to"
        )


def _genes(inputs: Inputs, new: list[Gene], older: GeneStore) -> pd.DataFrame:
    """Return the genes of both: in the order of the gene table, then those of the store."""
    symbols = older.genes.get(GENE_SYMBOL, pd.Series("", older.genes.index))
    found = {str(i): Gene(str(i), str(s)) for i, s in symbols.items()}
    found |= {gene.identifier: gene for gene in new}
    listed = inputs.gene_names().by_identifier
    first = [gene for gene in listed.values() if gene.identifier in found]
    rest = [gene for gene in found.values() if gene.identifier not in listed]
    frame = gene_frame(inputs, [*first, *rest])
    if "name" in older.genes and "name" in frame:
        known = older.genes["name"].reindex(frame[GENE_IDENTIFIER]).fillna("").to_numpy()
        frame["name"] = np.where(frame["name"] == "", known, frame["name"])
    return frame


def _joined(provenance: Mapping[str, Any], older: GeneStore, unlisted: int) -> dict[str, Any]:
    """Return what the store tells of where it is from: what both tell."""
    before = older.info.provenance
    counts, told = dict(provenance["counts"]), before.get("counts", {})
    asked = counts["cells_asked"] + unlisted
    found = counts["cells"] + older.n_cells
    counts |= {
        "cells_asked": asked,
        "cells": found,
        "cells_missing": asked - found,
        "rows_without_metadata": counts["rows_without_metadata"]
        + told.get("rows_without_metadata", 0),
    }
    matrices = [*before.get("matrices", []), *provenance["matrices"]]
    counts["cells_without_matrix"] = asked - sum(m["cells_asked"] for m in matrices)
    added = {"path": older.name, "sha256": older.digest, "cells": older.n_cells}
    return {**provenance, "counts": counts, "matrices": matrices, "added_to": added}
