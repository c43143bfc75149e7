"""Chosen cells as one AnnData: cells."""

from __future__ import annotations

from typing import Any

import click

from abc_dask.cli.cluster_options import NAMES, cluster_options
from abc_dask.cli.command import command, show, show_made
from abc_dask.cli.common import is_quiet
from abc_dask.cli.options import (
    annotate,
    asked_genes,
    atlas_options,
    block_size,
    cells_options,
    dry_run,
    genes_options,
    names_argument,
    normalization,
    open_atlas,
)


@command()
@names_argument("genes", metavar="[GENE]...")
@atlas_options
@normalization
@genes_options
@cells_options
@annotate
@click.option("-o", "--output", required=True, metavar="X.h5ad|X.zarr", help="What to write.")
@click.option(
    "--genes-in-common",
    is_flag=True,
    help="Leave out genes that some matrix of these cells lacks; they are NaN there otherwise.",
)
@cluster_options
@block_size
@click.option("--overwrite", is_flag=True, help="Replace the output.")
@dry_run
def cells(genes: tuple[str, ...], genes_file: str | None, output: str, **options: Any) -> None:
    """Write chosen cells with all their genes, or the GENEs named, as one AnnData on disk.

    Across matrices, genes are aligned by identifier. If the command ends early, the same
    command completes the work.
    """
    names = (
        "normalization",
        "where",
        "cells",
        "cells_column",
        "genes_column",
        "skip_unknown",
        "genes_in_common",
        "block_size",
        "overwrite",
        *NAMES,
    )
    if options["dry_run"]:
        found = open_atlas(options).estimate_subset(
            output,
            genes=asked_genes(genes, genes_file) or None,
            annotate=list(options["annotate"]),
            **{name: options[name] for name in names[:8]},
        )
        show(lambda: str(found), found.to_json)
        return
    made = open_atlas(options).subset(
        output,
        genes=asked_genes(genes, genes_file) or None,
        annotate=list(options["annotate"]),
        progress=not is_quiet(),
        **{name: options[name] for name in names},
    )
    from abc_dask.cli.text import subset_text

    show_made(lambda: subset_text(made), lambda: made.info)
