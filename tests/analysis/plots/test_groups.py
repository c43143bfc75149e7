"""Pictures of statistics by group: heat maps and dots."""

from __future__ import annotations

import numpy as np
import pytest

from abc_dask.analysis.plots import colors, group_figures
from abc_dask.errors import UsageError
from tests.analysis.plots.pictures import ABSENT, at, check_texts, close, statistics


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


def test_refusals_of_tables():
    mean, _ = statistics(401, 1)
    with pytest.raises(UsageError, match=r"401 groups are too many .* coarser by"):
        group_figures.heatmap_figure(mean)
    with pytest.raises(UsageError, match="there is no group to draw"):
        group_figures.heatmap_figure(mean.iloc[:0])
    with pytest.raises(UsageError, match="no colour map"):
        group_figures.heatmap_figure(mean.iloc[:3], colormap="nothing")
