"""What the page shows of a gene-major store: any of its genes, when it is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.base.columns import CELL_LABEL, GENE_SYMBOL
from abc_dask.base.errors import UsageError
from abc_dask.base.messages import names_of
from abc_dask.explore.contents import XY, Gene, cells_that_fit, find_genes
from abc_dask.release.annotation import Annotation
from abc_dask.release.condition import Condition
from abc_dask.release.coordinates import SECTION, unit_of
from abc_dask.store.gene_store import GeneStore

# Columns of numbers that every store has and nobody colours by unless asked.
_OWN = ("total", "counts_are_certain", "cell_metadata_row")


@dataclass(frozen=True)
class StoreContents:
    """A gene-major store.

    Attributes
    ----------
    store : GeneStore
    annotations : tuple of Annotation
    kept : array of int64, or None
        Cells that fit a condition; None for all.
    where : str or None
    positions : tuple of int
        Genes of the store that are shown.
    normalization : str
        ``log2`` where the store can answer for it, else its own.
    """

    store: GeneStore
    annotations: tuple[Annotation, ...]
    kept: NDArray[np.int64] | None
    where: str | None
    positions: tuple[int, ...]
    normalization: str

    kind = "store"

    @property
    def name(self) -> str:
        """Path of the store."""
        return self.store.name

    @property
    def n_cells(self) -> int:
        """Number of cells that fit the condition."""
        return self.store.n_cells if self.kept is None else len(self.kept)

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """Genes that can be shown."""
        every = genes_of(self.store)
        return tuple(every[k] for k in self.positions)

    @property
    def provenance(self) -> dict[str, Any]:
        """What the store says of its making, in short."""
        said = {k: str(v) for k, v in self.store.info.provenance.items() if not _is_long(v)}
        return said | {"normalization": self.normalization}

    @property
    def unit(self) -> str | None:
        """Unit of x and y in brain sections."""
        return unit_of(self.store.info.provenance)

    def _kept(self, values: Any) -> Any:
        return values if self.kept is None else values[self.kept]

    def labels(self) -> pa.Array:
        """Read the cell labels."""
        labels = self.store.labels
        return labels if self.kept is None else labels.take(pa.array(self.kept))

    def annotation(self, annotation: Annotation) -> NDArray[Any]:
        """Read codes or numbers of a column."""
        values: NDArray[Any] = self._kept(_column(self.store, annotation.name)[1])
        return values

    def values(self, gene: int) -> NDArray[Any]:
        """Read the values of a gene."""
        read = self.store.values(self.positions[gene], self.normalization)
        values: NDArray[Any] = self._kept(read)
        return values

    def all_values(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Read the values of each gene in turn."""
        return ((number, self.values(number)) for number in range(len(self.positions)))

    def places(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Read x and y."""
        x, y = (self._kept(_column(self.store, name)[1]).astype(np.float64) for name in XY)
        return x, y

    def sections(self) -> tuple[NDArray[Any], tuple[str, ...]] | None:
        """Read the brain sections, where there are any."""
        if SECTION not in self.store.columns:
            return None
        terms, codes = _column(self.store, SECTION)
        return None if terms is None or (codes < 0).all() else (self._kept(codes), terms)


def store_contents(
    store: GeneStore,
    *,
    genes: Iterable[str] | None = None,
    annotate: Iterable[str] | None = None,
    where: str | None = None,
) -> StoreContents:
    """Choose what of a store is shown.

    Parameters
    ----------
    store : GeneStore
        With x and y among its annotations.
    genes : iterable of str, optional
        Some of its genes, by symbol or identifier; all where not given.
    annotate : iterable of str, optional
        Columns of it to colour and filter by; all columns of terms where not given.
    where : str, optional
        Only cells that fit a condition on annotations and genes.

    Returns
    -------
    StoreContents

    Raises
    ------
    UsageError
        If a gene or column is unknown, cells have no x and y, or no cell fits.
    StoreError
        If the store is not what was written.
    """
    known = store.columns
    if not set(XY) <= set(known):
        raise UsageError(
            f"{store.name} has no columns x and y, so cells have no place on a page; "
            "make the store with these annotations"
        )
    if annotate is None:  # what was asked for stands before what every store has
        asked = _asked(store)
        names = sorted(known, key=lambda name: name not in asked)
    else:
        names = names_of(annotate)
    described = [_described(store, name) for name in names if name not in XY]
    if annotate is None:
        described = [a for a in described if not a.is_numeric or a.name not in _OWN]
    normalization = "log2" if store.info.kind == "counts" else store.info.normalization
    condition = None if where is None else Condition.parse(where)
    return StoreContents(
        store=store,
        annotations=tuple(described),
        kept=None if condition is None else _fitting(store, condition, normalization),
        where=where,
        positions=tuple(find_genes(genes_of(store), genes)),
        normalization=normalization,
    )


def _asked(store: GeneStore) -> dict[str, dict[str, str]]:
    """Return the atlas's colours of each annotation that the store was asked to have."""
    described = store.info.provenance.get("annotations", [])
    return {one["name"]: one.get("colors", {}) for one in described}


def _is_long(value: Any) -> bool:
    """Whether it is more than a word or number, or a path of this machine."""
    return not isinstance(value, str | int) or str(value).startswith("/")


def genes_of(store: GeneStore) -> Sequence[Gene]:
    """Return a store's genes, each named by its symbol where no other has that one."""
    table = store.genes
    identifiers = [str(identifier) for identifier in table.index]
    symbols = [str(s) for s in table[GENE_SYMBOL]] if GENE_SYMBOL in table else identifiers
    times = Counter(symbols)
    long = [str(n) for n in table["name"]] if "name" in table else [""] * len(symbols)
    return [
        Gene(symbol if symbol and times[symbol] == 1 else identifier, identifier, symbol, name)
        for identifier, symbol, name in zip(identifiers, symbols, long, strict=True)
    ]


def _column(store: GeneStore, name: str) -> tuple[tuple[str, ...] | None, NDArray[Any]]:
    """Return terms and codes of a column, or None and its numbers."""
    values = store.annotation(name)
    if isinstance(values, pd.Categorical):
        return tuple(str(term) for term in values.categories), np.asarray(values.codes, np.int32)
    array = np.asarray(values)
    if array.dtype.kind in "biuf":
        return None, array.astype(np.float64)
    codes, terms = pd.factorize(array, sort=True)
    return tuple(str(term) for term in terms), codes.astype(np.int32)


def _described(store: GeneStore, name: str) -> Annotation:
    terms, values = _column(store, name)
    missing = int((np.isnan(values) if terms is None else values < 0).sum())
    dtype = "float64" if terms is None else "category"
    return Annotation(name, store.name, terms, dtype, _asked(store).get(name, {}), missing)


def _fitting(store: GeneStore, condition: Condition, normalization: str) -> NDArray[np.int64]:
    def read(name: str) -> Any:
        if name == CELL_LABEL:
            return store.labels
        if name in store.columns:
            described = _described(store, name)
            return described.arrow(_column(store, name)[1])
        return pa.array(store.values(name, normalization))

    return cells_that_fit(condition, read)
