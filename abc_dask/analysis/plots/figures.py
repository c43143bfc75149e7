"""Whole pictures of cells: a panel a colouring or a section, what is written around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.analysis.plots import canvas, legends, map_labels
from abc_dask.analysis.plots.canvas import Picture
from abc_dask.analysis.plots.cells import Edges, decorate, draw, places, raster_of, span
from abc_dask.analysis.plots.colors import COLORMAP
from abc_dask.analysis.plots.layers import (
    Layer,
    TermLayer,
    ValueLayer,
    have_one_scale,
    layer_of,
    with_one_scale,
)
from abc_dask.analysis.plots.panels import Page, columns_for, said
from abc_dask.analysis.plots.raster import PixelHits, Raster, hits
from abc_dask.base.errors import UsageError
from abc_dask.base.messages import plural

if TYPE_CHECKING:
    import pandas as pd

_MOST_PANELS = 100

_BELOW = 0.15  # inches between a panel and what is below it, for the names of axes


def umap_figure(
    frame: pd.DataFrame,
    color: Sequence[str],
    *,
    colors: Mapping[str, Mapping[str, str]] | None = None,
    limits: Sequence[float] | None = None,
    same_scale: bool = False,
    colormap: str = COLORMAP,
    labels: Mapping[str, str] | None = None,
    width: float | None = None,
    dpi: int = canvas.DPI,
    caption: str = "",
    axes: tuple[str, str] = ("UMAP 1", "UMAP 2"),
) -> Picture:
    """Draw all cells of a UMAP, a panel a colouring.

    Parameters
    ----------
    frame : pandas.DataFrame
        A row a cell, with columns x, y and the colourings.
    color : sequence of str
        Columns.
    colors : mapping of mappings, optional
        ``#RRGGBB`` of each term of a categorical column.
    limits, colormap
        As `abc_dask.analysis.plots.umap`; the same for all panels.
    same_scale : bool
        Where no limits are given: one scale for all columns of numbers, which reaches as far
        as that of any. One scale has one colour bar.
    labels : mapping, optional
        Of the colour scale of each gene.
    width : float, optional
        Centimetres; a journal's column for one panel, its page for more.
    dpi : int
        Pixels an inch.
    caption : str
        Added below, after the number of cells.
    axes : two str
        Names of x and y.

    Raises
    ------
    UsageError
        As `abc_dask.analysis.plots.umap`, or if there is no colouring.
    """
    layers = _layers(frame, color, colors, limits=limits, colormap=colormap, labels=labels)
    x, y = places(frame)
    labelled = [map_labels.is_labelled(layer) for layer in layers]
    listed = [not named for named in labelled]
    columns = columns_for(len(layers), lists=_any_list(layers, listed))
    page = Page.of(len(layers), span(x, y), columns=columns, width=width, dpi=dpi)
    rough = raster_of(page.edges, *page.rough)
    covered = hits(rough, x, y, radius=rough.radius(len(x)))
    layers = [layer.fitted([(layer, covered)]) for layer in layers]  # type: ignore[list-item]
    layers = with_one_scale(layers) if same_scale else layers
    for ax, layer in zip(page.panels, layers, strict=True):
        named = axes if ax is page.corner else ("", "")
        decorate(ax, layer.name, axes=named, room=0.8 * page.room, italic=layer.is_gene)
    _explain(page, layers, listed)
    page.caption = said(_cells_said(x, y, layers), caption)
    grid = page.fit()
    if any(labelled):
        grid = _label(page, layers, labelled, (x, y), grid)
    covered = hits(grid, x, y, radius=grid.radius(len(x)))
    for ax, layer in zip(page.panels, layers, strict=True):
        draw(ax, layer, covered)
    return page.picture


def sections_figure(
    frame: pd.DataFrame,
    color: str | Sequence[str],
    *,
    by: str,
    colors: Mapping[str, Mapping[str, str]] | None = None,
    limits: Sequence[float] | None = None,
    same_scale: bool = False,
    colormap: str = COLORMAP,
    labels: Mapping[str, str] | None = None,
    width: float | None = None,
    dpi: int = canvas.DPI,
    caption: str = "",
    unit: str | None = None,
) -> Picture:
    """Draw the cells of brain sections, all at one scale, y downwards.

    Of one colouring a panel a section, of one section a panel a colouring, of several of
    both a row a section and a column a colouring.

    Parameters
    ----------
    frame : pandas.DataFrame
        A row a cell, with columns x, y, the colourings and the section.
    color : str or sequence of str
        Columns.
    by : str
        Categorical column of the sections.
    colors, limits, same_scale, colormap, labels, width, dpi, caption
        As `umap_figure`.
    unit : str, optional
        Of x and y, written at the scale bar; there is none where not given.

    Raises
    ------
    UsageError
        If no cell has a section, there are more than can be seen, and as
        `abc_dask.analysis.plots.umap`.
    """
    names = [color] if isinstance(color, str) else color
    layers = _layers(frame, names, colors, limits=limits, colormap=colormap, labels=labels)
    x, y = places(frame)
    sections = _sections(frame[by], x, y, len(layers))
    count = len(sections) * len(layers)
    if len(sections) == 1:
        columns = columns_for(count, lists=_any_list(layers, [True] * count))
    else:
        columns = len(layers) if len(layers) > 1 else _columns(count)
    frames = _same_size([span(x[cells], y[cells]) for cells in sections.values()])
    page = Page.of(count, frames[0], columns=columns, width=width, dpi=dpi)
    most = max(len(cells) for cells in sections.values())

    def covered_at(width: int, height: int) -> list[tuple[NDArray[np.int64], PixelHits]]:
        found = []
        for edges, cells in zip(frames, sections.values(), strict=True):
            grid = raster_of(edges, width, height)
            radius = grid.radius(most)  # the same in all, as is the scale
            found.append((cells, hits(grid, x[cells], y[cells], radius=radius)))
        return found

    rough = covered_at(*page.rough)
    layers = [layer.fitted([(layer.of(c), hit) for c, hit in rough]) for layer in layers]  # type: ignore[misc]
    layers = with_one_scale(layers) if same_scale else layers
    shown = np.concatenate(list(sections.values()))
    _title_sections(page, layers, list(sections))
    drop = _scale_bar(page, unit)
    _explain_sections(page, [layer.of(shown) for layer in layers], len(sections), drop)
    page.caption = said(_cells_said(x[shown], y[shown], layers), caption)
    grid = page.fit()
    drawn = covered_at(grid.width, grid.height)
    panels = iter(page.panels)
    for cells, covered in drawn:
        for layer in layers:
            draw(next(panels), layer.of(cells), covered, downwards=True)
    return page.picture


def _layers(
    frame: pd.DataFrame,
    color: Sequence[str],
    colors: Mapping[str, Mapping[str, str]] | None,
    *,
    limits: Sequence[float] | None,
    colormap: str,
    labels: Mapping[str, str] | None,
) -> list[Layer]:
    if not color:
        raise UsageError("nothing to colour by; give a gene or an annotation")
    return [
        layer_of(
            frame,
            name,
            colors=(colors or {}).get(name),
            limits=limits,
            colormap=colormap,
            label=(labels or {}).get(name),
        )
        for name in color
    ]


def _explain(
    page: Page, layers: Sequence[Layer], wanted: Sequence[bool], below: float = _BELOW
) -> None:
    """Add colour bars and lists of terms at the right of panels; one bar where one is enough."""
    height = 0.45 * page.room * page.aspect
    values = [layer for layer in layers if isinstance(layer, ValueLayer)]
    shared = have_one_scale(layers)
    last = _last_of_first_row(page, layers)
    one_label = len({layer.label for layer in values}) == 1
    for number, (ax, layer) in enumerate(zip(page.panels, layers, strict=True)):
        if isinstance(layer, ValueLayer) and shared:
            if number == last:
                legends.explain_scale(ax, values, height)
            legends.legend(ax, *layer.absent(), 0.9 * page.room, drop=below)
        elif wanted[number]:
            named = not one_label or page.ends_row(number)
            legends.explain_right(ax, layer, height, label=named, alone=len(layers) == 1)


def _any_list(layers: Sequence[Layer], listed: Sequence[bool]) -> bool:
    return any(
        wanted and isinstance(layer, TermLayer)
        for layer, wanted in zip(layers, listed, strict=True)
    )


def _last_of_first_row(page: Page, layers: Sequence[Layer]) -> int:
    """Return the panel beside which a colour bar stands that is for several."""
    numbers = [k for k, layer in enumerate(layers) if isinstance(layer, ValueLayer)]
    return max([k for k in numbers if k < page.columns], default=numbers[0] if numbers else 0)


def _label(
    page: Page,
    layers: Sequence[Layer],
    labelled: Sequence[bool],
    at: tuple[NDArray[Any], NDArray[Any]],
    grid: Raster,
) -> Raster:
    """Label terms on the map, list those without room below; return the pixels of a panel."""
    drop = 0.0
    found = []
    for ax, layer, wanted in zip(page.panels, layers, labelled, strict=True):
        if not wanted or not isinstance(layer, TermLayer):
            continue
        placed = map_labels.place(ax, layer, *at, grid)
        found.append((ax, placed))
        without = {label.term for label in placed}
        shown = int((layer.counts > 0).sum())
        if shown - len(without) > map_labels.MOST_LISTED:
            page.caption = said(
                f"{len(without)} of {shown} terms of {layer.name} are labelled, "
                "by their number of cells",
                page.caption,
            )
            without = set(range(len(layer.terms)))
        if layer.entries(1, without)[0]:
            drop = legends.explain_below(
                page.key, layer, page.width, drop, named=True, without=without
            )
    grid = page.fit()
    for ax, placed in found:
        map_labels.write(ax, placed, grid)
    return grid


def _columns(panels: int) -> int:
    return panels if panels <= 3 else int(np.ceil(np.sqrt(panels)))


def _title_sections(page: Page, layers: Sequence[Layer], sections: Sequence[str]) -> None:
    """Name each panel's section and colouring: above it what changes, at the left of rows."""
    room = 0.9 * page.room
    rows = len(layers) > 1 or len(sections) == 1
    for number, ax in enumerate(page.panels):
        section, column = divmod(number, len(layers))
        layer = layers[column]
        if not rows:
            decorate(ax, sections[section], room=room)
            continue
        first = number < len(layers)
        italic = layer.is_gene
        decorate(ax, layer.name if first else "", room=room, italic=italic)
        if column == 0:
            side = ax.set_ylabel(sections[section], size=canvas.TEXT, labelpad=3, color=canvas.INK)
            canvas.plain(side)


