"""Pictures: what they show at known points, what is said in them, and that it can be read."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from unittest import mock
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from scipy.stats import binned_statistic_2d

from abc_dask import Atlas
from abc_dask.analysis import plots
from abc_dask.analysis.plots import canvas, colors, figures, layers
from abc_dask.analysis.plots.raster import (
    EMPTY,
    Raster,
    count_of_pixels,
    hits,
    mean_of_pixels,
    most_frequent,
)
from abc_dask.cli import cli
from abc_dask.errors import UsageError, ViewError
from tests.spatial import write_spatial

ABSENT = to_rgb(colors.ABSENT)
WHITE = (1.0, 1.0, 1.0)


# pixels


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


# colours


def test_limits_are_robust():
    values = np.array([0.0] * 50 + list(range(1, 101)) + [1e6, np.nan, np.inf])
    low, high = colors.robust_limits(values)
    assert low == 0
    assert 98 <= high <= 101
    assert colors.robust_limits(np.array([0.0, np.nan])) == (0, 1)
    assert colors.robust_limits(np.array([])) == (0, 1)
    low, high = colors.robust_limits(np.array([-3.0, -2.0]))
    assert low < high
    with pytest.raises(UsageError, match="limits 6 0: expected a lower and a higher number"):
        colors.checked_limits((6, 0))
    with pytest.raises(UsageError, match="limits 0 inf"):
        colors.checked_limits((0, np.inf))


@pytest.mark.parametrize("count", [1, 8, 9, 34, 340])
def test_own_colors_are_colors_and_differ(count):
    terms = [f"t{k}" for k in range(count)]
    found = colors.distinct_colors(terms)
    assert list(found) == terms
    assert len(set(found.values())) == count
    assert colors.rgb(list(found.values())).shape == (count, 4)
    assert colors.ABSENT not in found.values()


# pictures


def table(n=3000, terms=5, seed=0):
    """Cells in clusters on a line, one term each; the gene is the number of the term."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, terms, n)
    return pd.DataFrame(
        {
            "x": codes * 10 + rng.normal(0, 1, n),
            "y": rng.normal(0, 1, n),
            "Gene": codes.astype("f4"),
            "class": pd.Categorical.from_codes(codes, [f"{k:02d} Class" for k in range(terms)]),
        }
    )


def at(picture, ax, x, y):
    """Give the colour of the finished picture at a place of the data."""
    picture.canvas.draw()
    image = np.asarray(picture.canvas.buffer_rgba())
    column, row = ax.transData.transform((x, y))
    return tuple(image[image.shape[0] - 1 - int(row), int(column), :3] / 255)


def close(one, other):
    return np.allclose(one, other, atol=2 / 255)


def drawn_texts(picture):
    """Give every text that is drawn, with its box in pixels."""
    found = {}
    draw = Text.draw

    def record(text, renderer):
        found[text] = text.get_window_extent(renderer)
        draw(text, renderer)

    with mock.patch.object(Text, "draw", record):
        picture.canvas.draw()
    return [(t.get_text(), box) for t, box in found.items() if t.get_text() and t.get_visible()]


def check_texts(picture):
    """Every text lies within the picture, and none upon another."""
    width, height = picture.canvas.get_width_height()
    boxes = [(text, box) for text, box in drawn_texts(picture) if text != "\N{EN DASH}"]
    assert boxes
    for text, box in boxes:
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y1 <= height + 1, text
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        apart = a.x1 <= b.x0 + 2 or b.x1 <= a.x0 + 2 or a.y1 <= b.y0 + 2 or b.y1 <= a.y0 + 2
        assert apart, f"{one!r} and {other!r}"
    return {text for text, _ in boxes}


def own_axes(width=3.0, height=2.0, dpi=150):
    figure = Figure(figsize=(width, height), dpi=dpi)
    FigureCanvasAgg(figure)
    return figure, figure.add_axes((0.1, 0.1, 0.6, 0.6))


