"""Marker genes of groups of cells: tests of each group against the rest, another, or every other.

Columns and numbers are those of scanpy's `rank_genes_groups_df`. A p-value here takes cells as
independent samples, which cells of one donor are not: it ranks genes, and is no inference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from abc_dask.analysis.cell_groups import CellGroups, Grouping, check_grouping
from abc_dask.analysis.cell_lists import CellList
from abc_dask.analysis.gene_tasks import (
    Compute,
    GeneResults,
    compute_genes,
    groups_in,
    precomputed_for,
)
from abc_dask.analysis.group_table import CELLS, TABLES, GroupTable, write_frames
from abc_dask.analysis.group_tests import METHODS, Tests
from abc_dask.analysis.store_statistics import (
    chosen_genes,
    provenance,
)
from abc_dask.base.errors import UsageError
from abc_dask.base.messages import enumerate_names, names_of, nearest, plural

if TYPE_CHECKING:
    import anndata

    from abc_dask.analysis.plots.marker_accessor import MarkerPlots
    from abc_dask.store.gene_store import GeneStore

REST = "rest"

WARNING = (
    "cells of one donor are not independent samples: these p-values rank genes; for inference sum "
    "by donor (abc-dask pseudobulk) and test those sums"
)

# Added to both sides of a fold change, as scanpy does.
_LITTLE = 1e-9

# Rows that are held in memory, at some 70 bytes each.
_MOST_ROWS = 20_000_000

# Columns of numbers, and which result each is; the others follow from these.
_COLUMNS = {
    "scores": "score",
    "logfoldchanges": "",
    "pvals": "p",
    "pvals_adj": "",
    "pct_nz_group": "fraction",
    "pct_nz_reference": "rest_fraction",
    "mean_group": "mean",
    "mean_reference": "rest_mean",
    "n_group": "n",
    "n_reference": "rest_n",
}

# Tests of pairs, all genes together.
_MOST_PAIRS = 20_000_000_000


@dataclass(frozen=True)
class Markers:
    """Markers of groups of cells.

    Attributes
    ----------
    groups : tuple of str
        Whose markers they are.
    method : str
        One of `METHODS`.
    versus : str
        ``rest``, the name of the other group, or ``every other group``.
    cells : tuple of int
        Cells of each group.
    n_cells : int
        Cells of all groups together.
    genes : pandas.DataFrame
        Genes that were tested: gene_identifier (index), gene_symbol, ...
    n_absent : int
        Genes that some cells have no value of: these cells are in no test of it.
    n_missing, n_left_out : int
        As `Summary`.
    few : tuple of str
        Groups with too few cells to be tested.
    provenance : dict
    """

    groups: tuple[str, ...]
    method: str
    versus: str
    cells: tuple[int, ...]
    n_cells: int
    genes: pd.DataFrame
    n_absent: int
    n_missing: int
    n_left_out: int
    few: tuple[str, ...]
    provenance: Mapping[str, Any]
    _all_groups: tuple[str, ...] = field(repr=False)
    _raw: Mapping[str, NDArray[Any]] = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of numbers."""
        more = {"wilcoxon": ("auroc",), "pairwise": ("reference",)}
        return (*_COLUMNS, *more.get(self.method, ()))

    @property
    def plot(self) -> MarkerPlots:
        """Pictures: ``markers.plot.dots(top=3)``; needs the extra ``plot``."""
        from abc_dask.analysis.plots.marker_accessor import MarkerPlots

        return MarkerPlots(self)

    def row(self, group: str) -> dict[str, NDArray[Any]]:
        """Return the columns of numbers of one group, genes in the order of `genes`.

        Raises
        ------
        UsageError
            If there is no such group.
        """
        if group not in self.groups:
            raise UsageError(f"no markers of {group!r}{nearest(group, self.groups)}")
        k = self.groups.index(group)
        found = {name: self._raw[raw][k] for name, raw in _COLUMNS.items() if raw}
        found["pvals_adj"] = adjusted(found["pvals"])
        found["logfoldchanges"] = fold_change(
            found["mean_group"], found["mean_reference"], str(self.provenance["normalization"])
        )
        for name in self.names[len(_COLUMNS) :]:
            found[name] = self._raw[name][k]
        return {name: found[name] for name in self.names}

    def of_group(self, group: str, top: int | None = None) -> pd.DataFrame:
        """Return the markers of one group, best first.

        Parameters
        ----------
        group : str
        top : int, optional
            The first ones alone.

        Returns
        -------
        pandas.DataFrame
            group, names (gene_identifier), scores, logfoldchanges, pvals, pvals_adj,
            pct_nz_group, pct_nz_reference, gene_symbol, mean_group, mean_reference, n_group,
            n_reference, and auroc (wilcoxon) or reference (pairwise: the group that is nearest).
            A gene without enough values is last, its score NaN.
        """
        columns = self.row(group)
        # NaN comes last; equal ones in the order of genes
        order = np.argsort(-columns["scores"], kind="stable")[:top]
        genes = self.genes.iloc[order]
        terms = pd.CategoricalDtype(list(self.groups))
        table = pd.DataFrame(
            {
                "group": pd.Categorical([group] * len(order), dtype=terms),
                "names": genes.index.to_numpy(dtype=object),
            }
            | {name: column[order] for name, column in columns.items()}
        )
        if self.method == "pairwise":
            table["reference"] = np.array(self._all_groups, object)[table["reference"]]
        symbols = genes.get("gene_symbol", genes.index)
        table.insert(list(table).index("mean_group"), "gene_symbol", symbols.to_numpy(object))
        return table

    def to_pandas(self, top: int | None = None) -> pd.DataFrame:
        """Return all markers, group by group, best first; see `of_group`."""
        return pd.concat([self.of_group(g, top) for g in self.groups], ignore_index=True)

    def group_table(self) -> GroupTable:
        """Return them as groups x genes, a layer a column."""
        obs = pd.DataFrame({CELLS: np.array(self.cells, np.int64)}, index=list(self.groups))
        rows = [self.row(group) for group in self.groups]
        layers = {name: np.stack([row[name] for row in rows]) for name in self.names}
        if "reference" in layers:
            names = np.array(self._all_groups, object).tolist()
            info = dict(self.provenance) | {"reference": names}
            return GroupTable(layers, obs, self.genes, info)
        return GroupTable(layers, obs, self.genes, self.provenance)

    def to_anndata(self) -> anndata.AnnData:
        """Return them as AnnData: groups x genes, X the scores, a layer each other column."""
        return self.group_table().to_anndata()

    def write(self, target: Path, format: str) -> None:
        """Write them: ``csv`` and ``parquet`` group by group, ``h5ad`` and ``zarr`` as AnnData."""
        if format in TABLES:
            write_frames((self.of_group(group) for group in self.groups), target, format)
        else:
            self.group_table().write(target, format)


