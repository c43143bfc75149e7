"""Sums of raw counts by group and sample: what tests of samples take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abc_dask.analysis import store_loops as loops
from abc_dask.analysis.cell_groups import CellGroups, Grouping, check_grouping
from abc_dask.analysis.gene_tasks import Compute, Work, compute_genes
from abc_dask.analysis.group_table import GroupTable, obs_of
from abc_dask.analysis.store_statistics import chosen_genes, provenance
from abc_dask.base.errors import StoreError, UsageError
from abc_dask.base.messages import enumerate_names, names_of

if TYPE_CHECKING:
    import anndata

    from abc_dask.store.gene_store import GeneStore

# Columns of every store that are a cell's own.
_OF_CELLS = ("total", "counts_are_certain")


@dataclass(frozen=True)
class Sums(Work):
    """The work of a pseudobulk: sums of whole numbers."""

    def shapes(self, n_groups: int) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Return the shape and type of the sums of one gene."""
        return {"sum": ((n_groups,), np.int64)}

    def of_gene(self, gene: Any, out: Mapping[str, Any]) -> None:
        """Sum one gene.

        Raises
        ------
        StoreError
            If a value is no count.
        """
        values = gene.values
        if not ((values >= 0) & (values == np.floor(values)) & (values < 2**53)).all():
            raise StoreError(f"raw values of {gene.name} are no counts, and make no pseudobulk")
        loops.sum_counts(gene.codes, values, out["sum"])


@dataclass(frozen=True)
class Pseudobulk:
    """Sums of raw counts, a row a group and sample.

    Attributes
    ----------
    table : GroupTable
        X: int64. obs: terms, sample, cells, columns that each sample has one value of.
    n_missing : int
        Cells without a term or sample, which are in no sum.
    n_left_out : int
        Cells that a condition left out.
    n_few, n_few_cells : int
        Groups with fewer cells than were asked for, and their cells.
    absent : tuple of str
        Identifiers of genes that some cell has no value of. They are left out: absent is not zero,
        and whole numbers have no NaN.
    """

    table: GroupTable
    n_missing: int
    n_left_out: int
    n_few: int
    n_few_cells: int
    absent: tuple[str, ...]

    def to_anndata(self) -> anndata.AnnData:
        """Return it as AnnData: X the sums."""
        return self.table.to_anndata()

    def write(self, target: Path, format: str) -> None:
        """Write an ``h5ad`` file or a ``zarr`` folder."""
        self.table.write(target, format)


def sum_samples(
    store: GeneStore,
    by: str | Iterable[str],
    sample: str,
    *,
    compute: Compute,
    min_cells: int = 10,
    where: str | None = None,
    genes: Iterable[str] | None = None,
) -> Pseudobulk:
    """Sum raw counts by group and sample; parameters as `GeneStore.pseudobulk`."""
    columns = names_of(by)
    check_grouping([*columns, sample], "drop")
    if min_cells < 1:
        raise UsageError(f"--min-cells {min_cells} is not a positive number")
    grouping = Grouping((*columns, sample), "drop", where, "raw", min_cells)
    chosen = chosen_genes(store, genes)
    found = compute_genes(store, chosen, grouping, "raw", work=Sums(), compute=compute)
    groups = found.groups
    lacking = found.absent > 0
    if lacking.all():
        names = enumerate_names([str(n) for n in store.genes.index[chosen]], most=5)
        raise UsageError(
            f"some matrix of these cells lacks each of {names}: there is nothing to sum"
        )
    absent = tuple(map(str, store.genes.index[found.genes[lacking]]))
    table = GroupTable(
        layers={"sum": found.without(lacking)},
        obs=_obs(store, groups, sample),
        var=store.genes.iloc[found.genes[~lacking]],
        info=provenance(store, grouping) | {"sample": sample, "min_cells": min_cells},
    )
    return Pseudobulk(
        table, groups.n_missing, groups.n_left_out, groups.n_few, groups.n_few_cells, absent
    )


def _obs(store: GeneStore, groups: CellGroups, sample: str) -> pd.DataFrame:
    """Return the obs of sums, with the columns that each sample has one value of."""
    obs = obs_of(groups)
    kept = np.flatnonzero(groups.codes >= 0)
    of_sample = store.annotation(sample)
    codes = pd.factorize(np.asarray(of_sample)[kept])[0]
    # any cell of each group stands for its sample
    cell = np.zeros(len(obs), np.int64)
    cell[groups.codes[kept]] = kept
    for name in store.columns:
        if name in obs or name in _OF_CELLS:
            continue
        column = store.annotation(name)
        values = pd.factorize(np.asarray(column)[kept])[0]
        first = np.zeros(codes.max() + 1, np.int64)
        first[codes] = values
        if (first[codes] == values).all():
            own = column[cell]
            obs[name] = own.remove_unused_categories() if hasattr(own, "categories") else own
    return obs
