"""What is drawn of a table of groups by genes: scaled, in an order, with the trees that made it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.base.errors import UsageError
from abc_dask.base.messages import enumerate_names

if TYPE_CHECKING:
    import pandas as pd

SCALES = ("none", "zscore", "max")

CLUSTERS = ("none", "groups", "genes", "both")


@dataclass(frozen=True)
class Tree:
    """A tree over consecutive rows or columns.

    Attributes
    ----------
    first : int
        Position of its first leaf.
    linkage : array
        As `scipy.cluster.hierarchy.linkage` returns it, leaves ordered optimally.
    """

    first: int
    linkage: NDArray[Any]

    def lines(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return positions and heights of the corners of each joint, 4 a joint; highest is 1."""
        from scipy.cluster.hierarchy import dendrogram

        found = dendrogram(self.linkage, no_plot=True)
        # leaves stand at 5, 15, 25, ...
        positions = (np.array(found["icoord"]) - 5) / 10 + self.first
        heights = np.array(found["dcoord"])
        return positions, heights / (heights.max() or 1.0)


@dataclass(frozen=True)
class Axis:
    """One axis of a table as it is drawn.

    Attributes
    ----------
    order : array of int
        Of the table's rows or columns.
    trees : tuple of Tree
    brackets : tuple of str
        Name of what each belongs to, in the order drawn; none where there are no brackets.
    colors : mapping of str to str
        ``#RRGGBB`` of brackets, as far as they have one.
    """

    order: NDArray[np.int64]
    trees: tuple[Tree, ...] = ()
    brackets: tuple[str, ...] = ()
    colors: Mapping[str, str] | None = None

    def runs(self) -> list[tuple[str, int, int]]:
        """Return name, first and last position of each bracket."""
        found: list[tuple[str, int, int]] = []
        for position, name in enumerate(self.brackets):
            if found and found[-1][0] == name:
                found[-1] = (name, found[-1][1], position)
            else:
                found.append((name, position, position))
        return found


def axis_of(
    values: NDArray[np.float64],
    *,
    cluster: bool,
    brackets: Sequence[str] = (),
    colors: Mapping[str, str] | None = None,
) -> Axis:
    """Order the rows of values.

    Parameters
    ----------
    values : array of float64, shape (n, m)
    cluster : bool
        Put similar rows side by side: average linkage of Euclidean distances, leaves ordered
        optimally (Bar-Joseph, Gifford and Jaakkola 2001); within brackets where there are
        any. A missing value stands at its column's mean.
    brackets : sequence of str
        Of each row; those of one bracket are put together, in the order of their first ones.
    colors : mapping, optional
        Of brackets.
    """
    names = list(dict.fromkeys(brackets)) or [""]
    groups = np.array([names.index(name) for name in brackets] or [0] * len(values), np.int64)
    if not cluster:
        order = np.argsort(groups, kind="stable")
        named = tuple(brackets[k] for k in order) if brackets else ()
        return Axis(order, (), named, colors)
    from scipy.cluster.hierarchy import leaves_list, linkage

    filled = _filled(values)
    parts, trees, first = [], [], 0
    for group in range(len(names)):
        rows = np.flatnonzero(groups == group)
        if len(rows) > 1:
            tree = linkage(filled[rows], "average", optimal_ordering=True)
            rows = rows[leaves_list(tree)]
            trees.append(Tree(first, tree))
        first += len(rows)
        parts.append(rows)
    order = np.concatenate(parts)
    return Axis(order, tuple(trees), tuple(brackets[k] for k in order) if brackets else (), colors)


def _filled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    finite = np.where(np.isfinite(values), values, np.nan)
    counts = np.isfinite(finite).sum(axis=0)
    means = np.nansum(finite, axis=0) / np.maximum(counts, 1)
    return np.where(np.isnan(finite), means, finite)


def scaled(table: pd.DataFrame, scale: str) -> pd.DataFrame:
    """Scale each column of a table.

    Parameters
    ----------
    table : pandas.DataFrame
        Groups by genes.
    scale : str
        ``none``; ``zscore``: minus the mean of the groups, by their standard deviation (with
        n); ``max``: by the highest absolute value. What does not differ (zscore) or is 0
        (max) is 0.

    Raises
    ------
    UsageError
        If there is no such scale.
    """
    if scale not in SCALES:
        raise UsageError(f"scale {scale!r} is not one of {enumerate_names(SCALES)}")
    if scale == "none":
        return table
    if scale == "max":
        found = table / table.abs().max().replace(0, 1)
    else:
        centred = table - table.mean()
        found = centred / table.std(ddof=0).replace(0, 1)
    return found.astype(np.float64)


def checked_cluster(cluster: str) -> tuple[bool, bool]:
    """Return whether groups, and genes, are to be clustered.

    Raises
    ------
    UsageError
        If it is none of `CLUSTERS`.
    """
    if cluster not in CLUSTERS:
        raise UsageError(f"cluster {cluster!r} is not one of {enumerate_names(CLUSTERS)}")
    return cluster in ("groups", "both"), cluster in ("genes", "both")


@dataclass(frozen=True)
class Arranged:
    """Tables in the order in which they are drawn.

    Attributes
    ----------
    tables : tuple of pandas.DataFrame
        The first gives the colours, and the order.
    counts : tuple of int or None
        Cells of each group.
    rows, columns : Axis
    """

    tables: tuple[pd.DataFrame, ...]
    counts: tuple[int, ...] | None
    rows: Axis
    columns: Axis


def arranged(
    tables: Sequence[pd.DataFrame],
    *,
    counts: Sequence[int] | None = None,
    cluster: str = "none",
    row_brackets: Sequence[str] = (),
    column_brackets: Sequence[str] = (),
    colors: Mapping[str, str] | None = None,
) -> Arranged:
    """Put groups and genes into an order; parameters as `axis_of`."""
    groups, genes = checked_cluster(cluster)
    values = tables[0].to_numpy(dtype=np.float64)
    rows = axis_of(values, cluster=groups and len(values) > 0, brackets=row_brackets, colors=colors)
    columns = axis_of(
        values.T, cluster=genes and values.size > 0, brackets=column_brackets, colors=colors
    )
    ordered = tuple(table.iloc[rows.order, columns.order] for table in tables)
    said = None if counts is None else tuple(int(counts[k]) for k in rows.order)
    return Arranged(ordered, said, rows, columns)
