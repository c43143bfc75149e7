"""Groups of cells by genes: a heatmap of one statistic, and dots of two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from abc_dask.analysis.plots import brackets, canvas
from abc_dask.analysis.plots.canvas import Picture
from abc_dask.analysis.plots.colors import ABSENT, COLORMAP, checked_limits, colormap_of
from abc_dask.analysis.plots.group_order import Axis
from abc_dask.base.errors import UsageError
from abc_dask.base.messages import plural

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# More rows than this are no picture any more.
MOST_GROUPS = 400

_STROKE = "\N{EN DASH}"  # for a value that is missing

# Area of the largest dot in square points, and of its field in inches.
_LARGEST_DOT = 70.0
_DOT_STEPS = (0.2, 0.4, 0.6, 0.8, 1.0)


def heatmap(
    ax: Axes,
    table: pd.DataFrame,
    *,
    counts: Sequence[int] | None = None,
    limits: Sequence[float] | None = None,
    colormap: str = COLORMAP,
    label: str = "mean",
    rows: Axis | None = None,
    columns: Axis | None = None,
) -> Axes:
    """Draw a statistic as coloured fields: a row a group, a column a gene.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    table : pandas.DataFrame
        Index the groups, a column a gene; a missing value (NaN) is drawn as a grey
        field with a stroke, not as zero.
    counts : sequence of int, optional
        Cells of each group, written at the right.
    limits : two floats, optional
        Of the colour scale; 0 (or the lowest value below it) and the highest value
        where not given.
    colormap : str
        ``expression``, this package's own, or one of matplotlib's.
    label : str
        Of the colour scale.
    rows, columns : Axis, optional
        Trees and brackets of a table that is already in their order; see
        `abc_dask.analysis.plots.group_order.arranged`.

    Returns
    -------
    matplotlib.axes.Axes
        `ax`.

    Raises
    ------
    UsageError
        If there are no groups, too many to be read, or no such colour map.
    """
    from matplotlib.colors import Normalize

    check_groups(table)
    values = table.to_numpy(dtype=np.float64)
    norm = Normalize(*_limits(values, limits))
    image = ax.imshow(
        np.ma.masked_invalid(np.where(np.isinf(values), np.sign(values) * 1e300, values)),
        aspect="auto",
        cmap=colormap_of(colormap),
        norm=norm,
        interpolation="none",
    )
    ax.set_facecolor(ABSENT)  # fields without a value are left open
    _strokes(ax, np.argwhere(np.isnan(values)))
    above = _surround(ax, table, counts, rows, columns)
    ax.set_xticks(np.arange(len(table.columns) + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(len(table) + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=0.5)
    _color_bar(ax, image, values, label, above)
    return ax


def dots(
    ax: Axes,
    mean: pd.DataFrame,
    fraction: pd.DataFrame,
    *,
    counts: Sequence[int] | None = None,
    limits: Sequence[float] | None = None,
    colormap: str = COLORMAP,
    label: str = "mean",
    rows: Axis | None = None,
    columns: Axis | None = None,
) -> Axes:
    """Draw two statistics as dots: size is the fraction of expressing cells, colour the mean.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    mean, fraction : pandas.DataFrame
        Index the groups, a column a gene, the same in both. The area of a dot grows
        with the fraction; a missing value (NaN) is drawn as a stroke.
    counts, limits, colormap, label, rows, columns
        As `heatmap`.

    Returns
    -------
    matplotlib.axes.Axes
        `ax`.

    Raises
    ------
    UsageError
        If there are no groups, too many to be read, the tables differ in shape, or there
        is no such colour map.
    """
    from matplotlib.colors import Normalize

    check_groups(mean, fraction)
    values, sizes = (t.to_numpy(dtype=np.float64).ravel() for t in (mean, fraction))
    down, across = (part.ravel() for part in np.indices(mean.shape))
    known = ~np.isnan(values) & ~np.isnan(sizes)
    points = ax.scatter(
        across[known],
        down[known],
        s=_LARGEST_DOT * sizes[known],
        c=values[known],
        cmap=colormap_of(colormap),
        norm=Normalize(*_limits(values, limits)),
        edgecolors=canvas.INK,
        linewidths=0.25,
        plotnonfinite=True,
    )
    _strokes(ax, zip(down[~known], across[~known], strict=True))
    ax.set_xlim(-0.5, len(mean.columns) - 0.5)
    ax.set_ylim(len(mean) - 0.5, -0.5)
    ax.set_axisbelow(True)
    ax.grid(color="#eeeeee", linewidth=0.5)
    above = _surround(ax, mean, counts, rows, columns)
    _color_bar(ax, points, values, label, above)
    _dot_sizes(ax, above)
    return ax


def check_groups(table: pd.DataFrame, fraction: pd.DataFrame | None = None) -> None:
    """Raise `UsageError` unless a table's rows are a picture that can be read."""
    if fraction is not None and table.shape != fraction.shape:
        raise UsageError(f"means have shape {table.shape}, fractions {fraction.shape}")
    if table.empty:
        raise UsageError("there is no group to draw")
    if len(table) > MOST_GROUPS:
        raise UsageError(
            f"{plural(len(table), 'group')} are too many to be read (up to {MOST_GROUPS}); "
            "choose a coarser --by, or use abc-dask summarize"
        )


