"""Statistics of a view's genes by groups of cells, exact, over Dask.

Each partition gives sums by group; two and two they are put together until one is left
(Chan, Golub and LeVeque 1979: updating formulae for the sample variance). No task holds
more than a partition, and the groups. The median is exact as well: gene by gene, one task
brings the values of a single gene together, some 16 bytes a cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from abc_dask.errors import UsageError
from abc_dask.terms import Annotation
from abc_dask.where import Condition
from abc_dask.words import enumerate_names, nearest

if TYPE_CHECKING:
    import dask.dataframe as dd

STATISTICS = ("mean", "fraction", "median", "count", "sum", "std")
MISSING = ("group", "drop")
CELLS = "cells"

# How many partial results one task puts together.
_FAN_IN = 8


@dataclass(frozen=True)
class Summary:
    """Statistics by group.

    Attributes
    ----------
    by : tuple of str
        Columns that make the groups.
    genes : tuple of str
    tables : dict of str to pandas.DataFrame
        For each statistic a table of groups x genes, float64 (``count``: int64). The
        index has the groups that have cells, in the taxonomy's order; NaN in it is a
        missing term. A value is NaN where a group has no value of the gene.
    cells : pandas.Series of int64
        Cells of each group.
    missing : str
        ``group`` or ``drop``: what became of cells with a missing term.
    n_missing : int
        Cells with a missing term in any of `by`.
    n_absent : dict of str to int
        Cells of the groups without a value (NaN) of each gene, where there are any;
        no statistic counts them.
    n_left_out : int
        Cells of the view that a condition left out.
    """

    by: tuple[str, ...]
    genes: tuple[str, ...]
    tables: dict[str, pd.DataFrame]
    cells: pd.Series[int]
    missing: str
    n_missing: int
    n_absent: dict[str, int]
    n_left_out: int

    @property
    def statistics(self) -> tuple[str, ...]:
        """Names of the statistics, in the order asked."""
        return tuple(self.tables)

    def __getitem__(self, statistic: str) -> pd.DataFrame:
        """Give the table of one statistic: groups x genes."""
        if statistic not in self.tables:
            raise UsageError(
                f"statistic {statistic!r} was not asked for; there are: "
                f"{enumerate_names(self.statistics)}"
            )
        return self.tables[statistic]

    def to_pandas(self) -> pd.DataFrame:
        """Give all in one flat table.

        Returns
        -------
        pandas.DataFrame
            A row a group and, where there are several, statistic: the columns of `by`,
            ``cells``, ``statistic`` (only where there are several), then one a gene.
        """
        rows = []
        for name, table in self.tables.items():
            flat = table.copy()
            flat.insert(0, CELLS, self.cells)
            if len(self.tables) > 1:
                flat.insert(1, "statistic", name)
            rows.append(flat.reset_index())
        joined = pd.concat(rows, ignore_index=True)
        if len(self.tables) == 1:
            return joined
        groups = np.tile(np.arange(len(self.cells)), len(self.tables))
        return joined.iloc[np.argsort(groups, kind="stable")].reset_index(drop=True)


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
    def of(cls, groups: NDArray[np.int64], values: NDArray[Any]) -> Moments:
        """Count and sum up some cells.

        Parameters
        ----------
        groups : array of int64, shape (n_cells,)
        values : array, shape (n_genes, n_cells)
            NaN where a cell has no value.
        """
        present, place = np.unique(groups, return_inverse=True)
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
            return Moments(
                groups,
                one.cells + two.cells,
                count,
                one.positive + two.positive,
                one.total + two.total,
                mean,
                one.squares + two.squares + between,
                self.left_out + other.left_out,
                self.lacking + other.lacking,
            )

    def _spread_over(self, groups: NDArray[np.int64]) -> Moments:
        """Give the same with zeros for groups that are not here."""
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
        """Give a statistic as groups x genes."""
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


def _spread(
    place: NDArray[np.int64],
    values: NDArray[np.float64],
    count: NDArray[np.int64],
    total: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give mean and sum of squared differences by group, in two passes."""
    n = len(count)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mean = np.where(count > 0, total / count, 0.0)
        apart = values - mean[place]
        # what rounding left of the differences' sum corrects the mean
        rest = np.where(count > 0, np.bincount(place, apart, minlength=n) / count, 0.0)
        squares = np.bincount(place, apart**2, minlength=n) - count * rest**2
        finite = np.isfinite(mean) & np.isfinite(rest)
        return np.where(finite, mean + rest, mean), np.where(finite, np.maximum(squares, 0), np.nan)


