"""One gene of a store by groups of cells: the group and value of each cell that is not zero."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, wraps
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from abc_dask.analysis import store_loops as loops
from abc_dask.analysis.cell_groups import CellGroups, Grouping, groups_of
from abc_dask.base.errors import StoreError
from abc_dask.base.messages import plural
from abc_dask.store.counts import log2_values
from abc_dask.store.description import require_normalization
from abc_dask.store.gene_store import GeneStore, open_store
from abc_dask.store.plane_loops import MORE

# Values that are looked at for a number near most of them.
_SAMPLE = 64

# Columns of `loops.SUMS` that count values above a limit.
_SUMMED = {0.0: 4, 1.0: 5}

_Function = TypeVar("_Function", bound=Callable[..., Any])


def once(make: _Function) -> _Function:
    """Keep the last two results of a function; threads wait for the one that makes a result."""
    kept, lock = lru_cache(maxsize=2)(make), threading.Lock()

    @wraps(make)
    def found(*arguments: Any) -> Any:
        with lock:
            return kept(*arguments)

    found.cache_clear = kept.cache_clear  # type: ignore[attr-defined]
    return found  # type: ignore[return-value]


@dataclass(frozen=True)
class GeneValues:
    """One gene; its arrays are memory that the next gene uses again.

    Attributes
    ----------
    name : str
        For messages.
    codes : array of int32, shape (n,)
        Group of each cell that has a value other than zero.
    values : array of float, shape (n,)
    held : array of int64, shape (n_groups,)
        Values of each group, zeros among them; NaN is no value.
    """

    name: str
    codes: NDArray[np.int32]
    values: NDArray[Any]
    held: NDArray[np.int64]

    def moments(self) -> Moments:
        """Return sum, mean and sum of squared differences from it of each group."""
        n_groups = len(self.held)
        found, doubtful = np.empty((3, n_groups)), np.empty(n_groups, np.bool_)
        if loops.moments(self._sums, self.held, found, doubtful):
            loops.refine(self.codes, self.values, self.held, found, doubtful)
        return Moments(*found)

    @cached_property
    def _pivot(self) -> float:
        """A number near most values."""
        some = self.values[:: max(1, len(self.values) // _SAMPLE)]
        mean = float(some.mean(dtype=np.float64)) if len(some) else 0.0
        return mean if np.isfinite(mean) else 0.0

    @cached_property
    def _sums(self) -> NDArray[np.float64]:
        sums = np.empty((len(self.held), loops.SUMS))
        loops.sum_up(self.codes, self.values, self._pivot, sums)
        return sums

    def count(self, kind: str, limit: float) -> NDArray[np.int64]:
        """Count the values of each group above (``gt``) or from (``ge``) a limit."""
        if kind == "gt" and limit in _SUMMED:
            return self._sums[:, _SUMMED[limit]].astype(np.int64)
        found = np.empty(len(self.held), np.int64)
        count = loops.count_above if kind == "gt" else loops.count_from
        count(self.codes, self.values, limit, found)
        return found


class Moments(NamedTuple):
    """Sum, mean and sum of squared differences from the mean of each group; NaN without values."""

    total: NDArray[np.float64]
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]


def opened(
    path: str, digest: str, grouping: Grouping, apart: tuple[int, ...] | None = None
) -> tuple[GeneStore, CellGroups]:
    """Open a store and put its cells into groups, once a process.

    Parameters
    ----------
    path, digest : str
    grouping : Grouping
    apart : tuple of int, optional
        Groups that are needed one by one, all others being one behind them.

    Raises
    ------
    StoreError
        If it is not the store of this digest.
    """
    store = opened_store(path, digest)
    if apart is None:
        return store, _grouped(path, digest, grouping)
    return store, _merged(path, digest, grouping, apart)


@once
def opened_store(path: str, digest: str) -> GeneStore:
    """Open a store, once a process; errors as `opened`."""
    store: GeneStore = open_store(path)
    if store.digest != digest:
        raise StoreError(f"{path} was replaced while it was in use; run the command again")
    for normalization in ("log2", "raw"):  # before threads ask for it
        store.axes.prepare(normalization)
    store.genes  # noqa: B018 - cached
    return store


@once
def _grouped(path: str, digest: str, grouping: Grouping) -> CellGroups:
    return groups_of(opened_store(path, digest), grouping)


@once
def _merged(path: str, digest: str, grouping: Grouping, apart: tuple[int, ...]) -> CellGroups:
    return _grouped(path, digest, grouping).merged(apart)


class GeneReader:
    """Reads genes of a store into memory that is used again and again.

    Parameters
    ----------
    store : GeneStore
    groups : CellGroups
    normalization : str
        ``log2`` or ``raw``.

    Raises
    ------
    UsageError
        If the store cannot answer for this normalization.
    """

    def __init__(self, store: GeneStore, groups: CellGroups, normalization: str) -> None:
        require_normalization(store.info, normalization, store.name)
        self._store, self._groups = store, groups
        self.n_groups = len(groups.cells)
        self._is_log2 = normalization == "log2"
        self._is_own = normalization == store.info.normalization
        self.dtype = store.dtype if self._is_log2 else np.dtype(np.float64)
        n = store.n_cells
        dtype, block = np.dtype(store.info.dtype), store.info.block_cells
        self._cells = np.empty(n + MORE, np.int32)
        self._codes = np.empty(n + MORE, np.int32)
        self._values = np.empty(n, self.dtype)
        if store.info.kind == "floats":
            self._column = np.empty(n, dtype)
            return
        self._whole = n // block
        self._rest = np.empty(n % block, dtype)
        self._counts = np.empty(n + MORE, dtype)
        self._totals = np.empty(n, np.uint32)

    def read(self, gene: int) -> GeneValues:
        """Read a gene by its position.

        Raises
        ------
        StoreError
            If its bytes are damaged, or raw counts are asked for that are not certain.
        """
        codes, cells = self._groups.codes, self._cells
        if self._store.info.kind == "floats":
            column = self._store.counts(gene, self._column)
            held = self._groups.cells.copy()
            n = loops.find_floats(column, codes, cells, held)
            loops.take(column, cells[:n], self._values)
            loops.take(codes, cells[:n], self._codes)
        else:
            held = self._groups.held(self._store.axes.absent[gene])
            n = loops.find_counts(*self._read_counts(gene), cells, self._counts)
            n = loops.keep_grouped(codes, cells, self._counts, self._codes, n)
            self._take_counts(gene, cells[:n])
        n = self._add_patches(gene, n, held)
        return GeneValues(self._name(gene), self._codes[:n], self._values[:n], held)

    def _read_counts(self, gene: int) -> tuple[NDArray[np.uint64], NDArray[Any]]:
        """Return the bit planes of all whole blocks, and the counts of the cells behind."""
        return self._store.blocks(gene).planes(0, self._whole, self._rest), self._rest

    def _name(self, gene: int) -> str:
        return f"{self._store.genes.index[gene]} in {self._store.name}"

    def _take_counts(self, gene: int, cells: NDArray[np.int32]) -> None:
        """Write the values of the counts."""
        values, counts = self._values[: len(cells)], self._counts[: len(cells)]
        if self._is_log2:
            totals = self._totals[: len(cells)]
            loops.take(self._store.totals, cells, totals)
            log2_values(counts, totals, values)
            return
        if not self._is_own and self._store.info.n_uncertain:
            self._require_none(gene, cells[~self._store.certain[cells]])
        values[:] = counts

    def _add_patches(self, gene: int, n: int, held: NDArray[np.int64]) -> int:
        """Add values that counts do not give back; return how many cells there are then."""
        cells, values = self._store.axes.patches(gene)
        if not len(cells):
            return n
        chosen = self._groups.codes[cells] >= 0
        cells, values = cells[chosen], values[chosen]
        if not self._is_own:
            self._require_none(gene, cells)
        codes = self._groups.codes[cells]
        np.subtract.at(held, codes[np.isnan(values)], 1)
        kept = (values != 0) & ~np.isnan(values)
        stop = n + int(kept.sum())
        self._codes[n:stop], self._values[n:stop] = codes[kept], values[kept]
        return stop

    def _require_none(self, gene: int, cells: NDArray[Any]) -> None:
        """Refuse values that are not known in the normalization that is asked for."""
        if not len(cells):
            return
        store = self._store
        name, first = store.genes.index[gene], store.labels[int(cells[0])].as_py()
        if self._is_log2:
            said, advice = "log2 values", "ask for raw values"
        else:
            said, advice = "raw counts", "ask for log2 values, build the store from raw files"
        raise StoreError(
            f"{store.name}: the {said} of {name} in {plural(len(cells), 'cell')} are not certain, "
            f"such as in {first!r}; {advice}, or leave such cells out "
            "(--where 'counts_are_certain' leaves out most)"
        )
