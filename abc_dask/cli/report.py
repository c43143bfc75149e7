"""One page about a view: report."""

from __future__ import annotations

from typing import Any

import click

from abc_dask.cli.command import command, echo
from abc_dask.cli.opened import open_genes
from abc_dask.cli.options import split_names, verbose
from abc_dask.cli.plot import download_base, palette


@command()
@click.argument("out", metavar="VIEW|STORE")
@click.option("-o", "--output", required=True, metavar="F.html", help="Path of the page.")
@click.option(
    "--by",
    multiple=True,
    metavar="COLUMN,...",
    help="Groups; neurotransmitter, class and region by default, where the atlas has them.",
)
@click.option(
    "--color", multiple=True, metavar="NAME,...", help="Pictures; all genes and groups by default."
)
@click.option("--genes", multiple=True, metavar="GENE,...", help="Of a store: the genes to show.")
@click.option(
    "--limits",
    nargs=2,
    type=float,
    default=None,
    metavar="LOW HIGH",
    help="Of the colour scales of means, such as 0 6.",
)
@palette
@download_base
@click.option("--overwrite", is_flag=True, help="Replace the page.")
@verbose
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

    path = write_report(
        open_genes(out, split_names(genes)),
        output,
        by=split_names(by) or None,
        color=split_names(color) or None,
        **options,
    )
    echo(f"{path} written")
