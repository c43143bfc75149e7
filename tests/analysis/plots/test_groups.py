"""Pictures of statistics by group: heat maps and dots."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from abc_dask.analysis.plots import colors, group_figures, group_order
from abc_dask.base.errors import UsageError
from tests.analysis.plots.pictures import (
    ABSENT,
    at,
    check_texts,
    close,
    drawn_texts,
    statistics,
)


def test_heatmap_has_the_colors_of_its_table():
    mean, _ = statistics(4, 3)
    mean.iloc[1, 2] = np.nan
    mean.iloc[2, 0] = 9.0
    picture = group_figures.heatmap_figure(
        mean, limits=(0, 6), counts=[5, 10_000, 3, 4], label="mean"
    )
    ax = picture.axes[0]
    scale = colors.colormap_of("expression")
    for row, column in np.ndindex(mean.shape):
        value = mean.iloc[row, column]
        expected = ABSENT if np.isnan(value) else scale(min(value / 6, 1.0))[:3]
        assert close(at(picture, ax, column + 0.3, row + 0.3), expected)
    assert [t.get_text() for t in ax.get_yticklabels()] == list(mean.index)
    assert [t.get_text() for t in ax.get_xticklabels()] == list(mean.columns)
    assert {"10,000", "cells", "mean"} <= check_texts(picture)
    assert ax.images[0].get_clim() == (0, 6)
    low, high = ax.get_ylim()
    assert low > high, "the first group is at the top"


def test_limits_of_a_heatmap_start_at_zero():
    mean, _ = statistics(4, 3)
    (image,) = group_figures.heatmap_figure(mean).axes[0].images
    assert image.get_clim() == (0, mean.to_numpy().max())
    (image,) = group_figures.heatmap_figure(mean - 3).axes[0].images
    assert image.get_clim() == ((mean - 3).to_numpy().min(), (mean - 3).to_numpy().max())
    (image,) = group_figures.heatmap_figure(mean * 0).axes[0].images
    assert image.get_clim() == (0, 1)


def test_dots_are_as_large_as_fractions_and_colored_by_means():
    mean, fraction = statistics(3, 2)
    mean.iloc[0, 0], fraction.iloc[0, 0] = np.nan, np.nan
    fraction.iloc[2, 1] = 0.0
    picture = group_figures.dots_figure(mean, fraction, counts=[1, 2, 3], limits=(0, 6))
    ax = picture.axes[0]
    (points,) = ax.collections
    rows_columns = points.get_offsets()[:, ::-1].astype(int)
    assert [0, 0] not in rows_columns.tolist()
    sizes = points.get_sizes()
    for (row, column), size, value in zip(rows_columns, sizes, points.get_array(), strict=True):
        assert value == mean.iloc[row, column]
        assert size / sizes.max() == pytest.approx(
            fraction.iloc[row, column] / fraction.max(axis=None)
        )
    assert close(at(picture, ax, 1, 1), colors.colormap_of("expression")(mean.iloc[1, 1] / 6)[:3])
    assert {"20%", "100%"} <= check_texts(picture)
    with pytest.raises(UsageError, match="means have shape"):
        group_figures.dots_figure(mean, fraction.iloc[:1])


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ((1, 1), "{:02d}"),
        ((2, 10), "{:02d}"),
        ((34, 10), "{:02d}"),
        ((90, 25), "{:02d}"),
        ((1, 1), "{:04d} CNU-HYa GABA $_1$ Onecut3 Gaba_long name"),
        ((34, 10), "{:04d} CNU-HYa GABA $_1$ Onecut3 Gaba_long name"),
    ],
)
def test_texts_of_tables_can_be_read(shape, name):
    mean, fraction = statistics(*shape, name=name)
    counts = [10**6] * shape[0]
    said = {
        "counts": counts,
        "label": "mean log2 expression",
        "caption": "WMB-10X, release 1",
        "dpi": 120,
    }
    for picture in (
        group_figures.heatmap_figure(mean, **said),
        group_figures.dots_figure(mean, fraction, **said),
    ):
        texts = check_texts(picture)
        assert set(mean.index) | set(mean.columns) <= texts
        if shape[1] <= 10 and len(name) < 10:
            assert picture.get_figwidth() * 2.54 <= 8.6


def test_scales_are_those_of_scipy():
    mean, _ = statistics(6, 4)
    mean["Gene1"] = 2.0
    mean.iloc[3, 2] = np.nan
    found = group_order.scaled(mean, "zscore")
    expected = stats.zscore(mean.drop(columns="Gene1"), nan_policy="omit")
    np.testing.assert_allclose(found.drop(columns="Gene1"), expected, atol=1e-12)
    assert (found["Gene1"] == 0).all(), "what does not differ has no z-score"
    assert (group_order.scaled(mean * 0, "max").fillna(0) == 0).all(axis=None)
    shares = group_order.scaled(mean, "max")
    assert shares.max().tolist() == [1.0] * 4
    np.testing.assert_allclose(shares["Gene0"] * mean["Gene0"].max(), mean["Gene0"])
    with pytest.raises(UsageError, match="scale 'log' is not one of none, zscore, max"):
        group_order.scaled(mean, "log")


@given(
    blocks=st.lists(st.integers(0, 2), min_size=1, max_size=9),
    parents=st.data(),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_clusters_put_similar_rows_side_by_side(blocks, parents, seed):
    """Rows of far blocks, within brackets: what belongs together is not torn apart."""
    rng = np.random.default_rng(seed)
    values = np.array(blocks)[:, np.newaxis] * 100 + rng.random((len(blocks), 3))
    names = parents.draw(
        st.lists(st.sampled_from("ab"), min_size=len(blocks), max_size=len(blocks))
    )
    for brackets in ([], names):
        axis = group_order.axis_of(values, cluster=True, brackets=brackets)
        assert sorted(axis.order) == list(range(len(blocks)))
        keys = [(brackets[k] if brackets else "", blocks[k]) for k in axis.order]
        runs = [key for key, _ in itertools.groupby(keys)]
        assert len(runs) == len(set(runs))
        assert axis.brackets == tuple(brackets[k] for k in axis.order if brackets)
        leaves = sum(len(tree.linkage) + 1 for tree in axis.trees)
        alone = sum(count == 1 for count in Counter(brackets or [""] * len(blocks)).values())
        assert leaves + alone == len(blocks)
    plain = group_order.axis_of(values, cluster=False, brackets=names)
    assert [names[k] for k in plain.order] == sorted(names, key=names.index)


def test_clustered_tables_are_drawn_in_their_order():
    mean, _ = statistics(5, 4)
    mean.iloc[1] = mean.iloc[4] + 0.001
    mean.iloc[2, 1] = np.nan
    counts = [10, 20, 30, 40, 50]
    picture = group_figures.heatmap_figure(mean, counts=counts, cluster="both")
    ax = picture.axes[0]
    rows = [t.get_text() for t in ax.get_yticklabels()]
    columns = [t.get_text() for t in ax.get_xticklabels()]
    np.testing.assert_array_equal(ax.images[0].get_array().filled(np.nan), mean.loc[rows, columns])
    assert abs(rows.index("01 Class") - rows.index("04 Class")) == 1
    said = [text.get_text() for text in ax.texts if text.get_text().isdigit()]
    assert said == [str(counts[list(mean.index).index(row)]) for row in rows]
    trees = [line for line in ax.get_children() if line.get_gid() == "tree"]
    assert len(trees) == 2
    picture.canvas.draw()
    frame = ax.get_window_extent()
    texts = [box for text, box in drawn_texts(picture) if text in said]
    along_rows = next(box for box in (t.get_window_extent() for t in trees) if box.x0 >= frame.x1)
    assert along_rows.x0 > max(box.x1 for box in texts), "beside the counts"
    check_texts(picture)
    with pytest.raises(UsageError, match="cluster 'all' is not one of none, groups"):
        group_figures.heatmap_figure(mean, cluster="all")


def test_brackets_name_what_groups_and_genes_belong_to():
    mean, fraction = statistics(5, 6)
    picture = group_figures.dots_figure(
        mean,
        fraction,
        counts=[1] * 5,
        row_brackets=["B $x$", "A", "B $x$", "A", "A"],
        column_brackets=["one"] * 4 + ["two"] * 2,
        colors={"A": "#AA0000"},
    )
    ax = picture.axes[0]
    rows = [t.get_text() for t in ax.get_yticklabels()]
    assert rows == [f"0{k} Class" for k in (0, 2, 1, 3, 4)]
    assert {"A", "B $x$", "one", "two"} <= check_texts(picture)
    lines = [line for line in ax.get_children() if line.get_gid() == "bracket"]
    spans = [(line.get_xdata(), line.get_ydata(), line.get_color()) for line in lines]
    assert ([0, 0], [1.6, 4.4], "#AA0000") in [(list(x), list(y), c) for x, y, c in spans]
    picture.canvas.draw()
    names = [box for text, box in drawn_texts(picture) if text.endswith(" Class")]
    left = [line.get_window_extent() for line in lines[:2]]
    assert max(box.x1 for box in left) < min(box.x0 for box in names)


def test_zscores_have_their_middle_at_zero():
    mean, fraction = statistics(8, 3)
    picture = group_figures.heatmap_figure(mean, scale="zscore", label="mean")
    low, high = picture.axes[0].images[0].get_clim()
    assert low == -high
    assert high <= 3
    row, column = np.argwhere(np.isclose(stats.zscore(mean), stats.zscore(mean).max()))[0]
    seen = at(picture, picture.axes[0], column + 0.3, row + 0.3)
    assert seen[0] > seen[2] + 0.2, "high is red"
    assert "mean, z-score of each gene" in check_texts(picture)
    own = group_figures.heatmap_figure(mean, scale="zscore", colormap="magma", limits=(0, 1))
    assert own.axes[0].images[0].get_cmap().name == "magma"
    dots = group_figures.dots_figure(mean, fraction, scale="max", label="mean")
    assert "mean, by each gene's highest" in check_texts(dots)


def test_refusals_of_tables():
    mean, _ = statistics(401, 1)
    with pytest.raises(UsageError, match=r"401 groups are too many .* coarser by"):
        group_figures.heatmap_figure(mean)
    with pytest.raises(UsageError, match="there is no group to draw"):
        group_figures.heatmap_figure(mean.iloc[:0])
    with pytest.raises(UsageError, match="no colour map"):
        group_figures.heatmap_figure(mean.iloc[:3], colormap="nothing")
