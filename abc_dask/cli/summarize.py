"""Statistics by group: summarize."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from abc_dask.base.errors import UsageError
from abc_dask.cli.cluster_options import NAMES, cluster_options
from abc_dask.cli.command import command, echo
from abc_dask.cli.common import wants_json
from abc_dask.cli.opened import columns_of, names_store, refuse_view_base
from abc_dask.cli.options import by_option, missing_option, names_option, view_base, where
from abc_dask.cli.store_table import make_table

if TYPE_CHECKING:
    from abc_dask.analysis.summary import Summary


@command()
@click.argument("source", metavar="VIEW|STORE")
@by_option(required=True)
@names_option(
    "--statistics",
    default=["mean"],
    show_default=True,
    metavar="NAME,...",
    help="mean, fraction (of cells with a value above 0), median, count, sum, std; of a store also "
    "n (the same as count), var, sumsq, and counts above and from a limit, such as gt1, ge1.",
)
@missing_option("are a group")
@where
@names_option("--genes", metavar="GENE,...", help="Some genes.")
@click.option("--all-genes", is_flag=True, help="All genes of a store.")
@click.option(
    "--normalization",
    type=click.Choice(["log2", "raw"]),
    help="Of a store; log2 by default.",
)
@view_base
@click.option(
    "-o",
    "--output",
    metavar="T",
    help="Write T.csv or T.parquet; of a store also T.h5ad or T.zarr: an AnnData of groups x "
    "genes, a layer a statistic.",
)
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@cluster_options
def summarize(
    source: str, by: tuple[str, ...], statistics: tuple[str, ...], **options: Any
) -> None:
    """Compute statistics of genes by groups of cells.

    Columns that a view lacks are taken from its atlas; a store has those that it was built with.
    Groups come in the order of the taxonomy. Of a store, name --genes or --all-genes.
    """
    options |= {"by": list(by), "statistics": list(statistics)}
    options["genes"] = list(options["genes"]) or None
    if names_store(source):
        _of_store(source, **options)
    else:
        _of_view(source, **options)


def _of_view(source: str, *, output: str | None, overwrite: bool, **options: Any) -> None:
    from abc_dask.cli.summary_text import check_table, write_summary
    from abc_dask.results.view import open_view

    for name in ("all_genes", "normalization", *NAMES):
        if options.pop(name):
            raise UsageError(f"--{name.replace('_', '-')} is for stores; {source} is none")
    place = None if output is None else check_table(output, overwrite=overwrite)
    by, statistics = options.pop("by"), options.pop("statistics")
    view = open_view(source)
    options["genes"] = columns_of(view, options["genes"] or ()) or None
    summary = view.summarize(by, statistics, **options)
    if place is not None:
        write_summary(summary, place)
    echo(_said(summary))
    if place is not None and not wants_json():
        echo(f"{place} written")


def _of_store(source: str, *, all_genes: bool, **options: Any) -> None:
    from abc_dask.analysis.group_table import FORMATS
    from abc_dask.analysis.store_statistics import summarize_store

    refuse_view_base(options.pop("download_base"))
    if all_genes == bool(options["genes"]):
        raise UsageError("name --genes, or pass --all-genes" + (", not both" * all_genes))
    options["normalization"] = options["normalization"] or "log2"
    make_table("summarize", source, summarize_store, _said, formats=FORMATS, **options)


def _said(summary: Summary) -> str:
    from abc_dask.cli.summary_text import summary_record, summary_text

    if wants_json():
        return json.dumps(summary_record(summary), indent=1)
    return summary_text(summary)