def test_umap_of_a_gene_has_the_colors_of_the_means():
    figure, ax = own_axes()
    frame = table()
    assert plots.umap(ax, frame, "Gene", limits=(0, 4)) is ax
    scale = mpl.colormaps["viridis"]
    for term in range(5):
        assert close(at(figure, ax, term * 10, 0), scale(term / 4)[:3])
    assert close(at(figure, ax, 5, 0), WHITE)
    left, right = ax.get_xlim()
    assert left < frame["x"].min() < frame["x"].max() < right
    low, high = ax.get_ylim()
    box = ax.get_window_extent()
    assert (right - left) / box.width == pytest.approx((high - low) / box.height)


def test_a_pixel_is_the_mean_of_all_its_cells_whatever_their_order():
    """Not the cell that is drawn last."""
    frame = pd.DataFrame({"x": [0.0] * 4 + [1.0], "y": [0.0] * 5, "Gene": [0.0, 0, 0, 8, 8]})
    for rows in (frame, frame[::-1]):
        figure, ax = own_axes()
        plots.umap(ax, rows, "Gene", limits=(0, 8))
        assert close(at(figure, ax, 0, 0), mpl.colormaps["viridis"](2 / 8)[:3])


def test_umap_of_terms_has_their_colors_and_lists_them():
    figure, ax = own_axes(4, 4)
    frame = table()
    mine = {f"{k:02d} Class": c for k, c in enumerate(["#AA0000", "#00AA00", "#0000AA", "#AAAA00"])}
    mine["04 Class"] = "#123456"
    plots.umap(ax, frame, "class", colors=mine)
    for term, color in enumerate(mine.values()):
        assert close(at(figure, ax, term * 10, 0), to_rgb(color))
    texts = {text for text, _ in drawn_texts(figure)}
    assert set(mine) <= texts


def test_absent_cells_are_grey_and_counted():
    frame = table()
    frame.loc[frame["class"] == "02 Class", "Gene"] = np.nan
    frame.loc[frame["class"] == "03 Class", "class"] = np.nan
    n_gene, n_class = int(frame["Gene"].isna().sum()), int(frame["class"].isna().sum())
    picture = figures.umap_figure(frame, ["Gene", "class"])
    gene, terms = picture.axes[:2]
    assert close(at(picture, gene, 20, 0), ABSENT)
    assert close(at(picture, terms, 30, 0), ABSENT)
    assert not close(at(picture, gene, 30, 0), ABSENT)
    texts = check_texts(picture)
    assert f"no value: {n_gene:,} cells" in texts
    assert f"no class: {n_class:,} cells" in texts


def test_a_zero_is_not_absent():
    frame = table()
    frame["Gene"] = 0.0
    picture = figures.umap_figure(frame, ["Gene"])
    assert close(at(picture, picture.axes[0], 20, 0), mpl.colormaps["viridis"](0.0)[:3])
    assert not [t for t in check_texts(picture) if t.startswith("no value")]


def test_cells_without_a_place_are_said():
    frame = table()
    frame.loc[frame.index[:7], "x"] = np.nan
    (said,) = [t for t in check_texts(figures.umap_figure(frame, ["Gene"])) if "all drawn" in t]
    assert "2,993 cells, all drawn" in said.replace("\n", " ")
    assert "7 cells without x and y" in said.replace("\n", " ")


def test_infinite_values_do_not_spoil_the_scale():
    frame = table()
    frame.loc[frame["class"] == "04 Class", "Gene"] = np.inf
    picture = figures.umap_figure(frame, ["Gene"])
    assert close(at(picture, picture.axes[0], 40, 0), mpl.colormaps["viridis"](1.0)[:3])
    assert close(at(picture, picture.axes[0], 30, 0), mpl.colormaps["viridis"](1.0)[:3])
    assert close(at(picture, picture.axes[0], 0, 0), mpl.colormaps["viridis"](0.0)[:3])


