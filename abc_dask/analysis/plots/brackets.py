"""What stands around a table of groups by genes: brackets of what they belong to, and trees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.analysis.plots import canvas
from abc_dask.analysis.plots.group_order import Axis, Tree

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TREE = 0.22  # inches

_GAP = 0.05

_BAR = 0.04

_LEAST = 0.17  # width of a column


def _shifted(ax: Axes, inches: float, *, rows: bool) -> Any:
    """Return a transform: along the axis data, across it inches beyond an edge of the axes."""
    from matplotlib.transforms import ScaledTranslation, blended_transform_factory

    edge: Any = ax.transAxes
    data: Any = ax.transData
    if rows:
        return blended_transform_factory(edge, data) + ScaledTranslation(
            inches, 0, ax.figure.dpi_scale_trans
        )
    return blended_transform_factory(data, edge) + ScaledTranslation(
        0, inches, ax.figure.dpi_scale_trans
    )


def bracket_rows(ax: Axes, axis: Axis, names: Sequence[str]) -> None:
    """Draw brackets left of the names of rows, each with its own name."""
    if not axis.brackets:
        return
    widest = max((canvas.text_width(ax, name) for name in names), default=0.0)
    across = _shifted(ax, -(widest + 2.5 * _GAP), rows=True)
    for name, first, last in axis.runs():
        color = (axis.colors or {}).get(name, canvas.FAINT)
        _line(ax, [0, 0], [first - 0.4, last + 0.4], across, color)
        text = ax.annotate(
            name, (0, (first + last) / 2), xycoords=across, xytext=(-3, 0),
            textcoords="offset points", ha="right", va="center", size=canvas.SMALL,
            color=canvas.INK, annotation_clip=False,
        )  # fmt: skip
        canvas.plain(text)


def bracket_columns(ax: Axes, axis: Axis, above: float) -> float:
    """Draw brackets above columns; return how high they reach, in inches."""
    if not axis.brackets:
        return above
    across = _shifted(ax, above + _GAP, rows=False)
    runs = axis.runs()
    widths = [canvas.text_width(ax, name) for name, _, _ in runs]
    flat = all(
        width < (last - first + 1) * _LEAST
        for width, (_, first, last) in zip(widths, runs, strict=True)
    )
    for name, first, last in runs:
        color = (axis.colors or {}).get(name, canvas.FAINT)
        _line(ax, [first - 0.4, last + 0.4], [1, 1], across, color)
        text = ax.annotate(
            name, ((first + last) / 2, 1), xycoords=across, xytext=(0, 3),
            textcoords="offset points", ha="center", va="bottom", rotation=0 if flat else 90,
            size=canvas.SMALL, color=canvas.INK, annotation_clip=False,
        )  # fmt: skip
        canvas.plain(text)
    tallest = canvas.SMALL / 72 if flat else max(widths)
    return above + _GAP + 3 / 72 + tallest + _GAP


def _line(ax: Axes, x: list[float], y: list[float], transform: Any, color: str) -> None:
    from matplotlib.lines import Line2D

    line = Line2D(
        x, y, transform=transform, color=color, linewidth=_BAR * 72, solid_capstyle="butt",
        clip_on=False, gid="bracket",
    )  # fmt: skip
    ax.add_artist(line)


def draw_trees(ax: Axes, trees: Sequence[Tree], beyond: float, *, rows: bool) -> float:
    """Draw trees right of rows or above columns.

    Parameters
    ----------
    beyond : float
        Inches between the axes and the leaves.
    rows : bool

    Returns
    -------
    float
        How far they reach, in inches.
    """
    from matplotlib.lines import Line2D
    from matplotlib.transforms import Affine2D, ScaledTranslation, blended_transform_factory

    if not trees:
        return beyond
    along, heights = (
        np.concatenate([_with_gaps(part) for part in parts])
        for parts in zip(*(tree.lines() for tree in trees), strict=True)
    )
    inches = ax.figure.dpi_scale_trans
    corner: Any = ax.transAxes
    data: Any = ax.transData
    right, up = (1.0, 0.0) if rows else (0.0, 1.0)
    far = (
        Affine2D().scale(_TREE) + inches
        + ScaledTranslation(right, up, corner)
        + ScaledTranslation(right * beyond, up * beyond, inches)
    )  # fmt: skip
    pairs = ((heights, along), (far, data)) if rows else ((along, heights), (data, far))
    ax.add_artist(
        Line2D(
            *pairs[0], transform=blended_transform_factory(*pairs[1]), color=canvas.FAINT,
            linewidth=0.5, clip_on=False, gid="tree",
        )
    )  # fmt: skip
    return beyond + _TREE + _GAP


def _with_gaps(corners: NDArray[Any]) -> NDArray[Any]:
    """Return corners of lines as one line that is broken between them."""
    broken = np.full((corners.shape[0], corners.shape[1] + 1), np.nan)
    broken[:, :-1] = corners
    return broken.ravel()
