"""Genes that mark groups, and sums that tests of samples take: markers, pseudobulk."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from abc_dask.cli.cluster_options import cluster_options
from abc_dask.cli.command import command, echo
from abc_dask.cli.common import is_quiet, wants_json
from abc_dask.cli.options import by_option, missing_option, names_option, normalization, where
from abc_dask.cli.parameters import options_of
from abc_dask.cli.store_table import make_table

if TYPE_CHECKING:
    from abc_dask.analysis.markers import Markers
    from abc_dask.analysis.pseudobulk import Pseudobulk

# Options of all commands on stores.
_store_options = options_of(
    click.argument("source", metavar="STORE"),
    by_option(),
    where,
    names_option("--genes", metavar="GENE,...", help="Some genes; all by default."),
    click.option("--overwrite", is_flag=True, help="Replace what is there."),
    cluster_options,
)


@command()
@_store_options
@names_option(
    "--group",
    "groups",
    metavar="NAME",
    help="Only the markers of this group; may be given several times.",
)
@click.option(
    "--cells-from",
    "cells",
    metavar="F",
    help="Instead of --by: the cells of a list, such as a selection that the explorer saved.",
)
@click.option(
    "--versus-cells",
    metavar="F",
    help="Compare them with the cells of another list; all others by default. A cell of both "
    "belongs to the first.",
)
@click.option("--cells-column", metavar="NAME|N", help="Column of both, by name or number.")
@click.option(
    "--versus",
    default="rest",
    show_default=True,
    metavar="rest|NAME",
    help="Compare with all other cells, or with another group.",
)
@click.option(
    "--method",
    type=click.Choice(["wilcoxon", "t", "pairwise"]),
    default="wilcoxon",
    show_default=True,
    help="Wilcoxon's rank sum, exact with ties, with AUROC; Welch's t; Welch's t against every "
    "other group, of which the nearest one counts.",
)
@missing_option("belong to the rest")
@normalization
@click.option("--top", default=10, show_default=True, help="Markers of a group that are printed.")
@click.option(
    "-o",
    "--output",
    metavar="M",
    help="Write all of them: M.csv, M.parquet, or M.h5ad or M.zarr (groups x genes).",
)
def markers(source: str, **options: Any) -> None:
    """Find the genes that mark each group of cells, out of all genes of a store.

    Columns are those of scanpy's rank_genes_groups_df.
    """
    from abc_dask.analysis.cell_lists import read_lists
    from abc_dask.analysis.group_table import FORMATS
    from abc_dask.analysis.markers import WARNING, find_markers
    from abc_dask.cli.markers_text import markers_record, markers_text
    from abc_dask.results.gene_store import require_store

    top = options.pop("top")
    options["groups"] = list(options["groups"]) or None
    cells = [options.pop(name) for name in ("cells", "versus_cells", "cells_column")]
    options["lists"] = read_lists(require_store(source), *cells)

    def said(found: Markers) -> str:
        if wants_json():
            return json.dumps(markers_record(found, top), indent=1)
        return markers_text(found, top)

    make_table("markers", source, find_markers, said, formats=FORMATS, **options)
    if not is_quiet():
        echo(f"abc-dask: note: {WARNING}", err=True)


@command()
@_store_options
@click.option(
    "--sample", required=True, metavar="COLUMN", help="Column of samples, such as donor_label."
)
@click.option(
    "--min-cells",
    default=10,
    show_default=True,
    metavar="N",
    help="Leave out groups with fewer cells.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="P",
    help="P.h5ad or P.zarr: an AnnData of sums, a row a group and sample.",
)
def pseudobulk(source: str, **options: Any) -> None:
    """Sum raw counts by group and sample, as pydeseq2, edgeR and decoupler take them."""
    from abc_dask.analysis.pseudobulk import sum_samples
    from abc_dask.cli.markers_text import pseudobulk_record, pseudobulk_text

    def said(found: Pseudobulk) -> str:
        if wants_json():
            return json.dumps(pseudobulk_record(found), indent=1)
        return pseudobulk_text(found)

    make_table("pseudobulk", source, sum_samples, said, formats=("h5ad", "zarr"), **options)
