"""Statistics of a view's genes by groups of cells, exact, over Dask.

Each partition has sums by group; eight at a time they are put together until one is left
(Chan, Golub and LeVeque 1979: updating formulae for the sample variance). No task holds
more than a partition, and the groups. The median is exact as well: gene by gene, one task
brings the values of a single gene together, some 16 bytes a cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from abc_dask.analysis.cell_groups import check_grouping, group_index
from abc_dask.analysis.group_table import CELLS, TABLES, GroupTable, write_frames
from abc_dask.analysis.moments import Members, Moments, add_up, as_a_tree
from abc_dask.base.errors import UsageError
from abc_dask.base.messages import enumerate_names, html_table, names_of, nearest, plural
from abc_dask.release.annotation import Annotation
from abc_dask.release.condition import Condition

if TYPE_CHECKING:
    import anndata
    import dask.dataframe as dd

STATISTICS = ("mean", "fraction", "median", "count", "sum", "std")

# Groups and genes that a notebook shows.
_SHOWN = 8


@dataclass(frozen=True)
class Summary:
    """Statistics by group.

    Attributes
    ----------
    by : tuple of str
        Columns that make the groups.
    genes : tuple of str
    tables : mapping of str to pandas.DataFrame
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
        Cells of the view or store that a condition left out.
    group_table : GroupTable or None
        Of a store: the same as `to_anndata` returns it.
    """

    by: tuple[str, ...]
    genes: tuple[str, ...]
    tables: Mapping[str, pd.DataFrame]
    cells: pd.Series[int]
    missing: str
    n_missing: int
    n_absent: dict[str, int]
    n_left_out: int
    group_table: GroupTable | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        """Return one line that tells what it is."""
        return (
            f"<Summary: {enumerate_names(self.statistics)} of {plural(len(self.genes), 'gene')} in "
            f"{plural(len(self.cells), 'group')} by {enumerate_names(self.by)}>"
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows: counts, and the head of the first table."""
        facts = {
            "by": enumerate_names(self.by),
            "statistics": enumerate_names(self.statistics),
            "genes": enumerate_names(self.genes, most=20),
            "groups": f"{len(self.cells):,}",
            "cells": f"{int(self.cells.sum()):,}",
        }
        if self.n_missing:
            facts["without a term"] = f"{self.n_missing:,}, {self.missing}"
        if self.n_left_out:
            facts["left out by the condition"] = f"{self.n_left_out:,}"
        head = next(iter(self.tables.values())).iloc[:_SHOWN, :_SHOWN]
        table: str = head.to_html(notebook=True)  # which escapes all names
        return html_table(facts) + table

    def _ipython_key_completions_(self) -> list[str]:
        """Return what may stand in brackets."""
        return list(self.tables)

    @property
    def statistics(self) -> tuple[str, ...]:
        """Names of the statistics, in the order asked."""
        return tuple(self.tables)

    def __getitem__(self, statistic: str) -> pd.DataFrame:
        """Return the table of one statistic: groups x genes."""
        if statistic not in self.tables:
            raise UsageError(
                f"statistic {statistic!r} was not asked for; there are: "
                f"{enumerate_names(self.statistics)}"
            )
        return self.tables[statistic]

    def to_anndata(self) -> anndata.AnnData:
        """Return groups x genes as AnnData, of a store's summary.

        Returns
        -------
        anndata.AnnData
            X the first statistic, a layer each; obs the groups with their terms, colours where
            the store has them, and number of cells; var the genes by identifier.
        """
        if self.group_table is None:
            raise UsageError("only a summary of a store becomes an AnnData; use to_pandas()")
        return self.group_table.to_anndata()

    def write(self, target: Path, format: str) -> None:
        """Write a store's summary: ``h5ad`` or ``zarr`` as AnnData, ``csv`` or ``parquet`` flat."""
        if format in TABLES:
            write_frames([self.to_pandas()], target, format)
        elif self.group_table is not None:
            self.group_table.write(target, format)

    def to_pandas(self) -> pd.DataFrame:
        """Return all in one flat table.

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
    check_grouping(by, missing)
    numeric = [a.name for a in annotations if a.is_numeric]
    if numeric:
        raise UsageError(f"cannot group by {numeric[0]!r}: it holds numbers, not terms")
    if np.prod([len(a.terms or ()) + 1.0 for a in annotations]) > 2**62:
        raise UsageError(f"too many groups of {enumerate_names(by)}; name fewer columns")


def summarize_view(
    view: Any,
    by: Iterable[str],
    statistics: Iterable[str],
    *,
    missing: str = "group",
    where: str | None = None,
    genes: Iterable[str] | None = None,
    download_base: Any = None,
) -> Summary:
    """Check what is asked of a view, and summarize it; parameters as `View.summarize`."""
    columns, wanted = names_of(by), names_of(statistics)
    chosen = list(view.columns) if genes is None else names_of(genes)
    unknown = next((g for g in chosen if g not in view.columns), None)
    if unknown is not None:
        raise UsageError(f"the view has no gene {unknown!r}{nearest(unknown, view.columns)}")
    condition = None if where is None else Condition.parse(where)
    named = condition.columns if condition else ()
    others = [n for n in named if n not in {*columns, *view.columns, "cell_label"}]
    check_request(columns, wanted, missing, ())
    found = view.find_annotations([*columns, *others], download_base=download_base)
    check_request(columns, wanted, missing, found[: len(columns)])
    summary = summarize(
        view.annotate([*columns, *others], download_base=download_base),
        chosen,
        found[: len(columns)],
        statistics=wanted,
        missing=missing,
        condition=condition,
    )
    if not len(summary.cells):
        raise UsageError("no cell of the view is left to summarize")
    return summary


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
    request = _Request(tuple(genes), tuple(by), missing == "drop", condition)
    level = [dask.delayed(request.moments)(part) for part in parts]
    (found,) = dask.compute(as_a_tree(level, dask.delayed(add_up)))
    values = {
        name: _medians(frame, needed, request, found.groups)
        if name == "median"
        else found.statistic(name)
        for name in statistics
    }
    return summary_of(found, genes, by, values, missing)


def summary_of(
    found: Moments,
    genes: Sequence[str],
    by: Sequence[Annotation],
    values: Mapping[str, NDArray[Any]],
    missing: str,
) -> Summary:
    """Return statistics, groups x genes each, as a summary."""
    index = group_index(found.groups, by)
    tables = {name: pd.DataFrame(v, index=index, columns=list(genes)) for name, v in values.items()}
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
class _Request:
    """What a task must know: small, picklable but for the terms of the columns."""

    genes: tuple[str, ...]
    by: tuple[Annotation, ...]
    drop: bool
    condition: Condition | None

    def groups(self, part: pd.DataFrame) -> tuple[NDArray[np.int64], pd.DataFrame, int, int]:
        """Return the group of every kept cell, the kept cells, and how many were not or lack."""
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
        found = Moments.of(Members.of(groups), kept[list(self.genes)].to_numpy().T)
        return replace(found, left_out=left_out, lacking=lacking)

    def values(self, part: pd.DataFrame, gene: str) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return group and value of one gene of the kept cells that have one."""
        groups, kept, _, _ = self.groups(part)
        values = kept[gene].to_numpy()
        held = ~np.isnan(values)
        return groups[held], values[held]


def _medians(
    frame: dd.DataFrame, needed: Sequence[str], request: _Request, groups: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the exact median of each group, gene by gene: one column in one task at a time."""
    import dask

    others = [name for name in needed if name not in request.genes]
    named = () if request.condition is None else request.condition.columns
    columns = []
    for gene in request.genes:
        # a condition may name other genes
        read = [gene, *others, *(n for n in named if n in request.genes and n != gene)]
        parts = frame[read].to_delayed(optimize_graph=True)
        values = [dask.delayed(request.values)(part, gene) for part in parts]
        columns.append(dask.delayed(_median)(values, groups).compute())
    return np.stack(columns, axis=1) if columns else np.zeros((len(groups), 0))


def _median(
    parts: list[tuple[NDArray[np.int64], NDArray[Any]]], groups: NDArray[np.int64]
) -> NDArray[np.float64]:
    place = np.searchsorted(groups, np.concatenate([part[0] for part in parts]))
    values = np.concatenate([part[1] for part in parts])
    out = np.full(len(groups), np.nan)
    for group, members in _split(place, values, len(groups)):
        with np.errstate(invalid="ignore"):  # nan is right between -inf and inf
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
