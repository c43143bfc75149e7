"""Commands on a finished view: info, verify, export."""

from __future__ import annotations

from typing import Any

import click

from abc_dask.cli.command import group, show, show_written
from abc_dask.cli.opened import open_finished
from abc_dask.cli.options import annotate, view_base


@group(default="info")
def view() -> None:
    """Show, verify or export a finished view."""


@view.command()
@click.argument("out", metavar="OUT")
def info(out: str) -> None:
    """Show what a view holds and where it is from."""
    opened = open_finished(out)
    from abc_dask.cli.text import extraction_text

    show(lambda: extraction_text(opened), lambda: opened.provenance)


@view.command()
@click.argument("out", metavar="OUT")
def verify(out: str) -> None:
    """Hash every file again; on damage name the part and exit with 1."""
    from abc_dask.base.messages import format_bytes, plural

    opened = open_finished(out)
    opened.verify()
    files = opened.info["files"]
    size = format_bytes(sum(file["size"] for file in files))
    show(
        lambda: f"{opened.path} is as it was written: {plural(len(files), 'file')}, {size}",
        lambda: {"view": str(opened.path), "files": len(files), "as_written": True},
    )


@view.command()
@click.argument("out", metavar="OUT")
@click.argument("target", metavar="TARGET")
@click.option("--format", "format_", metavar="F", help="By default from TARGET's suffix.")
@annotate
@view_base
@click.option("--overwrite", is_flag=True, help="Replace TARGET.")
def export(
    out: str, target: str, format_: str | None, annotate: tuple[str, ...], **options: Any
) -> None:
    """Write a view as TARGET.csv, .h5ad, .zarr or .parquet.

    In h5ad and Zarr, annotations are in obs, x and y in obsm (X_umap, or spatial), and the
    atlas's colours in uns, where scanpy looks for them.
    """
    path = open_finished(out).export(target, format_, annotate=list(annotate), **options)
    show_written(path)
