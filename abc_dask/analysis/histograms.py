"""How values of genes are distributed in groups of cells, in bounded memory.

Values are counted in steps between a gene's lowest and highest value, partition by
partition; 0 is counted apart. What is kept does not grow with the number of cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.analysis.summary import Summary, summarize_view
from abc_dask.base.errors import UsageError
from abc_dask.base.messages import plural
from abc_dask.release.annotation import Annotation
from abc_dask.release.condition import Condition

if TYPE_CHECKING:
    import pandas as pd

# Steps between a gene's lowest and highest value.
STEPS = 512

# Groups times genes that can be told apart.
MOST_FIELDS = 6000

_FAN_IN = 8


@dataclass(frozen=True)
class Histograms:
    """Counts of values by group, gene and step.

    Attributes
    ----------
    summary : Summary
        ``count`` by group and gene, and what cells are in no group.
    low, high : array of float64, shape (n_genes,)
        Lowest and highest finite value; NaN where there is none.
    counts : array of int64, shape (n_groups, n_genes, STEPS)
        Values other than 0 in each step.
    zeros : array of int64, shape (n_groups, n_genes)
    """

    summary: Summary
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    counts: NDArray[np.int64]
    zeros: NDArray[np.int64]

    @property
    def width(self) -> NDArray[np.float64]:
        """Width of each gene's steps."""
        return np.asarray((self.high - self.low) / STEPS)

    def middles(self, gene: int) -> NDArray[np.float64]:
        """Return the middle of each step of a gene."""
        return np.asarray(self.low[gene] + (np.arange(STEPS) + 0.5) * self.width[gene])

    def quantile(self, q: float) -> NDArray[np.float64]:
        """Return a quantile of each group and gene: that of `numpy.quantile` to a step.

        Parameters
        ----------
        q : float
            0 to 1.

        Returns
        -------
        array of float64, shape (n_groups, n_genes)
            The middle of the step in which the lower of the two values beside it lies, exactly
            0 where that is 0; NaN where there is no value.
        """
        found = np.full(self.zeros.shape, np.nan)
        for group, gene in np.ndindex(*found.shape):
            middles, counts = self.density(group, gene)
            total = int(counts.sum())
            if total:
                rank = int(q * (total - 1))
                found[group, gene] = middles[np.searchsorted(np.cumsum(counts), rank + 1)]
        return found

    def density(self, group: int, gene: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return values in rising order, and how many cells have each: middles of steps, and 0."""
        middles = self.middles(gene)
        if np.isnan(self.low[gene]):
            return np.zeros(1), self.zeros[group, gene : gene + 1]
        at = int(np.searchsorted(middles, 0))
        return (
            np.insert(middles, at, 0.0),
            np.insert(self.counts[group, gene], at, self.zeros[group, gene]),
        )


def histograms_of(
    view: Any,
    by: Sequence[str],
    *,
    missing: str = "group",
    where: str | None = None,
    genes: Sequence[str] | None = None,
    download_base: Any = None,
) -> Histograms:
    """Count the values of a view's genes by groups of cells; parameters as `View.summarize`.

    Raises
    ------
    UsageError
        As `View.summarize`; if there are too many groups to be drawn.
    """
    import dask

    options = {"missing": missing, "where": where, "download_base": download_base}
    summary = summarize_view(view, by, ["count"], genes=genes, **options)
    if len(summary.cells) * len(summary.genes) > MOST_FIELDS:
        raise UsageError(
            f"{plural(len(summary.cells), 'group')} by {plural(len(summary.genes), 'gene')} are "
            f"too many to be read (up to {MOST_FIELDS:,} fields); choose a coarser --by, "
            "or fewer genes"
        )
    condition = None if where is None else Condition.parse(where)
    named = condition.columns if condition else ()
    others = [n for n in named if n not in {*by, *view.columns, "cell_label"}]
    columns = [*by, *others]
    found = view.find_annotations(by, download_base=download_base)
    frame = view.annotate(columns, download_base=download_base)
    needed = list(dict.fromkeys([*summary.genes, *columns, *(n for n in named if n in frame)]))
    parts = frame[needed].to_delayed(optimize_graph=True)
    work = _Work(summary.genes, found, _numbers(summary.cells.index, found), condition)
    limits, count = dask.delayed(work.limits), dask.delayed(work.counts)
    ((low, high),) = dask.compute(_merged([limits(part) for part in parts], _widest))
    (pair,) = dask.compute(_merged([count(part, low, high) for part in parts], _sum))
    return Histograms(summary, low, high, *pair)


def _merged(level: list[Any], together: Any) -> Any:
    """Return a task that puts the results of tasks together, a few at a time."""
    import dask

    joined = dask.delayed(together)
    while len(level) > 1:
        level = [joined(level[k : k + _FAN_IN]) for k in range(0, len(level), _FAN_IN)]
    return level[0]


Limits = tuple[NDArray[np.float64], NDArray[np.float64]]

Counts = tuple[NDArray[np.int64], NDArray[np.int64]]


def _widest(parts: list[Limits]) -> Limits:
    lows, highs = zip(*parts, strict=True)
    return np.fmin.reduce(lows), np.fmax.reduce(highs)


def _sum(parts: list[Counts]) -> Counts:
    steps, zeros = zip(*parts, strict=True)
    return np.sum(steps, axis=0), np.sum(zeros, axis=0)


def _numbers(index: pd.Index[Any], by: Sequence[Annotation]) -> NDArray[np.int64]:
    """Return the number of each group: the codes of its terms as one number, rising."""
    frame = index.to_frame(index=False)
    return _combined([frame.iloc[:, k].cat.codes for k in range(len(by))], by)


def _combined(codes: Sequence[Any], by: Sequence[Annotation]) -> NDArray[np.int64]:
    numbers: Any = 0
    for column, annotation in zip(codes, by, strict=True):
        n_terms = len(annotation.terms or ())
        found = column.to_numpy().astype(np.int64)
        numbers = numbers * (n_terms + 1) + np.where(found < 0, n_terms, found)
    return np.asarray(numbers)


@dataclass(frozen=True)
class _Work:
    """What a task must know.

    Attributes
    ----------
    genes : tuple of str
    by : tuple of Annotation
    numbers : array of int64, shape (n_groups,)
        Groups that are counted, rising.
    condition : Condition or None
    """

    genes: tuple[str, ...]
    by: tuple[Annotation, ...]
    numbers: NDArray[np.int64]
    condition: Condition | None

    def _kept(self, part: pd.DataFrame) -> tuple[NDArray[np.int64], pd.DataFrame]:
        """Return position of the group of each cell, and the cells, that are counted."""
        if self.condition is not None:
            part = part[self.condition.mask_of_frame(part)]
        numbers = _combined([part[a.name].cat.codes for a in self.by], self.by)
        place = np.minimum(np.searchsorted(self.numbers, numbers), len(self.numbers) - 1)
        known = self.numbers[place] == numbers
        return place[known], part[known]

    def limits(self, part: pd.DataFrame) -> Limits:
        """Return the lowest and highest value of each gene."""
        _, kept = self._kept(part)
        values = kept[list(self.genes)].to_numpy(dtype=np.float64)
        values[~np.isfinite(values)] = np.nan
        if not len(values):
            return np.full(len(self.genes), np.nan), np.full(len(self.genes), np.nan)
        return np.fmin.reduce(values), np.fmax.reduce(values)

    def counts(
        self, part: pd.DataFrame, low: NDArray[np.float64], high: NDArray[np.float64]
    ) -> Counts:
        """Count the values of each group, gene and step, and the zeros."""
        place, kept = self._kept(part)
        shape = (len(self.numbers), len(self.genes))
        steps, zeros = np.zeros((*shape, STEPS), np.int64), np.zeros(shape, np.int64)
        for k, gene in enumerate(self.genes):
            values = kept[gene].to_numpy(dtype=np.float64)
            zeros[:, k] = np.bincount(place[values == 0], minlength=shape[0])
            there = np.flatnonzero(np.isfinite(values) & (values != 0))
            width = (high[k] - low[k]) / STEPS or 1.0
            at = ((values[there] - low[k]) / width).astype(np.int64)
            at = place[there] * STEPS + np.minimum(at, STEPS - 1)
            steps[:, k] = np.bincount(at, minlength=shape[0] * STEPS).reshape(-1, STEPS)
        return steps, zeros