def with_fields(
    picture: Picture,
    ax: Axes,
    table: pd.DataFrame,
    caption: str,
    *,
    field: tuple[float, float] = (0.17, 0.17),
) -> Picture:
    """Make room for each row and column of a table; wider than asked where it must be.

    Parameters
    ----------
    picture : Picture
        Of the width that is asked for.
    ax : Axes
        With the table and all that is around it.
    table : pandas.DataFrame
    caption : str
    field : tuple of float
        Least width of a column and height of a row, in inches: a line of text.
    """
    wanted = float(picture.get_figwidth())
    canvas.arrange(picture, [ax], columns=1, box=_box(table, 0.0, field), caption=caption)
    texts = float(picture.get_figwidth()) - _box(table, 0.0, field)[0]
    box = _box(table, wanted - texts, field)
    canvas.arrange(picture, [ax], columns=1, box=box, caption=caption)
    return picture


def _box(table: pd.DataFrame, width: float, field: tuple[float, float]) -> tuple[float, float]:
    """Return the inches that fields take, spread over a width within reason."""
    across = min(max(width / len(table.columns), field[0]), max(0.7, field[0]))
    return across * len(table.columns), field[1] * len(table)


def _strokes(ax: Axes, fields: Any) -> None:
    """Mark fields (rows and columns) that have no value."""
    for row, column in fields:
        ax.text(
            column, row, _STROKE, ha="center", va="center", size=canvas.SMALL, color=canvas.FAINT
        )


def _limits(values: Any, limits: Sequence[float] | None) -> tuple[float, float]:
    given = checked_limits(limits)
    if given:
        return given
    finite = values[np.isfinite(values)]
    low = min(0.0, float(finite.min(initial=0)))
    high = float(finite.max(initial=low))
    return low, high if high > low else low + 1.0


def _surround(
    ax: Axes,
    table: pd.DataFrame,
    counts: Sequence[int] | None,
    rows: Axis | None,
    columns: Axis | None,
) -> float:
    """Write names and counts, draw brackets and trees; return how high they reach, in inches."""
    names_around(ax, table, counts)
    beyond = 0.05
    if counts is not None:
        said = max([*(f"{count:,}" for count in counts), "cells"], key=len)
        beyond += canvas.text_width(ax, said) + 0.05
    above = 0.14 if counts is not None else 0.0
    if rows is not None:
        brackets.bracket_rows(ax, rows, [str(name) for name in table.index])
        brackets.draw_trees(ax, rows.trees, beyond, rows=True)
    if columns is not None:
        tall = brackets.draw_trees(ax, columns.trees, 0.04, rows=False) if columns.trees else 0.0
        above = max(above, brackets.bracket_columns(ax, columns, tall))
    return above


def names_around(ax: Axes, table: pd.DataFrame, counts: Sequence[int] | None) -> None:
    """Write the groups at the left, the genes below, the counts at the right."""
    ax.set_xticks(range(len(table.columns)), [str(name) for name in table.columns], rotation=90)
    ax.set_yticks(range(len(table)), [str(name) for name in table.index])
    ax.tick_params(which="both", length=0, pad=2, labelsize=canvas.SMALL)
    for text in (*ax.get_xticklabels(), *ax.get_yticklabels()):
        canvas.plain(text)
    for text in ax.get_xticklabels():
        text.set_fontstyle("italic")
    for side in ax.spines.values():
        side.set_visible(False)
    if counts is not None:
        for row, count in enumerate(counts):
            ax.annotate(
                f"{count:,}",
                (1, row),
                xycoords=("axes fraction", "data"),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                size=canvas.SMALL,
                color=canvas.FAINT,
            )
        ax.annotate(
            "cells",
            (1, 1),
            xycoords="axes fraction",
            xytext=(3, 2),
            textcoords="offset points",
            size=canvas.SMALL,
            color=canvas.FAINT,
        )


def _color_bar(ax: Axes, drawn: Any, values: Any, label: str, up: float) -> None:
    """Put the colour scale above the fields."""
    from matplotlib.ticker import MaxNLocator

    low, high = drawn.norm.vmin, drawn.norm.vmax
    below, above = bool((values < low).any()), bool((values > high).any())
    bar = ax.figure.colorbar(
        drawn,
        cax=canvas.inset(ax, (0, up + 0.1, 1.2, 0.07), corner=(0, 1)),
        orientation="horizontal",
        extend=canvas.extension(below=below, above=above),
        ticks=MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]),
    )
    bar.outline.set_visible(False)
    bar.ax.xaxis.set_ticks_position("top")
    bar.ax.xaxis.set_label_position("top")
    bar.ax.tick_params(labelsize=canvas.SMALL, width=0.4, length=2, pad=1)
    bar.set_label(label, size=canvas.SMALL, labelpad=2, loc="left")


def _dot_sizes(ax: Axes, up: float) -> None:
    """Put the sizes' meaning above the colour scale."""
    place = canvas.inset(ax, (0, up + 0.48, 1.5, 0.16), corner=(0, 1))
    steps = np.array(_DOT_STEPS)
    place.scatter(
        steps, np.zeros(len(steps)), s=_LARGEST_DOT * steps, color="#999999",
        edgecolors=canvas.INK, linewidths=0.25, clip_on=False,
    )  # fmt: skip
    place.set_xlim(0.1, 1.1)
    place.set_ylim(-1, 1)
    place.set_xticks(steps, [f"{step:.0%}" for step in steps])
    place.set_yticks([])
    place.xaxis.set_ticks_position("top")
    place.xaxis.set_label_position("top")
    place.tick_params(labelsize=canvas.SMALL, length=0, pad=1)
    place.set_xlabel("cells with a value > 0", size=canvas.SMALL, labelpad=2, loc="left")
    for side in place.spines.values():
        side.set_visible(False)