def find_markers(
    store: GeneStore,
    by: str | Iterable[str],
    *,
    compute: Compute,
    groups: Iterable[str] | None = None,
    versus: str = REST,
    method: str = "wilcoxon",
    missing: str = "group",
    where: str | None = None,
    genes: Iterable[str] | None = None,
    normalization: str = "log2",
    lists: tuple[CellList, ...] = (),
) -> Markers:
    """Find marker genes.

    Parameters as `GeneStore.markers`; `lists` are one or two lists of cells instead of columns.
    """
    columns = names_of(by)
    if lists:
        groups, versus, missing = _sides(lists, columns, groups, versus, method)
    else:
        check_grouping(columns, missing)
    if method not in METHODS:
        raise UsageError(f"method {method!r} is not one of {enumerate_names(METHODS)}")
    if method == "pairwise" and versus != REST:
        raise UsageError("method 'pairwise' compares with every other group; leave versus out")
    chosen = chosen_genes(store, genes)
    grouping = Grouping(tuple(columns), missing, where, normalization, lists=lists)
    kept = precomputed_for(store, grouping, normalization, Tests(method, ()))
    found = groups_in(store, grouping, summed=kept is not None)
    tested, few = _tested(found, groups, versus, 1 if method == "wilcoxon" else 2)
    _require_bounded(found, len(tested), len(chosen), method)
    other = -1 if versus == REST else found.names.index(versus)
    others = tuple(int(k) for k in np.flatnonzero(~_lacks(found)))
    work = Tests(method, tuple(tested), other, others if method == "pairwise" else ())
    results = compute_genes(store, chosen, grouping, normalization, work=work, compute=compute)
    return _markers(store, results, grouping, work=work, few=few, versus=versus)