LONG = "a very long name of a kind of cells, such as people write when nobody stops them from it"


@pytest.mark.parametrize(("terms", "panels"), [(1, 1), (2, 6), (34, 1), (34, 2), (90, 1), (90, 6)])
def test_texts_of_umaps_can_be_read(terms, panels):
    frame = table(terms=terms)
    frame["class"] = frame["class"].cat.rename_categories(
        {"00 Class": "_$x^2$ <&> under_score", "01 Class": LONG}
    )
    frame.loc[frame.index[:3], ["Gene", "class"]] = np.nan
    color = ["class", "Gene", "class", "Gene", "Gene", "class"][:panels]
    picture = figures.umap_figure(frame, color, caption="Somewhere, release 1", dpi=120)
    texts = check_texts(picture)
    assert "_$x^2$ <&> under_score" in texts
    width = picture.get_figwidth() * 2.54
    assert width == pytest.approx(8.5 if panels == 1 else 17.8, abs=0.1)
    if terms == 90:
        assert "and 30 rarer" in texts


def test_pixels_of_the_picture_are_those_of_the_raster():
    """One cell, one radius: nothing is resampled."""
    frame = table(200_000)
    picture = figures.umap_figure(frame, ["class"])
    ax = picture.axes[0]
    box, image = ax.get_window_extent(), ax.images[0]
    assert image.get_array().shape[:2] == (round(box.height), round(box.width))
    assert box.x0 == pytest.approx(round(box.x0), abs=1e-6)
    assert box.y0 == pytest.approx(round(box.y0), abs=1e-6)


def spatial(sections=5):
    frame = table()
    codes = frame["class"].cat.codes.to_numpy() % sections
    names = [f"Mouse.{k:02d}" for k in range(sections)]
    frame["section"] = pd.Categorical.from_codes(codes, [*names, "Mouse.empty"])
    frame.loc[frame.index[0], "y"] = 30.0
    frame.loc[frame.index[5:8], "section"] = np.nan
    return frame


@pytest.mark.parametrize("color", ["Gene", "class"])
def test_sections_have_one_scale_and_grow_downwards(color):
    frame = spatial()
    picture = figures.sections_figure(frame, color, by="section", caption="Somewhere")
    texts = check_texts(picture)
    assert {f"Mouse.{k:02d}" for k in range(5)} <= texts
    assert "Mouse.empty" not in texts
    panels = [ax for ax in picture.axes if ax.images]
    assert len(panels) == 5
    units = set()
    for ax in panels:
        low, high = ax.get_ylim()
        assert low > high, "y grows downwards"
        left, right = ax.get_xlim()
        box = ax.get_window_extent()
        units |= {round((right - left) / box.width, 9), round((low - high) / box.height, 9)}
    assert len(units) == 1
    expected = to_rgb("#E69F00") if color == "class" else None
    if expected:
        assert close(at(picture, panels[1], 10, 0), expected)
    shown = frame["section"].notna().sum()
    assert any(f"{shown:,} cells, all drawn" in text for text in texts)


def test_refusals_of_sections():
    frame = spatial()
    frame["section"] = pd.Categorical([None] * len(frame), categories=["a"])
    with pytest.raises(UsageError, match="no cell has a section, x and y"):
        figures.sections_figure(frame, "Gene", by="section")
    with pytest.raises(UsageError, match="101 sections are too many"):
        figures.sections_figure(spatial_of(101), "Gene", by="section")


def spatial_of(sections):
    names = [f"{k}" for k in range(sections)]
    numbers = np.arange(float(sections))
    return pd.DataFrame(
        {"x": numbers, "y": numbers, "Gene": numbers, "section": pd.Categorical(names)}
    )