def _scale_bar(page: Page, unit: str | None) -> float:
    """Draw a scale bar at the lower left; return how far down it reaches."""
    if unit is None:
        return 0.0
    grid = raster_of(page.edges, 1000, round(1000 * page.aspect))
    whole = grid.x_limits[1] - grid.x_limits[0]
    length = legends.bar_length(whole)
    return legends.scale_bar(page.corner, length, length / whole, unit)


def _explain_sections(page: Page, layers: Sequence[Layer], sections: int, drop: float) -> None:
    """Add colour bars and lists of terms: below all panels, of each colouring, or its column."""
    if len(layers) == 1 and (sections > 1 or isinstance(layers[0], TermLayer)):
        legends.explain_below(page.key, layers[0], page.width, named=True)
    elif sections == 1:
        listed = [not map_labels.is_labelled(layer) for layer in layers]
        _explain(page, layers, listed, drop + 0.05)
        down = 0.0
        for layer, wanted in zip(layers, listed, strict=True):
            if not wanted:
                down = legends.explain_below(page.key, layer, page.width, down, named=True)
    else:
        shared = have_one_scale(layers)
        seen = False
        for ax, layer in zip(page.panels[-len(layers) :], layers, strict=True):
            if shared and isinstance(layer, ValueLayer) and seen:
                legends.legend(ax, *layer.absent(), 0.9 * page.room, drop=drop)
                continue
            seen = seen or isinstance(layer, ValueLayer)
            legends.explain_below(ax, layer, 0.9 * page.room, drop)


