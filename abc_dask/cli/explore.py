"""The page of all cells: explore."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abc_dask.base.errors import UsageError
from abc_dask.cli.command import command, echo, show_made
from abc_dask.cli.common import is_quiet
from abc_dask.cli.opened import names_store, refuse_view_base
from abc_dask.cli.options import names_option, view_base, where

if TYPE_CHECKING:
    from abc_dask.explore.contents import Contents

# Genes of a folder that has their exact values where nobody says otherwise.
MOST_EXACT = 500

# Genes of a folder that are written without being asked for.
MOST_UNASKED = 1000


@command()
@click.argument("source", metavar="VIEW|STORE")
@names_option("--genes", metavar="GENE,...", help="Some of the genes; all by default.")
@names_option(
    "--annotate",
    metavar="COLUMN,...",
    help="Columns to colour and filter by; class, subclass, neurotransmitter and region by "
    "default, where the atlas has them, and all of a store.",
)
@where
@view_base
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Port to serve on; any free one by default.",
)
@click.option("--no-browser", is_flag=True, help="Print the address, and open no browser.")
@click.option(
    "--static",
    metavar="DIR",
    help="Write the page as a folder for any web server, and serve nothing.",
)
@click.option("--all-genes", is_flag=True, help="With --static: all genes of a store, a file each.")
@click.option(
    "--exact/--no-exact",
    default=None,
    help="With --static: write exact values too, which tables need to be exact; by default for "
    f"up to {MOST_EXACT} genes.",
)
@click.option("--overwrite", is_flag=True, help="Replace the folder.")
def explore(
    source: str,
    genes: tuple[str, ...],
    annotate: tuple[str, ...],
    *,
    where: str | None,
    download_base: str | None,
    static: str | None,
    **options: Any,
) -> None:
    """Show all cells in a browser: colours, filters, lasso, tables, exports.

    The page is served to this machine alone until Ctrl-C, and a browser opens it; with
    --static it is a folder that any web server can serve. A STORE shows any of its genes.
    """
    from abc_dask.explore.build import build_folder, refuse_existing
    from abc_dask.explore.server import static_lines

    if static is not None:
        place = Path(static).expanduser().absolute()
        refuse_existing(place, overwrite=options["overwrite"])
    with steps() as tell:
        contents = _contents(
            source,
            genes=list(genes) or None,
            annotate=list(annotate) or None,
            where=where,
            download_base=download_base,
        )
        if static and not (genes or options["all_genes"]) and len(contents.genes) > MOST_UNASKED:
            raise UsageError(
                f"{source} has {len(contents.genes):,} genes; name some with --genes, or pass "
                "--all-genes for a file of each"
            )
        if static is not None:
            exact = options["exact"]
            build_folder(
                contents,
                place,
                exact=len(contents.genes) <= MOST_EXACT if exact is None else exact,
                overwrite=options["overwrite"],
                progress=tell,
            )
    if static is not None:
        show_made(lambda: static_lines(place), lambda: {"written": str(place)})
    else:
        _serve(contents, port=options["port"], opens=not options["no_browser"])


@contextlib.contextmanager
def steps() -> Iterator[Callable[[str, int, int], None]]:
    """Show the steps of making a page, after two seconds; yields what is told of each."""
    from abc_dask.base.progress import Progress

    with Progress(None, "explore", unit="step", enabled=not is_quiet(), delay=2) as bar:
        yield lambda what, done, total: bar.move(done, total, what)


def _contents(source: str, *, download_base: str | None, **choice: Any) -> Contents:
    if names_store(source):
        refuse_view_base(download_base)
        from abc_dask.explore.store_contents import store_contents
        from abc_dask.store.gene_store import open_store

        return store_contents(open_store(source), **choice)
    from abc_dask.explore.contents import view_contents
    from abc_dask.results.view import open_view

    return view_contents(open_view(source), download_base=download_base, **choice)


def _serve(contents: Contents, *, port: int, opens: bool) -> None:
    from abc_dask.explore.server import Explorer

    with steps() as tell:
        page = Explorer(contents, port=port, progress=tell)
    try:
        number = page.url.split(":")[2].partition("/")[0]
        echo(
            f"{page.url}\n"
            f"  {contents.n_cells:,} cells, {len(contents.genes):,} genes; only this machine can "
            "open it, and only by this address; Ctrl-C stops\n"
            f"  from another machine: ssh -L {number}:127.0.0.1:{number} HOST, and the same address"
        )
        sys.stdout.flush()
        if opens and (sys.platform == "darwin" or _has_screen()):
            import webbrowser

            webbrowser.open(page.url)
        page.serve()
    except KeyboardInterrupt:
        echo("stopped")
    finally:
        page.close()


def _has_screen() -> bool:
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
