"""A store beside a release answers what would come out of the files, or says why not."""

from __future__ import annotations

import gc
import urllib.request
import warnings

import dask
import pandas as pd
import pytest

from abc_dask import Atlas, open_view
from abc_dask.base.errors import GeneError, StoreError, UsageError
from abc_dask.testing import REFERENCE_GENES, write_atlas
from tests.command_line import run_cli

GENES = list(REFERENCE_GENES[:4])
ANNOTATE = ["class", "x", "y"]


@pytest.fixture(scope="module")
def store(plain_atlas, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "s.zarr"
    return Atlas(plain_atlas.download_base).build_store(path, annotate=ANNOTATE, block_cells=512)


@pytest.fixture
def atlas(plain_atlas, store):
    return Atlas(plain_atlas.download_base, store=store.name)


def test_extract_is_that_of_the_files(plain_atlas, atlas, store, tmp_path):
    files = Atlas(plain_atlas.download_base)
    for number, asked in enumerate(
        ({}, {"annotate": ANNOTATE, "where": "x > 3"}, {"cells": list(files.cells.index[:9])})
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            made = atlas.extract(GENES, tmp_path / f"s{number}.parquet", **asked)
        expected = files.extract(GENES, tmp_path / f"f{number}.parquet", **asked)
        assert made.info["store"]["sha256"] == store.digest
        assert "store" not in expected.info
        assert made.info["content"] == expected.info["content"] == made.content()
        pd.testing.assert_frame_equal(made.to_pandas(), expected.to_pandas())
        assert made.info["counts"]["cells"] == expected.info["counts"]["cells"]
        assert made.info["counts"]["cells_asked"] == expected.info["counts"]["cells_asked"]


def test_expression_is_that_of_the_files(plain_atlas, atlas, monkeypatch):
    monkeypatch.setattr("abc_dask.results.store_view.PARTITION_BYTES", 4_000)
    monkeypatch.setattr(atlas, "plan", None)  # no file is looked at
    asked = {"annotate": ["class"], "columns": "gene_identifier", "where": "x > 2"}
    lazy = atlas.expression(GENES, **asked)
    assert lazy.npartitions > 2
    expected = Atlas(plain_atlas.download_base).expression(GENES, **asked)
    assert len(lazy.head()) == 5
    pd.testing.assert_frame_equal(
        lazy.compute().sort_index(), expected.compute().sort_index(), check_categorical=True
    )


def test_another_store_under_its_name_is_refused(plain_atlas, tmp_path):
    files = Atlas(plain_atlas.download_base)
    path = tmp_path / "s.zarr"
    files.build_store(path)
    lazy = Atlas(plain_atlas.download_base, store=path).expression(GENES)
    files.build_store(path, annotate=["class"], overwrite=True)
    with pytest.raises(StoreError, match=r"s\.zarr is another store than when this table was made"):
        lazy.compute()


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"annotate": ["donor_label"]}, r"has no column donor_label: the matrix files are read"),
        ({"where": "donor_sex == 'F'"}, r"has no column donor_sex: the matrix files"),
        ({"normalization": "raw"}, r"is not certain of the raw counts of [\d,]+ cells: the matrix"),
    ],
)
def test_what_it_lacks_is_read_from_the_files_and_said(plain_atlas, atlas, tmp_path, asked, reason):
    with pytest.warns(UserWarning, match=reason):
        made = atlas.extract(GENES, tmp_path / "s.parquet", **asked)
    assert "store" not in made.info
    expected = Atlas(plain_atlas.download_base).extract(GENES, tmp_path / "f.parquet", **asked)
    assert made.info["content"] == expected.info["content"]


def test_an_unknown_gene_is_an_error_as_ever(atlas, tmp_path):
    with pytest.raises(GeneError, match=r"Tac22"):
        atlas.extract(["Tac22"], tmp_path / "v.parquet")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Other cells under the same names."""
    folder = tmp_path_factory.mktemp("other") / "base"
    names = ["WMB-10XMulti", "WMB-10Xv2-TH"]
    write_atlas(folder, scale=0.0005, n_genes=200, seed=5, matrices=names, normalizations=("log2",))
    return folder


def test_a_store_of_other_cells_is_refused_where_it_was_named(other, store, tmp_path):
    with pytest.raises(UsageError, match=r"s\.zarr was made of [\d,]+ cells, not [\d,]+; leave st"):
        Atlas(other, store=store.name).extract(["Tac2"], tmp_path / "v.parquet")
    with pytest.raises(StoreError, match=r"nothing is missing; `abc-dask store"):
        Atlas(other, store=tmp_path / "nothing").extract(["Tac2"], tmp_path / "v.parquet")


def test_the_setting(plain_atlas, other, store, tmp_path):
    with dask.config.set({"abc-dask.store": store.name}):
        made = Atlas(plain_atlas.download_base).extract(["Tac2"], tmp_path / "v.parquet")
        assert made.info["store"]["sha256"] == store.digest
        with pytest.warns(UserWarning, match=r"was made of [\d,]+ cells, not [\d,]+: the matrix f"):
            made = Atlas(other).extract(["Tac2"], tmp_path / "w.parquet")
        assert "store" not in made.info
        words = ["extract", "Tac2", "--download-base", str(plain_atlas.download_base)]
        run_cli(*words, "-o", tmp_path / "x.parquet")
        assert open_view(tmp_path / "x.parquet").info["store"]["sha256"] == store.digest
    with dask.config.set({"abc-dask.store": 7}), pytest.raises(UsageError, match=r"abc-dask.store"):
        Atlas(plain_atlas.download_base).expression(["Tac2"])


def test_a_store_in_a_frame_of_a_notebook(store):
    page = store.explore(genes=GENES, where="x > 2")
    try:
        shown = page._repr_html_()
        assert shown.startswith("<iframe")
        assert page.url in shown
        with urllib.request.urlopen(page.url) as answer:
            assert b"<html" in answer.read().lower()
    finally:
        page.close()
    with pytest.raises(OSError, match=r"refused"):
        urllib.request.urlopen(page.url)


def test_the_page_ends_with_its_object(store):
    page = store.explore(genes=GENES[:1])
    url = page.url
    with urllib.request.urlopen(url) as answer:
        assert answer.status == 200
    del page
    gc.collect()
    with pytest.raises(OSError, match=r"refused"):
        urllib.request.urlopen(url)
