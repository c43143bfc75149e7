"""What comes out of a store is what comes out of the files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from abc_dask import Atlas, open_view
from abc_dask.base.errors import GeneError, StoreError, UsageError, ViewError
from abc_dask.cli import cli
from abc_dask.plan.request import Request
from abc_dask.results.store_view import view_of_store
from abc_dask.testing import REFERENCE_GENES

GENES = [*REFERENCE_GENES[:3], "Tac2"]
COLUMNS = ["class", "neurotransmitter", "x", "y"]


@pytest.fixture(scope="module", params=["plain", "odd"])
def atlas(request, plain_atlas, odd_atlas):
    chosen = {"plain": plain_atlas, "odd": odd_atlas}[request.param]
    return Atlas(chosen.download_base)


@pytest.fixture(scope="module")
def store(atlas, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "s.zarr"
    return atlas.build_store(path, annotate=COLUMNS, block_cells=512)


@pytest.mark.parametrize("format", ["parquet", "zarr", "csv"])
@pytest.mark.parametrize("where", [None, "x > 3 and neurotransmitter.notna()"])
def test_the_view_is_that_of_the_files(atlas, store, tmp_path, format, where):
    asked = {"annotate": COLUMNS, "where": where}
    expected = atlas.extract(GENES, tmp_path / f"files.{format}", **asked)
    made = view_of_store(store, Request.of(GENES, **asked)).extract(tmp_path / f"store.{format}")
    made.verify()
    assert made.info["content"] == expected.info["content"] == made.content()
    frames = [view.annotate(COLUMNS).compute().sort_index() for view in (made, expected)]
    pd.testing.assert_frame_equal(*frames)
    pd.testing.assert_frame_equal(made.to_pandas(), expected.to_pandas())
    same = ("release", "metadata", "genes", "dtype", "annotations", "places")
    assert {n: made.info.get(n) for n in same} == {n: expected.info.get(n) for n in same}
    names = ("cells", "cells_asked") if where is None else ("cells",)  # it holds what was found
    for name in names:
        assert made.info["counts"][name] == expected.info["counts"][name], name


def test_raw_counts_from_log2_files(plain_atlas, tmp_path):
    atlas = Atlas(plain_atlas.download_base)
    store = atlas.build_store(tmp_path / "s.zarr")
    expected = atlas.extract(GENES, tmp_path / "v.parquet", normalization="raw").to_pandas()
    sure = [n for n, ok in zip(store.labels.to_pylist(), store.certain, strict=True) if ok]
    found = view_of_store(store, Request.of(GENES, "raw", cells=sure)).to_pandas()
    pd.testing.assert_frame_equal(found, expected.loc[found.index], check_dtype=False)
    assert 0 < len(found) < len(expected)


def test_chosen_cells_in_any_order(atlas, store):
    labels = atlas.cells.index[[5, 3, 40]]
    held = [label for label in labels if label in set(store.labels.to_pylist())]
    view = view_of_store(store, Request.of("Tac2", cells=held))
    assert list(view.to_pandas().index) == [n for n in atlas.cells.index if n in held]


def test_it_is_summarized_and_handed_over_like_a_view(atlas, store, tmp_path):
    files = atlas.extract(GENES, tmp_path / "v.parquet", annotate=COLUMNS)
    view = view_of_store(store, Request.of(GENES), every_annotation=True)
    for by in ("class", "neurotransmitter"):
        found, expected = view.summarize(by, ["mean", "fraction"]), files.summarize(by)
        finite = expected["mean"].notna().all() & np.isfinite(expected["mean"]).all()
        found, expected = (table["mean"].loc[:, finite] for table in (found, expected))
        pd.testing.assert_frame_equal(found, expected, rtol=1e-12)
    assert view.term_colors("class") == files.term_colors("class")
    assert view.to_anndata().obsm.keys() == files.to_anndata().obsm.keys()


def test_columns_that_the_store_lacks_come_from_its_atlas(atlas, store):
    view = view_of_store(store, Request.of("Tac2"))
    found = view.annotate(["class", "subclass"]).compute()
    expected = atlas.expression(["Tac2"], annotate=["class", "subclass"]).compute()
    assert list(found["subclass"].astype(object)) == list(
        expected.loc[found.index, "subclass"].astype(object)
    )


def test_refusals(store, tmp_path):
    with pytest.raises(GeneError, match="Tac22.*nearest: Tac2"):
        view_of_store(store, Request.of("Tac22"))
    with pytest.raises(
        UsageError, match=r"no annotation 'clas'.*chosen when it is built .annotate"
    ):
        view_of_store(store, Request.of("Tac2", annotate="clas"))
    with pytest.raises(UsageError, match="has no annotation 'subclass'"):
        view_of_store(store, Request.of("Tac2", where="subclass == 'a'"))
    view = view_of_store(store, Request.of("Tac2"))
    view.extract(tmp_path / "v.parquet")
    with pytest.raises(ViewError, match="exists; pass overwrite=True"):
        view_of_store(store, Request.of("Slc17a7")).extract(tmp_path / "v.parquet")


def test_a_store_without_its_cells_order(store, monkeypatch):
    monkeypatch.setattr(store, "info", replace(store.info, provenance={}))
    with pytest.raises(StoreError, match="does not say where in cell_metadata"):
        view_of_store(store, Request.of("Tac2"))


def test_commands(atlas, store, tmp_path):
    def run(*words: object):
        return CliRunner().invoke(cli, [str(word) for word in words])

    output = tmp_path / "v.parquet"
    done = run("extract", *GENES, "--store", store.name, "-o", output, "--annotate", "class,x")
    assert done.exit_code == 0, done.output
    assert f"cells    {len(atlas.cells):,} asked" in done.output
    assert np.array_equal(
        open_view(output).to_pandas(annotations=False).to_numpy(),
        atlas.extract(GENES, tmp_path / "f.parquet").to_pandas().to_numpy(),
        equal_nan=True,
    )
    for words, said in (
        (("--workers", "2"), "--workers has no meaning with --store"),
        (("--dataset", "D"), "--dataset has no meaning with --store"),
    ):
        refused = run("extract", "Tac2", "--store", store.name, "-o", tmp_path / "w", *words)
        assert (refused.exit_code, said in refused.output) == (2, True)
    missing = run("extract", "Tac2", "-o", tmp_path / "w")
    assert (missing.exit_code, "no atlas is named" in missing.output) == (2, True)
    drawn = run("plot", "umap", store.name, "--color", "class,Tac2", "-o", tmp_path / "p.png")
    assert drawn.exit_code == 0, drawn.output
    nothing = run("plot", "heatmap", store.name, "--by", "class", "-o", tmp_path / "h.png")
    assert "is a store; name genes with --genes" in nothing.output
    page = run("report", store.name, "--genes", "Tac2", "--by", "class", "-o", tmp_path / "r.html")
    assert page.exit_code == 0, page.output
