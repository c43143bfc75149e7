"""Distributions by group: counts and quartiles as NumPy has them, violins at known places."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from abc_dask import Atlas
from abc_dask.analysis import histograms
from abc_dask.base.errors import UsageError
from tests.analysis.plots.pictures import at, check_texts, close


@pytest.fixture(scope="module")
def view(plain_atlas, tmp_path_factory):
    folder = tmp_path_factory.mktemp("violins")
    atlas = Atlas(plain_atlas.download_base)
    return atlas.extract(["Slc17a7", "Tac2"], folder / "two.parquet", annotate=["neurotransmitter"])


def test_quartiles_are_those_of_numpy(view):
    frame = view.annotate(["neurotransmitter"]).compute()
    for where, cells in ((None, frame), ("Tac2 > 0", frame[frame["Tac2"] > 0])):
        found = histograms.histograms_of(view, ["neurotransmitter"], where=where)
        terms = cells["neurotransmitter"].astype(object).fillna("none").to_numpy()
        for number, term in enumerate(found.summary.cells.index.astype(object).fillna("none")):
            for gene, name in enumerate(["Slc17a7", "Tac2"]):
                values = cells[name].to_numpy()[terms == term].astype("f8")
                assert found.zeros[number, gene] == (values == 0).sum()
                assert found.counts[number, gene].sum() == (values != 0).sum()
                for q in (0.25, 0.5, 0.75):
                    expected = np.quantile(values, q, method="lower")
                    got = found.quantile(q)[number, gene]
                    assert abs(got - expected) <= found.width[gene] / 2 + 1e-6
                    assert got == 0 if expected == 0 else got != 0


@given(st.lists(st.floats(-5, 5).map(lambda v: round(v, 2)), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_values_are_counted(values):
    """Also negative ones, all the same, and zeros alone."""
    array = np.array(values)
    part = pd.DataFrame({"G": array})
    work = histograms._Work(("G",), (), np.zeros(1, np.int64), None)
    work_place = np.zeros(len(array), np.int64)
    object.__setattr__(work, "_kept", lambda frame: (work_place, frame))
    low, high = work.limits(part)
    steps, zeros = work.counts(part, low, high)
    found = histograms.Histograms(None, low, high, steps, zeros)
    assert steps.sum() + zeros.sum() == len(array)
    for q in (0.0, 0.25, 0.5, 1.0):
        expected = np.quantile(array, q, method="lower")
        assert abs(found.quantile(q)[0, 0] - expected) <= found.width[0] + 1e-9


def test_violins_have_the_colors_of_their_groups(view):
    picture = view.plot.violins("neurotransmitter", genes=["Slc17a7"], dpi=150)
    texts = check_texts(picture)
    assert {"Slc17a7", "log2 expression", "no neurotransmitter"} <= texts
    assert any("quartiles and median, exact to 0.0" in text for text in texts)
    (ax,) = picture.axes
    rows = [t.get_text() for t in ax.get_yticklabels()]
    color = to_rgb(view.term_colors("neurotransmitter")["Glut"])
    path = ax.collections[rows.index("Glut")].get_paths()[0].vertices
    body = path[path[:, 0] > 0]  # right of the zeros
    widest, top = body[body[:, 1].argmin()]
    assert close(at(picture, ax, widest, (top + rows.index("Glut")) / 2), color)
    median = histograms.histograms_of(view, ["neurotransmitter"], genes=["Slc17a7"]).quantile(0.5)
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    across = [line.get_xdata()[0] for line in dots]
    high = view.to_pandas()["Slc17a7"].max()
    expected = 0.88 * (median[:, 0] / high - 0.5)
    np.testing.assert_allclose(across, expected, atol=1e-6)


def test_too_many_violins_are_refused(view, monkeypatch):
    monkeypatch.setattr(histograms, "MOST_FIELDS", 5)
    with pytest.raises(UsageError, match=r"9 groups by 2 genes are too many .* \(up to 5 fields"):
        view.plot.violins("neurotransmitter")
    with pytest.raises(UsageError, match="the view has no gene 'Tac'"):
        view.plot.violins("neurotransmitter", genes=["Tac"])