def test_refusals_of_cells():
    frame = table()
    with pytest.raises(UsageError, match="no column 'clas' to colour by; nearest: class"):
        figures.umap_figure(frame, ["clas"])
    with pytest.raises(UsageError, match="no column 'x': cells have no place"):
        figures.umap_figure(frame.drop(columns="x"), ["Gene"])
    with pytest.raises(UsageError, match="x and y are missing in all cells"):
        figures.umap_figure(frame.assign(x=np.nan), ["Gene"])
    with pytest.raises(UsageError, match="'Gene' has neither numbers nor terms"):
        figures.umap_figure(frame.assign(Gene="text"), ["Gene"])
    with pytest.raises(UsageError, match="no colour map 'virids'; nearest: viridis"):
        figures.umap_figure(frame, ["Gene"], colormap="virids")
    with pytest.raises(UsageError, match="class: no colour such as '#2B93DF' for '01 Class'"):
        layers.layer_of(frame, "class", colors={f"{k:02d} Class": "#000000" for k in (0, 2, 3, 4)})
    with pytest.raises(UsageError, match="nothing to colour by"):
        figures.umap_figure(frame, [])
    with pytest.raises(UsageError, match="width 1: expected centimetres"):
        figures.umap_figure(frame, ["Gene"], width=1)
    with pytest.raises(UsageError, match="dpi 5: expected pixels an inch"):
        figures.umap_figure(frame, ["Gene"], dpi=5)


def statistics(groups, genes, seed=0, name="{:02d} Class"):
    rng = np.random.default_rng(seed)
    index = [name.format(k) for k in range(groups)]
    columns = [f"Gene{k}" for k in range(genes)]
    mean = pd.DataFrame(rng.random((groups, genes)) * 6, index, columns)
    return mean, pd.DataFrame(rng.random((groups, genes)), index, columns)


def test_heatmap_has_the_colors_of_its_table():
    mean, _ = statistics(4, 3)
    mean.iloc[1, 2] = np.nan
    mean.iloc[2, 0] = 9.0
    picture = figures.heatmap_figure(mean, limits=(0, 6), counts=[5, 10_000, 3, 4], label="mean")
    ax = picture.axes[0]
    scale = mpl.colormaps["viridis"]
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
    (image,) = figures.heatmap_figure(mean).axes[0].images
    assert image.get_clim() == (0, mean.to_numpy().max())
    (image,) = figures.heatmap_figure(mean - 3).axes[0].images
    assert image.get_clim() == ((mean - 3).to_numpy().min(), (mean - 3).to_numpy().max())
    (image,) = figures.heatmap_figure(mean * 0).axes[0].images
    assert image.get_clim() == (0, 1)


def test_dots_are_as_large_as_fractions_and_colored_by_means():
    mean, fraction = statistics(3, 2)
    mean.iloc[0, 0], fraction.iloc[0, 0] = np.nan, np.nan
    fraction.iloc[2, 1] = 0.0
    picture = figures.dots_figure(mean, fraction, counts=[1, 2, 3], limits=(0, 6))
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
    assert close(at(picture, ax, 1, 1), mpl.colormaps["viridis"](mean.iloc[1, 1] / 6)[:3])
    assert {"20%", "100%"} <= check_texts(picture)
    with pytest.raises(UsageError, match="means have shape"):
        figures.dots_figure(mean, fraction.iloc[:1])


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
        figures.heatmap_figure(mean, **said),
        figures.dots_figure(mean, fraction, **said),
    ):
        texts = check_texts(picture)
        assert set(mean.index) | set(mean.columns) <= texts
        if shape[1] <= 10 and len(name) < 10:
            assert picture.get_figwidth() * 2.54 <= 8.6


def test_refusals_of_tables():
    mean, _ = statistics(401, 1)
    with pytest.raises(UsageError, match=r"401 groups are too many .* coarser --by"):
        figures.heatmap_figure(mean)
    with pytest.raises(UsageError, match="there is no group to draw"):
        figures.heatmap_figure(mean.iloc[:0])
    with pytest.raises(UsageError, match="no colour map"):
        figures.heatmap_figure(mean.iloc[:3], colormap="nothing")