def _same_size(spans: list[Edges]) -> list[Edges]:
    """Return all edges the size of the largest, about their own middles."""
    dx, dy = (max(s[k + 1] - s[k] for s in spans) / 2 for k in (0, 2))
    middles = [((s[0] + s[1]) / 2, (s[2] + s[3]) / 2) for s in spans]
    return [(x - dx, x + dx, y - dy, y + dy) for x, y in middles]


def _sections(
    column: pd.Series[Any], x: NDArray[Any], y: NDArray[Any], colorings: int
) -> dict[str, NDArray[np.int64]]:
    """Return the cells with a place of each section that occurs, in their order.

    Raises
    ------
    UsageError
        If there are none, or too many.
    """
    codes = np.where(np.isfinite(x) & np.isfinite(y), column.cat.codes.to_numpy(), -1)
    order = np.argsort(codes, kind="stable")
    terms, starts = np.unique(codes[order], return_index=True)
    parts = np.split(order, starts[1:])
    names = column.cat.categories
    sections = {str(names[k]): part for k, part in zip(terms, parts, strict=True) if k >= 0}
    if not sections:
        raise UsageError(
            f"no cell has a {column.name}, x and y: sections are drawn of spatial datasets such "
            "as MERFISH"
        )
    if len(sections) * colorings > _MOST_PANELS:
        times = f" by {colorings} colourings" if colorings > 1 else ""
        raise UsageError(
            f"{plural(len(sections), 'section')}{times} are too many for one picture "
            f"(up to {_MOST_PANELS} panels); choose some with --section"
        )
    return sections


def _cells_said(x: NDArray[Any], y: NDArray[Any], layers: Sequence[Layer]) -> str:
    """Return how many cells are drawn, and what a pixel's colour is of them."""
    drawn = int((np.isfinite(x) & np.isfinite(y)).sum())
    rules = " or ".join(dict.fromkeys(f"the {layer.rule}" for layer in layers))
    text = f"{plural(drawn, 'cell')}, all drawn; a pixel shows {rules}"
    without = len(x) - drawn
    return text + (f"; {plural(without, 'cell')} without x and y" if without else "")
