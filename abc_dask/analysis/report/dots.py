"""Dots of a page: a row a group, a column a gene; its size is a fraction, its colour a mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.analysis.marker_table import marker_statistics
from abc_dask.analysis.markers import Markers
from abc_dask.analysis.report.tables import TOP, color_of
from abc_dask.analysis.summary import Summary

# Groups and genes that can be read as dots; tables have all of them.
_MOST_GROUPS, _MOST_GENES = 120, 60

_TOO_MANY = (
    f"dots are drawn of up to {_MOST_GROUPS} groups and {_MOST_GENES} genes; the table has all"
)

STEP = 18  # between dots, in the units of the picture


@dataclass(frozen=True)
class Dot:
    """A dot: its middle, its radius, its colour, and what it says."""

    x: float
    y: float
    radius: float
    color: str
    text: str


@dataclass(frozen=True)
class Dots:
    """Rows and columns with their names, and the dots.

    Attributes
    ----------
    title : str
        For those who do not see it.
    groups, genes : list of str
    dots : list of Dot
    step : int
        Between dots.
    """

    title: str
    groups: list[str]
    genes: list[str]
    dots: list[Dot]
    step: int = STEP

    @property
    def sizes(self) -> list[tuple[str, float]]:
        """Fractions and the radii of their dots, for a key."""
        return [(f"{share:.0%}", radius_of(share)) for share in (0.1, 0.25, 0.5, 1.0)]


def radius_of(fraction: float) -> float:
    """Return the radius of a dot whose area is the fraction."""
    return round(0.47 * STEP * float(np.sqrt(fraction)), 2)


def dots_of(summary: Summary, limits: tuple[float, float]) -> tuple[Dots | None, str]:
    """Return dots of means and fractions, or why there are none."""
    (by,) = summary.by
    if not _fits(len(summary.cells), len(summary.genes)):
        return None, _TOO_MANY
    groups = [f"no {by}" if isinstance(g, float) else str(g) for g in summary.cells.index]
    values = summary["mean"].to_numpy(), summary["fraction"].to_numpy()
    return _dots(f"means and fractions by {by}", groups, summary.genes, values, limits), ""


def dots_of_markers(markers: Markers) -> tuple[Dots | None, str, float]:
    """Return dots of the best markers of each group in all groups, what they are, the highest mean.

    As many of each group as can be read side by side; without dots the text says why.
    """
    top = max(1, min(TOP, _MOST_GENES // max(1, len(markers.groups))))
    found = marker_statistics(markers, top)
    if not _fits(len(found.mean), len(found.marked)):
        return None, _TOO_MANY, 0.0
    values = found.mean.to_numpy(), found.fraction.to_numpy()
    highest = float(np.nanmax(values[0], initial=0.0))
    best = "marker" if top == 1 else f"{top} markers"
    text = f"the best {best} of each group in all groups"
    genes = [one.gene for one in found.marked]
    dots = _dots(text, list(found.mean.index), genes, values, (0.0, highest or 1.0))
    return dots, text, highest


def _fits(n_groups: int, n_genes: int) -> bool:
    return n_groups <= _MOST_GROUPS and n_genes <= _MOST_GENES


def _dots(
    title: str,
    groups: list[str],
    genes: Sequence[str],
    values: tuple[NDArray[Any], NDArray[Any]],
    limits: tuple[float, float],
) -> Dots:
    mean, fraction = values
    dots = []
    for row, column in zip(*np.nonzero(np.nan_to_num(fraction) > 0), strict=True):
        share, value = float(fraction[row, column]), float(mean[row, column])
        color = color_of([value], limits)[0]
        said = f"{groups[row]}, {genes[column]}: mean {value:.3f}, {share:.1%} above 0"
        x, y = (column + 0.5) * STEP, (row + 0.5) * STEP
        dots.append(Dot(x, y, radius_of(share), color, said))
    return Dots(title, groups, list(genes), dots)
