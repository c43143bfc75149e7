"""What the page shows: cells, their annotations, and genes, out of a view."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.base.columns import CELL_LABEL
from abc_dask.base.errors import AbcDaskError, UsageError
from abc_dask.base.messages import names_of
from abc_dask.release.annotation import Annotation
from abc_dask.release.condition import Condition
from abc_dask.release.coordinates import SECTION, unit_of
from abc_dask.release.gene_names import GeneNames
from abc_dask.release.genes import GeneChoice
from abc_dask.release.release import origin_of
from abc_dask.views.joined import joined_reader
from abc_dask.views.places import are_sections
from abc_dask.views.reader import Reader, View

# What cells are coloured by where nobody says otherwise, as far as the atlas has it.
COLUMNS = (
    *("class", "subclass", "supertype", "neurotransmitter"),
    *("region_of_interest_acronym", "parcellation_division"),
)

XY = ("x", "y")

# Memory for values of genes at once.
_BATCH_BYTES = 256 << 20


@dataclass(frozen=True)
class Gene:
    """One gene as the page names it."""

    column: str
    gene_identifier: str
    gene_symbol: str
    name: str = ""


class Contents(Protocol):
    """A table of cells that the page can show."""

    @property
    def name(self) -> str:
        """Name of the view or store, as commands take it."""
        ...

    @property
    def kind(self) -> str:
        """``view`` or ``store``."""
        ...

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        ...

    @property
    def genes(self) -> tuple[Gene, ...]:
        """Genes that can be shown."""
        ...

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """Columns that can be shown, without x, y and the sections' names where they lay out."""
        ...

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the cells are from."""
        ...

    @property
    def where(self) -> str | None:
        """Condition that chose the cells."""
        ...

    @property
    def unit(self) -> str | None:
        """Unit of x and y in brain sections; None where nobody knows."""
        ...

    def labels(self) -> pa.Array:
        """Read the cell labels."""
        ...

    def annotation(self, annotation: Annotation) -> NDArray[Any]:
        """Read codes (-1 where missing) or numbers of a column."""
        ...

    def values(self, gene: int) -> NDArray[Any]:
        """Read the values of a gene, NaN where missing."""
        ...

    def all_values(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Read the values of each gene in turn."""
        ...

    def places(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Read x and y, NaN where missing."""
        ...

    def sections(self) -> tuple[NDArray[Any], tuple[str, ...]] | None:
        """Read codes and names of the brain sections that x and y lie in; None for a UMAP."""
        ...


def find_genes(genes: Sequence[Gene], asked: Iterable[str] | None) -> list[int]:
    """Find genes by symbol or identifier, in the order asked; all where not asked.

    Raises
    ------
    GeneError
        If a gene is unknown, ambiguous or asked for twice.
    """
    if asked is None:
        return list(range(len(genes)))
    names = names_of(asked)
    ranks = {gene.gene_identifier: rank for rank, gene in enumerate(genes)}
    known = GeneNames({gene.gene_identifier: gene.gene_symbol or "" for gene in genes})
    chosen = GeneChoice.of(names).choose(known).genes if names else ()
    return [ranks[gene.identifier] for gene in chosen]


@dataclass(frozen=True)
class ViewContents:
    """A finished view, with annotations of its atlas.

    Attributes
    ----------
    view : View
    reader : Reader
        Of the view and its annotations.
    annotations : tuple of Annotation
    genes : tuple of Gene
    kept : array of int64, or None
        Cells that fit a condition; None for all.
    where : str or None
    is_spatial : bool
        x and y lie in brain sections.
    """

    view: View
    reader: Reader
    annotations: tuple[Annotation, ...]
    genes: tuple[Gene, ...]
    kept: NDArray[np.int64] | None
    where: str | None
    is_spatial: bool

    kind = "view"

    @property
    def name(self) -> str:
        """Path of the view."""
        return str(self.view.path)

    @property
    def n_cells(self) -> int:
        """Number of cells that fit the condition."""
        return self.reader.n_cells if self.kept is None else len(self.kept)

    @property
    def provenance(self) -> dict[str, Any]:
        """The view's release, tables, normalization and digest."""
        info = self.view.info
        names = ("metadata", "normalization", "content", "created", "abc_dask")
        return origin_of(info) | {name: info[name] for name in names if name in info}

    @property
    def unit(self) -> str | None:
        """Unit of x and y in brain sections."""
        return unit_of(self.view.info)

    @cached_property
    def _by_name(self) -> dict[str, Annotation]:
        return {a.name: a for a in self.reader.annotations}

    def _kept(self, values: Any) -> Any:
        return values if self.kept is None else values[self.kept]

    def labels(self) -> pa.Array:
        """Read the cell labels."""
        labels = self.reader.labels()
        return labels if self.kept is None else labels.take(pa.array(self.kept))

    def annotation(self, annotation: Annotation) -> NDArray[Any]:
        """Read codes or numbers of a column."""
        values: NDArray[Any] = self._kept(self.reader.annotation(annotation))
        return values

    def values(self, gene: int) -> NDArray[Any]:
        """Read the values of a gene."""
        values: NDArray[Any] = self._kept(self.reader.values([self.genes[gene].column])[:, 0])
        return values

    def all_values(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Read the values of each gene, as many at a time as memory allows."""
        itemsize = self.reader.dtype.itemsize
        width = max(1, _BATCH_BYTES // max(1, self.reader.n_cells * itemsize))
        for first in range(0, len(self.genes), width):
            columns = [gene.column for gene in self.genes[first : first + width]]
            values = self.reader.values(columns)
            for k in range(len(columns)):
                yield first + k, self._kept(values[:, k])

    def places(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Read x and y."""
        x, y = (self.annotation(self._by_name[name]).astype(np.float64) for name in XY)
        return x, y

    def sections(self) -> tuple[NDArray[Any], tuple[str, ...]] | None:
        """Read the brain sections, where there are any."""
        if not self.is_spatial:
            return None
        section = self._by_name[SECTION]
        return self.annotation(section), tuple(section.terms or ())


def view_contents(
    view: View,
    *,
    genes: Iterable[str] | None = None,
    annotate: Iterable[str] | None = None,
    where: str | None = None,
    download_base: Any = None,
) -> ViewContents:
    """Choose what of a view is shown.

    Parameters
    ----------
    view : View
    genes : iterable of str, optional
        Some of its genes, by column, symbol or identifier; all where not given.
    annotate : iterable of str, optional
        Columns to colour and filter by; those of the view and `COLUMNS`, as far as they
        are there, where not given.
    where : str, optional
        Only cells that fit a condition on annotations and genes.
    download_base : path, optional
        Where the atlas lies now.

    Returns
    -------
    ViewContents

    Raises
    ------
    UsageError
        If a gene or column is unknown, cells have no x and y, or no cell fits.
    ViewError, ReleaseError, MissingFileError, TableError
        As `View.annotate`.
    """
    own = [a.name for a in view.annotations]
    asked = _usual(view, own, download_base) if annotate is None else names_of(annotate)
    shown = [name for name in dict.fromkeys(asked) if name not in XY]
    spatial = are_sections(view, download_base)
    condition = None if where is None else Condition.parse(where)
    named = condition.columns if condition else ()
    others = [n for n in named if n not in view.columns and n != CELL_LABEL]
    needed = [*shown, *XY, *([SECTION] if spatial else []), *others]
    reader = joined_reader(view, list(dict.fromkeys(needed)), download_base)
    by_name = {a.name: a for a in reader.annotations}
    for name in XY:
        if not by_name[name].is_numeric:
            raise UsageError(f"column {name!r} holds terms, not numbers: cells have no place")
    every = _genes_of(view)
    return ViewContents(
        view=view,
        reader=reader,
        annotations=tuple(by_name[name] for name in shown),
        genes=tuple(every[k] for k in find_genes(every, genes)),
        kept=None if condition is None else _fitting(reader, condition, by_name),
        where=where,
        is_spatial=spatial,
    )


def _genes_of(view: View) -> list[Gene]:
    return [
        Gene(g["column"], g["gene_identifier"], g["gene_symbol"], str(g.get("name") or ""))
        for g in view.info["genes"]
    ]


def _usual(view: View, own: Sequence[str], download_base: Any) -> list[str]:
    """Return the view's own columns, and those of `COLUMNS` that its atlas has."""
    found = list(own)
    for name in COLUMNS:
        if name in found:
            continue
        try:
            view.find_annotations([name], download_base=download_base)
        except AbcDaskError:
            continue
        found.append(name)
    return found


def _fitting(
    reader: Reader, condition: Condition, by_name: dict[str, Annotation]
) -> NDArray[np.int64]:
    def read(name: str) -> Any:
        if name == CELL_LABEL:
            return reader.labels()
        if name in by_name:
            return by_name[name].arrow(reader.annotation(by_name[name]))
        return pa.array(reader.values([name])[:, 0])

    return cells_that_fit(condition, read)


def cells_that_fit(condition: Condition, read: Callable[[str], Any]) -> NDArray[np.int64]:
    """Return the cells for which a condition holds.

    Parameters
    ----------
    condition : Condition
    read : callable
        Returns a column of all cells as Arrow, by its name.

    Raises
    ------
    UsageError
        If there is none.
    """
    kept = np.flatnonzero(condition.mask(pa.table({n: read(n) for n in condition.columns})))
    if not len(kept):
        raise UsageError("no cell fits --where: there is nothing to show")
    return kept
