"""h5ad files of any layout, read back by anndata."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
import scipy.sparse

from abc_dask.testing import Categories, write_h5ad
from tests.testing.atlases import dense


@pytest.fixture
def matrix() -> scipy.sparse.csr_matrix:
    return scipy.sparse.random_array((7, 5), density=0.4, format="csr", rng=3, dtype=np.float32)


LABELS = [f"cell {n}" for n in range(7)]
GENES = [f"gene {n}" for n in range(5)]


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
@pytest.mark.parametrize("chunk_values", [1, 3, 20_000])
def test_write_h5ad(tmp_path, matrix, layout, chunk_values):
    path = tmp_path / "small.h5ad"
    stored = matrix.asformat(layout) if layout != "dense" else matrix.toarray()
    x = stored if layout == "dense" else (stored.indptr, stored.indices, stored.data)
    write_h5ad(
        path,
        x,
        LABELS,
        GENES,
        list("abcde"),
        layout=layout,
        chunk_values=chunk_values,
        obs={"kind": Categories(np.arange(7) % 2, ["even", "odd"]), "note": list("tuvwxyz")},
        uns={"normalization": "none", "rows": np.arange(3)},
    )
    adata = anndata.read_h5ad(path)
    np.testing.assert_array_equal(dense(adata), matrix.toarray())
    assert list(adata.obs_names) == LABELS
    assert list(adata.var_names) == GENES
    assert list(adata.var["gene_symbol"]) == list("abcde")
    assert list(adata.obs["kind"]) == ["even", "odd"] * 3 + ["even"]
    assert list(adata.obs["note"]) == list("tuvwxyz")
    assert adata.uns["normalization"] == "none"
    assert list(adata.uns["rows"]) == [0, 1, 2]
    assert adata.X.dtype == np.float32


def test_write_h5ad_refuses_what_does_not_fit(tmp_path, matrix):
    x = (matrix.indptr, matrix.indices, matrix.data)
    with pytest.raises(
        ValueError, match=r"indptr has 8 entries, csr of the shape \(6, 5\) needs 7"
    ):
        write_h5ad(tmp_path / "a.h5ad", x, LABELS[:6], GENES)
    with pytest.raises(ValueError, match=r"X has the shape \(7, 5\), the labels make it \(7, 4\)"):
        write_h5ad(tmp_path / "a.h5ad", matrix.toarray(), LABELS, GENES[:4], layout="dense")