def check_request(
    by: Sequence[str], statistics: Sequence[str], missing: str, annotations: Sequence[Annotation]
) -> None:
    """Refuse what cannot be summarized.

    Raises
    ------
    UsageError
        For unknown or repeated statistics or columns, and columns of numbers.
    """
    for name in statistics:
        if name not in STATISTICS:
            raise UsageError(f"unknown statistic {name!r}{nearest(name, STATISTICS)}")
    if not statistics or len(set(statistics)) < len(statistics):
        raise UsageError("name each statistic once, and at least one")
    if missing not in MISSING:
        raise UsageError(f"missing {missing!r} is not one of {enumerate_names(MISSING)}")
    if not by or len(set(by)) < len(by):
        raise UsageError("name each column to group by once, and at least one")
    numeric = [a.name for a in annotations if a.is_numeric]
    if numeric:
        raise UsageError(f"cannot group by {numeric[0]!r}: it holds numbers, not terms")
    if np.prod([len(a.terms or ()) + 1.0 for a in annotations]) > 2**62:
        raise UsageError(f"too many groups of {enumerate_names(by)}; name fewer columns")


def summarize(
    frame: dd.DataFrame,
    genes: Sequence[str],
    by: Sequence[Annotation],
    *,
    statistics: Sequence[str],
    missing: str,
    condition: Condition | None = None,
) -> Summary:
    """Summarize genes by groups of cells.

    Parameters
    ----------
    frame : dask.dataframe.DataFrame
        Genes, columns of `by`, and those that the condition names.
    genes : sequence of str
    by : sequence of Annotation
    statistics : sequence of str
        Some of `STATISTICS`.
    missing : str
        ``group``: a missing term is a group; ``drop``: such cells are left out.
    condition : Condition, optional
        Only cells that fit.

    Returns
    -------
    Summary
    """
    import dask

    needed = [*genes, *(a.name for a in by)]
    others = condition.columns if condition else ()
    needed += [name for name in others if name not in needed and name != frame.index.name]
    parts = frame[needed].to_delayed(optimize_graph=True)
    wish = _Wish(tuple(genes), tuple(by), missing == "drop", condition)
    level = [dask.delayed(wish.moments)(part) for part in parts]
    together = dask.delayed(_add_all)
    while len(level) > 1:
        level = [together(level[k : k + _FAN_IN]) for k in range(0, len(level), _FAN_IN)]
    (found,) = dask.compute(level[0])
    index = _index(found.groups, by)
    tables = {}
    for name in statistics:
        if name == "median":
            values = _medians(frame, needed, wish, found.groups)
        else:
            values = found.statistic(name)
        tables[name] = pd.DataFrame(values, index=index, columns=list(genes))
    absent = (found.cells[:, np.newaxis] - found.count).sum(axis=0)
    return Summary(
        by=tuple(a.name for a in by),
        genes=tuple(genes),
        tables=tables,
        cells=pd.Series(found.cells, index=index, name=CELLS),
        missing=missing,
        n_missing=found.lacking,
        n_absent={g: int(n) for g, n in zip(genes, absent, strict=True) if n},
        n_left_out=found.left_out,
    )


