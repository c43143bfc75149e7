"""Dots of a page: a row a group, a column a gene; its size is a fraction, its colour a mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from abc_dask.analysis.report.tables import color_of
from abc_dask.analysis.summary import Summary

# Groups and genes that can be read as dots; tables have all of them.
_MOST_GROUPS, _MOST_GENES = 120, 60

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
    n_groups, n_genes = len(summary.cells), len(summary.genes)
    if n_groups > _MOST_GROUPS or n_genes > _MOST_GENES:
        return None, (
            f"dots are drawn of up to {_MOST_GROUPS} groups and {_MOST_GENES} genes; "
            "the table has all"
        )
    groups = [f"no {by}" if isinstance(g, float) else str(g) for g in summary.cells.index]
    mean, fraction = summary["mean"].to_numpy(), summary["fraction"].to_numpy()
    dots = []
    for row, column in zip(*np.nonzero(np.nan_to_num(fraction) > 0), strict=True):
        share, value = float(fraction[row, column]), float(mean[row, column])
        color = color_of([value], limits)[0]
        said = f"{groups[row]}, {summary.genes[column]}: mean {value:.3f}, {share:.1%} above 0"
        x, y = (column + 0.5) * STEP, (row + 0.5) * STEP
        dots.append(Dot(x, y, radius_of(share), color, said))
    return Dots(f"means and fractions by {by}", groups, list(summary.genes), dots), ""
