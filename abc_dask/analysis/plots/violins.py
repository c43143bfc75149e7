"""Distributions of genes by groups of cells: a row a group, a column a gene."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.analysis.plots import canvas
from abc_dask.analysis.plots.canvas import Picture
from abc_dask.analysis.plots.colors import checked_limits
from abc_dask.analysis.plots.groups import check_groups, names_around, with_fields
from abc_dask.analysis.plots.panels import picture_of, said

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from abc_dask.analysis.histograms import Histograms

# Of groups that have no colours.
_COLOR = "#8c7fb8"

_HIGH = 0.4  # half the height of a violin, of a row

_FIELD = (0.5, 0.2)  # inches, least width of a column, height of a row

_SHOWN = 0.005  # of the highest density, below which none is drawn

_WIDE = 0.88  # of a column, for the scale

_POINTS = 128  # at which a density is drawn

_SMOOTH = 1 / 40  # of the scale: standard deviation of the kernel


def violins(
    ax: Axes,
    found: Histograms,
    names: Sequence[str],
    *,
    colors: Sequence[str] | None = None,
    limits: tuple[float, float] | None = None,
    label: str = "value",
) -> Axes:
    """Draw the distribution of each gene in each group, with its quartiles.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    found : Histograms
    names : sequence of str
        Of the groups.
    colors : sequence of str, optional
        Of the groups.
    limits : two floats, optional
        Of the values; from 0, or the lowest below it, to the highest of all genes where not
        given.
    label : str
        What the values are.

    Returns
    -------
    matplotlib.axes.Axes
        `ax`. Each violin is as high as the others where it is highest; all cells with a value
        count, zeros too.
    """
    table = _table(found, names)
    check_groups(table)
    low, high = limits or _limits(found)
    quartiles = [_at(found.quantile(q), low, high) for q in (0.25, 0.5, 0.75)]
    for row, gene in np.ndindex(*found.zeros.shape):
        values, counts = found.density(row, gene)
        if not counts.sum():
            ax.text(gene, row, "\N{EN DASH}", ha="center", va="center", size=canvas.SMALL,
                    color=canvas.FAINT)  # fmt: skip
            continue
        along, density = _density(values, counts, low, high)
        color = colors[row] if colors else _COLOR
        ax.fill_between(
            gene + _WIDE * (along - 0.5), row - _HIGH * density, row + _HIGH * density,
            facecolor=color, edgecolor=canvas.INK, linewidth=0.25,
        )  # fmt: skip
        first, middle, third = (gene + _WIDE * (q[row, gene] - 0.5) for q in quartiles)
        ax.plot([first, third], [row, row], color=canvas.INK, linewidth=1.0,
                solid_capstyle="butt")  # fmt: skip
        ax.plot([middle], [row], marker="o", markersize=1.8, markerfacecolor="white",
                markeredgecolor=canvas.INK, markeredgewidth=0.5)  # fmt: skip
    ax.set_xlim(-0.5, len(table.columns) - 0.5)
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.set_axisbelow(True)
    ax.grid(axis="y", color="#eeeeee", linewidth=0.5)
    names_around(ax, table, [int(count) for count in found.summary.cells])
    _scale(ax, len(table.columns), low, high, label)
    return ax


def violins_figure(
    found: Histograms,
    names: Sequence[str],
    *,
    colors: Sequence[str] | None = None,
    limits: Sequence[float] | None = None,
    label: str = "value",
    width: float | None = None,
    dpi: int = canvas.DPI,
    caption: str = "",
) -> Picture:
    """Draw distributions by group; parameters as `violins`, `width` in centimetres."""
    picture = picture_of(width, 1, dpi)
    ax = picture.add_axes((0, 0, 1, 1))
    violins(ax, found, names, colors=colors, limits=checked_limits(limits), label=label)
    table = _table(found, names)
    widest = float(np.nanmax(found.width, initial=0.0))
    text = said(
        "Width of a violin: share of its group's cells, zeros too; bar and dot: quartiles and "
        f"median, exact to {widest:.2g}",
        caption,
    )
    return with_fields(picture, ax, table, text, field=_FIELD)


def _table(found: Histograms, names: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(found.zeros, index=list(names), columns=list(found.summary.genes))


def _limits(found: Histograms) -> tuple[float, float]:
    low = min(0.0, float(np.nanmin(found.low, initial=0.0)))
    high = float(np.nanmax(found.high, initial=low))
    return low, high if high > low else low + 1.0


def _at(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Return where values stand on the scale, 0 to 1."""
    return np.clip((values - low) / (high - low), 0, 1)


def _density(
    values: NDArray[np.float64], counts: NDArray[np.int64], low: float, high: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return places on the scale, and a smooth density whose highest point is 1."""
    grid = np.linspace(0, 1, _POINTS)
    there = counts > 0
    distance = (grid[:, np.newaxis] - _at(values[there], low, high)) / _SMOOTH
    weights = counts[there].astype(np.float64)
    density: NDArray[np.float64] = np.exp(-(distance**2) / 2) @ weights
    density /= density.max()
    # as far as there are cells
    shown = density > _SHOWN
    first, last = np.flatnonzero(shown)[[0, -1]]
    return grid[first : last + 1], density[first : last + 1]


def _scale(ax: Axes, genes: int, low: float, high: float, label: str) -> None:
    """Draw the scale of values above the first column, and its ends above all."""
    from matplotlib.transforms import ScaledTranslation, blended_transform_factory

    data: Any = ax.transData
    edge: Any = ax.transAxes
    across = blended_transform_factory(data, edge) + ScaledTranslation(
        0, 0.16, ax.figure.dpi_scale_trans
    )
    for gene in range(genes):
        ends = [gene - _WIDE / 2, gene + _WIDE / 2]
        ax.plot(ends, [1, 1], transform=across, color=canvas.FAINT, linewidth=0.5, clip_on=False,
                gid="scale")  # fmt: skip
        for end, value, side in zip(ends, (low, high), ("left", "right"), strict=True):
            ax.annotate(
                f"{value:.3g}", (end, 1), xycoords=across, xytext=(0, 2),
                textcoords="offset points", ha=side, size=canvas.SMALL, color=canvas.FAINT,
                annotation_clip=False,
            )  # fmt: skip
    ax.annotate(
        label, (-_WIDE / 2, 1), xycoords=across, xytext=(0, 10), textcoords="offset points",
        size=canvas.SMALL, color=canvas.INK, annotation_clip=False, parse_math=False,
    )  # fmt: skip
