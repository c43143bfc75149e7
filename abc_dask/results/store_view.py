"""Some genes of a store as a view: extracted, summarized and drawn like one."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.analysis.cell_lists import StoreCells
from abc_dask.base.columns import GENE_IDENTIFIER, GENE_SYMBOL
from abc_dask.base.errors import StoreError, UsageError
from abc_dask.base.messages import nearest
from abc_dask.plan.request import Request, column_names
from abc_dask.release.annotation import Annotation, is_missing
from abc_dask.release.gene_names import Gene, GeneNames
from abc_dask.release.genes import GeneChoice
from abc_dask.release.release import origin_of
from abc_dask.release.selection import Selection
from abc_dask.results.view import View, open_result
from abc_dask.run.extraction import check_output, made_before, run_info
from abc_dask.run.store_reader import StoreReader
from abc_dask.run.store_work import CELL_ROW
from abc_dask.store.dataframe import PARTITION_BYTES
from abc_dask.store.gene_store import GeneStore
from abc_dask.views.formats import content_of
from abc_dask.views.frame import lazy_frame
from abc_dask.views.publish import commit
from abc_dask.views.staging import Staging

if TYPE_CHECKING:
    import dask.dataframe as dd


@dataclass(frozen=True)
class StoreView(View):
    """Genes of a store, with all that can be done with a view.

    Attributes
    ----------
    path : Path
        Of the store.
    info : dict
        As a view's description.
    reader : StoreReader
    """

    reader: StoreReader = field(repr=False, kw_only=True)

    def open_reader(self) -> StoreReader:
        """Return the columns as arrays, in the order of cell_metadata."""
        return self.reader

    def check_sizes(self) -> None:
        """Do nothing: what is read of a store is checked in reading."""

    def verify(self) -> None:
        """Refuse: a store is verified by its own command."""
        raise UsageError("verify the store itself: abc-dask store verify STORE")

    def content(self) -> str:
        """Compute the digest of labels and values."""
        return content_of(self.reader)

    def extract(
        self, output: str | Path, format: str | None = None, *, overwrite: bool = False
    ) -> View:
        """Write the genes into a view that is complete or absent.

        Parameters
        ----------
        output : path
        format : str, optional
            ``parquet``, ``zarr``, ``csv`` or ``h5ad``; from the suffix of `output`, else Parquet.
        overwrite : bool
            Replace the view at `output`; it stays until the new one is complete.

        Returns
        -------
        View
            The same rows, values and ``content`` as if it were extracted from the files.

        Raises
        ------
        ViewError
            If the output exists or cannot be written.
        StoreError
            If the store is damaged.
        """
        began = time.perf_counter()
        path, format = check_output(output, format, overwrite=overwrite, may_be_made=True)
        plan = self.info["plan"]
        if made_before(path, format, self.info, overwrite=overwrite, progress=False):
            return open_result(path)
        staging = Staging.beside(path)
        with staging.locked():
            staging.begin(self.identity, plan, overwrite=overwrite)
            content = int(self.content(), 16)
            seconds = time.perf_counter() - began
            run = run_info(self.info["matrices"], content, 0, seconds)
            commit(staging, format, self.reader, self.info | run)
        return open_result(path)

    def expression(self) -> dd.DataFrame:
        """Return genes and annotations as a lazy Dask DataFrame, in the order of the store.

        Returns
        -------
        dask.dataframe.DataFrame
            As `abc_dask.Atlas.expression` returns it.
        """
        reader = replace(self.reader, rows=np.sort(self.reader.rows), block_bytes=PARTITION_BYTES)
        names = [annotation.name for annotation in self.annotations]
        return lazy_frame(reader, [*self.columns, *names])

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What tells these values from others."""
        return {
            "kind": "view of a store",
            "store": self.info["store"]["sha256"],
            "genes": [gene["gene_identifier"] for gene in self.info["genes"]],
            "columns": list(self.columns),
            "normalization": self.reader.normalization,
            "annotations": [annotation.name for annotation in self.annotations],
            "cell_selection": hashlib.sha256(self.reader.rows.tobytes()).hexdigest(),
        }


def view_of_store(
    store: GeneStore, request: Request, *, every_annotation: bool = False
) -> StoreView:
    """Return genes of a store as a view.

    Parameters
    ----------
    store : GeneStore
    request : Request
        Genes, normalization, names of columns, annotations, and which cells. All but the
        values is looked up in the store.
    every_annotation : bool
        Carry all annotations that the store has.

    Raises
    ------
    UsageError, GeneError
        If the request is off, or the store lacks a column that it names.
    StoreError
        If the store is damaged, or was not made of a release.
    """
    if CELL_ROW not in store.columns or not store.info.provenance:
        raise StoreError(
            f"{store.name} does not say where in cell_metadata its cells stand; "
            "make it by abc-dask store build"
        )
    known = GeneNames.of(pa.Table.from_pandas(_gene_table(store), preserve_index=False))
    chosen = (request.genes or GeneChoice(())).choose(known)
    columns = column_names(list(chosen.genes), request.columns)
    selection = None if request.cells is None else request.cells.choose(StoreCells(store))
    rows = _rows(store, selection)
    described = [one["name"] for one in store.info.provenance.get("annotations", [])]
    names = described if every_annotation else request.annotate
    annotations = _annotations(store, names, rows)
    places = store.find_genes([gene.identifier for gene in chosen.genes])
    reader = StoreReader(store, tuple(places), columns, rows, request.normalization, annotations)
    info = _described(reader, chosen.genes, selection)
    view = StoreView(Path(store.name), info, reader=reader)
    text = json.dumps(view.identity, sort_keys=True)
    info["plan"] = hashlib.sha256(text.encode()).hexdigest()
    if chosen.report is not None:
        info["gene_list"] = chosen.report
    return view


