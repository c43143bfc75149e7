"""Whole pictures of tables: panels, their sizes, what is said below them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.analysis.plots import canvas
from abc_dask.analysis.plots.canvas import COLUMN, PAGE, Picture
from abc_dask.analysis.plots.cells import Edges, decorate, draw, places, raster_of, span
from abc_dask.analysis.plots.colors import COLORMAP
from abc_dask.analysis.plots.groups import box_of, dots, heatmap
from abc_dask.analysis.plots.layers import Layer, ValueLayer, layer_of
from abc_dask.analysis.plots.raster import hits
from abc_dask.errors import UsageError
from abc_dask.messages import plural

if TYPE_CHECKING:
    import pandas as pd

_CENTIMETRES = 2.54

_FLATTEST, _TALLEST = 0.4, 1.8  # height of a panel over its width

_MOST_SECTIONS = 100


def umap_figure(
    frame: pd.DataFrame,
    color: Sequence[str],
    *,
    colors: Mapping[str, Mapping[str, str]] | None = None,
    limits: Sequence[float] | None = None,
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
    labels : mapping, optional
        Of the colour scale of each column of numbers.
    width : float, optional
        Centimetres; a journal's column for one panel, its page for more.
    dpi : int
        Pixels an inch.
    caption : str
        Said below, with the number of cells.
    axes : two str
        Names of x and y.

    Raises
    ------
    UsageError
        As `abc_dask.analysis.plots.umap`, or if there is no colouring.
    """
    if not color:
        raise UsageError("nothing to colour by; give a gene or an annotation")
    layers: list[Any] = [
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
    x, y = places(frame)
    edges = span(x, y)
    columns = min(len(color), 3)
    picture = _picture(width, len(color), dpi)
    room = float(picture.get_figwidth()) / columns
    rough = raster_of(edges, *_pixels(edges, 0.8 * room * dpi))
    covered = hits(rough, x, y, radius=rough.radius(len(x)))
    layers = [layer.fitted([(layer, covered)]) for layer in layers]
    panels = _panels(picture, len(layers))
    key = _key(picture) if len(layers) > 1 else None
    drop = 0.0
    for ax, layer in zip(panels, layers, strict=True):
        decorate(ax, title=layer.name, axes=axes, room=0.9 * room)
        if key is None or isinstance(layer, ValueLayer):
            layer.explain(ax, 0.9 * room)
        else:  # long lists need the whole width
            drop = layer.explain_below(key, columns * room, drop)
    box = canvas.fit_width(
        picture,
        panels,
        columns=columns,
        aspect=_aspect(edges),
        width=columns * room * _CENTIMETRES,
        caption=_said([_cells_said(x, y, layers), caption]),
        key=key,
    )
    grid = raster_of(edges, round(box[0] * dpi), round(box[1] * dpi))
    covered = hits(grid, x, y, radius=grid.radius(len(x)))
    for ax, layer in zip(panels, layers, strict=True):
        draw(ax, layer, covered)
    return picture


def sections_figure(
    frame: pd.DataFrame,
    color: str,
    *,
    by: str,
    colors: Mapping[str, str] | None = None,
    limits: Sequence[float] | None = None,
    colormap: str = COLORMAP,
    label: str | None = None,
    width: float | None = None,
    dpi: int = canvas.DPI,
    caption: str = "",
) -> Picture:
    """Draw the cells of brain sections, a panel a section, all at one scale, y downwards.

    Parameters
    ----------
    frame : pandas.DataFrame
        A row a cell, with columns x, y, the colouring and the section.
    color : str
        Column.
    by : str
        Categorical column of the sections.
    colors : mapping, optional
        ``#RRGGBB`` of each term.
    limits, colormap, label, width, dpi, caption
        As `umap_figure`.

    Raises
    ------
    UsageError
        If no cell has a section, there are more than can be seen, and as
        `abc_dask.analysis.plots.umap`.
    """
    layer: Any = layer_of(
        frame, color, colors=colors, limits=limits, colormap=colormap, label=label
    )
    x, y = places(frame)
    sections = _cells_of_terms(frame[by], x, y)
    if not sections:
        raise UsageError(
            f"no cell has a {by}, x and y: sections are drawn of spatial datasets such as MERFISH"
        )
    if len(sections) > _MOST_SECTIONS:
        raise UsageError(
            f"{plural(len(sections), 'section')} are too many for one picture "
            f"(up to {_MOST_SECTIONS}); choose some with --section"
        )
    count = len(sections)
    columns = count if count <= 3 else int(np.ceil(np.sqrt(count)))
    picture = _picture(width, len(sections), dpi)
    room = float(picture.get_figwidth())
    frames = _same_size([span(x[cells], y[cells]) for cells in sections.values()])
    most = max(len(cells) for cells in sections.values())

    def covered_at(width: float, height: float) -> list[tuple[Layer, Any]]:
        found = []
        for edges, cells in zip(frames, sections.values(), strict=True):
            grid = raster_of(edges, round(width), round(height))
            radius = grid.radius(most)  # the same in all, as is the scale
            found.append((layer.of(cells), hits(grid, x[cells], y[cells], radius=radius)))
        return found

    layer = layer.fitted(covered_at(*_pixels(frames[0], room / columns * dpi)))
    axes = _panels(picture, len(sections))
    for ax, term in zip(axes, sections, strict=True):
        decorate(ax, title=term, axes=("", ""), room=room / columns)
    shown = np.concatenate(list(sections.values()))
    key = _key(picture)
    layer.of(shown).explain_below(key, room, 0.0)
    box = canvas.fit_width(
        picture,
        axes,
        columns=columns,
        aspect=_aspect(frames[0]),
        width=room * _CENTIMETRES,
        caption=_said([_cells_said(x[shown], y[shown], [layer]), caption]),
        key=key,
    )
    for ax, (part, covered) in zip(axes, covered_at(box[0] * dpi, box[1] * dpi), strict=True):
        draw(ax, part, covered, downwards=True)
    return picture


def heatmap_figure(
    table: pd.DataFrame,
    *,
    counts: Sequence[int] | None = None,
    limits: Sequence[float] | None = None,
    colormap: str = COLORMAP,
    label: str = "mean",
    width: float | None = None,
    dpi: int = canvas.DPI,
    caption: str = "",
) -> Picture:
    """Draw a statistic of groups by genes; parameters as `abc_dask.analysis.plots.heatmap`."""
    picture = _picture(width, 1, dpi)
    (ax,) = _panels(picture, 1)
    heatmap(ax, table, counts=counts, limits=limits, colormap=colormap, label=label)
    return _fields(picture, ax, table, caption)


def dots_figure(
    mean: pd.DataFrame,
    fraction: pd.DataFrame,
    *,
    counts: Sequence[int] | None = None,
    limits: Sequence[float] | None = None,
    colormap: str = COLORMAP,
    label: str = "mean",
    width: float | None = None,
    dpi: int = canvas.DPI,
    caption: str = "",
) -> Picture:
    """Draw mean and fraction of groups by genes; parameters as `abc_dask.analysis.plots.dots`."""
    picture = _picture(width, 1, dpi)
    (ax,) = _panels(picture, 1)
    dots(ax, mean, fraction, counts=counts, limits=limits, colormap=colormap, label=label)
    return _fields(picture, ax, mean, caption)


def _fields(picture: Picture, ax: Any, table: pd.DataFrame, caption: str) -> Picture:
    """Return each row and column of a table its room; wider than asked where it must be."""
    wanted = float(picture.get_figwidth())
    canvas.arrange(picture, [ax], columns=1, box=box_of(table, 0.5), caption=caption)
    texts = float(picture.get_figwidth()) - box_of(table, 0.5)[0]
    canvas.arrange(picture, [ax], columns=1, box=box_of(table, wanted - texts), caption=caption)
    return picture


def _picture(width: float | None, panels: int, dpi: int) -> Picture:
    if width is not None and not 3 <= width <= 200:
        raise UsageError(f"width {width:g}: expected centimetres, 3 to 200")
    if not 50 <= dpi <= 1200:
        raise UsageError(f"dpi {dpi}: expected pixels an inch, 50 to 1200")
    return Picture(width or (COLUMN if panels == 1 else PAGE), dpi=dpi)


def _panels(picture: Picture, count: int) -> list[Any]:
    return [picture.add_axes((0, 0, 1, 1), label=str(number)) for number in range(count)]


def _key(picture: Picture) -> Any:
    """Return axes of which only legends below them are seen."""
    return picture.add_axes((0, 0, 1, 0.1), label="key", frame_on=False, xticks=[], yticks=[])


def _aspect(edges: Edges) -> float:
    left, right, low, high = edges
    return min(max((high - low) / (right - left), _FLATTEST), _TALLEST)


def _pixels(edges: Edges, width: float) -> tuple[int, int]:
    return round(width), round(width * _aspect(edges))


def _same_size(spans: list[Edges]) -> list[Edges]:
    """Return all edges the size of the largest, about their own middles."""
    dx, dy = (max(s[k + 1] - s[k] for s in spans) / 2 for k in (0, 2))
    middles = [((s[0] + s[1]) / 2, (s[2] + s[3]) / 2) for s in spans]
    return [(x - dx, x + dx, y - dy, y + dy) for x, y in middles]


def _cells_of_terms(
    column: pd.Series[Any], x: NDArray[Any], y: NDArray[Any]
) -> dict[str, NDArray[np.int64]]:
    """Return the cells with a place of each term that occurs, in the terms' order."""
    codes = np.where(np.isfinite(x) & np.isfinite(y), column.cat.codes.to_numpy(), -1)
    order = np.argsort(codes, kind="stable")
    terms, starts = np.unique(codes[order], return_index=True)
    parts = np.split(order, starts[1:])
    names = column.cat.categories
    return {str(names[k]): part for k, part in zip(terms, parts, strict=True) if k >= 0}


def _cells_said(x: NDArray[Any], y: NDArray[Any], layers: Sequence[Layer]) -> str:
    """Return how many cells are drawn, and what a pixel's colour is of them."""
    drawn = int((np.isfinite(x) & np.isfinite(y)).sum())
    rules = " or ".join(dict.fromkeys(f"the {layer.rule}" for layer in layers))
    said = f"{plural(drawn, 'cell')}, all drawn; a pixel shows {rules}"
    without = len(x) - drawn
    return said + (f"; {plural(without, 'cell')} without x and y" if without else "")


def _said(parts: Sequence[str]) -> str:
    return ". ".join(part for part in parts if part)
