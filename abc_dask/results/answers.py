"""What a store answers in place of the matrix files of a release: only what would be the same."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abc_dask.base.columns import DATASET_LABEL, FEATURE_MATRIX_LABEL
from abc_dask.base.errors import AbcDaskError, UsageError
from abc_dask.base.messages import enumerate_names
from abc_dask.plan.inputs import Inputs
from abc_dask.plan.request import Request
from abc_dask.results.gene_store import GeneStore, open_store
from abc_dask.results.store_view import StoreView, view_of_store

_OF_MATRICES = (DATASET_LABEL, FEATURE_MATRIX_LABEL)


@dataclass(frozen=True)
class StoreBeside:
    """A store that is named beside a release.

    Attributes
    ----------
    store : GeneStore
    required : bool
        Refuse a store of other cells; otherwise the files are read, and a warning says why.
    """

    store: GeneStore
    required: bool

    @classmethod
    def of(cls, path: str | Path, *, required: bool) -> StoreBeside:
        """Open a store.

        Raises
        ------
        StoreError, DownloadError
            If it is not a store, or not whole, or a server does not answer as it should.
        """
        return cls(open_store(path), required)

    def view(self, inputs: Inputs, request: Request) -> StoreView | None:
        """Return what is asked for as a view of the store; None if the files must be read.

        Raises
        ------
        UsageError
            If the store is `required`, and not made of the matrices that hold these cells.
        GeneError
            If a gene is unknown or ambiguous.
        """
        reason = next(_differences(self.store, inputs), None)
        if reason and self.required:
            raise UsageError(f"{self.store.name} {reason}; leave store= out")
        genes = inputs.choose_genes(request.genes).genes
        reason = reason or next(_lacks(self.store, inputs, request), None)
        view = None
        if reason is None:
            try:
                view = view_of_store(self.store, request)
            except AbcDaskError as error:
                reason = f"cannot answer ({error})"
            else:
                found = [(g["gene_identifier"], g["gene_symbol"]) for g in view.info["genes"]]
                if found == [(gene.identifier, gene.symbol) for gene in genes]:
                    return view
                reason = "names genes in another way"
        warnings.warn(
            f"the store {self.store.name} {reason}: the matrix files are read", stacklevel=3
        )
        return None


def _differences(store: GeneStore, inputs: Inputs) -> Iterator[str]:
    """Yield in what the cells and matrices of a store are others than those of a release."""
    said = store.info.provenance
    if not said:
        yield "does not say what it was made of"
        return
    for name, asked in (("release", inputs.release.version), ("metadata", inputs.metadata)):
        if said.get(name) != asked:
            yield f"is of {name} {said.get(name)!r}, not {asked!r}"
    if inputs.orthologs or inputs.layer != "X":
        yield "has neither orthologs nor other layers"
    if said["counts"]["cells_asked"] != inputs.cells.n_cells:
        yield f"was made of {said['counts']['cells_asked']:,} cells, not {inputs.cells.n_cells:,}"
    made_of = {_key(matrix): (matrix["size"], matrix["md5"]) for matrix in said["matrices"]}
    asked_for = {
        (a.feature_matrix.dataset_label, a.feature_matrix.feature_matrix_label): (
            a.feature_matrix.file.size,
            a.feature_matrix.file.file_hash,
        )
        for a in inputs.assignments(said["normalization"])
    }
    if None in {md5 for _, md5 in asked_for.values()}:
        yield "is of files without checksums, which cannot be told from others"
    others = [name for name, key in asked_for.items() if made_of.get(name) != key]
    others += [name for name in made_of if name not in asked_for]
    if others:
        yield f"is not made of {enumerate_names([label for _, label in others], most=5)}"


def _key(matrix: Mapping[str, Any]) -> tuple[str, str]:
    return matrix[DATASET_LABEL], matrix[FEATURE_MATRIX_LABEL]


def _lacks(store: GeneStore, inputs: Inputs, request: Request) -> Iterator[str]:
    """Yield what of a request a store does not hold."""
    info = store.info
    if request.normalization != info.normalization:
        if info.kind == "floats":
            yield f"holds {info.normalization} values only"
        if request.normalization == "raw" and info.n_uncertain:
            yield f"is not certain of the raw counts of {info.n_uncertain:,} cells"
    chosen = request.cells.columns if request.cells else ()
    columns = [*request.annotate, *(name for name in chosen if name not in _OF_MATRICES)]
    described = {one["name"] for one in info.provenance.get("annotations", [])}
    if lacking := [name for name in columns if name not in described]:
        yield f"has no column {enumerate_names(lacking, most=5)}"
    taxonomy = info.provenance["atlas"].get("taxonomy")
    if columns and (taxonomy != inputs.taxonomy or inputs.joined):
        yield "has annotations of other tables"
    if request.cells and info.provenance["counts"]["cells_missing"]:
        yield "cannot count which chosen cells no matrix holds"
