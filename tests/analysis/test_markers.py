"""Markers against scipy's tests of the same values, and against scanpy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from abc_dask.analysis.cell_lists import read_lists
from abc_dask.analysis.markers import adjusted, find_markers
from abc_dask.base.errors import GeneError, UsageError
from tests.analysis.stores import here, store_of
from tests.command_line import run_cli

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*:DeprecationWarning",
    "ignore:.*:FutureWarning",
    # theirs, of groups without spread
    "ignore::RuntimeWarning:scanpy",
    "ignore::RuntimeWarning:scipy",
)
GROUP = "18 TH Glut"


@pytest.fixture(scope="module")
def listed(plain_data):
    """Cells of classes with at least two cells."""
    classes = plain_data.obs["class"]
    sizes = classes.value_counts()
    data = plain_data[classes.isin(sizes.index[sizes >= 2])].copy()
    data.obs["class"] = data.obs["class"].cat.remove_unused_categories()
    data.uns["log1p"] = {"base": 2}
    data.X = data.X.astype(np.float64)  # it squares them as they are
    return data


def where_listed(listed):
    names = ", ".join(repr(str(n)) for n in listed.obs["class"].cat.categories)
    return f"class in [{names}]"


@pytest.mark.parametrize(
    ("method", "theirs", "versus"),
    [
        ("t", "t-test", "rest"),
        ("t", "t-test", GROUP),
        ("wilcoxon", "wilcoxon", "rest"),
        pytest.param("wilcoxon", "wilcoxon", GROUP, marks=pytest.mark.slow),
    ],
)
def test_all_groups_equal_scanpy(plain_store, listed, method, theirs, versus):
    found = find_markers(
        plain_store, "class", compute=here, method=method, versus=versus, where=where_listed(listed)
    )
    sc.tl.rank_genes_groups(
        listed, "class", method=theirs, reference=versus, pts=True, tie_correct=True
    )
    expected = sc.get.rank_genes_groups_df(listed, group=None).set_index(["group", "names"])
    columns = list(expected.columns)
    got = found.to_pandas()
    assert list(got.columns[:2]) == ["group", "names"]
    assert len(got) == len(expected)
    got = got.set_index(["group", "names"]).loc[expected.index]
    for name in columns:
        # scanpy keeps scores and fold changes as float32
        loose = name in {"scores", "logfoldchanges"}
        np.testing.assert_allclose(
            got[name],
            expected[name],
            rtol=2e-4 if loose else 1e-6,
            atol=1e-4 if loose else 1e-9,
            err_msg=name,
        )
    assert found.cells == tuple((listed.obs["class"] == name).sum() for name in found.groups)
    assert len(found.groups) == listed.obs["class"].nunique() - (versus != "rest")


def test_best_come_first_and_adjusted_values_are_those_of_statsmodels(plain_store):
    found = find_markers(plain_store, "class", compute=here, method="wilcoxon", missing="drop")
    for group in found.groups[:3]:
        table = found.of_group(group)
        assert (np.diff(table["scores"]) <= 0).all()
        expected = multipletests(table["pvals"], method="fdr_bh")[1]
        np.testing.assert_allclose(table["pvals_adj"], expected, rtol=1e-12)
        assert found.of_group(group, 4).equals(table.head(4))
    assert len(found.to_pandas(2)) == 2 * len(found.groups)


@given(st.lists(st.one_of(st.just(np.nan), st.floats(0, 1)), max_size=50))
def test_adjusted_values_are_those_of_statsmodels(values):
    p = np.array(values, np.float64)
    known = ~np.isnan(p)
    expected = np.full(len(p), np.nan)
    if known.any():
        expected[known] = multipletests(p[known], method="fdr_bh")[1]
    # the smallest numbers of all have few digits
    np.testing.assert_allclose(adjusted(p), expected, rtol=1e-12, atol=1e-320)


VALUES = st.sampled_from([0.0, 0.0, 0.0, 1.5, 1.5, 2.25, -1.25, 7.0, np.nan, 0.1, 3.3])
TABLES = st.lists(st.tuples(st.integers(-1, 2), VALUES, VALUES), min_size=6, max_size=60)


def sides(values, terms, group, versus):
    """The values of a group and of what it is compared with."""
    one = values[terms == group]
    two = values[terms != group] if versus == "rest" else values[terms == versus]
    return one[~np.isnan(one)], two[~np.isnan(two)]


@settings(max_examples=15)
@given(
    rows=TABLES, versus=st.sampled_from(["rest", "b"]), missing=st.sampled_from(["group", "drop"])
)
def test_any_values_equal_scipy(tmp_path_factory, rows, versus, missing):
    rows = [*rows, (0, 1.5, 0.123), (0, 0.0, 0.456), (1, 2.25, 0.1), (1, 0.0, 0.2)]
    table = pd.DataFrame([row[1:] for row in rows], columns=["g", "h"], dtype=np.float32)
    terms = pd.Categorical.from_codes([row[0] for row in rows], list("abc"), ordered=True)
    store = store_of(tmp_path_factory.mktemp("any"), [table], {"type": terms})
    kept = np.ones(len(table), bool) if missing == "group" else terms.codes >= 0
    names = np.asarray(terms.astype(object))
    for method in ("t", "wilcoxon"):
        found = find_markers(
            store, "type", compute=here, method=method, versus=versus, missing=missing
        )
        for group in found.groups:
            got = found.of_group(group).set_index("names")
            for gene in ("g", "h"):
                values = table[gene].to_numpy(np.float64)[kept]
                one, two = sides(values, names[kept], group, versus)
                check_against_scipy(got.loc[gene], one, two, method)


def check_against_scipy(row, one, two, method):
    assert (row["n_group"], row["n_reference"]) == (len(one), len(two))
    if method == "t":
        if min(len(one), len(two)) < 2:
            assert np.isnan(row["scores"])
            return
        if np.ptp(one) == np.ptp(two) == 0:
            same = one[0] == two[0]
            assert row["scores"] == (0 if same else np.copysign(np.inf, one[0] - two[0]))
            assert row["pvals"] == (1 if same else 0)
            return
        t, p = scipy.stats.ttest_ind(one, two, equal_var=False)
        np.testing.assert_allclose([row["scores"], row["pvals"]], [t, p], rtol=1e-9, atol=1e-12)
        return
    if min(len(one), len(two)) < 1:
        assert np.isnan(row["scores"])
        return
    u, p = scipy.stats.mannwhitneyu(one, two, use_continuity=False, method="asymptotic")
    np.testing.assert_allclose(row["auroc"], u / (len(one) * len(two)), rtol=1e-12)
    if np.ptp(np.concatenate([one, two])) == 0:
        assert (row["scores"], row["pvals"]) == (0, 1)
    else:
        np.testing.assert_allclose(row["pvals"], p, rtol=1e-9)
        assert np.sign(row["scores"]) == np.sign(round(u - len(one) * len(two) / 2, 9))


def test_ranks_are_those_of_scipy_over_all_cells(plain_store, plain_data):
    found = find_markers(plain_store, "donor_sex", compute=here, method="wilcoxon")
    values = plain_data.X.toarray()
    for group in found.groups:
        table = found.of_group(group).set_index("names")
        member = (plain_data.obs["donor_sex"] == group).to_numpy()
        n, m = member.sum(), (~member).sum()
        ranks = scipy.stats.rankdata(values, axis=0)[member].sum(axis=0)
        auroc = (ranks - n * (n + 1) / 2) / (n * m)
        got = table.loc[plain_data.var_names, "auroc"]
        np.testing.assert_allclose(got, auroc, rtol=1e-12)


def test_pairs_are_scipys_and_the_nearest_group_counts(plain_store, plain_data):
    found = find_markers(plain_store, "class", compute=here, method="pairwise")
    values = plain_data.X.toarray().astype(np.float64)
    classes = plain_data.obs["class"].astype(object).to_numpy()
    group = found.groups[1]
    table = found.of_group(group).set_index("names").loc[plain_data.var_names]
    others = [k for k in pd.unique(classes) if k != group and (classes == k).sum() > 1]
    others = [k for k in others if isinstance(k, str)]
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.stack(
            [
                scipy.stats.ttest_ind(
                    values[classes == group], values[classes == k],
                    equal_var=False, alternative="greater",
                ).pvalue
                for k in others
            ]
        )  # fmt: skip
    known = ~np.isnan(p).any(axis=0)
    assert known.sum() > 20
    np.testing.assert_allclose(table["pvals"][known], p.max(axis=0)[known], rtol=1e-9)
    nearest = np.array(others, object)[p.argmax(axis=0)]
    clear = known & (np.sort(p, axis=0)[-2] < p.max(axis=0) - 1e-9)
    assert (table["reference"][clear] == nearest[clear]).all()
    assert set(table["reference"]) <= set(others) | {group}


def test_what_cannot_be_asked(plain_store):
    def ask(by="class", **more):
        return find_markers(plain_store, by, compute=here, **more)

    with pytest.raises(UsageError, match="no group '18 TH' of class; nearest: 18 TH Glut"):
        ask(groups=["18 TH"])
    with pytest.raises(UsageError, match="no group 'none' of class"):
        ask(versus="none")
    with pytest.raises(UsageError, match="compared with itself"):
        ask(groups=[GROUP], versus=GROUP)
    with pytest.raises(UsageError, match="method 'anova' is not one of t, wilcoxon, pairwise"):
        ask(method="anova")
    with pytest.raises(UsageError, match="leave versus out"):
        ask(method="pairwise", versus=GROUP)
    with pytest.raises(UsageError, match="each group once"):
        ask(groups=[GROUP, GROUP])
    with pytest.raises(UsageError, match="nothing to compare it with"):
        ask("dataset_label")
    with pytest.raises(GeneError, match="'Tac9' is not in"):
        ask(genes=["Tac9"])


def test_small_groups_are_named(tmp_path):
    table = pd.DataFrame({"g": [1.5, 2.5, 0.0, 3.25, 0.1]}, dtype=np.float32)
    terms = pd.Categorical(["a", "a", "b", "c", "c"])
    store = store_of(tmp_path, [table], {"type": terms})
    found = find_markers(store, "type", compute=here, method="t")
    assert (found.groups, found.few) == (("a", "c"), ("b",))
    with pytest.raises(UsageError, match="'b' has 1 cell, at least 2 are needed"):
        find_markers(store, "type", compute=here, method="t", groups=["b"])
    with pytest.raises(UsageError, match="no markers of 'b'"):
        found.of_group("b")


def test_tables_of_groups_by_genes(plain_store, tmp_path):
    found = find_markers(plain_store, "class", compute=here, groups=[GROUP], method="t")
    data = found.to_anndata()
    assert data.shape == (1, plain_store.n_genes)
    table = found.of_group(GROUP).set_index("names")
    for name in found.names:
        np.testing.assert_array_equal(data.layers[name][0], table.loc[data.var_names, name])
    for format in ("csv", "parquet"):
        found.write(tmp_path / format, format)
    again = pd.read_parquet(tmp_path / "parquet")
    pd.testing.assert_frame_equal(again, found.to_pandas(), check_categorical=False)
    csv = pd.read_csv(tmp_path / "csv", float_precision="round_trip")
    np.testing.assert_array_equal(csv["pvals"], again["pvals"])


def test_lists_of_cells_are_compared_like_groups(plain_store, tmp_path):
    terms = pd.Series(plain_store.annotation("class"), index=plain_store.labels.to_pandas())
    other = next(t for t in terms.value_counts().index if t != GROUP)
    mine, rest = (terms.index[terms == name] for name in (GROUP, other))
    assert min(len(mine), len(rest)) > 2
    paths = [tmp_path / "mine.csv", tmp_path / "more.csv"]
    mine.to_frame(name="cell_label").to_csv(paths[0], index=False)
    # a cell of both lists belongs to the first
    rest.append(mine[:1]).to_frame(name="cell_label").to_csv(paths[1], index=False)
    columns = ["names", "scores", "logfoldchanges", "pvals", "pvals_adj", "auroc", "n_reference"]
    for lists, versus in (((paths[0], paths[1]), other), ((list(mine), None), "rest")):
        found = find_markers(plain_store, (), compute=here, lists=read_lists(plain_store, *lists))
        expected = find_markers(plain_store, "class", compute=here, groups=[GROUP], versus=versus)
        pd.testing.assert_frame_equal(found.to_pandas()[columns], expected.to_pandas()[columns])
        assert found.groups == ("mine" if versus == other else "cells",)
        assert found.versus == ("more" if versus == other else "rest")
    listed = read_lists(plain_store, *paths)
    for asked in (
        {"by": "class"},
        {"groups": ["mine"]},
        {"versus": "more"},
        {"method": "pairwise"},
    ):
        with pytest.raises(UsageError, match="groups of their own"):
            find_markers(plain_store, compute=here, lists=listed, **({"by": ()} | asked))
    with pytest.raises(UsageError, match="name the cells"):
        read_lists(plain_store, None, paths[1])


def test_the_command_compares_two_lists(plain_store, tmp_path):
    labels = plain_store.labels.to_pylist()
    for name, cells in (("a", labels[:60]), ("b", labels[50:150])):
        (tmp_path / f"{name}.csv").write_text("cell_label\n" + "\n".join(cells))
    out = tmp_path / "m.csv"
    command = ["markers", plain_store.name, "--cells-from", str(tmp_path / "a.csv")]
    command += ["--versus-cells", str(tmp_path / "b.csv"), "--method", "t", "-o", str(out)]
    done = run_cli(*command)
    assert f"missing  {len(labels) - 150:,} cells in no list" in done.output
    values = np.stack([plain_store.values(g) for g in range(3)]).astype("f8")
    expected = scipy.stats.ttest_ind(
        values[:, :60], values[:, 60:150], axis=1, equal_var=False, nan_policy="omit"
    )
    got = pd.read_csv(out).set_index("names").loc[list(plain_store.genes.index[:3])]
    spread = values[:, :150].std(axis=1) > 0
    np.testing.assert_allclose(got["scores"][spread], expected.statistic[spread], rtol=1e-9)
    np.testing.assert_allclose(got["pvals"][spread], expected.pvalue[spread], rtol=1e-9)
