"""Stores of small matrices with any groups, and what other libraries say of them."""

from __future__ import annotations

from pathlib import Path

import anndata
import pandas as pd
import scipy.sparse

from abc_dask.analysis.gene_tasks import compute_task
from abc_dask.store.gene_store import GeneStore, open_store
from tests.store_builder import build


def here(tasks):
    """Run tasks in this thread."""
    return [compute_task(task) for task in tasks]


def store_of(
    folder: Path, tables: list[pd.DataFrame], terms: dict[str, object], *, raw: bool = False
) -> GeneStore:
    """Make a store of tables of cells x genes, one matrix each.

    `terms` are columns of all cells. Genes are those of all tables.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files, genes = [], list(dict.fromkeys(g for t in tables for g in t.columns))
    first = 0
    for number, table in enumerate(tables):
        labels = [f"cell-{first + k}" for k in range(len(table))]
        first += len(table)
        path = folder / f"m{number}.h5ad"
        anndata.AnnData(
            scipy.sparse.csr_matrix(table.to_numpy()),
            obs=pd.DataFrame(index=labels),
            var=pd.DataFrame(index=list(table.columns)),
        ).write_h5ad(path)
        files.append(path)
    built = build(
        folder,
        files,
        genes,
        block_cells=64,
        annotations=terms,
        normalization="raw" if raw else "log2",
    )
    return open_store(built.path)
