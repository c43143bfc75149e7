"""A view, or genes of a store, by its path or address."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from abc_dask.errors import UsageError

if TYPE_CHECKING:
    from abc_dask.view import View


def open_genes(path: str, genes: Sequence[str], option: str = "--genes") -> View:
    """Open a view; of a store the genes named, with all columns of cells that it keeps.

    Names that are columns of the store's cells are no genes.

    Raises
    ------
    UsageError
        If it is a store and no gene is named; `option` names them.
    """
    from abc_dask.store.folder import is_store

    if "://" not in path and not is_store(Path(path)):
        from abc_dask.view import open_view

        return open_view(path)
    from abc_dask.plan.request import Request
    from abc_dask.store.gene_store import open_store
    from abc_dask.stores.store_view import view_of_store

    store = open_store(path)
    named = [name for name in genes if name not in store.columns]
    if not named:
        raise UsageError(f"{path} is a store; name genes with {option}")
    return view_of_store(store, Request.of(named), every_annotation=True)
