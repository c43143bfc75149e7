"""The explorer page: all cells of a view or a store in a browser. README.md has the format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from abc_dask.explore.contents import Contents
    from abc_dask.explore.server import Explorer


def show(source: Any, *, port: int = 0, **choice: Any) -> Explorer:
    """Show all cells of a view or a store, in a notebook as an inline frame.

    Parameters
    ----------
    source : View or GeneStore
    port : int
        Of this machine; 0 for a free one.
    **choice
        ``genes``, ``annotate``, ``where``, and for a view ``download_base``, as
        `abc_dask.explore.contents.view_contents` and
        `abc_dask.explore.store_contents.store_contents` take them.

    Returns
    -------
    Explorer
        ``url`` is the page's address, which only this machine can open; ``close()`` ends
        it, and so does the end of Python.

    Raises
    ------
    UsageError
        If a gene or column is unknown, cells have no x and y, or the port is in use.
    """
    from abc_dask.explore.server import Explorer
    from abc_dask.store.gene_store import GeneStore

    contents: Contents
    if isinstance(source, GeneStore):
        from abc_dask.explore.store_contents import store_contents

        contents = store_contents(source, **choice)
    else:
        from abc_dask.explore.contents import view_contents

        contents = view_contents(source, **choice)
    return Explorer(contents, port=port, framed=True).start()
