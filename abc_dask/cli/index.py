"""Look at h5ad files once, before they are used: index."""

from __future__ import annotations

from typing import Any

from abc_dask.cli.command import command, echo
from abc_dask.cli.common import wants_json
from abc_dask.cli.options import layer, names_argument, write_json


@command()
@names_argument("files", paths=True, metavar="FOLDER|FILE...", required=True)
@layer
def index(files: tuple[str, ...], layer: str) -> None:
    """List h5ad files with their cells, genes and layers; what is read of them is kept.

    Commands with --h5ad do the same on first use.
    """
    from abc_dask.atlas import Atlas
    from abc_dask.base.messages import format_bytes, text_table

    atlas = Atlas.from_h5ad(files, layer=layer)
    table = atlas.index_files()
    if wants_json():
        write_json(table.reset_index().to_dict(orient="records"))
        return
    records: list[dict[str, Any]] = table.reset_index().to_dict(orient="records")  # type: ignore[assignment]
    rows = [
        [
            record["name"],
            f"{record['cells']:,}",
            f"{record['genes']:,}",
            record["layout"],
            format_bytes(record["size"]),
            record["layers"],
        ]
        for record in records
    ]
    echo(text_table(["name", "cells", "genes", "layout", "size", "layers"], rows, "<>><><"))
    echo(f"{sum(table['cells']):,} cells, {len(atlas.genes):,} genes")
