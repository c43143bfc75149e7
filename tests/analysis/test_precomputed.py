"""Statistics that a store keeps: tables out of them are those of the values, and of pandas."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from abc_dask import Atlas, open_store
from abc_dask.analysis import count_sums, gene_values, precomputed
from abc_dask.analysis.markers import find_markers
from abc_dask.analysis.precompute import precompute
from abc_dask.analysis.store_statistics import summarize_store
from abc_dask.base.errors import StoreError, UsageError
from abc_dask.cli import cli
from abc_dask.results.precomputed import precompute_store
from abc_dask.store.precomputed import STATISTICS, copy_of_values
from tests.analysis.stores import here, store_of
from tests.analysis.test_store_statistics import TABLES, oracle

EVERY = ["mean", "fraction", "n", "sum", "std", "var", "sumsq", "gt0", "gt1", "ge1", "gt0.999999"]


@pytest.fixture(scope="module")
def kept(plain_store, tmp_path_factory):
    """The plain store with statistics by class and subclass."""
    path = tmp_path_factory.mktemp("kept") / "s.zarr"
    shutil.copytree(plain_store.name, path)
    return precompute_store(path, ["class", "subclass"])


def refuse_values(monkeypatch):
    """Refuse to read a gene."""
    for reader in (count_sums.CountSums, gene_values.GeneReader):
        monkeypatch.setattr(reader, "read", lambda *_: pytest.fail("read a value"))


@pytest.fixture
def no_values(monkeypatch):
    refuse_values(monkeypatch)


@pytest.mark.parametrize("by", [["class"], ["subclass"], ["subclass", "class"]])
@pytest.mark.parametrize("missing", ["group", "drop"])
def test_summaries_are_those_of_values(plain_store, kept, no_values, monkeypatch, by, missing):
    found = summarize_store(kept, by, EVERY, compute=here, missing=missing)
    monkeypatch.undo()
    expected = summarize_store(plain_store, by, EVERY, compute=here, missing=missing)
    pd.testing.assert_series_equal(found.cells, expected.cells)
    assert (found.n_missing, found.n_absent) == (expected.n_missing, expected.n_absent)
    for name in EVERY:
        pd.testing.assert_frame_equal(found[name], expected[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", ["t", "pairwise"])
@pytest.mark.parametrize("groups", [None, ["30 Astro-Epen"]])
def test_markers_are_those_of_values(plain_store, kept, no_values, monkeypatch, method, groups):
    options = {"method": method, "groups": groups, "compute": here}
    found = find_markers(kept, "class", **options).to_pandas()
    monkeypatch.undo()
    expected = find_markers(plain_store, "class", **options).to_pandas()
    by_gene = [frame.sort_values(["group", "names"]) for frame in (found, expected)]
    pd.testing.assert_frame_equal(*(f.reset_index(drop=True) for f in by_gene), rtol=1e-9)


def test_what_needs_values_reads_them(plain_store, kept):
    """Medians, other limits, ranks, conditions, raw counts, other columns."""
    for statistics, more in (
        (["median"], {}),
        (["gt2"], {}),
        (["mean"], {"where": "x > 0.5"}),
        (["sum"], {"normalization": "raw"}),
    ):
        genes = list(kept.genes.index[:3])
        options = {"compute": here, "genes": genes, **more}
        found = summarize_store(kept, "class", statistics, **options)
        expected = summarize_store(plain_store, "class", statistics, **options)
        pd.testing.assert_frame_equal(found[statistics[0]], expected[statistics[0]])
    assert not precomputed.is_precomputed(kept, precomputed.Grouping(("donor_label",)), "log2")


@settings(max_examples=4)
@given(rows=TABLES, cut=st.integers(0, 40))
def test_any_values_equal_pandas(tmp_path_factory, rows, cut):
    """Coarse groups of fine ones: empty, single, missing, NaN, and a gene that is absent."""
    table = pd.DataFrame([row[1:] for row in rows], columns=["g", "h"], dtype=np.float32)
    table.loc[len(table)] = [0.123, 0.456]
    codes = np.array([*(row[0] for row in rows), 0])
    fine = pd.Categorical.from_codes(codes, list("pqrs"), ordered=True)
    coarse = pd.Categorical.from_codes(np.where(codes < 0, -1, codes // 2), list("ab"))
    tables = [t for t in (table.iloc[:cut], table.iloc[cut:].drop(columns="h")) if len(t)]
    if len(tables) == 2:
        table.iloc[cut:, 1] = np.nan
    elif cut == 0:
        table = table.drop(columns="h")
    store = store_of(tmp_path_factory.mktemp("any"), tables, {"coarse": coarse, "fine": fine})
    precompute(store, ["coarse", "fine"], Path(store.name), here)
    store = open_store(store.name)
    for by, terms in (("coarse", coarse), ("fine", fine)):
        summary = summarize_store(store, by, ["mean", "sum", "n", "gt1", "std"], compute=here)
        values = table.astype(np.float64)
        for name in ("mean", "sum", "n", "gt1"):
            expected = oracle(values, [terms], name, "group")
            np.testing.assert_allclose(summary[name], expected, rtol=1e-9, atol=1e-12)
        spread = oracle(values, [terms], "std", "group")
        np.testing.assert_allclose(summary["std"], spread, rtol=1e-6, atol=1e-6)


def test_plain_zarr_reads_them(plain_store, kept, plain_data):
    root = zarr.open_group(kept.name, mode="r")
    codes, by = root["uns/precomputed/codes"][:], list(root["uns/precomputed/by"][:])
    assert by == ["class", "subclass"]
    terms = root["obs/subclass/categories"][:][codes[:, 1]]
    group = int(np.flatnonzero(terms == plain_data.obs["subclass"].value_counts().index[0])[0])
    own = plain_data[(plain_data.obs["subclass"] == terms[group]).to_numpy()].X.toarray()
    np.testing.assert_array_equal(root["uns/precomputed/cells"][group].sum(), len(own))
    np.testing.assert_array_equal(root["varm/precomputed_gt1"][:, group], (own > 1).sum(axis=0))
    np.testing.assert_allclose(
        root["varm/precomputed_sum"][:, group], own.astype(np.float64).sum(axis=0), rtol=1e-12
    )
    assert kept.info.n_values == plain_store.info.n_values
    kept.verify()


def test_a_changed_statistic_is_found(kept, tmp_path):
    path = tmp_path / "s.zarr"
    shutil.copytree(kept.name, path)
    chunk = path / "varm/precomputed_sum/c/0/0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(StoreError, match="precomputed_sum/c/0/0 is not what was written"):
        summarize_store(open_store(path), "class", ["mean"], compute=here)
    with pytest.raises(StoreError, match="precomputed_sum"):
        open_store(path).verify()


def test_a_run_that_stopped_goes_on(plain_store, kept, tmp_path, monkeypatch):
    """The store stays as it was until all of it is there; values are linked, not copied."""
    path = tmp_path / "s.zarr"
    shutil.copytree(plain_store.name, path)
    real = count_sums.CountSums.read
    done = []

    def once(self, gene):
        if gene == 150:
            raise StoreError("not now")
        done.append(gene)
        return real(self, gene)

    monkeypatch.setattr(count_sums.CountSums, "read", once)
    with pytest.raises(StoreError, match="not now"):
        precompute_store(path, ["class", "subclass"], threads_per_worker=1)
    assert open_store(path).digest == plain_store.digest
    monkeypatch.setattr(count_sums.CountSums, "read", lambda s, g: done.append(g) or real(s, g))
    made = precompute_store(path, ["class", "subclass"])
    assert done.count(0) == 1
    assert made.info.precomputed == kept.info.precomputed
    again = tmp_path / "again"
    copy_of_values(path, again)
    names = {f"precomputed_{name}" for name in STATISTICS}
    assert not names & {p.name for p in (again / "varm").iterdir()}
    assert (again / "X/c/0/0").samefile(path / "X/c/0/0")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "s.zarr"]


def test_a_store_is_built_with_them(plain_atlas, kept, tmp_path, monkeypatch):
    """By the command, and by an array of jobs."""
    base, built = str(plain_atlas.download_base), tmp_path / "s.zarr"
    run = partial(CliRunner().invoke, cli, catch_exceptions=False)
    options = ["--download-base", base, "--annotate", "class,subclass", "--quiet"]
    done = run(["store", "build", str(built), *options, "--precompute", "class,subclass"])
    assert done.exit_code == 0, done.output
    store = open_store(built)
    shown = run(["store", "info", str(built)]).output
    groups = store.info.precomputed["groups"]
    assert f"statistics by class, subclass: {groups} groups" in shown
    refuse_values(monkeypatch)
    found = store.summarize("class", ["mean", "std"])
    monkeypatch.undo()
    # the same values, in another store, by pandas
    gene = str(store.genes.index[5])
    column = pd.Series(store.values(gene).astype(np.float64))
    by = column.groupby(store.annotation("class"), observed=True)
    name = found["mean"].columns[5]
    np.testing.assert_allclose(found["mean"][name].dropna()[: by.ngroups], by.mean(), rtol=1e-12)
    other = tmp_path / "array.zarr"
    plan = ["store", "build", str(other), *options, "--precompute", "class,subclass"]
    assert run([*plan, "--plan-only"]).exit_code == 0
    assert run(["extract-part", str(other), "--index", "0", "--of", "1"]).exit_code == 0
    assert run(["finalize", str(other)]).exit_code == 0
    np.testing.assert_array_equal(
        open_store(other).precomputed.read("sum", 0, 9), store.precomputed.read("sum", 0, 9)
    )


def test_what_cannot_be_precomputed(plain_atlas, kept, tmp_path):
    atlas = Atlas(plain_atlas.download_base)
    for annotate, by, said in (
        (["class"], ["subclass"], "precompute subclass: the store will not have this column"),
        (["class", "x"], ["x"], "cannot precompute by 'x': it holds numbers"),
        (["class"], ["class", "class"], "each column to precompute by once"),
    ):
        with pytest.raises(UsageError, match=said):
            atlas.build_store(tmp_path / "s.zarr", annotate=annotate, precompute=by)
    with pytest.raises(UsageError, match="no column 'cluster'"):
        precompute_store(kept.name, ["cluster"])
