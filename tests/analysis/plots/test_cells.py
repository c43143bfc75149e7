"""Pictures of cells, UMAPs and sections: what they show at known points, what is said in them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from abc_dask.analysis import plots
from abc_dask.analysis.plots import colors, figures, layers, legends, map_labels
from abc_dask.base.errors import UsageError
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

SCALE = colors.colormap_of("expression", cells=True)
ZERO, NO_VALUE = to_rgb(colors.ZERO), to_rgb(colors.NO_VALUE)


def own_axes(width=3.0, height=2.0, dpi=150):
    figure = Figure(figsize=(width, height), dpi=dpi)
    FigureCanvasAgg(figure)
    return figure, figure.add_axes((0.1, 0.1, 0.6, 0.6))


def test_umap_of_a_gene_has_the_colors_of_the_means():
    figure, ax = own_axes()
    frame = table()
    assert plots.umap(ax, frame, "Gene", limits=(0, 4)) is ax
    assert close(at(figure, ax, 0, 0), ZERO)
    for term in range(1, 5):
        assert close(at(figure, ax, term * 10, 0), SCALE(term / 4)[:3])
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
        assert close(at(figure, ax, 0, 0), SCALE(2 / 8)[:3])


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
    assert close(at(picture, gene, 20, 0), NO_VALUE)
    assert close(at(picture, terms, 30, 0), ABSENT)
    assert close(at(picture, gene, 30, 0), SCALE(3 / 4)[:3])
    texts = check_texts(picture)
    assert f"no value: {n_gene:,} cells" in texts
    assert f"no class: {n_class:,} cells" in texts


def test_a_zero_is_not_absent():
    frame = table()
    frame["Gene"] = 0.0
    picture = figures.umap_figure(frame, ["Gene"])
    assert close(at(picture, picture.axes[0], 20, 0), ZERO)
    assert not [t for t in check_texts(picture) if t.startswith("no value")]


def test_cells_without_a_place_are_said():
    frame = table()
    frame.loc[frame.index[:7], "x"] = np.nan
    (said,) = [t for t in check_texts(figures.umap_figure(frame, ["Gene"])) if "all drawn" in t]
    assert "2,993 cells, all drawn" in said
    assert "7 cells without x and y" in said


def test_infinite_values_do_not_spoil_the_scale():
    frame = table()
    frame.loc[frame["class"] == "04 Class", "Gene"] = np.inf
    picture = figures.umap_figure(frame, ["Gene"])
    assert close(at(picture, picture.axes[0], 40, 0), SCALE(1.0)[:3])
    assert close(at(picture, picture.axes[0], 30, 0), SCALE(1.0)[:3])
    assert close(at(picture, picture.axes[0], 0, 0), ZERO)


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
    terms_named = {text for text in texts if text.endswith(" Class")}
    if terms == 34:
        assert len(terms_named) == 32
    if terms == 90 and len(terms_named) < 88:
        assert any(" of 90 terms of class are labelled" in text for text in texts)


def test_pixels_of_the_picture_are_those_of_the_raster():
    """One cell, one radius: nothing is resampled."""
    frame = table(200_000)
    picture = figures.umap_figure(frame, ["class"])
    ax = picture.axes[0]
    box, image = ax.get_window_extent(), ax.images[0]
    assert image.get_array().shape[:2] == (round(box.height), round(box.width))
    assert box.x0 == pytest.approx(round(box.x0), abs=1e-6)
    assert box.y0 == pytest.approx(round(box.y0), abs=1e-6)


def test_colors_of_values_are_ordered_by_lightness():
    """On white paper: nothing, zero, then pale to dark, also for who sees no colours."""
    steps = [*map(SCALE, np.linspace(0, 1, 50))]
    light = [lightness(color[:3]) for color in (WHITE, ZERO, *steps)]
    assert (np.diff(light) < 0).all()
    assert lightness(NO_VALUE) < light[1]


def lightness(color):
    """L* of CIELAB."""
    linear = np.where(np.array(color) <= 0.04045, np.array(color) / 12.92, 0)
    linear += np.where(np.array(color) > 0.04045, ((np.array(color) + 0.055) / 1.055) ** 2.4, 0)
    return 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16


def test_values_below_zero_have_no_color_apart():
    frame = table()
    frame["Gene"] -= 2
    picture = figures.umap_figure(frame, ["Gene"], limits=(-2, 2))
    assert close(at(picture, picture.axes[0], 20, 0), SCALE(0.5)[:3])
    assert close(at(picture, picture.axes[0], 0, 0), SCALE(0.0)[:3])


def islands(terms=30):
    """A small dense island and a wide thin one of the first term; the others on a line."""
    frame = table(6000, terms)
    rng = np.random.default_rng(1)
    first = pd.DataFrame(
        {
            "x": np.r_[rng.normal(50, 0.5, 900), rng.normal(250, 20, 1500)],
            "y": np.r_[rng.normal(40, 0.5, 900), rng.normal(40, 8, 1500)],
            "Gene": 1.0,
            "class": pd.Categorical(["00 Class"] * 2400, frame["class"].cat.categories),
        }
    )
    return pd.concat([frame[frame["class"] != "00 Class"], first], ignore_index=True)


def test_terms_are_labelled_where_they_are_densest():
    frame = islands()
    codes = frame["class"].cat.codes.to_numpy()
    found = map_labels.centers(frame["x"].to_numpy(), frame["y"].to_numpy(), codes, 31)
    assert found[0] == pytest.approx([50, 40], abs=0.5)
    for term in range(1, 30):
        assert found[term] == pytest.approx([term * 10, 0], abs=0.6)
    assert np.isnan(found[30]).all()
    picture = figures.umap_figure(frame, ["class"], width=17.8, dpi=100)
    check_texts(picture)
    (ax,) = [ax for ax in picture.axes if ax.images]
    label = next(text for text in ax.texts if text.get_text() == "00 Class")
    pixels = ax.transData.transform((50, 40))
    assert np.hypot(*(label.get_window_extent().get_points().mean(axis=0) - pixels)) < 12
    few = figures.umap_figure(table(terms=20), ["class"])
    assert not [t for t in few.axes[0].texts if t.get_gid() == "label"]


def test_legends_are_beside_their_panels():
    frame = table(terms=6)
    frame.loc[frame.index[:5], ["Gene", "class"]] = np.nan
    many = islands()
    for picture in (
        figures.umap_figure(frame, ["Gene"], dpi=60),
        figures.umap_figure(frame, ["class", "Gene", "Gene", "class"], dpi=60),
        figures.umap_figure(many, ["class", "Gene"], dpi=60),
        figures.sections_figure(spatial(), ["Gene", "class"], by="section", unit="mm", dpi=60),
        figures.sections_figure(spatial(1), ["Gene", "class"], by="section", unit="mm", dpi=60),
    ):
        picture.canvas.draw()
        panels = [ax.get_window_extent() for ax in picture.axes if ax.images]
        explained = [
            artist.get_window_extent()
            for ax in picture.axes
            for artist in (*ax.artists, *ax.get_children(), *ax.child_axes)
            if type(artist).__name__ in ("Legend", "Axes") and artist is not ax
        ]
        assert explained
        for box in explained:
            assert not any(covers(panel, box) for panel in panels)


def covers(panel, box):
    across = min(panel.x1, box.x1) - max(panel.x0, box.x0)
    return across > 1 and min(panel.y1, box.y1) - max(panel.y0, box.y0) > 1


def bars(picture):
    """Count colour bars."""
    return sum(len(ax.child_axes) for ax in picture.axes)


def drawn(frame, color, **options):
    return figures.umap_figure(frame, color, dpi=80, **options)


def test_genes_of_one_scale_share_a_color_bar():
    frame = table().assign(Other=lambda cells: cells["Gene"] / 2)
    assert bars(drawn(frame, ["Gene", "Other"])) == 2
    assert bars(drawn(frame, ["Gene", "Other"], limits=(0, 6))) == 2, "two labels"
    labels = dict.fromkeys(["Gene", "Other"], "log2 expression")
    apart = drawn(frame, ["Gene", "Other"], labels=labels)
    assert bars(apart) == 2
    given = drawn(frame, ["Gene", "class", "Other"], labels=labels, limits=(0, 6))
    assert bars(given) == 1
    same = drawn(frame, ["Gene", "Other"], labels=labels, same_scale=True)
    assert bars(same) == 1
    assert close(at(same, same.axes[1], 40, 0), SCALE(0.5)[:3])
    assert close(at(apart, apart.axes[1], 40, 0), SCALE(1.0)[:3])
    named = [[text.get_text() for ax in p.axes for text in [ax.xaxis.label]] for p in (same, apart)]
    assert [names.count("UMAP 1") for names in named] == [1, 1]


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


def test_several_colors_of_sections_are_columns():
    frame = spatial().assign(Other=1.0)
    picture = figures.sections_figure(frame, ["Gene", "Other", "class"], by="section", dpi=80)
    texts = check_texts(picture)
    assert {"Mouse.00", "Mouse.04", "Gene", "Other", "class"} <= texts
    panels = [ax for ax in picture.axes if ax.images]
    assert len(panels) == 15
    lefts = {round(ax.get_window_extent().x0) for ax in panels}
    assert len(lefts) == 3
    third = panels[3 * 2 : 3 * 3]
    assert close(at(picture, third[2], 20, 0), to_rgb("#009E73"))
    one = figures.sections_figure(spatial(1), ["Gene", "class"], by="section", dpi=80)
    assert {"Mouse.00", "Gene", "class"} <= check_texts(one)


@pytest.mark.parametrize("color", [["Gene"], ["Gene", "class"]])
def test_scale_bars_are_as_long_as_they_say(color):
    picture = figures.sections_figure(spatial(2), color, by="section", unit="mm", dpi=80)
    picture.canvas.draw()
    ((ax, bar),) = [
        (ax, line) for ax in picture.axes for line in ax.get_children()
        if line.get_gid() == "scale bar"
    ]  # fmt: skip
    (said,) = [text for text in check_texts(picture) if text.endswith(" mm")]
    ends = bar.get_transform().transform(bar.get_xydata())[:, 0]
    low, high = ax.transData.inverted().transform([(ends[0], 0), (ends[1], 0)])[:, 0]
    assert high - low == pytest.approx(float(said.removesuffix(" mm")), rel=3e-3)
    left, right = ax.get_xlim()
    assert 0.1 < (high - low) / (right - left) < 0.34
    assert bar.get_window_extent().y1 < ax.get_window_extent().y0, "below the cells"
    none = figures.sections_figure(spatial(2), color, by="section", dpi=80)
    assert not [text for text in check_texts(none) if text.endswith(" mm")]


@pytest.mark.parametrize("width", [1e-4, 0.3, 1, 2.9, 3, 3.1, 11, 4e5])
def test_lengths_of_scale_bars_are_round(width):
    length = legends.bar_length(width)
    assert width / 7.6 < length <= width / 3 * (1 + 1e-9)
    assert f"{length:.0e}"[0] in "125"


def test_refusals_of_sections():
    frame = spatial()
    frame["section"] = pd.Categorical([None] * len(frame), categories=["a"])
    with pytest.raises(UsageError, match="no cell has a section, x and y"):
        figures.sections_figure(frame, "Gene", by="section")
    with pytest.raises(UsageError, match="101 sections are too many"):
        figures.sections_figure(spatial_of(101), "Gene", by="section")
    with pytest.raises(UsageError, match="51 sections by 2 colourings are too many"):
        figures.sections_figure(spatial_of(51), ["Gene", "Gene"], by="section")


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
