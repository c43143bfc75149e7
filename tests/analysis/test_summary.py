"""Statistics by group against pandas' own groupby."""

from __future__ import annotations

import json
from itertools import combinations

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from abc_dask import Atlas, open_view
from abc_dask.analysis.moments import Members, Moments
from abc_dask.analysis.summary import STATISTICS, summarize
from abc_dask.base.errors import UsageError, ViewError
from abc_dask.release.annotation import Annotation
from tests.command_line import run_cli

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:anndata")
GENES = ["Slc17a7", "Slc32a1", "Tac2"]
BY = ["neurotransmitter", "class", "region_of_interest_acronym", "donor_sex"]


def oracle(frame, by, statistic, missing):
    """What pandas answers, in float64."""
    values = frame[GENES if set(GENES) <= set(frame) else ["g", "h"]].astype(np.float64)
    keys = [frame[name] for name in by]
    groups = values.groupby(keys, observed=True, sort=True, dropna=missing == "drop")
    if statistic == "fraction":
        return groups.agg(
            lambda s: (s > 0).sum() / max(1, s.notna().sum()) if s.count() else np.nan
        )
    if statistic == "sum":
        return groups.sum(min_count=1)
    return groups.agg(statistic)


def assert_equal(got, expected):
    assert len(got) == len(expected)
    as_text = lambda index: [tuple(map(str, np.atleast_1d(k))) for k in index]  # noqa: E731
    assert as_text(got.index) == as_text(expected.index)
    np.testing.assert_allclose(
        got.to_numpy(np.float64), expected.to_numpy(np.float64), rtol=1e-12, atol=1e-12
    )


@pytest.fixture(scope="module")
def view(plain_atlas, tmp_path_factory):
    path = tmp_path_factory.mktemp("summary") / "v.parquet"
    return Atlas(plain_atlas.download_base).extract(
        GENES, path, annotate=BY[:2], block_size="500 kB"
    )


@pytest.fixture(scope="module")
def frame(view):
    return view.annotate(BY).compute()


@pytest.mark.parametrize("missing", ["group", "drop"])
@pytest.mark.parametrize("by", [[n] for n in BY] + [list(p) for p in combinations(BY, 2)])
def test_every_statistic_policy_and_pair_equals_pandas(view, frame, by, missing):
    summary = view.summarize(by, STATISTICS, missing=missing)
    for statistic in STATISTICS:
        assert_equal(summary[statistic], oracle(frame, by, statistic, missing))
    lacking = frame[by].isna().any(axis=1)
    assert summary.n_missing == lacking.sum()
    kept = frame[~lacking] if missing == "drop" else frame
    assert summary.cells.sum() == len(kept)
    assert summary.cells.tolist() == kept.groupby(by, observed=True, dropna=False).size().tolist()


def test_groups_are_in_the_order_of_the_terms_and_missing_is_last(view):
    summary = view.summarize("neurotransmitter")
    (found,) = view.find_annotations("neurotransmitter")
    names = list(summary["mean"].index)
    assert pd.isna(names[-1])
    assert names[:-1] == [term for term in found.terms if term in names]
    assert "NA" not in names


def test_odd_atlas_absent_is_in_no_statistic(odd_atlas, tmp_path):
    view = Atlas(odd_atlas.download_base).extract(GENES, tmp_path / "v.zarr")
    frame = view.annotate(["class"]).compute()
    finite = frame[np.isfinite(frame[GENES].fillna(0)).all(axis=1)]
    assert len(finite) < len(frame)
    summary = view.summarize("class", STATISTICS)
    for statistic in ("mean", "fraction", "median", "count", "sum"):
        assert_equal(summary[statistic], oracle(frame, ["class"], statistic, "group"))
    assert summary.n_absent == {g: int(n) for g, n in frame[GENES].isna().sum().items() if n}
    assert summary.n_absent["Tac2"] > 0


def test_where_on_genes_and_annotations(view, frame):
    condition = "Slc17a7 > 1 and region_of_interest_acronym != 'TH'"
    summary = view.summarize(["class"], ["mean", "median"], where=condition, genes=["Tac2"])
    kept = frame.query(condition, engine="python")
    for statistic in ("mean", "median"):
        got = summary[statistic]
        assert list(got.columns) == ["Tac2"]
        assert_equal(got, oracle(kept, ["class"], statistic, "group")[["Tac2"]])
    assert summary.n_left_out == len(frame) - len(kept)


VALUES = st.one_of(
    st.just(0.0),
    st.sampled_from([np.nan, np.inf, -np.inf]),
    st.floats(-1e6, 1e6),
    st.sampled_from([1e8, 1e8 + 1, 3.5]),
)
TABLES = st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 1), VALUES, VALUES), max_size=40)