# of a view


@pytest.fixture(scope="module")
def view(plain_atlas, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plots")
    return Atlas(plain_atlas.download_base).extract(["Slc17a7", "Tac2"], folder / "two.parquet")


@pytest.fixture(scope="module")
def spatial_view(plain_atlas, tmp_path_factory):
    folder = tmp_path_factory.mktemp("spatial")
    base = write_spatial(plain_atlas.download_base, folder / "base")
    return Atlas(base).extract(["Slc17a7", "Tac2"], folder / "two.parquet")


def run(*words):
    """Run the command; give exit code, output and errors."""
    done = CliRunner().invoke(cli, [str(word) for word in words])
    return done.exit_code, done.stdout, done.stderr


def test_umap_of_a_view_has_the_colors_of_the_atlas(view, plain_atlas):
    picture = view.plot.umap(["neurotransmitter", "Tac2"], dpi=150)
    texts = check_texts(picture)
    (path,) = plain_atlas.download_base.glob("metadata/WMB-10X/*/views/cell_metadata_with_*.csv")
    cells = pd.read_csv(path, keep_default_na=False)
    n_missing = int((cells["neurotransmitter"] == "").sum())
    assert f"no neurotransmitter: {n_missing:,} cells" in texts
    assert f"{len(cells):,} cells, all drawn" in " ".join(texts).replace("\n", " ")
    picture.canvas.draw()
    image = np.asarray(picture.canvas.buffer_rgba())
    ax = picture.axes[0]
    places = ax.transData.transform(cells[["x", "y"]].to_numpy()).astype(int)
    drawn = image[image.shape[0] - 1 - places[:, 1], places[:, 0], :3] / 255
    own = cells["neurotransmitter_color"].where(cells["neurotransmitter"] != "", colors.ABSENT)
    same = np.isclose(drawn, [to_rgb(c) for c in own], atol=2 / 255).all(axis=1)
    # the others lie under cells of a more frequent kind
    assert same.mean() > 0.9
    assert {tuple(np.round(c, 2)) for c in drawn} <= {tuple(np.round(to_rgb(c), 2)) for c in own}


def test_pictures_by_group_are_those_of_the_summary(view):
    summary = view.summarize("neurotransmitter", ["mean", "fraction"])
    heat = view.plot.heatmap("neurotransmitter", limits=(0, 6))
    np.testing.assert_array_equal(heat.axes[0].images[0].get_array(), summary["mean"])
    names = [t.get_text() for t in heat.axes[0].get_yticklabels()]
    assert names == [*map(str, summary.cells.index[:-1]), "no neurotransmitter"]
    texts = check_texts(heat)
    assert {f"{count:,}" for count in summary.cells} <= texts
    assert heat.axes[0].images[0].get_clim() == (0, 6)
    dots = view.plot.dots("neurotransmitter")
    points = dots.axes[0].collections[0]
    np.testing.assert_array_equal(points.get_array(), summary["mean"].to_numpy().ravel())
    n_missing = summary.n_missing
    dropped = view.plot.heatmap("neurotransmitter", statistic="fraction", missing="drop")
    np.testing.assert_array_equal(dropped.axes[0].images[0].get_array(), summary["fraction"][:-1])
    said = " ".join(check_texts(dropped)).replace("\n", " ")
    assert f"{n_missing:,} cells without neurotransmitter left out" in said
    both = view.plot.heatmap(["neurotransmitter", "donor_sex"], genes=["Tac2"])
    assert "no neurotransmitter / F" in check_texts(both)
    some = view.plot.heatmap("class", where="neurotransmitter == 'GABA'")
    assert "left out by the condition" in " ".join(check_texts(some)).replace("\n", " ")


def test_a_gene_that_matrices_lack_is_said_in_pictures(odd_atlas, tmp_path):
    view = Atlas(odd_atlas.download_base).extract(["Slc17a7"], tmp_path / "one.parquet")
    lacking = int(view.to_pandas()["Slc17a7"].isna().sum())
    assert lacking
    assert f"no value: {lacking:,} cells" in check_texts(view.plot.umap("Slc17a7", dpi=100))
    said = " ".join(check_texts(view.plot.heatmap("class", dpi=100))).replace("\n", " ")
    assert "Cells without a value of Slc17a7 are in no statistic of it" in said


def test_commands_write_pictures(view, spatial_view, tmp_path):
    words = {
        "umap": (view, "--color", "Slc17a7,class"),
        "heatmap": (view, "--by", "class", "--limits", 0, 6, "--statistic", "fraction"),
        "dots": (view, "--by", "neurotransmitter", "--missing", "drop", "--genes", "Tac2"),
        "sections": (spatial_view, "--color", "Tac2", "--section", "Mouse.10,Mouse.01"),
    }
    for name, (of, *rest) in words.items():
        place = tmp_path / f"{name}.png"
        for _ in range(2):  # a picture that is there is replaced
            code, said, errors = run("plot", name, of.path, *rest, "--dpi", 100, "-o", place)
            assert (code, errors) == (0, "")
            assert said == f"{place} written\n"
        with Image.open(place) as image:
            about = json.loads(image.text["Description"])
            assert about["content"] == of.info["content"]
            assert about["genes"]["Tac2"] == "ENSMUSG00000025400"
            assert about["cells"] == of.n_cells
            assert "WMB-10X, release 20250531" in image.text["Title"]


def test_sections_of_a_view(spatial_view):
    texts = check_texts(spatial_view.plot.sections("class", dpi=150))
    assert {"Mouse.01", "Mouse.02", "Mouse.10"} <= texts
    n_cells = spatial_view.n_cells - 5
    assert f"{n_cells:,} cells, all drawn" in " ".join(texts).replace("\n", " ")
    some = check_texts(spatial_view.plot.sections("Tac2", sections=["Mouse.10"], dpi=100))
    assert "Mouse.10" in some
    assert "Mouse.01" not in some


def one_line(words, code=2):
    found, said, errors = run(*words)
    assert (found, said) == (code, "")
    assert errors.startswith("abc-dask: error: ")
    assert errors.count("\n") == 1
    return errors


def test_bad_input_is_one_line(view, spatial_view, tmp_path, real_extract):
    place = tmp_path / "p.png"
    umap = ("plot", "umap", view.path, "-o", place, "--color")
    error = one_line([*umap, "Slc17a"])
    assert "no column 'Slc17a' in the tables of cells" in error
    assert "of the genes; nearest: Slc17a7" in error
    assert "nearest: class" in one_line([*umap, "clas"])
    error = one_line([*umap, "donor_sex"])
    assert "the atlas has no colours for the terms of 'donor_sex'" in error
    assert "donor_sex_color" in error
    assert run(*umap, "donor_sex", "--palette", "distinct")[0] == 0
    place.unlink()
    error = one_line([*umap, "Tac2", "--limits", 6, 0])
    assert "limits 6 0: expected a lower and a higher number" in error
    sections = ("plot", "sections", "-o", place, "--color", "Tac2")
    assert "no cell has a brain_section_label" in one_line([*sections, view.path])
    error = one_line(["plot", "umap", spatial_view.path, "-o", place, "--color", "Tac2"])
    assert "places in brain sections, not of a UMAP" in error
    error = one_line([*sections, spatial_view.path, "--section", "Mouse.3"])
    assert "no brain_section_label 'Mouse.3'; nearest: Mouse." in error
    error = one_line(["plot", "heatmap", view.path, "--by", "x", "-o", place])
    assert "cannot group by 'x'" in error
    error = one_line(["plot", "dots", view.path, "--by", "clas", "-o", place])
    assert "nearest: class" in error
    # before any work: the view is not looked for
    error = one_line(["plot", "umap", tmp_path / "V", "--color", "a", "-o", "p.gif"])
    assert "unknown kind of picture '.gif'" in error
    error = one_line(["plot", "umap", tmp_path / "V", "--color", "Tac2", "-o", place], 1)
    assert "is not a finished view" in error
    bare = Atlas(real_extract, metadata="MERFISH-C57BL6J-638850")
    plain = bare.extract(["Htr1b"], tmp_path / "real.parquet")
    error = one_line(["plot", "umap", plain.path, "--color", "Htr1b", "-o", place])
    assert "no column 'x'" in error
    assert not place.exists()
    assert not list(tmp_path.glob(".*"))


# files


@pytest.fixture
def picture():
    mean, _ = statistics(4, 3)
    drawn = figures.heatmap_figure(mean, dpi=100)
    drawn.provenance = {"title": "Means of <genes> & cells", "release": "20250531", "abc_dask": "1"}
    return drawn


def test_files_say_what_they_are_of(picture, tmp_path):
    png, pdf, svg = (picture.save(tmp_path / f"p.{kind}") for kind in ("png", "pdf", "svg"))
    with Image.open(png) as image:
        assert image.text["Title"] == "Means of <genes> & cells"
        assert json.loads(image.text["Description"])["release"] == "20250531"
        assert image.info["dpi"][0] == pytest.approx(100, abs=0.1)
        width, height = picture.get_size_inches() * 100
        assert image.size == (round(width), round(height))
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF")
    assert b"20250531" in content
    text = svg.read_text("utf-8")
    assert ET.fromstring(text).tag.endswith("svg")
    assert "Means of &lt;genes&gt; &amp; cells" in text
    assert not re.search(r'(?:href|src)="(?!data:|#)', text)


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_the_same_picture_is_the_same_file(picture, kind):
    assert picture.render(kind) == picture.render(kind)


def test_a_file_is_replaced_once_the_new_one_is_complete(picture, tmp_path, monkeypatch):
    place = tmp_path / "p.png"
    place.write_bytes(b"old")

    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(picture, "render", full)
        with pytest.raises(ViewError, match=r"p.png cannot be written: No space left on device"):
            picture.save(place)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]
    picture.save(place)
    assert place.read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 1


