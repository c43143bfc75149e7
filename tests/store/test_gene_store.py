"""Stores against anndata's reading of the files that they are made of."""

from __future__ import annotations

from importlib.metadata import version

import anndata
import numpy as np
import pytest
from packaging.version import Version

from abc_dask.base.errors import GeneError, StoreError, UsageError
from abc_dask.store.gene_store import open_store
from tests.store_builder import build, table_of


@pytest.fixture(scope="module")
def files(plain_atlas):
    found = [path for key, path in plain_atlas.matrices.items() if key[2] == "log2"]
    return sorted(found)


@pytest.fixture(scope="module")
def genes(files):
    return anndata.read_h5ad(files[0], backed="r").var_names.to_list()


@pytest.fixture(scope="module", params=["sharded", "objects"])
def built(request, tmp_path_factory, files, genes):
    folder = tmp_path_factory.mktemp(request.param)
    return build(folder, files, genes, layout=request.param, block_cells=128)


@pytest.fixture(scope="module")
def raw(files, genes):
    return table_of([path.with_name(path.name.replace("log2", "raw")) for path in files], genes)


def test_log2_values_are_those_of_the_files(built, files, genes):
    found = open_store(built.path).read(genes)
    expected = table_of(files, genes)
    assert found.index.to_list() == built.labels
    assert found.to_numpy().dtype == expected.dtype
    np.testing.assert_array_equal(found.to_numpy().view("u4"), expected.view("u4"))
    assert built.info.n_patches == 0
    assert built.info.n_values == np.count_nonzero(expected)


def test_counts_and_totals_are_those_of_the_raw_files(built, raw):
    store = open_store(built.path)
    counts = np.stack([store.counts(k) for k in range(store.n_genes)], axis=1)
    np.testing.assert_array_equal(counts, raw)
    np.testing.assert_array_equal(store.totals, raw.sum(axis=1))


def test_raw_is_refused_where_it_is_not_certain(built, raw):
    store = open_store(built.path)
    gene = int(np.argmax((raw[~store.certain] > 0).sum(axis=0)))
    n = int((raw[~store.certain][:, gene] > 0).sum())
    with pytest.raises(StoreError, match=rf"in {n} cells are not certain, such as in '.*log2"):
        store.values(gene, "raw")


def test_zarr_and_anndata_read_it(built, raw, genes):
    import zarr

    whole = anndata.read_zarr(built.path)
    np.testing.assert_array_equal(whole.X, raw)
    assert whole.obs_names.to_list() == built.labels
    if Version(version("dask")) >= Version("2025.9"):  # older ones crash on lazy columns of text
        lazy = anndata.experimental.read_lazy(built.path)
        some = [genes[7], genes[3], genes[150]]
        part = lazy[:, some].to_memory()
        np.testing.assert_array_equal(part.X, whole[:, some].X)
    np.testing.assert_array_equal(zarr.open_group(built.path)["X"][:, 5], raw[:, 5])


def test_genes_are_found_by_identifier_and_symbol(tmp_path, files):
    genes = ["ENSMUSG00000025400", "A", "B"]
    built = build(tmp_path, files[:1], genes, symbols=["Tac2", "Twice", "Twice"], block_cells=64)
    store = open_store(built.path)
    assert store.find_genes(["Tac2"]) == store.find_genes("ENSMUSG00000025400") == [0]
    with pytest.raises(GeneError, match="'Twice' stands for several genes: A, B"):
        store.find_genes(["Twice"])
    with pytest.raises(GeneError, match="'Tac3' is not in .*nearest: Tac2"):
        store.find_genes(["Tac3"])
    with pytest.raises(GeneError, match="asked for twice"):
        store.find_genes(["Tac2", "ENSMUSG00000025400"])
    with pytest.raises(UsageError, match="neither 'log2' nor 'raw'"):
        store.values(0, "ln")


def test_cells_are_chosen_by_mask_or_position(built, genes):
    store = open_store(built.path)
    whole = store.read(genes[:3])
    mask = np.arange(store.n_cells) % 3 == 0
    assert store.read(genes[:3], where=mask).equals(whole[mask])
    assert store.read(genes[:3], where=[5, 2]).equals(whole.iloc[[5, 2]])


def test_ranges_of_cells_decode_only_their_blocks(built, genes):
    store = open_store(built.path)
    whole = store.read(genes[:3])
    for first, stop in [(0, 0), (0, 128), (5, 6), (130, 400), (600, store.n_cells)]:
        assert store.read(genes[:3], where=slice(first, stop)).equals(whole[first:stop])


@pytest.mark.parametrize("where", [[-1], [10**6], [True, False], [0.5], slice(0, 9, 2), [[1]]])
def test_cells_that_are_not_there(built, genes, where):
    with pytest.raises(UsageError, match="where"):
        open_store(built.path).read(genes[:1], where=where)


def test_raw_counts_of_certain_cells_can_be_had(built, raw, genes):
    store = open_store(built.path)
    found = store.read(genes[:20], "raw", where=store.certain)
    np.testing.assert_array_equal(found.to_numpy(), raw[store.certain][:, :20])


def test_the_lazy_table_is_the_same(built, genes):
    store = open_store(built.path)
    lazy = store.expression(genes[:4], partition_cells=200)
    assert lazy.npartitions > 1
    found = lazy.compute(scheduler="sync")
    np.testing.assert_array_equal(found.to_numpy(), store.read(genes[:4]).to_numpy())
    assert found.index.to_list() == built.labels


def test_what_a_notebook_shows(built):
    store = open_store(built.path)
    assert f"{store.n_cells:,}" in store._repr_html_()
    assert "genes, counts" in repr(store)
    assert list(store.cells.columns[:2]) == ["total", "counts_are_certain"]


def test_a_handed_over_anndata_has_cells_and_genes(built, files, genes):
    data = open_store(built.path).to_anndata(genes[:2])
    np.testing.assert_array_equal(data.X, table_of(files, genes[:2]))
    assert data.obs["feature_matrix_label"].nunique() == len(files)