@settings(max_examples=20)
@given(TABLES, st.integers(1, 5), st.sampled_from(["group", "drop"]))
@example([(0, 0, 1.0, 1.0), (0, 0, np.inf, 2.0), (0, 0, np.inf, -np.inf)], 3, "group")
def test_any_table_in_any_partitions_equals_pandas(rows, npartitions, missing):
    """Groups that are empty, single, missing, zero, infinite; large values near each other."""
    by = [
        Annotation("a", "", ("p", "q", "r", "s"), "category", {}, 0),
        Annotation("b", "", ("one", "two"), "category", {}, 0),
    ]
    frame = pd.DataFrame(rows, columns=["a", "b", "g", "h"])
    for annotation in by:
        codes = frame[annotation.name].to_numpy(np.int64)
        frame[annotation.name] = annotation.cells(codes).array
    frame = frame.astype({"g": np.float64, "h": np.float64})
    lazy = dd.from_pandas(frame, npartitions=npartitions)
    found = summarize(lazy, ["g", "h"], by, statistics=STATISTICS, missing=missing)
    kept = frame.dropna(subset=["a", "b"]) if missing == "drop" else frame
    assert found.cells.sum() == len(kept)
    for statistic in STATISTICS:
        got = found[statistic]
        if not len(kept):
            assert not len(got)
            continue
        expected = oracle(kept, ["a", "b"], statistic, missing)
        spread = 1e-6 if statistic == "std" else 1e-9
        assert len(got) == len(expected)
        np.testing.assert_allclose(
            got.to_numpy(np.float64), expected.to_numpy(np.float64), rtol=1e-9, atol=spread
        )


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=200), st.sampled_from([0.0, 1e6, 1e9]))
def test_merging_is_stable_far_from_zero(values, shift):
    shifted = np.array(values) + shift
    parts = [
        Moments.of(Members.of(np.zeros(len(p), np.int64)), p[np.newaxis])
        for p in np.array_split(shifted, 5)
    ]
    total = parts[0]
    for part in parts[1:]:
        total += part
    assert total.statistic("mean")[0, 0] == pytest.approx(shifted.mean(), rel=1e-14, abs=1e-14)
    exact = shifted.std(ddof=1)
    assert total.statistic("std")[0, 0] == pytest.approx(exact, rel=1e-6, abs=1e-9 + shift * 1e-15)


def test_refusals(view):
    cases = [
        ({"by": "x"}, "cannot group by 'x': it holds numbers"),
        ({"by": "clas"}, "no column 'clas' .*nearest: class"),
        ({"by": "class", "statistics": ["men"]}, "unknown statistic 'men'; nearest: mean"),
        ({"by": "class", "statistics": []}, "name each statistic once"),
        ({"by": []}, "name each column to group by once"),
        ({"by": ["class", "class"]}, "name each column to group by once"),
        ({"by": "class", "missing": "keep"}, "missing 'keep' is not one of group, drop"),
        ({"by": "class", "where": "x > 1e9"}, "no cell of the view is left"),
        ({"by": "class", "where": "x >"}, "is no condition"),
        ({"by": "class", "genes": ["Tac3"]}, "the view has no gene 'Tac3'; nearest: Tac2"),
    ]
    for options, message in cases:
        with pytest.raises(UsageError, match=message):
            view.summarize(**options)


def test_command_line(view, frame, tmp_path):
    command = ["summarize", str(view.path), "--by", "neurotransmitter", "--statistics"]
    for suffix, read in ((".csv", pd.read_csv), (".parquet", pd.read_parquet)):
        out = tmp_path / f"t{suffix}"
        done = run_cli(*command, "mean,fraction", "--output", out)
        table = read(out)
        assert list(table.columns) == ["neurotransmitter", "cells", "statistic", *GENES]
        mean = table[table["statistic"] == "mean"].set_index("neurotransmitter")
        expected = oracle(frame, ["neurotransmitter"], "mean", "group")
        np.testing.assert_allclose(mean[GENES].to_numpy(), expected.to_numpy(), rtol=1e-12)
        again = run_cli(*command, "mean", "--output", out, code=2)
        assert "exists; pass --overwrite" in again.stderr
    lacking = int(frame["neurotransmitter"].isna().sum())
    assert f"missing  {lacking} cells without neurotransmitter: the group (missing)" in done.output
    dropped = run_cli(*command, "mean", "--missing", "drop")
    assert f"{lacking} cells without neurotransmitter: left out" in dropped.output
    record = json.loads(run_cli(*command, "median", "--json").stdout)
    assert record["cells_missing"] == lacking
    assert record["groups"][-1]["neurotransmitter"] is None
    for options, message in [
        (["mean", "--by", "x"], "cannot group by 'x'"),
        (["mean", "--output", str(tmp_path / "t.txt")], "its suffix may be: .csv, .parquet"),
        (["mean", "--where", "open('f')"], "a call is not allowed"),
    ]:
        bad = run_cli(*command, *options, code=2)
        assert message in bad.stderr
        assert len(bad.stderr.splitlines()) == 1


def test_an_unfinished_view_is_refused(tmp_path):
    (tmp_path / "v.parquet.partial").mkdir()
    done = run_cli("summarize", tmp_path / "v.parquet", "--by", "class", code=1)
    assert "an unfinished one lies in" in done.stderr
    with pytest.raises(ViewError, match="not a finished view"):
        open_view(tmp_path / "v.parquet")


@pytest.mark.parametrize("statistic", ["mean", "fraction"])
def test_published_tables_from_the_command_line(real_extract, shared_data, tmp_path, statistic):
    name = f"sst_isocortex_merfish_{statistic}_by_parcellation_structure.csv"
    published = pd.read_csv(shared_data / "reference" / name, index_col=0)
    chosen = "subclass in ['053 Sst Gaba', '056 Sst Chodl Gaba']"
    place = ["--download-base", str(real_extract), "--metadata", "MERFISH-C57BL6J-638850"]
    genes, out = list(published.columns), [str(tmp_path / n) for n in ("v.parquet", "t.csv")]
    by = ["--annotate", "parcellation_structure", "--where", chosen]
    extract = ["extract", *genes, *place, *by, "-o", out[0]]
    wish = ["--by", "parcellation_structure", "--statistics", statistic]
    for command in (extract, ["summarize", out[0], *wish, "-o", out[1]]):
        run_cli(*command)
    got = pd.read_csv(out[1], index_col=0).loc[published.index, genes]
    np.testing.assert_allclose(got.to_numpy(), published.to_numpy(), rtol=0, atol=1e-12)