def test_places_are_checked_before_any_work(tmp_path):
    with pytest.raises(UsageError, match=r"unknown kind of picture '.gif' .* .png, .pdf, .svg"):
        canvas.picture_path(tmp_path / "p.gif")
    with pytest.raises(ViewError, match="there is no folder"):
        canvas.picture_path(tmp_path / "none" / "p.png")
    (tmp_path / "p.png").mkdir()
    with pytest.raises(ViewError, match="is a folder; name a file"):
        canvas.picture_path(tmp_path / "p.png")


def test_notebooks_show_it(picture):
    assert picture._repr_png_().startswith(b"\x89PNG")


def test_no_setting_of_matplotlib_is_changed_and_pyplot_not_loaded():
    code = (
        "import sys, matplotlib, pandas\n"
        "before = matplotlib.rcParams.copy()\n"
        "from abc_dask.analysis.plots import figures\n"
        "table = pandas.DataFrame({'x': [0., 1.], 'y': [0., 1.], 'G': [0., 1.]})\n"
        "for kind in ('png', 'svg', 'pdf'):\n"
        "    figures.umap_figure(table, ['G']).render(kind)\n"
        "after = matplotlib.rcParams\n"
        "assert all(after[k] == before[k] for k in before if k != 'backend')\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_without_matplotlib_the_extra_is_named(tmp_path):
    code = (
        "import sys\n"
        "sys.modules['matplotlib'] = None\n"
        "from abc_dask.cli import main\n"
        f"sys.argv = ['abc-dask', 'plot', 'umap', 'V', '--color', 'G', '-o', {str(tmp_path)!r}]\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'abc_dask[plot]'" in done.stderr
