"""Counts, sums and squared differences by group, which can be added up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Part = TypeVar("Part")

# How many partial results are put together at once.
_FAN_IN = 8

# Groups as many times the cells are still counted, not sorted, to find those that occur.
_SPARSEST = 4


@dataclass(frozen=True)
class Members:
    """Which group some cells are in.

    Attributes
    ----------
    groups : array of int64, shape (n_groups,)
        Those that occur, rising.
    rank : array of int64, shape (n_cells,)
        Index into `groups`.
    """

    groups: NDArray[np.int64]
    rank: NDArray[np.int64]

    @classmethod
    def of(cls, groups: NDArray[np.int64]) -> Members:
        """Find the groups that occur; `groups` are numbers from 0, of each cell."""
        if not len(groups) or int(groups.max()) > _SPARSEST * len(groups):
            return cls(*np.unique(groups, return_inverse=True))
        present = np.flatnonzero(np.bincount(groups))
        ranks = np.zeros(int(groups.max()) + 1, np.int64)
        ranks[present] = np.arange(len(present))
        return cls(present, ranks[groups])


@dataclass(frozen=True)
class Moments:
    """What is known of some cells by group; two of them add up to one.

    Attributes
    ----------
    groups : array of int64, shape (n_groups,)
        Rising.
    cells : array of int64, shape (n_groups,)
    count, positive : arrays of int64, shape (n_groups, n_genes)
        Values that are there, and those above 0.
    total, mean, squares : arrays of float64, shape (n_groups, n_genes)
        Sum, mean, and sum of squared differences from the mean.
    left_out, lacking : int
        Cells that a condition left out; kept cells with a missing term.
    """

    groups: NDArray[np.int64]
    cells: NDArray[np.int64]
    count: NDArray[np.int64]
    positive: NDArray[np.int64]
    total: NDArray[np.float64]
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]
    left_out: int = 0
    lacking: int = 0

    @classmethod
    def of(cls, members: Members, values: NDArray[Any]) -> Moments:
        """Count and sum up some cells.

        Parameters
        ----------
        members : Members
            Of n_cells cells.
        values : array, shape (n_genes, n_cells)
            NaN where a cell has no value.
        """
        present, place = members.groups, members.rank
        shape = (len(present), len(values))
        count, positive = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        total, mean, squares = (np.zeros(shape) for _ in range(3))
        n = len(present)
        for k, column in enumerate(values):
            held = ~np.isnan(column)
            whole = held.all()
            where = place if whole else place[held]
            kept = (column if whole else column[held]).astype(np.float64)
            count[:, k] = np.bincount(where, minlength=n)
            positive[:, k] = np.bincount(where[kept > 0], minlength=n)
            total[:, k] = np.bincount(where, kept, minlength=n)
            mean[:, k], squares[:, k] = _spread(where, kept, count[:, k], total[:, k])
        cells = np.bincount(place, minlength=n)
        return cls(present, cells, count, positive, total, mean, squares)

    @classmethod
    def side_by_side(cls, genes: Sequence[Moments]) -> Moments:
        """Return what is known of several genes of the same cells as one."""
        named = ("count", "positive", "total", "mean", "squares")
        joined: dict[str, Any] = {
            name: np.hstack([getattr(gene, name) for gene in genes]) for name in named
        }
        return replace(genes[0], **joined)

    def __add__(self, other: Moments) -> Moments:
        """Put two together."""
        groups = np.union1d(self.groups, other.groups)
        one, two = self._spread_over(groups), other._spread_over(groups)
        count = one.count + two.count
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            delta = two.mean - one.mean
            share = np.where(count > 0, two.count / count, 0.0)
            # a side without values adds nothing, whatever its mean is said to be
            both = (one.count > 0) & (two.count > 0)
            mean = np.where(both, one.mean + delta * share, np.where(one.count, one.mean, two.mean))
            between = np.where(both, delta**2 * one.count * share, 0.0)
            # infinity less infinity is nothing: of such groups the sum alone tells the mean
            total = one.total + two.total
            finite = np.isfinite(total)
            return Moments(
                groups,
                one.cells + two.cells,
                count,
                one.positive + two.positive,
                total,
                np.where(finite, mean, total / count),
                np.where(finite, one.squares + two.squares + between, np.nan),
                self.left_out + other.left_out,
                self.lacking + other.lacking,
            )

    def _spread_over(self, groups: NDArray[np.int64]) -> Moments:
        """Return the same with zeros for groups that are not here."""
        if len(groups) == len(self.groups):
            return self
        place = np.searchsorted(groups, self.groups)
        wider: dict[str, Any] = {"groups": groups}
        for name in ("cells", "count", "positive", "total", "mean", "squares"):
            held: NDArray[Any] = getattr(self, name)
            wider[name] = np.zeros((len(groups), *held.shape[1:]), held.dtype)
            wider[name][place] = held
        return replace(self, **wider)

    def statistic(self, name: str) -> NDArray[Any]:
        """Return a statistic as groups x genes."""
        if name == "count":
            return self.count
        with np.errstate(invalid="ignore", divide="ignore"):
            if name == "fraction":
                return self.positive / self.count
            if name == "mean":
                return np.where(self.count > 0, self.mean, np.nan)
            if name == "std":
                return np.where(self.count > 1, np.sqrt(self.squares / (self.count - 1)), np.nan)
        return np.where(self.count > 0, self.total, np.nan)


def as_a_tree(parts: list[Part], add: Callable[[list[Part]], Part]) -> Part:
    """Add up parts, a few at a time, until one is left: in this order wherever it is done."""
    while len(parts) > 1:
        parts = [add(parts[k : k + _FAN_IN]) for k in range(0, len(parts), _FAN_IN)]
    return parts[0]


def add_up(parts: Iterable[Moments]) -> Moments:
    """Add up what is known of parts of the cells, one after the other."""
    first, *others = parts
    for other in others:
        first += other
    return first


def _spread(
    place: NDArray[np.int64],
    values: NDArray[np.float64],
    count: NDArray[np.int64],
    total: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and sum of squared differences by group, in two passes."""
    n = len(count)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mean = np.where(count > 0, total / count, 0.0)
        apart = values - mean[place]
        # what rounding left of the differences' sum corrects the mean
        rest = np.where(count > 0, np.bincount(place, apart, minlength=n) / count, 0.0)
        squares = np.bincount(place, apart**2, minlength=n) - count * rest**2
        finite = np.isfinite(mean) & np.isfinite(rest)
        return np.where(finite, mean + rest, mean), np.where(finite, np.maximum(squares, 0), np.nan)
