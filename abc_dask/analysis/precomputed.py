"""Statistics out of those that a store keeps: sums over its finest groups, no value is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.analysis import store_loops as loops
from abc_dask.analysis.cell_groups import CellGroups, Grouping, numbered, term_column
from abc_dask.analysis.gene_values import Moments, opened_store
from abc_dask.base.errors import StoreError
from abc_dask.store.gene_store import GeneStore

# What is counted of each group and gene, and its name in a store.
COUNTS = {
    ("gt", 0.0): "gt0",
    ("gt", 1.0): "gt1",
    ("ge", 1.0): "ge1",
    ("gt", 0.999999): "gt0.999999",
}


def is_precomputed(store: GeneStore, grouping: Grouping, normalization: str) -> bool:
    """Tell whether sums over a store's precomputed groups make these groups."""
    kept = store.precomputed
    return (
        kept is not None
        and set(grouping.by) <= set(kept.by)
        and normalization == kept.normalization
        and grouping.where is None
        and not grouping.lists
        and grouping.least == 1
    )


@lru_cache(maxsize=2)
def summed_groups(path: str, digest: str, grouping: Grouping) -> CellGroups:
    """Return groups, whose `codes` are those of the precomputed groups and not of cells."""
    store = opened_store(path, digest)
    assert store.precomputed is not None
    finest = store.precomputed.groups()
    annotations = tuple(term_column(store, name)[0] for name in grouping.by)
    codes = [finest.codes[:, finest.by.index(name)] for name in grouping.by]
    for annotation, own in zip(annotations, codes, strict=True):
        if len(own) and not -1 <= own.min() <= own.max() < len(annotation.terms or ()):
            raise StoreError(
                f"{store.name}: its precomputed groups have terms that {annotation.name} lacks; "
                "make the store anew"
            )
    numbers, lacks = numbered(annotations, codes)
    cells = finest.cells.sum(axis=1)
    kept = ~lacks if grouping.missing == "drop" else np.ones(len(lacks), bool)
    present, group = np.unique(numbers[kept], return_inverse=True)
    own = np.full(len(lacks), -1, np.int32)
    own[kept] = group
    by_matrix = np.zeros((finest.cells.shape[1], len(present)), np.int64)
    np.add.at(by_matrix.T, group, finest.cells[kept])
    return CellGroups(
        columns=annotations,
        numbers=present,
        codes=own,
        cells=by_matrix.sum(axis=0),
        by_matrix=by_matrix,
        n_missing=int(cells[lacks].sum()),
        n_left_out=0,
    )


@dataclass(frozen=True)
class SummedGene:
    """One gene; what is known of it without its values.

    Attributes
    ----------
    held : array of int64, shape (n_groups,)
        Values of each group, zeros among them.
    """

    held: NDArray[np.int64]
    _moments: NDArray[np.float64] = field(repr=False)
    _counts: dict[str, NDArray[np.int64]] = field(repr=False)

    def moments(self) -> Moments:
        """Return sum, mean and sum of squared differences from it of each group."""
        return Moments(*self._moments)

    def count(self, kind: str, limit: float) -> NDArray[np.int64]:
        """Return how many values of each group are above (``gt``) or from (``ge``) a limit."""
        return self._counts[COUNTS[kind, limit]]


class SummedReader:
    """Reads precomputed statistics of some consecutive genes, and sums them up by groups.

    Parameters
    ----------
    store : GeneStore
    groups : CellGroups
        Of `summed_groups`.
    genes : sequence of int
        Rising.
    counts : sequence of str
        What is needed of `COUNTS`.
    """

    def __init__(
        self, store: GeneStore, groups: CellGroups, genes: Sequence[int], counts: Sequence[str]
    ) -> None:
        assert store.precomputed is not None
        self.n_groups = len(groups.cells)
        self._codes, self._first = groups.codes, genes[0]
        self._arrays: dict[str, NDArray[Any]] = {
            name: store.precomputed.read(name, genes[0], genes[-1] + 1)
            for name in ("n", "sum", "squares", *counts)
        }
        self._counts = counts

    def read(self, gene: int) -> SummedGene:
        """Sum up a gene by its position."""
        own = {name: array[gene - self._first] for name, array in self._arrays.items()}
        held, found = np.empty(self.n_groups, np.int64), np.empty((3, self.n_groups))
        loops.put_together(self._codes, own["n"], own["sum"], own["squares"], held, found)
        counts = {}
        for name in self._counts:
            counts[name] = np.zeros(self.n_groups, np.int64)
            loops.add_counts(self._codes, own[name], counts[name])
        return SummedGene(held, found, counts)
