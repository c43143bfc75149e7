"""Stores of measured values: every bit of both directories of the real extract."""

from __future__ import annotations

import anndata
import numpy as np
import pytest

from abc_dask.store.gene_store import open_store
from tests.store_builder import build, table_of
from tests.strategies import same_bits


@pytest.mark.parametrize("pattern", ["WMB*-log2.h5ad", "C57*-log2.h5ad", "*-log2.h5ad"])
@pytest.mark.parametrize("layout", ["sharded", "objects"])
def test_bit_for_bit(real_extract, tmp_path, pattern, layout):
    files = sorted((real_extract / "expression_matrices").rglob(pattern))
    if pattern == "*-log2.h5ad":  # two types of values that share some genes
        files = sorted(files, key=lambda path: path.stat().st_size)
    genes = list(
        dict.fromkeys(g for path in files for g in anndata.read_h5ad(path, backed="r").var_names)
    )
    built = build(tmp_path, files, genes, layout=layout)
    store = open_store(built.path)
    found = store.read(genes).to_numpy()
    same_bits(np.ascontiguousarray(found), table_of(files, genes).astype(found.dtype))
    store.verify()


def test_counts_of_cells_with_few_genes(real_extract, tmp_path):
    (path,) = sorted((real_extract / "expression_matrices").rglob("WMB*-log2.h5ad"))
    genes = anndata.read_h5ad(path, backed="r").var_names.to_list()
    built = build(tmp_path, [path], genes)
    assert built.info.kind == "counts"
    # 28 genes are too few for certainty, but most values have counts
    assert built.info.n_uncertain > 0
    assert built.info.n_patches < built.info.n_values / 1000
    totals = open_store(built.path).totals
    assert 1_000 < np.median(totals[totals > 0]) < 100_000
