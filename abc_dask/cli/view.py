"""Commands on a finished view: info, verify, export."""

from __future__ import annotations

import json
from typing import Any

import click

from abc_dask.cli.command import echo, group
from abc_dask.cli.options import annotate, as_json, split_names, verbose


@group()
def view() -> None:
    """Show, verify or export a finished view."""


@view.command()
@click.argument("out", metavar="OUT")
@as_json
@verbose
def info(out: str, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Show what a view holds and where it is from."""
    from abc_dask.view import open_view

    opened = open_view(out)
    if as_json:
        echo(json.dumps(opened.provenance, indent=1))
    else:
        from abc_dask.cli.text import extraction_text

        echo(extraction_text(opened))


@view.command()
@click.argument("out", metavar="OUT")
@verbose
def verify(out: str) -> None:
    """Hash every file again; on damage name the part and exit with 1."""
    from abc_dask.messages import format_bytes, plural
    from abc_dask.view import open_view

    opened = open_view(out)
    opened.verify()
    files = opened.info["files"]
    size = format_bytes(sum(file["size"] for file in files))
    echo(f"{opened.path} is as it was written: {plural(len(files), 'file')}, {size}")


@view.command()
@click.argument("out", metavar="OUT")
@click.argument("target", metavar="TARGET")
@click.option("--format", "format_", metavar="F", help="By default from TARGET's suffix.")
@annotate
@click.option("--download-base", metavar="DIR", help="Where the atlas lies now, if it was moved.")
@click.option("--overwrite", is_flag=True, help="Replace TARGET.")
@verbose
def export(
    out: str, target: str, format_: str | None, annotate: tuple[str, ...], **options: Any
) -> None:
    """Write a view as TARGET.csv, .h5ad, .zarr or .parquet.

    In h5ad and Zarr, annotations are in obs, x and y in obsm (X_umap, or spatial), and the
    atlas's colours in uns, where scanpy looks for them.
    """
    from abc_dask.view import open_view

    path = open_view(out).export(target, format_, annotate=split_names(annotate), **options)
    echo(f"{path} written")
