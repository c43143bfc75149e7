"""Statistics of all genes of a store by groups of cells, exact, one task a shard.

Every gene's values are in memory once, whole: no results are merged, any grouping will do, and
variances take two passes over what is there anyway.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abc_dask._version import __version__
from abc_dask.analysis import order_loops
from abc_dask.analysis.cell_groups import Grouping, check_grouping
from abc_dask.analysis.gene_order import ordered_keys, split, values_of_keys
from abc_dask.analysis.gene_tasks import Compute, GeneResults, Work, compute_genes
from abc_dask.analysis.group_table import CELLS, GroupTable, obs_of
from abc_dask.analysis.precomputed import COUNTS
from abc_dask.analysis.summary import Summary
from abc_dask.base.errors import UsageError
from abc_dask.base.messages import names_of, nearest
from abc_dask.release.release import origin_of

if TYPE_CHECKING:
    from abc_dask.store.gene_store import GeneStore

# What a summary of a store has beside counts above (gtX) and from (geX) a limit.
STATISTICS = ("mean", "fraction", "median", "count", "n", "sum", "std", "var", "sumsq")

_COUNTED = re.compile(r"(gt|ge)(\d+(?:\.\d+)?)")

_WHOLE = {"count", "n"}


@dataclass(frozen=True)
class Statistics(Work):
    """The work of a summary.

    Attributes
    ----------
    names : tuple of str
        Some of `STATISTICS`, gtX, geX.
    """

    names: tuple[str, ...]

    def shapes(self, n_groups: int) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Return the shape and type of each statistic of one gene."""
        return {n: ((n_groups,), np.int64 if is_whole(n) else np.float64) for n in self.names}

    @property
    def needs(self) -> tuple[str, ...] | None:
        """The counts that it needs of those that are precomputed; None where it needs values."""
        counts = [_limit(name) for name in self.names if name == "fraction" or is_counted(name)]
        if "median" in self.names or not set(counts) <= set(COUNTS):
            return None
        return tuple(dict.fromkeys(COUNTS[count] for count in counts))

    def of_gene(self, gene: Any, out: Mapping[str, Any]) -> None:
        """Write the statistics of one gene."""
        held = gene.held
        total, mean, squares = gene.moments()
        for name in self.names:
            if name in _WHOLE:
                out[name][:] = held
            elif name == "sum":
                out[name][:] = total
            elif name == "mean":
                out[name][:] = mean
            elif name in ("var", "std"):
                found = squares / (held - 1)
                found[held < 2] = np.nan
                out[name][:] = found if name == "var" else np.sqrt(found)
            elif name == "sumsq":
                out[name][:] = squares + total * mean
            elif name == "median":
                out[name][:] = _medians(gene)
            elif name == "fraction":
                out[name][:] = gene.count(*_limit(name)) / held
            else:
                out[name][:] = gene.count(*_limit(name))


def is_whole(name: str) -> bool:
    """Tell whether a statistic is a number of cells."""
    return name in _WHOLE or is_counted(name)


def is_counted(name: str) -> bool:
    """Tell whether a statistic counts values above or from a limit."""
    return bool(_COUNTED.fullmatch(name))


@cache
def _limit(name: str) -> tuple[str, float]:
    """Return the kind and the limit of a count; a fraction is of values above 0."""
    match = _COUNTED.fullmatch("gt0" if name == "fraction" else name)
    assert match is not None
    return match[1], float(match[2])


def _medians(gene: Any) -> Any:
    """Return the median of each group."""
    keys, zero, codes = ordered_keys(gene)
    by_group, starts = split(keys, codes, len(gene.held))
    low, high = (np.empty(len(gene.held), keys.dtype) for _ in range(2))
    order_loops.middle_keys(by_group, starts, zero, gene.held, low, high)
    one, two = (values_of_keys(k, gene.values.dtype).astype(np.float64) for k in (low, high))
    return np.where(gene.held > 0, (one + two) / 2, np.nan)


def check_statistics(names: Sequence[str]) -> None:
    """Refuse statistics that are unknown or asked for twice.

    Raises
    ------
    UsageError
    """
    for name in names:
        match = _COUNTED.fullmatch(name)
        if name not in STATISTICS and match is None:
            raise UsageError(
                f"unknown statistic {name!r}{nearest(name, STATISTICS)}; gt1 and the like count "
                "values above a limit, ge1 values that reach it"
            )
        if match is not None and match[1] == "ge" and float(match[2]) == 0:
            raise UsageError(f"statistic {name!r}: the limit of ge must be above 0")
    if not names or len(set(names)) < len(names):
        raise UsageError("name each statistic once, and at least one")


