"""Whole pictures of statistics by group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np

from abc_dask.analysis.plots import canvas
from abc_dask.analysis.plots.canvas import Picture
from abc_dask.analysis.plots.colors import COLORMAP, DIVERGING
from abc_dask.analysis.plots.group_order import arranged, scaled
from abc_dask.analysis.plots.groups import check_groups, dots, heatmap, with_fields
from abc_dask.analysis.plots.panels import picture_of

if TYPE_CHECKING:
    import pandas as pd


_LABELS = {
    "none": "{}",
    "zscore": "{}, z-score of each gene",
    "max": "{}, by each gene's highest",
}


# Z-scores beyond have the colour of this one, and the colour bar says so.
_HIGHEST_Z = 3.0


class Order(TypedDict, total=False):
    """Order of groups and genes: see `abc_dask.analysis.plots.group_order.arranged`."""

    cluster: str
    row_brackets: Sequence[str]
    column_brackets: Sequence[str]
    colors: Mapping[str, str] | None


def heatmap_figure(table: pd.DataFrame, **options: Any) -> Picture:
    """Draw a statistic of groups by genes.

    Parameters
    ----------
    table, counts, limits, colormap, label
        As `abc_dask.analysis.plots.heatmap`.
    scale : str
        As `abc_dask.analysis.plots.group_order.scaled`; z-scores have a colour map and limits
        with 0 in the middle where no others are given.
    width, dpi, caption
        As `abc_dask.analysis.plots.figures.umap_figure`.
    cluster, row_brackets, column_brackets, colors
        As `abc_dask.analysis.plots.group_order.arranged`.
    """
    return _figure(heatmap, [table], **options)


def dots_figure(mean: pd.DataFrame, fraction: pd.DataFrame, **options: Any) -> Picture:
    """Draw mean and fraction of groups by genes; parameters as `heatmap_figure`."""
    return _figure(dots, [mean, fraction], **options)


def _figure(
    draw: Callable[..., Any],
    tables: Sequence[pd.DataFrame],
    *,
    counts: Sequence[int] | None = None,
    limits: Sequence[float] | None = None,
    colormap: str | None = None,
    label: str = "mean",
    scale: str = "none",
    width: float | None = None,
    dpi: int = canvas.DPI,
    caption: str = "",
    **order: Unpack[Order],
) -> Picture:
    """Draw tables of which the first one's values have colours."""
    check_groups(*tables)
    found = arranged([scaled(tables[0], scale), *tables[1:]], counts=counts, **order)
    picture = picture_of(width, 1, dpi)
    ax = picture.add_axes((0, 0, 1, 1))
    draw(
        ax,
        *found.tables,
        counts=found.counts,
        rows=found.rows,
        columns=found.columns,
        **_colors(found.tables[0], scale, limits=limits, colormap=colormap, label=label),
    )
    return with_fields(picture, ax, tables[0], caption)


def _colors(
    table: pd.DataFrame,
    scale: str,
    *,
    limits: Sequence[float] | None,
    colormap: str | None,
    label: str,
) -> dict[str, Any]:
    """Return limits, colour map and label of a scaled table."""
    if scale == "zscore" and limits is None:
        highest = float(np.nanmax(np.abs(table.to_numpy()), initial=0.0)) or 1.0
        highest = min(highest, _HIGHEST_Z)
        limits = (-highest, highest)
    named = colormap in (None, COLORMAP) and scale == "zscore"
    return {
        "limits": limits,
        "colormap": DIVERGING if named else colormap or COLORMAP,
        "label": _LABELS[scale].format(label),
    }
