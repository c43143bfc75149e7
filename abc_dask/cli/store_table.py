"""Tables that are computed of a store: printed, or written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from abc_dask.cli.cluster_options import NAMES
from abc_dask.cli.command import echo
from abc_dask.cli.common import is_quiet, wants_json
from abc_dask.cli.opened import genes_of


def make_table(
    kind: str,
    source: str,
    make: Callable[..., Any],
    said: Callable[[Any], str],
    *,
    formats: Iterable[str],
    output: str | None,
    overwrite: bool,
    genes: Iterable[str] | None,
    **options: Any,
) -> None:
    """Print a table of a store, or write it where there is an output.

    `make` takes the store, `compute`, `genes` and the options; `said` returns a table as text.
    """
    from abc_dask.results.gene_store import computing, request_of, require_store, write_table

    cluster = {name: options.pop(name) for name in NAMES}
    store = require_store(source)
    options["genes"] = genes_of(store, genes or ()) or None
    if output is None:
        with computing(None, None, what=kind, progress=not is_quiet(), **cluster) as compute:
            echo(said(make(store, compute=compute, **options)))
        return
    text = write_table(
        store,
        output,
        lambda compute: make(store, compute=compute, **options),
        said,
        request=request_of(kind, **_told(options)),
        formats=formats,
        overwrite=overwrite,
        progress=not is_quiet(),
        **cluster,
    )
    echo(text)
    if not wants_json():
        echo(f"{output} written")


def _told(options: dict[str, Any]) -> dict[str, Any]:
    """Return options as JSON has them: lists of cells by name and digest."""
    lists = options.get("lists")
    return options | ({"lists": [one.describe() for one in lists]} if lists else {})
