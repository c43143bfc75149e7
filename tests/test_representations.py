"""What notebooks show of results: short, and names are text, whatever is in them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from abc_dask import Atlas, GeneStore, Release
from abc_dask.analysis.summary import Summary
from abc_dask.plan.request import Request
from abc_dask.results.store_view import view_of_store
from abc_dask.run.subset import Subset

HOSTILE = "<script>alert('&\"')</script>"


def assert_short_and_escaped(shown: str, *names: str):
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    assert shown.count("<tr>") < 30
    assert len(shown) < 10_000
    for name in names:
        assert name in shown


def test_a_summary():
    groups = pd.Index([HOSTILE, *(f"group {n}" for n in range(20))], name=HOSTILE)
    table = pd.DataFrame({HOSTILE: 1.5, **{f"G{n}": 0.0 for n in range(40)}}, index=groups)
    summary = Summary(
        by=(HOSTILE,),
        genes=tuple(table.columns),
        tables={"mean": table, "fraction": table},
        cells=pd.Series(7, index=groups),
        missing="drop",
        n_missing=3,
        n_absent={},
        n_left_out=5,
    )
    assert_short_and_escaped(
        summary._repr_html_(), "147", "1.5", "mean, fraction", "3, drop", ">5<"
    )
    assert repr(summary).startswith("<Summary: mean, fraction of 41 genes in 21 groups by <script>")
    assert summary._ipython_key_completions_() == ["mean", "fraction"]
    assert summary["mean"] is table


def test_a_subset():
    info = {
        "release": HOSTILE,
        "metadata": "WMB-10X",
        "normalization": "raw",
        "counts": {"cells": 1200, "cells_asked": 1300, "genes": 7},
        "matrices": [{}, {}],
        "annotations": [{"name": HOSTILE}],
    }
    subset = Subset(Path(f"/data/{HOSTILE}.h5ad"), info)
    assert_short_and_escaped(subset._repr_html_(), "1,200 of 1,300 asked", "WMB-10X, raw")
    assert repr(subset).endswith(".h5ad': 1,200 cells, 7 genes>")


def test_a_release_and_its_atlas(plain_atlas, tmp_path):
    base = tmp_path / "<script>"
    base.symlink_to(plain_atlas.download_base)
    release = Release.open(base)
    object.__setattr__(release, "download_base", base)
    assert_short_and_escaped(release._repr_html_(), "20250531", "WMB-10X", "on disk")
    assert repr(release).startswith("<Release 20250531 under ")
    atlas = Atlas(plain_atlas.download_base)
    atlas.release = release
    assert_short_and_escaped(atlas._repr_html_(), "WMB-10X", "4 present")


@pytest.fixture(scope="module")
def store(plain_atlas, tmp_path_factory) -> GeneStore:
    path = tmp_path_factory.mktemp("store") / "<script>.zarr"
    return Atlas(plain_atlas.download_base).build_store(path, annotate=["class"])


def test_a_store_and_its_view(store):
    assert_short_and_escaped(store._repr_html_(), f"{store.n_cells:,}")
    view = view_of_store(store, Request.of(["Tac2"]))
    assert_short_and_escaped(view._repr_html_(), "Tac2")
    hostile = json.loads(json.dumps(view.info))
    hostile["genes"][0]["column"] = HOSTILE
    view.info.update(hostile)
    assert_short_and_escaped(view._repr_html_())


def test_columns_by_name(store, plain_atlas, tmp_path):
    """Brackets: one column; tab completion: their names."""
    atlas = Atlas(plain_atlas.download_base)
    terms = atlas["class"].compute()
    assert list(terms.index) == list(atlas.cells.index)
    assert {"class", "x", "donor_label"} <= set(atlas._ipython_key_completions_())
    view = atlas.extract(["Tac2"], tmp_path / "v.parquet", annotate=["x"])
    found = view["class"].compute()
    assert found.loc[list(terms.index)].tolist() == terms.tolist()
    assert view._ipython_key_completions_()[:2] == ["Tac2", "x"]
    assert "class" in view._ipython_key_completions_()
    table = view.to_pandas()
    assert list(table.columns) == ["Tac2", "x"]
    assert list(view.to_pandas(annotations=False).columns) == ["Tac2"]
    assert list(table.index) == list(terms.index)
    assert table["x"].tolist() == atlas.cells["x"].tolist()
    gene = store["Tac2"]
    assert gene.loc[list(table.index)].tolist() == table["Tac2"].tolist()
    assert store["class"].loc[list(terms.index)].tolist() == terms.tolist()
    assert {"class", "Tac2", "ENSMUSG00000025400"} <= set(store._ipython_key_completions_())
    both = store.read("Tac2", annotate="class", where=slice(3, 9))
    assert both.equals(pd.DataFrame({"Tac2": gene, "class": store["class"]}).iloc[3:9])


def test_the_head_of_small_matrices(plain_atlas, recwarn):
    atlas = Atlas(plain_atlas.download_base)
    few = list(atlas.cells.index[:40:4])
    lazy = atlas.expression(["Tac2"], cells=few, annotate=["class"])
    assert len(lazy.head(10)) == 10
    assert len(lazy[["class"]].head()) == 5
    assert set(lazy.compute().index) == set(few)
