"""One page about a view: report."""

from __future__ import annotations

from typing import Any

import click

from abc_dask.cli.command import command, show_written
from abc_dask.cli.opened import columns_of, open_genes
from abc_dask.cli.options import limits, names_option
from abc_dask.cli.plot import download_base, palette


@command()
@click.argument("out", metavar="VIEW|STORE")
@click.option("-o", "--output", required=True, metavar="F.html", help="Path of the page.")
@names_option(
    "--by",
    metavar="COLUMN,...",
    help="Groups; neurotransmitter, class and region by default, where the atlas has them.",
)
@names_option("--color", metavar="NAME,...", help="Pictures; all genes and groups by default.")
@names_option("--genes", metavar="GENE,...", help="Of a store: the genes to show.")
@limits
@palette
@download_base
@click.option("--overwrite", is_flag=True, help="Replace the page.")
def report(
    out: str,
    output: str,
    by: tuple[str, ...],
    color: tuple[str, ...],
    genes: tuple[str, ...],
    **options: Any,
) -> None:
    """Write one page about a view: provenance, counts, tables, pictures; it needs no network."""
    from abc_dask.analysis.report import write_report

    view = open_genes(out, genes)
    path = write_report(
        view,
        output,
        by=list(by) or None,
        color=columns_of(view, color) or None,
        **options,
    )
    show_written(path)
