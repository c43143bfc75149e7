"""All cells in the plane, coloured by a gene or by an annotation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.analysis.plots import canvas, legends, map_labels
from abc_dask.analysis.plots.colors import COLORMAP
from abc_dask.analysis.plots.layers import Layer, layer_of
from abc_dask.analysis.plots.raster import PixelHits, Raster, hits
from abc_dask.base.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_MARGIN = 0.02  # of the cells' range, around them

# left, right, lower and upper edge of what is shown
Edges = tuple[float, float, float, float]


def umap(
    ax: Axes,
    frame: pd.DataFrame,
    color: str,
    *,
    colors: Mapping[str, str] | None = None,
    limits: Sequence[float] | None = None,
    colormap: str = COLORMAP,
    label: str | None = None,
) -> Axes:
    """Draw all cells of a UMAP into axes, by the picture's pixels.

    A pixel has the colour of all cells on it: the mean of their values, or their most
    frequent term. No cell is left out or drawn over, and the order of the cells does
    not matter. A value of 0 is light grey, and darker is more; cells without a value are
    pale blue, without a term grey, and counted in the legend. More than 20 terms are
    labelled on the map; those for which there is no room are listed below it.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        At its final size, which gives the pixels.
    frame : pandas.DataFrame
        A row a cell, with columns x and y.
    color : str
        A column of numbers, or a categorical one.
    colors : mapping, optional
        ``#RRGGBB`` of each term, such as the atlas's own; this package's where not given.
    limits : two floats, optional
        Of the colour scale; 0 and the 99th percentile of the pixels with a positive mean
        where not given.
    colormap : str
        ``expression``, this package's own, or one of matplotlib's.
    label : str, optional
        Of the colour scale of a gene.

    Returns
    -------
    matplotlib.axes.Axes
        `ax`.

    Raises
    ------
    UsageError
        If a column is not there or cannot colour cells, or a term has no colour.
    """
    layer = layer_of(frame, color, colors=colors, limits=limits, colormap=colormap, label=label)
    return _draw_alone(ax, frame, layer, axes=("UMAP 1", "UMAP 2"), downwards=False)


def section(
    ax: Axes,
    frame: pd.DataFrame,
    color: str,
    *,
    colors: Mapping[str, str] | None = None,
    limits: Sequence[float] | None = None,
    colormap: str = COLORMAP,
    label: str | None = None,
) -> Axes:
    """Draw the cells of a brain section into axes, y downwards; see `umap`."""
    layer = layer_of(frame, color, colors=colors, limits=limits, colormap=colormap, label=label)
    return _draw_alone(ax, frame, layer, axes=("x", "y"), downwards=True)


def _draw_alone(
    ax: Axes, frame: pd.DataFrame, layer: Layer, *, axes: tuple[str, str], downwards: bool
) -> Axes:
    x, y = places(frame)
    box = ax.get_window_extent()
    grid = raster_of(span(x, y), round(box.width), round(box.height))
    covered = hits(grid, x, y, radius=grid.radius(len(x)))
    layer = layer.fitted([(layer, covered)])  # type: ignore[list-item]
    room, height = (float(side / ax.figure.dpi) for side in (box.width, box.height))
    decorate(ax, layer.name, axes=axes, room=room, italic=layer.is_gene)
    draw(ax, layer, covered, downwards=downwards)
    if not downwards and map_labels.is_labelled(layer):
        placed = map_labels.place(ax, layer, x, y, grid)  # type: ignore[arg-type]
        map_labels.write(ax, placed, grid)
        without = {label.term for label in placed}
        legends.explain_below(ax, layer, room, 0.15, named=True, without=without)
    else:
        legends.explain_right(ax, layer, 0.55 * height)
    return ax


def places(frame: pd.DataFrame) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return x and y.

    Raises
    ------
    UsageError
        If the columns are not there, or no cell has a place.
    """
    for name in ("x", "y"):
        if name not in frame:
            raise UsageError(f"no column {name!r}: cells have no place to be drawn at")
    x, y = (frame[name].to_numpy(dtype=np.float64) for name in ("x", "y"))
    if not (np.isfinite(x) & np.isfinite(y)).any():
        raise UsageError("x and y are missing in all cells: there is nothing to draw")
    return x, y


def span(x: NDArray[Any], y: NDArray[Any]) -> Edges:
    """Return the edges of what shows all cells, with a margin."""
    there = np.isfinite(x) & np.isfinite(y)
    edges: list[float] = []
    for values in (x[there], y[there]):
        low, high = float(values.min()), float(values.max())
        margin = (high - low) * _MARGIN or 0.5
        edges += [low - margin, high + margin]
    return edges[0], edges[1], edges[2], edges[3]


def raster_of(edges: Edges, width: int, height: int) -> Raster:
    """Return the pixels that show all within the edges, one unit as long on both axes."""
    width, height = max(1, width), max(1, height)
    left, right, low, high = edges
    unit = max((right - left) / width, (high - low) / height)
    x, y = (left + right) / 2, (low + high) / 2
    dx, dy = width * unit / 2, height * unit / 2
    return Raster((x - dx, x + dx), (y - dy, y + dy), width, height)


def decorate(
    ax: Axes, title: str, *, axes: tuple[str, str] = ("", ""), room: float, italic: bool = False
) -> None:
    """Add title and names of the axes; `room` in inches."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlabel(axes[0], size=canvas.SMALL, color=canvas.FAINT, labelpad=2, loc="left")
    ax.set_ylabel(axes[1], size=canvas.SMALL, color=canvas.FAINT, labelpad=2, loc="bottom")
    for side in ax.spines.values():
        side.set_visible(False)
    text = canvas.wrapped(title, room, canvas.TEXT)
    style = "italic" if italic else "normal"
    canvas.plain(ax.set_title(text, size=canvas.TEXT, pad=3, style=style))


def draw(ax: Axes, layer: Layer, covered: PixelHits, *, downwards: bool = False) -> Axes:
    """Draw the cells; `downwards`: y grows downwards."""
    grid = covered.raster
    ax.imshow(
        layer.paint(covered),
        extent=grid.extent,
        origin="lower",
        interpolation="none",
        aspect="auto",
    )
    ax.set_xlim(*grid.x_limits)
    ax.set_ylim(*(reversed(grid.y_limits) if downwards else grid.y_limits))
    ax.set_aspect("equal", adjustable="datalim")
    return ax
