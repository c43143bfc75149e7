"""Tests of one gene by groups of cells: Welch's t, Wilcoxon's rank sum, all pairs of groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.analysis import order_loops, store_loops
from abc_dask.analysis.gene_order import ordered_keys, split
from abc_dask.analysis.gene_tasks import Work
from abc_dask.analysis.gene_values import GeneValues

METHODS = ("t", "wilcoxon", "pairwise")

# Groups that are tested without looking at each of the others.
_FEW = 8

_RESULTS = ("score", "p", "mean", "rest_mean", "fraction", "rest_fraction", "n", "rest_n")


@dataclass(frozen=True)
class Sample:
    """What a test of means must know of some groups' values.

    Attributes
    ----------
    n : array of int64
        Values.
    mean, squares : arrays of float64
        Their mean, and the sum of squared differences from it.
    above : array of int64
        Values above 0.
    """

    n: NDArray[Any]
    mean: NDArray[Any]
    squares: NDArray[Any]
    above: NDArray[Any]

    @classmethod
    def of(cls, gene: Any) -> Sample:
        """Sum up every group's values of a gene: `GeneValues`, or `SummedGene`."""
        _, mean, squares = gene.moments()
        return cls(gene.held, mean, squares, gene.count("gt", 0.0))

    def rest(self) -> Sample:
        """Return all cells outside of each group."""
        n = np.empty(len(self.n), np.int64)
        mean, squares = np.empty(len(n)), np.empty(len(n))
        store_loops.rest_moments(self.n, self.mean, self.squares, n, mean, squares)
        return Sample(n, mean, squares, self.above.sum() - self.above)

    def __getitem__(self, groups: Any) -> Sample:
        """Return some groups."""
        return Sample(self.n[groups], self.mean[groups], self.squares[groups], self.above[groups])


