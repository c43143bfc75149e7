"""Statistics for cell_type_mapper: the layout that it documents, and numbers by NumPy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from abc_dask import open_store
from abc_dask.analysis.precompute import precompute
from abc_dask.base.errors import UsageError, ViewError
from abc_dask.run.mapper_export import export_for_mapper
from tests.analysis.stores import here, store_of
from tests.command_line import run_cli

LEVELS = ["class", "subclass", "cluster"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two matrices of which one lacks a gene; a cell without terms; values just below 1."""
    rng = np.random.default_rng(4)
    values = rng.normal(2, 1.5, (60, 5)).clip(0).astype(np.float32)
    values[:9, 1] = np.float32(1 - 5e-7)
    values[9:20, 1] = 1
    table = pd.DataFrame(values, columns=list("abcde"))
    cluster = rng.integers(0, 6, 60)
    cluster[3] = -1
    codes = {"cluster": cluster, "subclass": cluster // 2, "class": cluster // 4}
    terms = {
        name: pd.Categorical.from_codes(
            np.where(cluster < 0, -1, own),
            [f"{name} {k}" for k in range(6 if own is cluster else 3)],
        )
        for name, own in codes.items()
    }
    tables = [table[:30], table[30:].drop(columns="d")]
    made = store_of(tmp_path_factory.mktemp("mapper"), tables, terms)
    precompute(made, LEVELS, Path(made.name), here)
    return open_store(made.name)


def test_every_number(store, tmp_path):
    path = tmp_path / "stats.h5"
    done = run_cli("store", "export", store.name, path, "--format", "cell-type-mapper")
    assert "6 clusters, 4 genes; 1 gene that some cells lack left out" in done.output
    with h5py.File(path) as file:
        texts = {
            name: json.loads(file[name][()].decode("utf-8"))
            for name in ("metadata", "cluster_to_row", "col_names", "taxonomy_tree")
        }
        arrays = {name: file[name][()] for name in ("n_cells", "sum", "sumsq", "gt0", "gt1", "ge1")}
    assert texts["col_names"] == list("abce")
    tree = texts["taxonomy_tree"]
    assert tree["hierarchy"] == LEVELS
    assert tree["class"] == {"class 0": ["subclass 0", "subclass 1"], "class 1": ["subclass 2"]}
    assert tree["subclass"]["subclass 2"] == ["cluster 4", "cluster 5"]
    assert tree["cluster"] == {f"cluster {k}": [] for k in range(6)}
    values = store.read(list("abce")).to_numpy()
    for name, row in texts["cluster_to_row"].items():
        own = values[store.annotation("cluster") == name]
        assert arrays["n_cells"][row] == len(own)
        exact = own.astype(np.float64)
        np.testing.assert_allclose(arrays["sum"][row], exact.sum(axis=0), rtol=1e-12)
        np.testing.assert_allclose(arrays["sumsq"][row], (exact**2).sum(axis=0), rtol=1e-12)
        for count, limit in (("gt0", 0), ("gt1", 1), ("ge1", 1 - 1e-6)):
            np.testing.assert_array_equal(arrays[count][row], (own > limit).sum(axis=0))
    assert (arrays["ge1"].sum(axis=0) > arrays["gt1"].sum(axis=0))[1]
    assert arrays["gt0"].dtype == arrays["n_cells"].dtype == np.int64


def test_some_genes_in_their_order(store, tmp_path):
    path = tmp_path / "stats.h5"
    assert export_for_mapper(store, path, genes=["e", "a"]) == (6, 2)
    with pytest.raises(ViewError, match="exists; pass overwrite=True"):
        export_for_mapper(store, path)
    export_for_mapper(store, path, genes=["e", "a"], overwrite=True)
    with h5py.File(path) as file:
        assert json.loads(file["col_names"][()]) == ["e", "a"]
        np.testing.assert_allclose(
            file["sum"][()].sum(axis=0),
            store.read(["e", "a"])[store.annotation("cluster").codes >= 0].sum(axis=0),
            rtol=1e-5,
        )


def test_what_cannot_be_exported(store, plain_store, tmp_path):
    path = tmp_path / "stats.h5"
    with pytest.raises(UsageError, match="keeps no statistics; add them first"):
        export_for_mapper(plain_store, path)
    with pytest.raises(UsageError, match="lack each of these genes"):
        export_for_mapper(store, path, genes=["d"])
    other = tmp_path / "s.zarr"
    shutil.copytree(store.name, other)
    precompute(open_store(other), ["cluster", "class"], other, here)
    said = "cluster, class of .* are no tree: class 'class 0' belongs to cluster 'cluster"
    with pytest.raises(UsageError, match=said):
        export_for_mapper(open_store(other), path)
    assert not path.exists()
