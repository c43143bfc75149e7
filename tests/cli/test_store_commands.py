"""summarize, markers and pseudobulk of a store, from the command line to files."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

from abc_dask import open_store
from abc_dask.analysis import gene_tasks
from abc_dask.base.errors import UsageError
from tests.analysis.stores import store_of
from tests.command_line import run_cli

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*:DeprecationWarning", "ignore:.*:FutureWarning", "ignore::RuntimeWarning:scanpy"
)

N_CELLS, N_GENES = 400, 300


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(5)
    held = rng.random((N_CELLS, N_GENES)) < 0.3
    counts = held * rng.integers(1, 40, (N_CELLS, N_GENES))
    counts[: N_CELLS // 2, :30] *= 3
    return pd.DataFrame(counts, columns=[f"g{k}" for k in range(N_GENES)], dtype=np.float32)


@pytest.fixture(scope="module")
def terms():
    rng = np.random.default_rng(6)
    kinds = np.repeat([0, 1, 2, -1], [N_CELLS // 2, 100, 90, 10])
    return {
        "class": pd.Categorical.from_codes(kinds, ["z first", "b", "c"], ordered=True),
        "donor_label": pd.Categorical.from_codes(rng.integers(0, 4, N_CELLS), list("wxyz")),
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory, table, terms):
    return store_of(tmp_path_factory.mktemp("commands"), [table], terms, raw=True)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return run_cli


def test_summarize_writes_every_format(run, store, table, terms):
    words = ["summarize", store.name, "--by", "class", "--all-genes", "--statistics", "mean,n,gt1"]
    for suffix in ("h5ad", "zarr", "parquet", "csv"):
        said = run(*words, "-o", f"t.{suffix}").output
        assert "cells    400 in 4 groups" in said
        assert "genes    300" in said
        assert f"t.{suffix} written" in said
        assert "exists; pass --overwrite" in run(*words, "-o", f"t.{suffix}", code=2).output
        run(*words, "-o", f"t.{suffix}", "--overwrite", "--quiet")
    counts = table.astype(np.float64)
    log2 = np.log2(counts.div(counts.sum(axis=1), axis=0) * 1e6 + 1).astype(np.float32)
    keys = pd.Series(terms["class"])
    expected = log2.astype(np.float64).groupby(keys, observed=True, dropna=False).mean()
    data = anndata.read_h5ad("t.h5ad")
    assert data.obs_names.to_list() == ["z first", "b", "c", "no class"]
    assert data.obs["cells"].to_list() == [200, 100, 90, 10]
    assert data.obs["class"].cat.categories.to_list() == ["z first", "b", "c"]
    np.testing.assert_allclose(data.X, expected, rtol=1e-9)
    again = anndata.read_zarr("t.zarr")
    for name in ("mean", "n", "gt1"):
        np.testing.assert_array_equal(again.layers[name], data.layers[name])
    assert json.loads(data.uns["abc_dask"])["by"] == ["class"]
    for flat in (pd.read_parquet("t.parquet"), pd.read_csv("t.csv", float_precision="round_trip")):
        means = flat[flat["statistic"] == "mean"][list(table.columns)]
        np.testing.assert_array_equal(means, data.layers["mean"])
    assert not list(store._folder._path.parent.glob("*.partial"))


def test_summarize_prints_some_genes(run, store):
    said = run("summarize", store.name, "--by", "class", "--genes", "g3,g1").output
    assert said.split("\n")[0].split() == ["class", "cells", "g3", "g1"]
    record = json.loads(
        run("summarize", store.name, "--by", "class", "--genes", "g3,g1", "--json").output
    )
    assert record["genes"] == ["g3", "g1"]
    assert (
        "name --genes, or pass --all-genes"
        in run("summarize", store.name, "--by", "class", code=2).output
    )
    assert (
        "not both"
        in run(
            "summarize", store.name, "--by", "class", "--genes", "g3", "--all-genes", code=2
        ).output
    )


def test_options_of_stores_are_refused_for_views(run, tmp_path):
    said = run("summarize", tmp_path, "--by", "class", "--all-genes", code=2).output
    assert "--all-genes is for stores" in said


@pytest.mark.parametrize("words", [["summarize", "--by", "class"], ["explore", "--no-browser"]])
def test_options_of_views_are_refused_for_stores(run, store, tmp_path, words):
    said = run(words[0], store.name, *words[1:], "--download-base", tmp_path, code=2).output
    assert "--download-base is for views" in said


def test_markers_are_printed_and_written(run, store):
    done = run("markers", store.name, "--by", "class", "--top", "3", "-o", "m.csv")
    assert "not independent samples" in done.stderr
    run("markers", store.name, "--by", "class", "-o", "m.csv", "--overwrite")
    lines = done.stdout.split("\n")
    assert lines[0].split()[:2] == ["group", "gene"]
    assert sum(line.startswith("z first") for line in lines) == 3
    assert "3 groups versus rest, by wilcoxon, 300 genes" in done.stdout
    assert "missing  10 cells without a term" in done.stdout
    table = pd.read_csv("m.csv")
    best = set(table[table["group"] == "z first"]["names"].head(5))
    assert len(best & {f"g{k}" for k in range(30)}) >= 4
    obs = pd.DataFrame({"k": pd.Categorical(list("aabb"))}, index=list("pqrs"))
    data = anndata.AnnData(np.eye(4), obs=obs, uns={"log1p": {"base": 2}})
    sc.tl.rank_genes_groups(data, "k", groups=["a"], method="wilcoxon", pts=True)
    theirs = sc.get.rank_genes_groups_df(data, None).columns
    assert set(theirs) <= set(table.columns)
    record = json.loads(
        run("markers", store.name, "--by", "class", "--json", "--quiet", "--group", "b").stdout
    )
    assert {row["group"] for row in record["markers"]} == {"b"}


def test_pseudobulk_is_what_pandas_sums(run, store, table, terms):
    said = run(
        "pseudobulk", store.name, "--by", "class", "--sample", "donor_label", "-o", "p.h5ad"
    ).output
    assert "sums     12 rows x 300 genes of 390 cells in 4 samples" in said
    data = anndata.read_h5ad("p.h5ad")
    keys = [np.asarray(terms[name].astype(object)) for name in terms]
    sums = table.astype(np.int64).groupby(keys).sum()
    rows = list(zip(data.obs["class"], data.obs["donor_label"], strict=True))
    np.testing.assert_array_equal(data.X, sums.loc[rows])
    assert data.X.dtype == np.int64
    assert (
        "suffix may be: .h5ad, .zarr"
        in run(
            "pseudobulk",
            store.name,
            "--by",
            "class",
            "--sample",
            "donor_label",
            "-o",
            "p.csv",
            code=2,
        ).output
    )


def test_an_interrupted_table_goes_on_where_it_was(run, store, monkeypatch, tmp_path):
    words = ["summarize", store.name, "--by", "class", "--all-genes", "-o", "t.h5ad"]
    log = tmp_path / "computed"
    real = gene_tasks.compute_task

    def fails_late(task):
        with log.open("a") as file:
            file.write(f"{task.number}\n")
        if len(log.read_text().split()) == 3:
            raise UsageError("stopped here")
        return real(task)

    def notes(task):
        with log.open("a") as file:
            file.write(f"{task.number}\n")
        return real(task)

    monkeypatch.setattr(gene_tasks, "compute_task", fails_late)
    assert "stopped here" in run(*words, "--threads-per-worker", "1", code=2).output
    *_, failed = log.read_text().split()
    assert not (tmp_path / "t.h5ad").exists()
    held = sorted((tmp_path / "t.h5ad.partial" / "parts").glob("*.npz"))
    assert len(held) == 2
    damaged = str(int(held[1].name[:5]))
    held[1].write_bytes(held[1].read_bytes()[:-7])  # damaged: not believed
    log.unlink()
    monkeypatch.setattr(gene_tasks, "compute_task", notes)
    other = [*words[:-2], "--statistics", "sum", *words[-2:]]
    assert "holds the unfinished view of another request" in run(*other, code=1).output
    run(*words)
    assert sorted(log.read_text().split()) == sorted([damaged, failed])
    assert not (tmp_path / "t.h5ad.partial").exists()
    means = anndata.read_h5ad("t.h5ad").X
    np.testing.assert_array_equal(means, open_store(store.name).summarize("class")["mean"])
    assert "t.h5ad exists; pass --overwrite" in run(*words, code=2).output
    run(*words, "--overwrite")


@pytest.mark.parametrize(
    "words",
    [
        ("summarize", "STORE", "--all-genes", "--by", "class", "-o", "t.h5ad"),
        ("markers", "STORE", "--by", "class", "-o", "t.csv"),
        ("pseudobulk", "STORE", "--by", "class", "--sample", "donor_label", "-o", "t.h5ad"),
        ("store", "build", "s.zarr", "--download-base", "BASE"),
    ],
)
def test_a_memory_limit_with_which_nothing_gets_on(run, store, plain_atlas, words):
    places = {"STORE": store.name, "BASE": plain_atlas.download_base}
    words = [places.get(word, word) for word in words]
    for limit, message in (("250 MB", "one needs at least 400"), ("lots", "is not a size")):
        said = run(*words, "--memory-limit", limit, code=2).output
        assert "--memory-limit " in said
        assert message in said


def test_two_processes_give_the_same(store):
    from distributed import Client, LocalCluster

    opened = open_store(store.name)
    alone = opened.summarize("class", ["mean", "std"])
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        both = opened.summarize("class", ["mean", "std"])
        sums = opened.pseudobulk("class", "donor_label").to_anndata()
        best = opened.markers("class", method="t").to_pandas(3)
    for name in ("mean", "std"):
        pd.testing.assert_frame_equal(both[name], alone[name])
    assert sums.shape == (12, N_GENES)
    pd.testing.assert_frame_equal(best, opened.markers("class", method="t").to_pandas(3))


def test_a_view_is_no_store(run, tmp_path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "_view.json").write_text("{}")
    assert "is a view of a few genes" in run("markers", "v", "--by", "class", code=2).output
    assert "nothing is missing" in run("markers", "nothing", "--by", "class", code=2).output


def test_a_request_that_is_refused_leaves_nothing(run, store, tmp_path):
    for wrong in (["--by", "clas"], ["--by", "class", "--where", "clas == 'b'"]):
        sums = ["pseudobulk", store.name, *wrong, "--sample", "donor_label", "-o", "p.h5ad"]
        message = run(*sums, code=2).output
        assert message.count("total") == 1
        assert not list(tmp_path.iterdir())
    for wrong in ("clas", "class,class"):
        run("store", "precompute", store.name, "--by", wrong, code=2)
    assert not Path(f"{store.name}.partial").exists()


def test_statistics_for_the_mapper_are_no_anndata(run, store, tmp_path):
    words = ["store", "export", store.name, "m.h5ad", "--format", "cell-type-mapper"]
    assert "m.h5ad: statistics for cell_type_mapper are no AnnData" in run(*words, code=2).output
    assert not list(tmp_path.iterdir())
