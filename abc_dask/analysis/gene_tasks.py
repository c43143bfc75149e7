"""Statistics of many genes: one delayed task a shard, whose results stand side by side."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.analysis.cell_groups import CellGroups, Grouping
from abc_dask.analysis.count_sums import CountSums, are_counts_known, cell_records
from abc_dask.analysis.gene_values import GeneReader, opened, opened_store
from abc_dask.analysis.precomputed import SummedReader, is_precomputed, summed_groups
from abc_dask.base.errors import UsageError
from abc_dask.base.messages import plural
from abc_dask.store.description import SHARD_GENES, require_normalization
from abc_dask.store.gene_store import GeneStore
from abc_dask.store.precomputed import Precomputed

Arrays = Mapping[str, NDArray[Any]]


class Work(ABC):
    """What is computed of a gene: of all groups from its values, unless a kind says otherwise.

    Kinds are frozen, small and picklable.
    """

    @property
    def needs(self) -> tuple[str, ...] | None:
        """The counts of `COUNTS` that it needs beside moments; None where it needs values."""
        return None

    @property
    def is_new(self) -> bool:
        """Whether it may not come out of precomputed statistics."""
        return False

    @property
    def apart(self) -> tuple[int, ...] | None:
        """Groups that it needs one by one, all others being one behind them; None for all."""
        return None

    @abstractmethod
    def shapes(self, n_groups: int) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Return the shape and type of each result of one gene."""

    @abstractmethod
    def of_gene(self, gene: Any, out: Mapping[str, Any]) -> None:
        """Write the results of one gene: `GeneValues`, or `SummedGene` if that is enough."""


@dataclass(frozen=True)
class GeneTask:
    """Some genes of one shard.

    Attributes
    ----------
    number : int
        Position among the tasks, from 0.
    store : str
        Path of the store.
    digest : str
        Of its content.
    genes : tuple of int
        Positions in the store, rising.
    grouping : Grouping
    normalization : str
    work : Work
    is_precomputed : bool
        Read statistics that the store keeps, not values.
    """

    number: int
    store: str
    digest: str
    genes: tuple[int, ...] = field(repr=False)
    grouping: Grouping
    normalization: str
    work: Work
    is_precomputed: bool = False

    @property
    def label(self) -> str:
        """What dashboards and logs call it."""
        return type(self.work).__name__.lower()

    @property
    def where(self) -> str:
        """What it reads, for messages."""
        return f"{self.store}, genes {self.genes[0]:,} to {self.genes[-1]:,}"

    @property
    def unit(self) -> str:
        """What messages call one."""
        return "shard"

    @property
    def paths(self) -> tuple[str, ...]:
        """The store, where it is a folder that its worker must see."""
        return () if "://" in self.store else (self.store,)

    @property
    def amount(self) -> int:
        """Genes that it reads, which progress counts."""
        return len(self.genes)


# Runs tasks somewhere; returns the results of each, or the files that hold them.
Compute = Callable[[Sequence[GeneTask]], Sequence[Arrays | Path]]


