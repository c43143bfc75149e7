"""Sums by group and sample against the raw files."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abc_dask.analysis.pseudobulk import sum_samples
from abc_dask.base.errors import StoreError, UsageError
from tests.analysis.stores import here, store_of

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:FutureWarning")


def test_sums_are_those_of_the_raw_files(plain_store, plain_data, tmp_path):
    found = sum_samples(plain_store, "class", "donor_label", compute=here, min_cells=3)
    data = found.to_anndata()
    assert data.X.dtype == np.int64
    raw = pd.DataFrame(plain_data.layers["raw"].toarray().astype(np.int64))
    keys = [plain_data.obs[name].astype(object).to_numpy() for name in ("class", "donor_label")]
    sums, sizes = raw.groupby(keys).sum(), raw.groupby(keys).size()
    enough = sizes >= 3
    assert 0 < enough.sum() < len(sizes)
    rows = list(zip(data.obs["class"], data.obs["donor_label"], strict=True))
    assert sorted(rows) == sorted(sums.index[enough])
    np.testing.assert_array_equal(data.X, sums.loc[rows])
    np.testing.assert_array_equal(data.obs["cells"], sizes.loc[rows])
    assert (found.n_few, found.n_few_cells) == ((~enough).sum(), sizes[~enough].sum())
    missing = plain_data.obs[["class", "donor_label"]].isna().any(axis=1)
    assert found.n_missing == missing.sum()
    for format in ("h5ad", "zarr"):
        found.write(tmp_path / f"p.{format}", format)
        read = anndata.read_h5ad if format == "h5ad" else anndata.read_zarr
        again = read(tmp_path / f"p.{format}")
        np.testing.assert_array_equal(again.X, data.X)
        assert again.obs_names.equals(data.obs_names)
        assert again.var_names.equals(data.var_names)


def test_a_samples_own_columns_stand_in_obs(plain_store, plain_data):
    obs = sum_samples(plain_store, "class", "donor_label", compute=here).to_anndata().obs
    own = plain_data.obs.groupby("donor_label", observed=True)["donor_sex"].first()
    assert "subclass" not in obs
    assert "x" not in obs
    np.testing.assert_array_equal(obs["donor_sex"].astype(str), own.loc[obs["donor_label"]])


@settings(max_examples=10)
@given(
    rows=st.lists(
        st.tuples(st.integers(-1, 2), st.integers(-1, 2), st.integers(0, 70_000)),
        min_size=1,
        max_size=60,
    ),
    least=st.integers(1, 4),
)
def test_any_counts_equal_pandas(tmp_path_factory, rows, least):
    table = pd.DataFrame({"g": [float(n) for *_, n in rows], "h": 1.0}, dtype=np.float32)
    kinds = pd.Categorical.from_codes([row[0] for row in rows], list("pqr"), ordered=True)
    donors = pd.Categorical.from_codes([row[1] for row in rows], list("xyz"))
    store = store_of(
        tmp_path_factory.mktemp("any"), [table], {"type": kinds, "donor": donors}, raw=True
    )
    keys = [np.asarray(kinds.astype(object)), np.asarray(donors.astype(object))]
    groups = table.astype(np.int64).groupby(keys)
    kept = groups.size()[lambda sizes: sizes >= least]
    if not len(kept):
        why = r"no cell of .* is left: (no group|\d+ cells? without type or donor)"
        with pytest.raises(UsageError, match=why):
            sum_samples(store, "type", "donor", compute=here, min_cells=least)
        return
    data = sum_samples(store, "type", "donor", compute=here, min_cells=least).to_anndata()
    rows = list(zip(data.obs["type"], data.obs["donor"], strict=True))
    assert sorted(rows) == sorted(kept.index)
    np.testing.assert_array_equal(data.X, groups.sum().loc[rows])


def test_a_gene_that_some_cells_lack_is_left_out(tmp_path):
    one = pd.DataFrame({"g": [1.0, 2.0], "h": [3.0, 0.0]}, dtype=np.float32)
    two = pd.DataFrame({"h": [5.0, 6.0]}, dtype=np.float32)
    terms = {"type": pd.Categorical(["a", "a", "b", "b"]), "donor": pd.Categorical(["x"] * 4)}
    store = store_of(tmp_path, [one, two], terms, raw=True)
    found = sum_samples(store, "type", "donor", compute=here, min_cells=1)
    assert found.absent == ("g",)
    assert found.to_anndata().to_df()["h"].tolist() == [3, 11]
    only = sum_samples(store, "type", "donor", compute=here, min_cells=1, where="type == 'a'")
    assert only.to_anndata().to_df()["g"].tolist() == [3]
    with pytest.raises(UsageError, match="lacks each of g: there is nothing to sum"):
        sum_samples(store, "type", "donor", compute=here, min_cells=1, genes=["g"])


def test_values_that_are_no_counts_are_refused(tmp_path):
    table = pd.DataFrame({"g": [0.5, 2.25], "h": [1.75, 0.0]}, dtype=np.float32)
    terms = {"type": pd.Categorical(["a", "a"]), "donor": pd.Categorical(["x"] * 2)}
    store = store_of(tmp_path / "raw", [table], terms, raw=True)
    with pytest.raises(StoreError, match="raw values of g in .* are no counts"):
        sum_samples(store, "type", "donor", compute=here, min_cells=1)
    store = store_of(tmp_path / "log2", [table], terms)
    with pytest.raises(UsageError, match="raw cannot be had"):
        sum_samples(store, "type", "donor", compute=here)
    with pytest.raises(UsageError, match="min.cells 0"):
        sum_samples(store, "type", "donor", compute=here, min_cells=0)
