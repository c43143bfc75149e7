"""The statistics that a store keeps, computed from its values like those of any groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.analysis.cell_groups import CellGroups, Grouping, check_grouping
from abc_dask.analysis.gene_tasks import Compute, Work, compute_genes
from abc_dask.analysis.precomputed import COUNTS
from abc_dask.store.description import StoreInfo
from abc_dask.store.gene_store import GeneStore
from abc_dask.store.precomputed import Groups, add_precomputed


@dataclass(frozen=True)
class Kept(Work):
    """The work: what is kept of each gene and group; a group without values has zeros."""

    @property
    def needs(self) -> tuple[str, ...]:
        """All counts that are kept."""
        return tuple(COUNTS.values())

    @property
    def is_new(self) -> bool:
        """Of values, not of statistics that the store has already."""
        return True

    def shapes(self, n_groups: int) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Return the shape and type of each statistic of one gene."""
        kinds: dict[str, Any] = {"sum": np.float64, "squares": np.float64}
        names = ("n", *kinds, *COUNTS.values())
        return {name: ((n_groups,), kinds.get(name, np.uint32)) for name in names}

    def of_gene(self, gene: Any, out: Mapping[str, Any]) -> None:
        """Write the statistics of one gene."""
        total, _, squares = gene.moments()
        out["n"][:] = gene.held
        out["sum"][:] = np.where(gene.held > 0, total, 0.0)
        out["squares"][:] = np.where(gene.held > 0, squares, 0.0)
        for count, name in COUNTS.items():
            out[name][:] = gene.count(*count)


def precompute(store: GeneStore, by: Sequence[str], target: Path, compute: Compute) -> StoreInfo:
    """Compute a store's statistics by groups and write them into a copy of it.

    Parameters
    ----------
    store : GeneStore
    by : sequence of str
        Columns of terms, the finest one last.
    target : Path
        A folder with the same store, which nobody reads yet; it may be that of `store`.
    compute : callable
        Runs tasks.

    Returns
    -------
    StoreInfo
        The new description.

    Raises
    ------
    UsageError
        If a column is unknown, is named twice or holds numbers.
    """
    check_grouping(by, "drop")
    info = store.info
    normalization = "log2" if info.kind == "counts" else info.normalization
    grouping = Grouping(tuple(by), normalization=normalization)
    genes = range(store.n_genes)
    found = compute_genes(store, genes, grouping, normalization, work=Kept(), compute=compute)

    def blocks(name: str) -> Iterator[NDArray[Any]]:
        return (block for _, block in found.blocks(name))

    groups = Groups(tuple(by), _codes(found.groups), found.groups.by_matrix.T.copy())
    return add_precomputed(target, info, groups, normalization, blocks)


def _codes(groups: CellGroups) -> NDArray[np.int32]:
    """Return the position of each group's terms, shape (n_groups, n_columns)."""
    codes: list[NDArray[Any]] = []
    rest = groups.numbers
    for annotation in reversed(groups.columns):
        n_terms = len(annotation.terms or ())
        rest, own = np.divmod(rest, n_terms + 1)
        codes.insert(0, np.where(own == n_terms, -1, own))
    return np.stack(codes, axis=1).astype(np.int32)