@dataclass(frozen=True)
class _Wish:
    """What a task must know: small, picklable but for the terms of the columns."""

    genes: tuple[str, ...]
    by: tuple[Annotation, ...]
    drop: bool
    condition: Condition | None

    def groups(self, part: pd.DataFrame) -> tuple[NDArray[np.int64], pd.DataFrame, int, int]:
        """Give the group of every kept cell, the kept cells, and how many were not or lack."""
        n_all = len(part)
        if self.condition is not None:
            part = part[self.condition.mask_of_frame(part)]
        left_out = n_all - len(part)
        groups = np.zeros(len(part), np.int64)
        lacking = np.zeros(len(part), np.bool_)
        for annotation in self.by:
            codes = part[annotation.name].cat.codes.to_numpy().astype(np.int64)
            lacking |= codes < 0
            n_terms = len(annotation.terms or ())
            groups = groups * (n_terms + 1) + np.where(codes < 0, n_terms, codes)
        n_lacking = int(lacking.sum())
        if self.drop and n_lacking:
            groups, part = groups[~lacking], part[~lacking]
        return groups, part, left_out, n_lacking

    def moments(self, part: pd.DataFrame) -> Moments:
        """Sum up one partition."""
        groups, kept, left_out, lacking = self.groups(part)
        found = Moments.of(groups, kept[list(self.genes)].to_numpy().T)
        return replace(found, left_out=left_out, lacking=lacking)

    def values(self, part: pd.DataFrame, gene: str) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Give group and value of one gene of the kept cells that have one."""
        groups, kept, _, _ = self.groups(part)
        values = kept[gene].to_numpy()
        held = ~np.isnan(values)
        return groups[held], values[held]


def _add_all(parts: list[Moments]) -> Moments:
    added = parts[0]
    for part in parts[1:]:
        added += part
    return added


def _medians(
    frame: dd.DataFrame, needed: Sequence[str], wish: _Wish, groups: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Give the exact median of each group, gene by gene: one column in one task at a time."""
    import dask

    others = [name for name in needed if name not in wish.genes]
    named = () if wish.condition is None else wish.condition.columns
    columns = []
    for gene in wish.genes:
        # a condition may name other genes
        read = [gene, *others, *(n for n in named if n in wish.genes and n != gene)]
        parts = frame[read].to_delayed(optimize_graph=True)
        values = [dask.delayed(wish.values)(part, gene) for part in parts]
        columns.append(dask.delayed(_median)(values, groups).compute())
    return np.stack(columns, axis=1) if columns else np.zeros((len(groups), 0))


def _median(
    parts: list[tuple[NDArray[np.int64], NDArray[Any]]], groups: NDArray[np.int64]
) -> NDArray[np.float64]:
    place = np.searchsorted(groups, np.concatenate([part[0] for part in parts]))
    values = np.concatenate([part[1] for part in parts])
    out = np.full(len(groups), np.nan)
    for group, members in _split(place, values, len(groups)):
        out[group] = np.median(members.astype(np.float64))
    return out


def _split(
    place: NDArray[np.int64], values: NDArray[Any], n_groups: int
) -> Iterator[tuple[int, NDArray[Any]]]:
    order = np.argsort(place, kind="stable")
    ends = np.cumsum(np.bincount(place, minlength=n_groups))
    for group, members in enumerate(np.split(values[order], ends[:-1])):
        if len(members):
            yield group, members


def _index(groups: NDArray[np.int64], by: Sequence[Annotation]) -> pd.Index[Any]:
    """Give the groups as ordered categories, a missing term as NaN."""
    levels: list[Any] = []
    rest = groups
    for annotation in reversed(by):
        n_terms = len(annotation.terms or ())
        rest, codes = np.divmod(rest, n_terms + 1)
        codes = np.where(codes == n_terms, -1, codes)
        levels.insert(0, pd.Categorical.from_codes(codes, dtype=annotation.pandas_dtype()))
    names = [annotation.name for annotation in by]
    if len(by) == 1:
        return pd.CategoricalIndex(levels[0], name=names[0])
    return pd.MultiIndex.from_arrays(levels, names=names)