def chosen_genes(store: GeneStore, genes: Iterable[str] | None) -> list[int]:
    """Return the positions of genes that are named, else of all.

    Raises
    ------
    GeneError, UsageError
        If one is unknown, ambiguous or named twice, or none is named.
    """
    if genes is None:
        return list(range(store.n_genes))
    names = names_of(genes)
    if not names:
        raise UsageError("no gene is named")
    return store.find_genes(names)


def gene_names(store: GeneStore, genes: Sequence[int]) -> list[str]:
    """Return the symbol of each gene, its identifier where no symbol is its alone."""
    table = store.genes.iloc[list(genes)]
    if "gene_symbol" not in table:
        return list(map(str, table.index))
    symbols = store.genes["gene_symbol"]
    twice = symbols.duplicated(keep=False) | (symbols == "")
    alone = ~twice.iloc[list(genes)].to_numpy()
    return [
        str(symbol) if is_alone else str(identifier)
        for symbol, identifier, is_alone in zip(
            table["gene_symbol"], table.index, alone, strict=True
        )
    ]


def summarize_store(
    store: GeneStore,
    by: Iterable[str],
    statistics: Iterable[str],
    *,
    compute: Compute,
    missing: str = "group",
    where: str | None = None,
    genes: Iterable[str] | None = None,
    normalization: str = "log2",
) -> Summary:
    """Summarize genes of a store by groups of cells.

    Parameters
    ----------
    store : GeneStore
    by, statistics : iterables of str
    compute : callable
        Runs tasks.
    missing, where, genes, normalization
        As `GeneStore.summarize`.

    Returns
    -------
    Summary

    Raises
    ------
    UsageError, GeneError, StoreError
        As `GeneStore.summarize`.
    """
    columns, wanted = names_of(by), names_of(statistics)
    check_grouping(columns, missing)
    check_statistics(wanted)
    grouping = Grouping(tuple(columns), missing, where, normalization)
    chosen = chosen_genes(store, genes)
    work = Statistics(tuple(wanted))
    found = compute_genes(store, chosen, grouping, normalization, work=work, compute=compute)
    names = gene_names(store, chosen) if genes is None else names_of(genes)
    return _summary(store, found, wanted, names, grouping)


def _summary(
    store: GeneStore,
    found: GeneResults,
    wanted: Sequence[str],
    names: Sequence[str],
    grouping: Grouping,
) -> Summary:
    groups = found.groups
    index = groups.index
    return Summary(
        by=grouping.by,
        genes=tuple(names),
        tables=_Tables(found, tuple(wanted), tuple(names)),
        cells=pd.Series(groups.cells, index=index, name=CELLS),
        missing=grouping.missing,
        n_missing=groups.n_missing,
        n_absent={g: int(n) for g, n in zip(names, found.absent, strict=True) if n},
        n_left_out=groups.n_left_out,
        group_table=GroupTable(
            layers=dict.fromkeys(wanted, found),
            obs=obs_of(groups),
            var=store.genes.iloc[found.genes],
            info=provenance(store, grouping),
        ),
    )


@dataclass(frozen=True)
class _Tables(Mapping[str, pd.DataFrame]):
    """Tables of statistics that are made when they are asked for."""

    found: GeneResults
    names: tuple[str, ...]
    genes: tuple[str, ...]

    def __getitem__(self, name: str) -> pd.DataFrame:
        if name not in self.names:
            raise KeyError(name)
        index = self.found.groups.index
        return pd.DataFrame(self.found.table(name), index, list(self.genes), copy=False)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def provenance(store: GeneStore, grouping: Grouping) -> dict[str, Any]:
    """Return what a table of groups says of where it comes from."""
    said = store.info.provenance
    return {
        "abc_dask": __version__,
        "store": store.name,
        **origin_of(said),
        "metadata": said.get("metadata"),
        "normalization": grouping.normalization,
        "by": list(grouping.by),
        "missing": grouping.missing,
        "where": grouping.where,
    } | ({"lists": [one.describe() for one in grouping.lists]} if grouping.lists else {})
