"""Chosen cells with all their genes, or some, as one AnnData on disk.

Blocks of rows become parts in ``OUT.partial`` by the protocol of views (see
`abc_dask.views.staging`): a run that was stopped goes on with the parts that are missing. At
the end the parts are written one after the other into the final file, piece by piece.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.base.columns import GENE_IDENTIFIER, GENE_SYMBOL
from abc_dask.base.errors import ReleaseError
from abc_dask.base.messages import enumerate_names, html_table, plural
from abc_dask.disk.failures import patiently
from abc_dask.disk.files import cannot_write
from abc_dask.plan.subset import Genes, SubsetPlan
from abc_dask.release.annotation import is_missing
from abc_dask.run.costs import Room
from abc_dask.run.csr_anndata import CELL, write_store
from abc_dask.run.extraction import begin, cell_order, in_order, make_parts, measured, run_info
from abc_dask.run.part import Receipt, part_name, told, with_receipt
from abc_dask.run.read_block import BlockTask
from abc_dask.run.read_rows import Rows, read_rows_of
from abc_dask.views.overwrite import refuse_existing
from abc_dask.views.staging import PARTS, Staging

if TYPE_CHECKING:
    import anndata
    from distributed import Client

FORMATS = ("h5ad", "zarr")


@dataclass(frozen=True)
class Subset:
    """Chosen cells on disk.

    Attributes
    ----------
    path : Path
        The h5ad file or Zarr store.
    info : dict
        Provenance, as in its ``uns["abc_dask"]``.
    """

    path: Path
    info: dict[str, Any] = field(repr=False)

    @property
    def n_cells(self) -> int:
        """Cells in it."""
        return int(self.info["counts"]["cells"])

    @property
    def n_genes(self) -> int:
        """Genes in it."""
        return int(self.info["counts"]["genes"])

    def __repr__(self) -> str:
        """Return one line that tells what it is."""
        return (
            f"<Subset {str(self.path)!r}: {plural(self.n_cells, 'cell')}, "
            f"{plural(self.n_genes, 'gene')}>"
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        info = self.info
        annotations = [one["name"] for one in info.get("annotations", [])]
        return html_table(
            {
                "subset": str(self.path),
                "release": f"{info['release']}, {info['metadata']}, {info['normalization']}",
                "cells": f"{self.n_cells:,} of {info['counts']['cells_asked']:,} asked",
                "genes": f"{self.n_genes:,}",
                "annotations": enumerate_names(annotations, most=20) or "none",
                "matrices": f"{len(info['matrices']):,}",
            }
        )

    def to_anndata(self) -> anndata.AnnData:
        """Read all of it into memory."""
        import anndata

        if self.path.is_dir():
            return anndata.read_zarr(self.path)
        return anndata.read_h5ad(self.path)


@dataclass(frozen=True)
class MakeRows:
    """Makes a part of whole rows: an Arrow file, a record batch a piece."""

    genes: Genes

    def __call__(self, task: BlockTask, staging: str, plan: str) -> Receipt:
        """Read one row block and write it as a part; the delayed task of `subset`.

        Raises
        ------
        DamagedFileError
            If the matrix file cannot be read or changed.
        ViewError
            If the part cannot be written.
        """

        def write(path: Path) -> dict[str, Any]:
            return patiently(lambda: self._write(task, path))

        return with_receipt(task, staging, plan, part_name(task, "arrow"), write)

    def _write(self, task: BlockTask, target: Path) -> dict[str, Any]:
        value = pa.from_numpy_dtype(np.dtype(self.genes.dtype))
        schema = pa.schema(
            [
                (CELL, pa.string()),
                ("size", pa.int64()),
                ("indices", pa.large_list(pa.int32())),
                ("data", pa.large_list(value)),
            ]
        )
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        bytes_read = n_rows = 0
        with (
            pa.OSFile(str(target), "wb") as sink,
            pa.ipc.new_file(sink, schema, options=options) as file,
        ):
            for rows, bytes_read in read_rows_of(task, self.genes):  # noqa: B007 - the last counts
                file.write_batch(_batch(rows, schema))
                n_rows += len(rows.sizes)
        return told(task, n_rows, bytes_read)


def _batch(rows: Rows, schema: pa.Schema) -> pa.RecordBatch:
    ends = pa.array(np.append(0, np.cumsum(rows.sizes)).astype(np.int64))
    lists = [pa.LargeListArray.from_arrays(ends, pa.array(v)) for v in (rows.indices, rows.data)]
    return pa.RecordBatch.from_arrays([rows.labels, pa.array(rows.sizes), *lists], schema=schema)


def run_subset(
    asked: SubsetPlan,
    output: Path,
    format: str,
    client: Client,
    *,
    overwrite: bool = False,
    progress: bool = False,
) -> Subset:
    """Make the AnnData of a plan, or complete an unfinished one.

    Parameters are those of `abc_dask.run.extraction.run`.

    Raises
    ------
    ReleaseError
        If no cell was found.
    DamagedFileError, ViewError, ClusterError
        If a block cannot be read or written; finished blocks are kept, and the same
        call completes the work.
    """
    plan = asked.plan
    if not plan.blocks:
        raise ReleaseError(f"none of the {plan.n_asked:,} cells chosen is in a feature matrix")
    began = time.perf_counter()
    described = _described(asked)
    Room.of_subset(asked).require(output, progress=progress)
    staging = Staging.beside(output)
    with staging.locked():
        refuse_existing(output, overwrite=overwrite)
        begin(plan, staging, format, described=described, overwrite=overwrite)
        work = MakeRows(asked.genes)
        found, held = make_parts(work, plan, staging, client, progress=progress)
        receipts = in_order(plan, found, staging)
        order = cell_order(plan, staging)
        matrices = [m | {"genes_absent": n} for m, n in _absent(measured(plan, receipts), asked)]
        info = described | run_info(matrices, 0, held, time.perf_counter() - began)
        del info["content"]
        values = [(a, a.values()[order]) for a in plan.annotations]
        info["annotations"] = [a.counted(int(is_missing(v).sum())).describe() for a, v in values]
        paths = [staging.folder / PARTS / receipt.name for receipt in receipts]
        owners = np.concatenate([np.full(b.n_cells, b.matrix, np.int16) for b in plan.blocks])
        obs = pd.DataFrame({a.name: a.cells(v).array for a, v in values})
        for name in ("dataset_label", "feature_matrix_label"):
            names = [getattr(matrix, name) for matrix in plan.matrices]
            obs[name] = _owner_column(owners, names)
        place = staging.finished()
        try:
            write_store(place, format, paths, obs=obs, var=_var(asked), info=info)
            staging.publish(place)
        except OSError as error:
            raise cannot_write(output, error) from error
    return Subset(output, info)


def _owner_column(owners: NDArray[np.int16], names: list[str]) -> pd.Categorical[Any]:
    """Return the name of each cell's matrix; several matrices may share one."""
    categories = list(dict.fromkeys(names))
    codes = np.array([categories.index(name) for name in names], dtype=np.int64)
    of_cells: NDArray[np.int64] = codes[owners]
    return pd.Categorical.from_codes(of_cells, dtype=pd.CategoricalDtype(categories))


def _absent(matrices: list[dict[str, Any]], asked: SubsetPlan) -> list[tuple[dict[str, Any], int]]:
    labels = [m["feature_matrix_label"] for m in matrices]
    counts = [sum(label in lacking for lacking in asked.absent.values()) for label in labels]
    return list(zip(matrices, counts, strict=True))


def _var(asked: SubsetPlan) -> pd.DataFrame:
    genes = asked.plan.genes
    index = pd.Index([gene.identifier for gene in genes], dtype=object, name=GENE_IDENTIFIER)
    symbols = np.array([gene.symbol for gene in genes], dtype=object)
    lacking = np.array([len(asked.absent.get(gene.identifier, [])) for gene in genes])
    return pd.DataFrame({GENE_SYMBOL: symbols, "matrices_without": lacking}, index=index)


def _described(asked: SubsetPlan) -> dict[str, Any]:
    """Return what is known before any row is read; genes are in the table of genes."""
    told = asked.plan.provenance
    counts = told["counts"] | {
        "genes": len(asked.plan.genes),
        "genes_absent_somewhere": len(asked.absent),
        "genes_not_in_common": asked.n_uncommon,
    }
    return told | {"counts": counts, "absent": asked.absent}
