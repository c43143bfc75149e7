"""A store as an AnnData on disk, against anndata's own reading of the matrix files."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest
import scipy.sparse
from click.testing import CliRunner

from abc_dask import Atlas, open_store
from abc_dask.base.errors import GeneError, StoreError, UsageError, ViewError
from abc_dask.cli import cli
from abc_dask.run import store_export
from abc_dask.run.store_export import export_store
from abc_dask.testing import Quirks, write_atlas
from tests.command_line import run_cli

GENES = ["Tac2", "Slc17a7", "Slc32a1"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Tac2 is absent in one of two matrices, two values are NaN."""
    folder = tmp_path_factory.mktemp("export")
    quirks = Quirks(missing_genes={"WMB-10Xv2-TH": ["Tac2"]}, nan_values=2)
    write_atlas(
        folder / "base",
        scale=0.0004,
        n_genes=150,
        matrices=["WMB-10Xv2-TH", "WMB-10Xv3-MB"],
        quirks=quirks,
    )
    return Atlas(folder / "base").build_store(folder / "s.zarr", annotate=["class"], block_cells=64)


def from_files(store, genes):
    """Values as the files have them, cells x genes, by anndata."""
    base = Path(store.info.provenance["atlas"]["download_base"])
    table = np.full((store.n_cells, len(genes)), np.nan, np.float32)
    labels = store.labels.to_pylist()
    for matrix in store.info.matrices:
        data = anndata.read_h5ad(base / matrix.sources[0]["file"])
        data = data[labels[matrix.first : matrix.stop]]
        at = data.var_names.get_indexer(genes)
        table[matrix.first : matrix.stop, at >= 0] = data.X.toarray()[:, at[at >= 0]]
    return table


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
@pytest.mark.parametrize("genes", [None, GENES])
def test_every_value(store, tmp_path, monkeypatch, suffix, genes):
    monkeypatch.setattr(store_export, "_SHARD", 1 << 12)
    monkeypatch.setattr(store_export, "_CHUNK", 1 << 10)
    path = export_store(store, tmp_path / f"x.{suffix}", genes=genes)
    read = anndata.read_h5ad(path) if suffix == "h5ad" else anndata.read_zarr(path)
    assert isinstance(read.X, scipy.sparse.csc_matrix)
    assert read.X.has_sorted_indices
    np.testing.assert_array_equal(read.X.toarray(), from_files(store, list(read.var_names)))
    assert list(read.obs_names) == store.labels.to_pylist()
    assert list(read.obs["class"]) == list(store.cells["class"])
    assert list(read.var["gene_symbol"]) == (genes or list(store.genes["gene_symbol"]))
    assert read.uns["normalization"] == "log2"
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]


def test_raw_counts(store, tmp_path):
    with pytest.raises(StoreError, match="raw counts .* are not certain"):
        export_store(store, tmp_path / "x.h5ad", normalization="raw")
    assert [p.name for p in tmp_path.iterdir() if not p.name.endswith(".partial")] == []
    base = store.info.provenance["atlas"]["download_base"]
    raw = Atlas(base).build_store(tmp_path / "raw.zarr", normalization="raw")
    path = export_store(raw, tmp_path / "x.h5ad", genes=GENES, normalization="raw")
    got, found = anndata.read_h5ad(path).X.toarray(), from_files(raw, list(raw.genes.index))
    np.testing.assert_array_equal(got, found[:, raw.find_genes(GENES)])


def test_refusals(store, tmp_path):
    with pytest.raises(UsageError, match=r"x.csv is neither .h5ad nor .zarr"):
        export_store(store, tmp_path / "x.csv")
    with pytest.raises(GeneError, match="nearest: Tac2"):
        export_store(store, tmp_path / "x.h5ad", genes=["Tca2"])
    export_store(store, tmp_path / "x.h5ad", genes=["Slc32a1"])
    with pytest.raises(ViewError, match="exists; pass overwrite=True"):
        export_store(store, tmp_path / "x.h5ad")
    export_store(store, tmp_path / "x.h5ad", genes=["Tac2"], overwrite=True)
    assert anndata.read_h5ad(tmp_path / "x.h5ad").n_vars == 1


def test_command(store, tmp_path):
    output = str(tmp_path / "x.zarr")
    words = ["store", "export", store.name, output, "--genes", "Tac2,Slc32a1"]
    done = run_cli(*words)
    assert "2 genes, log2" in done.output
    assert open_store(store.name).n_cells == anndata.read_zarr(output).n_obs
    assert CliRunner().invoke(cli, [*words, "--overwrite", "--quiet"]).output == ""