def _gene_table(store: GeneStore) -> Any:
    table = store.genes.reset_index()[[GENE_IDENTIFIER, GENE_SYMBOL]]
    return table.astype({GENE_IDENTIFIER: "object", GENE_SYMBOL: "object"})


def _rows(store: GeneStore, selection: Selection | None) -> NDArray[np.int64]:
    """Return the cells that are wanted, in the order of cell_metadata."""
    order = store.annotation(CELL_ROW)
    if selection is None:
        return np.argsort(order, kind="stable").astype(np.int64)
    rows = np.flatnonzero(selection.mask)
    ranked: NDArray[np.int64] = rows[np.argsort(order[rows], kind="stable")]
    return ranked


def _annotations(
    store: GeneStore, names: Sequence[str], rows: NDArray[np.int64]
) -> tuple[Annotation, ...]:
    """Return columns of the store's cells, their missing values counted among some."""
    described = {one["name"]: one for one in store.info.provenance.get("annotations", [])}
    found = []
    for name in names:
        if name not in described:
            raise UsageError(
                f"{store.name} has no annotation {name!r}{nearest(name, described)}; "
                "what a store keeps is chosen when it is built (--annotate)"
            )
        annotation = Annotation.from_description(described[name])
        values = store.annotation(name)
        values = values if annotation.is_numeric else values.codes
        found.append(annotation.counted(int(is_missing(values[rows]).sum())))
    return tuple(found)


def _described(
    reader: StoreReader, genes: tuple[Gene, ...], selection: Selection | None
) -> dict[str, Any]:
    """Return what a view says of where it is from."""
    store = reader.store
    said, matrices = store.info.provenance, store.info.matrices
    absent = store.absent[list(reader.genes)]
    starts = np.array([matrix.first for matrix in matrices])
    found = np.bincount(
        np.searchsorted(starts, reader.rows, side="right") - 1, minlength=len(matrices)
    )
    of_matrix = {
        (m.dataset_label, m.feature_matrix_label): (int(n), int(lacking))
        for m, n, lacking in zip(matrices, found, absent.sum(axis=0), strict=True)
    }
    counts = said["counts"]
    asked = counts["cells_asked"] if selection is None else selection.n_chosen
    info = {
        **origin_of(said),
        "metadata": said["metadata"],
        "normalization": reader.normalization,
        "dtype": reader.dtype.name,
        "format": "store",
        "genes": [
            {
                "column": column,
                "gene_identifier": gene.identifier,
                "gene_symbol": gene.symbol,
                "absent_in": [
                    m.feature_matrix_label for m, no in zip(matrices, lacks, strict=True) if no
                ],
            }
            for gene, column, lacks in zip(genes, reader.columns, absent, strict=True)
        ],
        "counts": counts
        | {
            "cells_asked": asked,
            "cells": reader.n_cells,
            "cells_missing": asked - reader.n_cells,
            "cells_without_matrix": counts["cells_without_matrix"] if selection is None else 0,
            "blocks": 1,
        },
        "matrices": [
            _of_matrix(m, of_matrix, chosen=selection is not None) for m in said["matrices"]
        ],
        "block_size": 0,
        "atlas": said["atlas"],
        "content": "",
        "files": [{"name": store.name, "sha256": store.digest, "size": store.n_bytes}],
        "store": {"path": store.name, "sha256": store.digest},
    }
    info |= run_info(info["matrices"], 0, 0, 0.0) | {"content": ""}
    if reader.annotations:
        info["annotations"] = [annotation.describe() for annotation in reader.annotations]
    if selection is not None:
        info["selection"] = selection.report
    if said.get("places"):
        info["places"] = said["places"]
    return info


def _of_matrix(
    matrix: dict[str, Any], found: dict[tuple[str, str], tuple[int, int]], *, chosen: bool
) -> dict[str, Any]:
    key = (matrix["dataset_label"], matrix["feature_matrix_label"])
    n_cells, lacking = found.get(key, (0, 0))
    asked = n_cells if chosen else matrix["cells_asked"]
    return matrix | {
        "cells_asked": asked,
        "cells_found": n_cells,
        "cells_missing": asked - n_cells,
        "genes_absent": lacking,
        "task_seconds": 0.0,
        "bytes_read": 0,
    }
