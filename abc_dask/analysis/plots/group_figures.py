"""Whole pictures of statistics by group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from abc_dask.analysis.plots import canvas
from abc_dask.analysis.plots.canvas import Picture
from abc_dask.analysis.plots.colors import COLORMAP
from abc_dask.analysis.plots.groups import box_of, dots, heatmap
from abc_dask.analysis.plots.panels import picture_of

if TYPE_CHECKING:
    import pandas as pd


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
    picture = picture_of(width, 1, dpi)
    ax = picture.add_axes((0, 0, 1, 1))
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
    picture = picture_of(width, 1, dpi)
    ax = picture.add_axes((0, 0, 1, 1))
    dots(ax, mean, fraction, counts=counts, limits=limits, colormap=colormap, label=label)
    return _fields(picture, ax, mean, caption)


def _fields(picture: Picture, ax: Any, table: pd.DataFrame, caption: str) -> Picture:
    """Return each row and column of a table its room; wider than asked where it must be."""
    wanted = float(picture.get_figwidth())
    canvas.arrange(picture, [ax], columns=1, box=box_of(table, 0.5), caption=caption)
    texts = float(picture.get_figwidth()) - box_of(table, 0.5)[0]
    canvas.arrange(picture, [ax], columns=1, box=box_of(table, wanted - texts), caption=caption)
    return picture
