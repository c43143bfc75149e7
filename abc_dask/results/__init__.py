"""A gene-major store and everything done with it; some of its genes, used like a view."""

from __future__ import annotations

from abc_dask.results.gene_store import GeneStore, open_store

__all__ = ["GeneStore", "open_store"]
