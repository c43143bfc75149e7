"""Statistics by group: summarize."""

from __future__ import annotations

import json
from typing import Any

import click

from abc_dask.cli.command import command, echo
from abc_dask.cli.options import as_json, split_names, verbose


@command()
@click.argument("view", metavar="VIEW")
@click.option(
    "--by",
    multiple=True,
    required=True,
    metavar="COLUMN",
    help="Column of terms that makes the groups; several make all their combinations.",
)
@click.option(
    "--statistics",
    default="mean",
    show_default=True,
    metavar="NAME,...",
    help="mean, fraction (of cells with a value above 0), median, count, sum, std.",
)
@click.option(
    "--missing",
    type=click.Choice(["group", "drop"]),
    default="group",
    show_default=True,
    help="Cells without a term are a group, or left out.",
)
@click.option("--where", metavar="CONDITION", help="Only cells that fit, as for extract.")
@click.option("--download-base", metavar="DIR", help="Where the atlas lies now, if it was moved.")
@click.option("-o", "--output", metavar="T.csv|.parquet", help="Write the table to a file.")
@click.option("--overwrite", is_flag=True, help="Replace the file.")
@as_json
@verbose
def summarize(
    view: str,
    by: tuple[str, ...],
    statistics: str,
    *,
    output: str | None,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Compute statistics of a view's genes by groups of cells.

    Columns that the view lacks are taken from its atlas. Groups come in the order of the
    taxonomy.
    """
    from abc_dask.cli.summary_text import check_table, summary_record, summary_text, write_summary
    from abc_dask.view import open_view

    place = None if output is None else check_table(output, overwrite=overwrite)
    opened = open_view(view)
    summary = opened.summarize(split_names(by), split_names((statistics,)), **options)
    if place is not None:
        write_summary(summary, place)
    if as_json:
        echo(json.dumps(summary_record(summary), indent=1))
    else:
        echo(summary_text(summary))
        if place is not None:
            echo(f"{place} written")