def _sides(
    lists: tuple[CellList, ...],
    columns: list[str],
    groups: Iterable[str] | None,
    versus: str,
    method: str,
) -> tuple[list[str], str, str]:
    """Return the group to test, what it is compared with, and what cells of no list are."""
    if columns or groups is not None or versus != REST or method == "pairwise":
        raise UsageError(
            "lists of cells are groups of their own: leave --by, --group and --versus out, and "
            "choose the method wilcoxon or t"
        )
    first, *others = [one.name for one in lists]
    return [first], *((others[0], "drop") if others else (REST, "group"))


def _tested(
    found: CellGroups, asked: Iterable[str] | None, versus: str, least: int
) -> tuple[list[int], tuple[str, ...]]:
    """Return the groups to test, and the names of those with too few cells."""
    names = found.names
    by = enumerate_names([a.name for a in found.columns])
    named = None if asked is None else names_of(asked)
    for name in [*(named or ()), *([versus] if versus != REST else [])]:
        if name not in names:
            raise UsageError(f"no group {name!r} of {by}{nearest(name, names)}")
    if named is not None and (not named or len(set(named)) < len(named)):
        raise UsageError("name each group once, and at least one")
    if len(names) < 2:
        raise UsageError(f"there is one group of {by}, {names[0]!r}: nothing to compare it with")
    lacks = _lacks(found)
    wanted = [
        k
        for k, name in enumerate(names)
        if name != versus and (not lacks[k] if named is None else name in named)
    ]
    small = [k for k in wanted if found.cells[k] < least]
    if named is not None and small:
        raise UsageError(
            f"group {names[small[0]]!r} has {plural(int(found.cells[small[0]]), 'cell')}, "
            f"at least {least} are needed"
        )
    if versus != REST and found.cells[names.index(versus)] < least:
        raise UsageError(f"group {versus!r} has too few cells, at least {least} are needed")
    if named is not None and versus in named:
        raise UsageError(f"group {versus!r} is compared with itself")
    tested = [k for k in wanted if k not in small]
    if named is not None:
        tested.sort(key=lambda k: named.index(names[k]))
    if not tested:
        raise UsageError(f"no group of {by} has {least} cells")
    return tested, tuple(names[k] for k in small)


def _lacks(found: CellGroups) -> NDArray[np.bool_]:
    """Return which groups are of cells without a term."""
    lacks: NDArray[np.bool_] = found.index.to_frame(index=False).isna().any(axis=1).to_numpy()
    return lacks


def _require_bounded(found: CellGroups, n_groups: int, n_genes: int, method: str) -> None:
    """Refuse tables that would not fit into memory, and tests that would not end."""
    rows = n_groups * n_genes
    pairs = rows * len(found.cells)
    if rows > _MOST_ROWS or (method == "pairwise" and pairs > _MOST_PAIRS):
        what = f"{pairs:,} pairs" if method == "pairwise" else f"{rows:,} rows"
        raise UsageError(
            f"{plural(n_groups, 'group')} and {plural(n_genes, 'gene')} are {what}; name some "
            "groups (--group) or genes (--genes)"
        )


def _markers(
    store: GeneStore,
    results: GeneResults,
    grouping: Grouping,
    *,
    work: Tests,
    few: tuple[str, ...],
    versus: str,
) -> Markers:
    found = results.groups
    names = found.names
    chosen = list(work.groups)
    every = "every other group" if work.method == "pairwise" else versus
    raw = {name: results.table(name) for name in work.shapes(0)}
    return Markers(
        groups=tuple(names[k] for k in chosen),
        method=work.method,
        versus=every,
        cells=tuple(found.cells[chosen].tolist()),
        n_cells=int(found.cells.sum()),
        genes=store.genes.iloc[results.genes],
        n_absent=int((results.absent > 0).sum()),
        n_missing=found.n_missing,
        n_left_out=found.n_left_out,
        few=few,
        provenance=provenance(store, grouping) | {"method": work.method, "versus": every},
        _all_groups=tuple(names),
        _raw=raw,
    )


def fold_change(mean: Any, rest: Any, normalization: str) -> NDArray[np.float64]:
    """Return log2 of the ratio of means, of log2 values taken back to counts per million first."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        if normalization == "log2":
            mean, rest = np.exp2(mean) - 1, np.exp2(rest) - 1
        change: NDArray[np.float64] = np.log2((mean + _LITTLE) / (rest + _LITTLE))
        return change


def adjusted(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p-values adjusted for their number (Benjamini and Hochberg 1995); NaN stays."""
    out = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * len(order) / np.arange(1, len(order) + 1)
    out[order] = np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 1.0)
    return out
