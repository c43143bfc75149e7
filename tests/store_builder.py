"""Stores of drawn or synthetic matrices, and what other libraries read of their files."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import anndata
import numpy as np
import pandas as pd

from abc_dask.disk.kept_table import Cache
from abc_dask.matrix.index import MatrixIndex
from abc_dask.store.build import Input, write_store
from abc_dask.store.description import StoreInfo


@dataclass
class Built:
    path: Path
    info: StoreInfo
    genes: list[str]
    labels: list[str]


def build(
    folder: Path,
    files: Sequence[Path],
    genes: Sequence[str],
    *,
    kept: Sequence[np.ndarray | None] | None = None,
    symbols: Sequence[str] | None = None,
    name: str = "store.zarr",
    **options,
) -> Built:
    """Make a store of some h5ad files; labels are read by anndata."""
    cache = Cache((folder / "cache",))
    scratch = folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    inputs, labels = [], []
    with mock.patch("os.fsync"):
        for number, path in enumerate(files):
            index = MatrixIndex.of(path, cache)
            slots = np.full(index.matrix.n_columns, -1, np.int32)
            for gene, column in enumerate(index.positions(list(genes))):
                if column >= 0:
                    slots[column] = gene
            rows = None if kept is None else kept[number]
            inputs.append(Input("dataset", path.stem, index.matrix, slots, rows))
            names = anndata.read_h5ad(path, backed="r").obs_names.to_numpy(dtype=object)
            labels.append(names if rows is None else names[rows])
        table = {"gene_identifier": list(genes), "gene_symbol": list(symbols or genes)}
        all_labels = np.concatenate(labels)
        store = folder / name
        info = write_store(
            store, inputs, pd.DataFrame(table), all_labels, scratch=scratch, **options
        )
    return Built(store, info, list(genes), all_labels.tolist())


def table_of(files: Sequence[Path], genes: Sequence[str]) -> np.ndarray:
    """Read all values by anndata, cells x genes; NaN where a file lacks a gene."""
    tables = []
    for path in files:
        data = anndata.read_h5ad(path)
        values = data.X if isinstance(data.X, np.ndarray) else data.X.toarray()
        at = data.var_names.get_indexer(list(genes))
        table = np.full((len(values), len(genes)), np.nan, values.dtype)
        table[:, at >= 0] = values[:, at[at >= 0]]
        tables.append(table)
    return np.concatenate(tables)
