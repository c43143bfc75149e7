"""One page about a view: report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abc_dask.base.errors import UsageError
from abc_dask.cli.command import command, show_written
from abc_dask.cli.common import is_quiet
from abc_dask.cli.opened import columns_of, names_store, open_genes
from abc_dask.cli.options import limits, names_option, view_base
from abc_dask.cli.plot import palette

if TYPE_CHECKING:
    from abc_dask.analysis.markers import Markers
    from abc_dask.results.view import View


@command()
@click.argument("out", metavar="VIEW|STORE")
@click.option("-o", "--output", required=True, metavar="F.html", help="Path of the page.")
@names_option(
    "--by",
    metavar="COLUMN,...",
    help="Columns that make groups; neurotransmitter, class and region by default, where the "
    "atlas has them.",
)
@names_option(
    "--color",
    metavar="NAME,...",
    help="Genes and columns to colour pictures by; all genes and --by by default.",
)
@names_option("--genes", metavar="GENE,...", help="Of a store: the genes to show.")
@click.option(
    "--markers",
    metavar="COLUMN",
    help="Of a store: show the first markers of each group too, by Welch's t over all its genes.",
)
@click.option(
    "--explorer",
    metavar="DIR",
    help="Write the explorer's folder too, as explore --static does, and lead to it by a link; "
    "that of the same view is kept.",
)
@limits
@palette
@view_base
@click.option("--overwrite", is_flag=True, help="Replace the page, and the explorer's folder.")
def report(
    out: str,
    output: str,
    by: tuple[str, ...],
    color: tuple[str, ...],
    genes: tuple[str, ...],
    *,
    markers: str | None,
    explorer: str | None,
    **options: Any,
) -> None:
    """Write one page about a view or a store's genes: pictures, tables, counts, provenance.

    The page is one file that needs no network and no web server; the explorer's folder
    needs a web server.
    """
    from abc_dask.analysis.report import check_place, write_report

    check_place(output, overwrite=options["overwrite"])
    view = open_genes(out, genes)
    found = None if markers is None else _markers(out, markers)
    if explorer is not None:
        _explore(view, Path(explorer), options["download_base"], overwrite=options["overwrite"])
    path = write_report(
        view,
        output,
        by=list(by) or None,
        color=columns_of(view, color) or None,
        markers=found,
        explorer=explorer,
        progress=not is_quiet(),
        **options,
    )
    show_written(path)


def _markers(out: str, by: str) -> Markers:
    """Find the markers of a store's groups."""
    if not names_store(out):
        raise UsageError(
            f"{out} is a view of chosen genes; markers need a store, which has all of them: "
            "abc-dask store build"
        )
    from abc_dask import open_store

    return open_store(out).markers(by, method="t", missing="drop", progress=not is_quiet())


def _explore(view: View, folder: Path, download_base: str | None, *, overwrite: bool) -> None:
    """Write the explorer's folder of the page's genes, unless that of the same view is there."""
    from abc_dask.cli.explore import steps
    from abc_dask.explore.build import build_folder, provenance_of_folder
    from abc_dask.explore.contents import view_contents

    contents = view_contents(view, download_base=download_base)
    if view.info["content"] and provenance_of_folder(folder) == contents.provenance:
        return
    with steps() as tell:
        build_folder(contents, folder, overwrite=overwrite, progress=tell)
