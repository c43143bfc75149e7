"""Pictures of genes of a store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from abc_dask.analysis.marker_table import top_markers
from abc_dask.analysis.plots.accessor import ViewPlots
from abc_dask.analysis.plots.canvas import Picture
from abc_dask.base.errors import UsageError
from abc_dask.base.messages import names_of
from abc_dask.plan.request import Request
from abc_dask.results.store_view import view_of_store
from abc_dask.store.gene_store import GeneStore


class StorePlots:
    """Pictures of a store's genes: those of a view of the genes that are named.

    Parameters
    ----------
    store : GeneStore
    """

    def __init__(self, store: GeneStore) -> None:
        self._store = store

    def umap(self, color: str | Iterable[str], **options: Any) -> Picture:
        """Draw all cells of the UMAP; as `abc_dask.analysis.plots.accessor.ViewPlots.umap`."""
        names = names_of(color)
        return self._of(names).umap(names, **options)

    def sections(self, color: str | Iterable[str], **options: Any) -> Picture:
        """Draw the cells of brain sections; as `ViewPlots.sections`."""
        names = names_of(color)
        return self._of(names).sections(names, **options)

    def heatmap(
        self, by: str | Iterable[str], *, genes: Iterable[str] | None = None, **options: Any
    ) -> Picture:
        """Draw a statistic by groups of cells, of genes or markers; as `ViewPlots.heatmap`."""
        return self._of(self._genes(genes, options)).heatmap(by, **options)

    def dots(
        self, by: str | Iterable[str], *, genes: Iterable[str] | None = None, **options: Any
    ) -> Picture:
        """Draw dots by groups of cells, of genes or markers; as `ViewPlots.dots`."""
        return self._of(self._genes(genes, options)).dots(by, **options)

    def violins(self, by: str | Iterable[str], *, genes: Iterable[str], **options: Any) -> Picture:
        """Draw distributions by groups of cells; as `ViewPlots.violins`."""
        return self._of(names_of(genes)).violins(by, **options)

    def _genes(self, genes: Iterable[str] | None, options: dict[str, Any]) -> list[str]:
        """Return the genes that are named, or the best of markers."""
        markers = options.get("markers")
        if (genes is None) == (markers is None):
            raise UsageError("name genes of the store, or markers")
        if genes is not None:
            return names_of(genes)
        return [one.identifier for one in top_markers(markers, options.get("top", 3))]

    def _of(self, names: Sequence[str]) -> ViewPlots:
        """Return the pictures of a view; names of columns are no genes."""
        genes = [name for name in names if name not in self._store.columns]
        return view_of_store(self._store, Request.of(genes), every_annotation=True).plot
