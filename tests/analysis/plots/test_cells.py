"""Pictures of cells, UMAPs and sections: what they show at known points, what is said in them."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from abc_dask.analysis import plots
from abc_dask.analysis.plots import figures, layers
from abc_dask.errors import UsageError
from tests.analysis.plots.pictures import (
    ABSENT,
    LONG,
    WHITE,
    at,
    check_texts,
    close,
    drawn_texts,
    table,
)


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