def compute_task(task: GeneTask) -> Arrays:
    """Return the results of a task, the genes along the first axis of each."""
    reader = _reader(task)
    shapes = task.work.shapes(reader.n_groups)
    out = {n: np.empty((len(task.genes), *shape), kind) for n, (shape, kind) in shapes.items()}
    out["values"] = np.empty(len(task.genes), np.int64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for number, gene in enumerate(task.genes):
            values = reader.read(gene)
            task.work.of_gene(values, {name: array[number] for name, array in out.items()})
            out["values"][number] = values.held.sum()
    return out


def _reader(task: GeneTask) -> GeneReader | CountSums | SummedReader:
    needs, apart = task.work.needs, task.work.apart
    if task.is_precomputed:
        store = opened_store(task.store, task.digest)
        groups = summed_groups(task.store, task.digest, task.grouping)
        groups = groups if apart is None else groups.merged(apart)
        return SummedReader(store, groups, task.genes, needs or ())
    cells = task.store, task.digest, task.grouping, apart
    store, groups = opened(*cells)
    store = store.in_runs(task.genes)
    if needs is not None and are_counts_known(store, task.normalization):
        records = cell_records(*cells, task.normalization)
        if records.have(needs):
            return CountSums(store, records, task.genes, needs)
    return GeneReader(store, groups, task.normalization)


def tasks_of(
    store: GeneStore, genes: Sequence[int], grouping: Grouping, normalization: str, work: Work
) -> list[GeneTask]:
    """Return one task a shard that has any of some genes, or a chunk of precomputed statistics.

    Raises
    ------
    UsageError
        If the store cannot answer for this normalization.
    """
    require_normalization(store.info, normalization, store.name)
    digest, path = store.digest, path_of(store)
    kept = precomputed_for(store, grouping, normalization, work)
    together = SHARD_GENES if kept is None else kept.genes_together
    shards: dict[int, list[int]] = {}
    for gene in sorted(genes):
        shards.setdefault(gene // together, []).append(gene)
    is_kept = kept is not None
    return [
        GeneTask(number, path, digest, tuple(own), grouping, normalization, work, is_kept)
        for number, own in enumerate(shards.values())
    ]


@dataclass(frozen=True)
class GeneResults:
    """The results of all tasks, read when they are needed.

    Attributes
    ----------
    genes : array of int64, shape (n_genes,)
        Positions in the store, in the order that was asked for.
    groups : CellGroups
    parts : sequence
        Results of each task.
    kept : array of bool, shape (n_genes,), optional
        Genes that `table` returns; all where not given.
    """

    genes: NDArray[np.int64]
    groups: CellGroups
    parts: Sequence[Arrays | Path] = field(repr=False)
    kept: NDArray[np.bool_] | None = field(default=None, repr=False)

    @property
    def is_rising(self) -> bool:
        """Whether the genes are in the store's order, none left out."""
        return self.kept is None and bool((np.diff(self.genes) > 0).all())

    def without(self, genes: NDArray[np.bool_]) -> GeneResults:
        """Return the results without some genes, whose ranks are marked."""
        return replace(self, kept=~genes) if genes.any() else self

    def blocks(self, name: str) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        """Yield, task by task, the ranks of its genes among the asked ones, and one result."""
        order = np.argsort(self.genes, kind="stable")
        first = 0
        for part in self.parts:
            block = _read(part, name)
            yield order[first : first + len(block)], block
            first += len(block)

    def table(self, name: str) -> NDArray[Any]:
        """Return one result of all genes, the genes along the last axis."""
        found: NDArray[Any] | None = None
        for ranks, block in self.blocks(name):
            if found is None:
                found = np.empty((*block.shape[1:], len(self.genes)), block.dtype)
            found[..., ranks] = np.moveaxis(block, 0, -1)
        assert found is not None
        return found if self.kept is None else found[..., self.kept]

    @property
    def absent(self) -> NDArray[np.int64]:
        """Cells of the groups without a value of each gene, shape (n_genes,)."""
        absent: NDArray[np.int64] = self.groups.cells.sum() - self.table("values")
        return absent


def _read(part: Arrays | Path, name: str) -> NDArray[Any]:
    if isinstance(part, Path):
        with np.load(part) as file:
            array: NDArray[Any] = file[name]
            return array
    return part[name]


def path_of(store: GeneStore) -> str:
    """Return where a store lies as workers with other working directories find it."""
    return store.name if "://" in store.name else str(Path(store.name).absolute())


def precomputed_for(
    store: GeneStore, grouping: Grouping, normalization: str, work: Work
) -> Precomputed | None:
    """Return a store's precomputed statistics if they are enough for some work."""
    may = work.needs is not None and not work.is_new
    enough = may and is_precomputed(store, grouping, normalization)
    return store.precomputed if enough else None


def groups_in(store: GeneStore, grouping: Grouping, *, summed: bool = False) -> CellGroups:
    """Put a store's cells into groups, once a process.

    Parameters
    ----------
    store : GeneStore
    grouping : Grouping
    summed : bool
        Put its precomputed groups into groups, in place of cells.

    Raises
    ------
    UsageError
        If no cell is left, or a column or gene is unknown.
    """
    if summed:
        groups = summed_groups(path_of(store), store.digest, grouping)
    else:
        _, groups = opened(path_of(store), store.digest, grouping)
    if not len(groups.cells):
        raise UsageError(f"no cell of {store.name} is left{_why_none(groups)}")
    return groups


def _why_none(groups: CellGroups) -> str:
    if groups.n_few:
        return f": no group has as many as asked for, {plural(groups.n_few, 'group')} have fewer"
    if groups.n_left_out:
        return f": {plural(groups.n_left_out, 'cell')} do not fit the condition"
    names = " or ".join(column.name for column in groups.columns)
    return f": {plural(groups.n_missing, 'cell')} without {names}"


def compute_genes(
    store: GeneStore,
    genes: Sequence[int],
    grouping: Grouping,
    normalization: str,
    *,
    work: Work,
    compute: Compute,
) -> GeneResults:
    """Compute something of genes by groups of cells.

    Parameters
    ----------
    store : GeneStore
    genes : sequence of int
        Positions in the store.
    grouping : Grouping
    normalization : str
    work : Work
    compute : callable
        Runs tasks by `compute_task`.

    Raises
    ------
    UsageError
        If no cell is left, a column or gene is unknown, or the store cannot answer.
    StoreError
        If bytes are damaged, or raw counts are not certain.
    """
    tasks = tasks_of(store, genes, grouping, normalization, work)
    groups = groups_in(store, grouping, summed=tasks[0].is_precomputed)
    return GeneResults(np.asarray(genes, np.int64), groups, compute(tasks))
