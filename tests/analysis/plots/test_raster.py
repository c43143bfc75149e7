"""From cells to pixels: counts, means, the most frequent term."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binned_statistic_2d

from abc_dask.analysis.plots.raster import (
    EMPTY,
    Raster,
    count_of_pixels,
    hits,
    mean_of_pixels,
    most_frequent,
)


@st.composite
def cells(draw):
    """Cells between the edges of pixels of size 1, some beyond the picture."""
    n = draw(st.integers(1, 60))
    width, height = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    place = st.integers(-16, 8 * 11)
    x, y = (
        np.array(draw(st.lists(place, min_size=n, max_size=n)), float) / 8 + 1 / 16
        for _ in range(2)
    )
    raster = Raster((0.0, float(width)), (0.0, float(height)), width, height)
    return raster, x, y, draw(st.integers(0, 2**32 - 1))


def by_scipy(raster, x, y, values, statistic):
    ranges = [raster.x_limits, raster.y_limits]
    bins = [raster.width, raster.height]
    return binned_statistic_2d(x, y, values, statistic, bins=bins, range=ranges).statistic.T


@given(cells())
def test_means_and_counts_are_those_of_scipy(drawn):
    raster, x, y, seed = drawn
    rng = np.random.default_rng(seed)
    values = rng.normal(size=len(x)).astype("f4")
    values[rng.random(len(x)) < 0.3] = np.nan
    there = ~np.isnan(values)
    covered = hits(raster, x, y)
    np.testing.assert_array_equal(
        count_of_pixels(covered), by_scipy(raster, x, y, np.zeros(len(x)), "count")
    )
    mean = mean_of_pixels(covered, values)
    if there.any():
        expected = by_scipy(raster, x[there], y[there], values[there].astype(float), "mean")
        np.testing.assert_allclose(mean, expected, rtol=1e-12)
    else:
        assert np.isnan(mean).all()


@given(cells())
def test_most_frequent_term_is_that_of_pandas(drawn):
    raster, x, y, seed = drawn
    codes = np.random.default_rng(seed).integers(-1, 3, len(x)).astype("i1")
    found = most_frequent(hits(raster, x, y), codes, 3)
    cells = pd.DataFrame({"column": np.floor(x), "row": np.floor(y), "term": codes % 4})
    inside = cells["column"].between(0, raster.width - 1) & cells["row"].between(
        0, raster.height - 1
    )
    expected = np.full((raster.height, raster.width), EMPTY)
    for (row, column), terms in cells[inside].groupby(["row", "column"])["term"]:
        expected[int(row), int(column)] = terms.mode().iloc[0]  # the lowest of several
    np.testing.assert_array_equal(found, expected)


@given(cells(), st.integers(1, 3))
@settings(max_examples=20)
def test_a_larger_cell_covers_the_pixels_of_its_disc(drawn, radius):
    raster, x, y, _ = drawn
    count = count_of_pixels(hits(raster, x, y, radius=radius))
    expected = np.zeros_like(count)
    rows, columns = np.indices(count.shape)
    beyond = (np.floor(x) < 0) | (np.floor(x) >= raster.width)
    beyond |= (np.floor(y) < 0) | (np.floor(y) >= raster.height)
    for column, row in zip(np.floor(x[~beyond]), np.floor(y[~beyond]), strict=True):
        expected += (columns - column) ** 2 + (rows - row) ** 2 <= radius * (radius + 1)
    np.testing.assert_array_equal(count, expected)


def test_cells_without_a_place_are_nowhere_and_few_cells_are_large():
    raster = Raster((0, 4), (0, 4), 4, 4)
    x, y = np.array([np.nan, 1.5, np.inf]), np.array([1.0, np.nan, 1.0])
    assert count_of_pixels(hits(raster, x, y)).sum() == 0
    picture = Raster((0, 1), (0, 1), 1000, 1000)
    radii = [picture.radius(n) for n in (1, 10_000, 100_000, 1_000_000, 4_000_000)]
    assert radii == sorted(radii, reverse=True)
    assert radii[0] > 3
    assert radii[-1] == 0