@dataclass(frozen=True)
class Tests(Work):
    """The work of finding markers.

    Attributes
    ----------
    method : str
        One of `METHODS`.
    groups : tuple of int
        Groups whose markers are wanted.
    versus : int
        The group that they are compared with; -1: all cells outside of each.
    others : tuple of int
        Groups that each is compared with one by one, by ``pairwise``.
    """

    method: str
    groups: tuple[int, ...]
    versus: int = -1
    others: tuple[int, ...] = ()

    def shapes(self, n_groups: int) -> dict[str, tuple[tuple[int, ...], Any]]:  # noqa: ARG002
        """Return the shape and type of each result of one gene."""
        shape = (len(self.groups),)
        kinds: dict[str, Any] = dict.fromkeys(_RESULTS, np.float64)
        kinds |= {"n": np.int32, "rest_n": np.int32}
        if self.method == "wilcoxon":
            kinds["auroc"] = np.float64
        if self.method == "pairwise":
            kinds["reference"] = np.int32
        return {name: (shape, kind) for name, kind in kinds.items()}

    @property
    def needs(self) -> tuple[str, ...] | None:
        """The counts that it needs of those that are precomputed; None where it needs values."""
        return None if self.method == "wilcoxon" else ("gt0",)

    @property
    def apart(self) -> tuple[int, ...] | None:
        """The groups that are tested, where the others are their rest and nothing else."""
        is_rest = self.method != "pairwise" and self.versus < 0
        return self.groups if is_rest and len(self.groups) <= _FEW else None

    def of_gene(self, gene: Any, out: Mapping[str, Any]) -> None:
        """Test one gene: `GeneValues`, or `SummedGene`."""
        few = self.apart is not None
        chosen: NDArray[Any] = np.arange(len(self.groups)) if few else np.array(self.groups)
        sample = Sample.of(gene)
        one = sample[chosen]
        if self.method == "pairwise":
            found = [_nearest_group(sample, g, self.others) for g in chosen]
            out["reference"][:], out["score"][:], out["p"][:] = zip(*found, strict=True)
            rest = sample[out["reference"]]
        elif self.versus >= 0:
            rest = sample[np.full(len(chosen), self.versus)]
        else:
            rest = sample.rest()[chosen]
        out["n"][:], out["rest_n"][:] = one.n, rest.n
        out["mean"][:], out["rest_mean"][:] = one.mean, rest.mean
        out["fraction"][:], out["rest_fraction"][:] = one.above / one.n, rest.above / rest.n
        if self.method == "t":
            out["score"][:], out["p"][:] = welch(one, rest)
        elif self.method == "wilcoxon":
            ranks, ties = self._ranks(gene, chosen)
            out["score"][:], out["p"][:], out["auroc"][:] = rank_test(ranks, ties, one.n, rest.n)

    def _ranks(
        self, gene: GeneValues, chosen: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the rank sum of each chosen group, and what ties take off."""
        keys, zero, codes = ordered_keys(gene)
        held = gene.held
        if self.versus < 0:
            ranks = np.empty(len(held))
            ties = order_loops.rank_sums(keys, codes, zero, held, ranks)
            return ranks[chosen], np.full(len(chosen), ties)
        by_group, starts = split(keys, codes, len(held))
        own = [by_group[starts[g] : starts[g + 1]] for g in range(len(held))]
        other = own[self.versus]
        found = [
            order_loops.pair_rank_sum(own[g], held[g], other, held[self.versus], zero)
            for g in chosen
        ]
        sums = np.array(found)
        return sums[:, 0], sums[:, 1]


def welch(one: Sample, two: Sample) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Test whether means differ by Welch's t.

    Returns
    -------
    score, p : arrays
        t, and the two-sided p-value; 0 and 1 where neither means nor values differ, NaN where a
        side has fewer than two values.
    """
    from scipy.special import stdtr

    t, freedom = _welch_t(one, two)
    return t, np.where(np.isnan(t), np.nan, 2 * stdtr(freedom, -np.abs(t)))


def _welch_t(one: Sample, two: Sample) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return t and the degrees of freedom."""
    n, n2 = one.n, two.n
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        error, error2 = one.squares / (n - 1) / n, two.squares / (n2 - 1) / n2
        both = error + error2
        t = (one.mean - two.mean) / np.sqrt(both)
        share = error / both
        freedom = 1 / (share**2 / (n - 1) + (1 - share) ** 2 / (n2 - 1))
    enough = (n > 1) & (n2 > 1)
    same = enough & (both == 0)
    t = np.where(same & (one.mean == two.mean), 0.0, t)
    # without any spread there are no degrees of freedom to speak of
    freedom = np.where(same | ~np.isfinite(freedom), 1.0, freedom)
    return np.where(enough, t, np.nan), freedom


def rank_test(
    ranks: NDArray[np.float64], ties: Any, n: NDArray[Any], n2: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Test whether a group's values rank higher or lower: Wilcoxon's rank sum, with ties.

    Parameters
    ----------
    ranks : array
        Sum of a group's ranks.
    ties : array
        Sum of t**3 - t over the numbers t of equal values.
    n, n2 : arrays of int
        Values of the group, and of the other side.

    Returns
    -------
    score, p, auroc : arrays
        The sum's distance from what chance gives, in standard deviations; its two-sided p-value
        by the normal approximation, without a correction for continuity; the chance that a
        value of the group is above one of the other side, equal ones counting half. NaN where a
        side has no value.
    """
    from scipy.special import ndtr

    n, n2 = n.astype(np.float64), n2.astype(np.float64)
    both = n + n2
    with np.errstate(divide="ignore", invalid="ignore"):
        correction = 1.0 - ties / (both**3 - both)
        spread = np.sqrt(correction * n * n2 * (both + 1) / 12)
        score = (ranks - n * (both + 1) / 2) / spread
        auroc = (ranks - n * (n + 1) / 2) / (n * n2)
    some = (n > 0) & (n2 > 0)
    score = np.where(some & ~(spread > 0), 0.0, np.where(some, score, np.nan))
    return score, 2 * ndtr(-np.abs(score)), np.where(some, auroc, np.nan)


def _nearest_group(sample: Sample, group: int, others: tuple[int, ...]) -> tuple[int, float, float]:
    """Test a group against every other; return the one that says least for it, t and p.

    The p-value is one-sided: that the group's mean is higher. The largest one over all pairs
    tests that it is higher than that of every other group.
    """
    from scipy.special import stdtr

    other = np.array([k for k in others if k != group])
    t, freedom = _welch_t(sample[np.full(len(other), group)], sample[other])
    untested = np.isnan(t)
    if untested.all():
        return group, np.nan, np.nan
    p = np.where(untested, -1.0, stdtr(freedom, -t))
    # of equal ones, such as 0 and 1, the one with the least t
    at = int(np.lexsort((np.where(untested, np.inf, t), -p))[0])
    return int(other[at]), t[at], p[at]
