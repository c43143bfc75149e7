"""A view, or genes of a store, by its path or address."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from abc_dask.base.errors import UsageError
from abc_dask.cli.command import echo
from abc_dask.cli.common import is_quiet

if TYPE_CHECKING:
    from abc_dask.results.view import View
    from abc_dask.store.gene_store import GeneStore


def columns_of(view: View, names: Iterable[str]) -> list[str]:
    """Return names with genes as the view's columns have them, and print where they differ.

    Other names, such as those of annotations or of unknown genes, stay as they are.
    """
    from abc_dask.release.gene_names import GeneNames

    columns = {gene["gene_identifier"]: gene["column"] for gene in view.info["genes"]}
    known = GeneNames({g["gene_identifier"]: g["gene_symbol"] or "" for g in view.info["genes"]})
    annotations = {annotation.name for annotation in view.annotations}

    def column(name: str) -> str:
        if name in view.columns or name in annotations:
            return name
        found = known.exact(name) or known.alike(name)
        return columns[found[0].identifier] if len(found) == 1 else name

    return _said(names, column)


def genes_of(store: GeneStore, names: Iterable[str]) -> list[str]:
    """Return names of genes as the store has them, and print where they differ.

    Raises
    ------
    GeneError
        If one is unknown or stands for several genes.
    """

    def gene(name: str) -> str:
        (at,) = store.find_genes([name])
        row = store.genes.iloc[at]
        symbol = row.get("gene_symbol") or row.name
        return name if name in {symbol, row.name} else str(symbol)

    return _said(names, gene)


def _said(names: Iterable[str], find: Callable[[str], str]) -> list[str]:
    asked = list(names)
    found = [find(name) for name in asked]
    read = [f"{one} as {other}" for one, other in zip(asked, found, strict=True) if one != other]
    if read and not is_quiet():
        echo(f"abc-dask: note: read {', '.join(read)}", err=True)
    return found


def refuse_view_base(download_base: str | None) -> None:
    """Refuse an option of views, where a store is named.

    Raises
    ------
    UsageError
    """
    if download_base:
        raise UsageError("--download-base is for views; a store has its own columns")


def names_store(path: str) -> bool:
    """Return whether a path is that of a store; addresses are of stores alone."""
    from abc_dask.store.folder import is_store

    return "://" in path or is_store(Path(path).expanduser())


def open_finished(path: str) -> View:
    """Open a view.

    Raises
    ------
    UsageError
        If it is a store.
    """
    from abc_dask.results.view import open_view

    if names_store(path):
        raise UsageError(f"{path} is a store, not a view; see abc-dask store info {quote(path)}")
    return open_view(path)


def open_genes(path: str, genes: Sequence[str], option: str = "--genes") -> View:
    """Open a view; of a store the genes named, with all columns of cells that it keeps.

    Names that are columns of the store's cells are no genes.

    Raises
    ------
    UsageError
        If it is a store and no gene is named; `option` names them.
    """
    if not names_store(path):
        from abc_dask.results.view import open_view

        return open_view(path)
    from abc_dask.plan.request import Request
    from abc_dask.results.store_view import view_of_store
    from abc_dask.store.gene_store import open_store

    store = open_store(path)
    named = [name for name in genes if name not in store.columns]
    if not named:
        raise UsageError(f"{path} is a store; name genes with {option}")
    return view_of_store(store, Request.of(named), every_annotation=True)
