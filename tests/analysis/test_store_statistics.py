"""Statistics of a store's genes against pandas, scanpy and published tables."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from hypothesis import given, settings
from hypothesis import strategies as st

from abc_dask.analysis.store_statistics import summarize_store
from abc_dask.base.errors import GeneError, StoreError, UsageError
from abc_dask.store.gene_store import open_store as open_plainly
from tests.analysis.stores import here, store_of
from tests.store_builder import build

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*:DeprecationWarning",
    "ignore:.*:FutureWarning",
    "ignore::RuntimeWarning:scanpy",  # theirs, of groups of one cell
)

EVERY = ["mean", "fraction", "median", "count", "n", "sum", "std", "var", "sumsq", "gt1", "ge1"]


def oracle(values: pd.DataFrame, keys, statistic, missing="group"):
    """What pandas answers, in float64."""
    keys = [pd.Series(key, index=values.index) for key in keys]
    groups = values.groupby(keys, observed=True, sort=True, dropna=missing == "drop")
    own = {
        "fraction": lambda s: (s > 0).sum() / s.count() if s.count() else np.nan,
        "sumsq": lambda s: (s**2).sum() if s.count() else np.nan,
        "gt1": lambda s: (s > 1).sum(),
        "ge1": lambda s: (s >= 1).sum(),
        "n": "count",
    }
    if statistic == "sum":
        return groups.sum(min_count=1)
    return groups.agg(own.get(statistic, statistic))


def check(summary, values, keys, names, missing="group"):
    for name in names:
        expected = oracle(values, keys, name, missing)
        got = summary[name]
        assert [tuple(map(str, np.atleast_1d(k))) for k in got.index] == [
            tuple(map(str, np.atleast_1d(k))) for k in expected.index
        ]
        np.testing.assert_allclose(
            got.to_numpy(np.float64), expected.to_numpy(np.float64), rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("normalization", ["log2", "raw"])
@pytest.mark.parametrize("by", [["class"], ["class", "donor_sex"]])
def test_all_genes_equal_pandas(plain_store, plain_data, by, normalization):
    summary = summarize_store(plain_store, by, EVERY, compute=here, normalization=normalization)
    matrix = plain_data.X if normalization == "log2" else plain_data.layers["raw"]
    values = pd.DataFrame(matrix.toarray().astype(np.float64), columns=plain_data.var_names)
    keys = [pd.Categorical(plain_data.obs[name]) for name in by]
    check(summary, values, keys, EVERY)
    assert summary["mean"].shape[1] == plain_store.n_genes
    assert summary.cells.sum() == plain_store.n_cells


def test_all_genes_equal_scanpy(plain_store, plain_data):
    names = ["mean", "var", "sum", "n"]
    summary = summarize_store(plain_store, "subclass", names, compute=here, missing="drop")
    data = plain_data[plain_data.obs["subclass"].notna()].copy()
    data.X = data.X.astype(np.float64)
    expected = sc.get.aggregate(data, "subclass", ["mean", "var", "sum", "count_nonzero"])
    got = summary.to_anndata()[expected.obs_names]
    several = got.obs["cells"].to_numpy() > 1
    for name in ("mean", "sum"):
        np.testing.assert_allclose(got.layers[name], expected.layers[name], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        got.layers["var"][several], expected.layers["var"][several], rtol=1e-9, atol=1e-9
    )
    assert got.var_names.to_list() == expected.var_names.to_list()


def test_conditions_and_missing_terms_equal_pandas(plain_store, plain_data, tmp_path):
    gene = str(plain_store.genes.index[3])
    where = f"x > 0.2 and `{gene}` > 0 and donor_sex == 'F'"
    values = pd.DataFrame(plain_data.X.toarray().astype(np.float64), columns=plain_data.var_names)
    fits = (values[gene] > 0) & (np.linspace(0, 1, len(values)) > 0.2)
    fits &= (plain_data.obs["donor_sex"] == "F").to_numpy()
    assert 0 < fits.sum() < len(values)
    summary = summarize_store(plain_store, "class", ["mean", "median"], compute=here, where=where)
    classes = pd.Categorical(plain_data.obs["class"])
    check(summary, values[fits], [classes[fits]], ["mean", "median"])
    assert summary.n_left_out == (~fits).sum()


VALUES = st.one_of(
    st.just(0.0),
    st.integers(-(10**9), 10**9).map(lambda n: float(np.float32(n / 1e3))),
    st.sampled_from([np.nan, 1e8, 1e8 + 8, 3.5, -2.0, 1.0]),
)
TABLES = st.lists(st.tuples(st.integers(-1, 3), VALUES, VALUES), min_size=1, max_size=40)


@settings(max_examples=15)
@given(rows=TABLES, cut=st.integers(0, 40), missing=st.sampled_from(["group", "drop"]))
def test_any_values_equal_pandas(tmp_path_factory, rows, cut, missing):
    """Groups that are empty, single, all missing, all zero, negative; a gene that is absent."""
    table = pd.DataFrame([row[1:] for row in rows], columns=["g", "h"], dtype=np.float32)
    terms = pd.Categorical.from_codes([row[0] for row in rows], list("pqrs"), ordered=True)
    # values that are no counts, whatever is drawn
    table.loc[len(table)] = [0.123, 0.456]
    terms = pd.Categorical([*terms, "p"], dtype=terms.dtype)
    tables = [t for t in (table.iloc[:cut], table.iloc[cut:].drop(columns="h")) if len(t)]
    if len(tables) == 2:
        table.iloc[cut:, 1] = np.nan
    elif cut == 0:
        table = table.drop(columns="h")
    store = store_of(tmp_path_factory.mktemp("any"), tables, {"type": terms})
    names = ["mean", "fraction", "median", "count", "sum", "sumsq", "gt1", "ge1"]
    summary = summarize_store(store, "type", [*names, "std"], compute=here, missing=missing)
    kept = np.ones(len(table), bool) if missing == "group" else terms.codes >= 0
    values = table.astype(np.float64)[kept].reset_index(drop=True)
    check(summary, values, [terms[kept]], names, missing)
    spread = oracle(values, [terms[kept]], "std", missing)
    np.testing.assert_allclose(summary["std"], spread, rtol=1e-6, atol=1e-6)
    absent = values.isna().sum()
    assert summary.n_absent == {g: int(n) for g, n in absent.items() if n}
    assert summary.n_missing == (terms.codes < 0).sum()


@settings(max_examples=10)
@given(
    counts=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 300)), min_size=1, max_size=150),
    raw=st.booleans(),
)
def test_any_counts_equal_pandas(tmp_path_factory, counts, raw):
    table = pd.DataFrame({"g": [float(n) for _, n in counts], "h": 1.0}, dtype=np.float32)
    terms = pd.Categorical.from_codes([code for code, _ in counts], list("pqr"), ordered=True)
    store = store_of(tmp_path_factory.mktemp("counts"), [table], {"type": terms}, raw=True)
    assert store.info.kind == "counts"
    normalization = "raw" if raw else "log2"
    summary = summarize_store(store, "type", EVERY, compute=here, normalization=normalization)
    values = table.astype(np.float64)
    if not raw:
        values = np.log2(values.div(values.sum(axis=1), axis=0) * 1e6 + 1)
        values = values.astype(np.float32).astype(np.float64)
    check(summary, values, [terms], EVERY)


def test_raw_counts_that_are_not_certain_are_refused(plain_atlas, tmp_path):
    files = sorted(p for key, p in plain_atlas.matrices.items() if key[2] == "log2")
    genes = anndata.read_h5ad(files[0], backed="r").var_names.to_list()
    store = open_plainly(build(tmp_path, files, genes, block_cells=128).path)
    assert store.info.n_uncertain
    by = "feature_matrix_label"
    with pytest.raises(StoreError, match="raw counts of .* are not certain, such as in '"):
        summarize_store(store, by, ["sum"], compute=here, normalization="raw")
    where = "counts_are_certain"
    sums = summarize_store(store, by, ["sum"], compute=here, normalization="raw", where=where)[
        "sum"
    ].to_numpy()
    raw = anndata.concat(
        [anndata.read_h5ad(p.with_name(p.name.replace("log2", "raw"))) for p in files],
        label="file",
    )
    kept = raw[store.certain]
    expected = [kept[kept.obs["file"] == k].X.sum(axis=0).A1 for k in kept.obs["file"].unique()]
    np.testing.assert_array_equal(sums, np.array(expected))


def test_what_cannot_be_asked(plain_store):
    def ask(by="class", statistics=("mean",), **more):
        return summarize_store(plain_store, by, statistics, compute=here, **more)

    with pytest.raises(
        UsageError, match="no column 'clas'; nearest: class, .*; its columns: total"
    ):
        ask("clas")
    with pytest.raises(UsageError, match="cannot group by 'x': it holds numbers"):
        ask("x")
    with pytest.raises(UsageError, match="unknown statistic 'mode'.*gt1 and the like"):
        ask(statistics=["mode"])
    with pytest.raises(UsageError, match="limit of ge must be above 0"):
        ask(statistics=["ge0"])
    with pytest.raises(UsageError, match="each statistic once"):
        ask(statistics=["mean", "mean"])
    with pytest.raises(UsageError, match="column to group by once"):
        ask(["class", "class"])
    with pytest.raises(UsageError, match="missing 'keep' is not one of group, drop"):
        ask(missing="keep")
    with pytest.raises(UsageError, match=r"no cell of .* is left: .* do not fit the condition"):
        ask(where="x > 2")
    with pytest.raises(UsageError, match="no column 'y'"):
        ask(where="y > 2")
    with pytest.raises(GeneError, match="'Tac3' is not in"):
        ask(genes=["Tac3"])
    with pytest.raises(UsageError, match="neither 'log2' nor 'raw'"):
        ask(normalization="ln")


def test_colours_of_the_store_stand_in_obs(plain_store, monkeypatch):
    colors = {"name": "class", "colors": {"30 Astro-Epen": "#123456"}}
    monkeypatch.setitem(plain_store.info.provenance, "annotations", [colors])
    from abc_dask.analysis.cell_groups import Grouping, groups_of
    from abc_dask.analysis.group_table import obs_of

    obs = obs_of(groups_of(plain_store, Grouping(("class",))))
    assert set(obs["class_color"]) == {"#123456", ""}
    assert obs.loc["30 Astro-Epen", "class_color"] == "#123456"


@pytest.mark.parametrize("statistic", ["mean", "fraction"])
def test_published_tables_through_a_store(real_extract, shared_data, tmp_path, statistic):
    name = f"sst_isocortex_merfish_{statistic}_by_parcellation_structure.csv"
    reference = pd.read_csv(shared_data / "reference" / name, index_col=0)
    (file,) = [
        p for p in real_extract.rglob("*log2.h5ad") if "MERFISH" in p.name or "C57" in p.name
    ]
    matrix = anndata.read_h5ad(file, backed="r")
    annotated = pd.read_csv(
        next(real_extract.rglob("cell_metadata_with_cluster_annotation.csv")),
        dtype={"cell_label": str},
        index_col="cell_label",
    ).reindex(matrix.obs_names)
    terms = {n: pd.Categorical(annotated[n]) for n in ("subclass", "parcellation_structure")}
    symbols = matrix.var["gene_symbol"].to_list()
    built = build(tmp_path, [file], matrix.var_names.to_list(), symbols=symbols, annotations=terms)
    summary = summarize_store(
        open_plainly(built.path),
        "parcellation_structure",
        [statistic],
        compute=here,
        missing="drop",
        where="subclass in ['053 Sst Gaba', '056 Sst Chodl Gaba']",
        genes=list(reference.columns),
    )
    got = summary[statistic]
    got = got.set_axis(got.index.astype(str)).loc[reference.index]
    assert len(reference) > 20
    np.testing.assert_allclose(got.to_numpy(), reference.to_numpy(), rtol=0, atol=1e-12)
