"""The main job: extract."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abc_dask.base.errors import UsageError
from abc_dask.cli.cluster_options import NAMES, cluster_options
from abc_dask.cli.command import command, echo, show
from abc_dask.cli.common import is_quiet
from abc_dask.cli.options import (
    annotate,
    asked_genes,
    atlas_options,
    block_size,
    cells_options,
    dry_run,
    genes_options,
    is_given,
    names_argument,
    normalization,
    open_atlas,
    output_options,
    show_view,
)
from abc_dask.cli.parameters import Option

if TYPE_CHECKING:
    from abc_dask.atlas import Atlas

# Options of the files of an atlas, of which a store knows nothing.
_OF_FILES = (
    *("download_base", "h5ad", "dataset", "metadata", "gene_directory", "taxonomy"),
    *("fetch", "plan_only", "dry_run", "layer", "orthologs", "join", "block_size"),
)

_CHOICES = ("where", "cells", "cells_column", "genes_column", "skip_unknown")


@command()
@names_argument("genes", metavar="GENE...")
@atlas_options
@normalization
@click.option("-o", "--output", required=True, metavar="OUT", help="Path of the view.")
@click.option(
    "--format",
    "format_",
    metavar="parquet|zarr|csv|h5ad",
    help="By default from OUT's suffix, else parquet.",
)
@genes_options
@click.option(
    "--columns",
    type=click.Choice(["gene_symbol", "gene_identifier"]),
    default="gene_symbol",
    show_default=True,
    help="How the columns are named.",
)
@annotate
@cells_options
@cluster_options
@block_size
@click.option(
    "--store",
    cls=Option,
    shared=True,
    metavar="STORE",
    help="Take the genes from a gene-major store, a folder or an address, not from the files.",
)
@output_options("OUT")
@click.option(
    "--plan-only",
    is_flag=True,
    help="Write the plan beside OUT for extract-part and finalize, and read nothing.",
)
@click.option(
    "--print-job-script",
    is_flag=True,
    help="With --cluster: print the job script.",
)
@dry_run
def extract(
    genes: tuple[str, ...],
    genes_file: str | None,
    output: str,
    yes: bool,  # noqa: FBT001 - a flag
    **options: Any,
) -> None:
    """Extract genes in all cells into a view that is complete or absent.

    GENE is a symbol or an identifier; columns come in the order asked. If the command
    ends early, the same command completes the work.
    """
    from abc_dask.run.fetched_files import require_fetch

    cluster = {name: options.pop(name) for name in NAMES}
    if options["print_job_script"]:
        from abc_dask.run.cluster.connect import job_script

        echo(job_script(Path(output).expanduser().absolute(), **cluster), nl=False)
        return
    asked = asked_genes(genes, genes_file)
    if not asked:
        raise UsageError("no gene is given; name symbols or identifiers, or pass --genes-file")
    require_fetch(discard=options["discard"], fetch=options["fetch"])
    if options["store"] is not None and _means_store(options, cluster):
        _from_store(asked, output, options, cluster)
        return
    if options["dry_run"]:
        _dry_run(asked, output, options)
        return
    atlas = _open_and_agree(options, yes=yes) if options["fetch"] else open_atlas(options)
    names = (
        "fetch",
        "discard",
        "normalization",
        "columns",
        *_CHOICES,
        "block_size",
        "overwrite",
    )
    if options["plan_only"]:
        _plan_only(atlas, asked, output, options)
        return
    view = atlas.extract(
        asked,
        output,
        format=options["format_"],
        annotate=list(options["annotate"]),
        progress=not is_quiet(),
        **{name: options[name] for name in names},
        **cluster,
    )
    show_view(view)


def _means_store(options: dict[str, Any], cluster: Iterable[str]) -> bool:
    """Return whether genes come from the store alone.

    The command line says so; else the environment, if nothing on the command line is about
    files. With a store of the settings an atlas does what it can by itself.
    """
    if is_given("store"):
        return True
    if any(map(is_given, (*_OF_FILES, *cluster))):
        return False
    source = click.get_current_context().get_parameter_source("store")
    is_set = source == click.core.ParameterSource.ENVIRONMENT
    return is_set or not (options["download_base"] or options["h5ad"])


def _dry_run(genes: list[str | Path], output: str, options: dict[str, Any]) -> None:
    names = ("normalization", "columns", *_CHOICES, "block_size")
    annotate = list(options["annotate"])
    asked = {name: options[name] for name in names}
    atlas = open_atlas(options)
    found = atlas.estimate(genes, output, format=options["format_"], annotate=annotate, **asked)
    show(lambda: str(found), found.to_json)


def _from_store(
    genes: list[str | Path],
    output: str,
    options: dict[str, Any],
    cluster: dict[str, Any],
) -> None:
    """Extract from a store; what is said of files and clusters has no meaning there."""
    from abc_dask.plan.request import Request
    from abc_dask.results.gene_store import require_store
    from abc_dask.results.store_view import view_of_store

    no_use = ("dataset", "metadata", "gene_directory", "taxonomy", "fetch", "plan_only", "dry_run")
    given = [name for name in (*no_use, *cluster) if is_given(name)]
    if given:
        option = "--" + given[0].replace("_", "-")
        raise UsageError(f"{option} has no meaning with --store; leave it out")
    names = ("normalization", "columns", *_CHOICES)
    annotate = list(options["annotate"])
    request = Request.of(genes, annotate=annotate, **{name: options[name] for name in names})
    made = view_of_store(require_store(options["store"]), request)
    view = made.extract(output, options["format_"], overwrite=options["overwrite"])
    show_view(view)


def _plan_only(atlas: Atlas, genes: list[str | Path], output: str, options: dict[str, Any]) -> None:
    from abc_dask.base.messages import plural
    from abc_dask.run.extraction import check_output
    from abc_dask.run.job_array import write_plan

    overwrite = options["overwrite"]
    path, format_ = check_output(output, options["format_"], overwrite=overwrite)
    names = ("normalization", "columns", *_CHOICES, "block_size")
    annotate = list(options["annotate"])
    plan = atlas.plan(genes, annotate=annotate, **{name: options[name] for name in names})
    todo = write_plan(plan, path, format_, overwrite=overwrite)
    name = shlex.quote(output)
    echo(
        f"{plural(len(plan.blocks), 'block')}, {todo:,} to do: "
        f"abc-dask extract-part {name} --index I --of N for each I from 0 to N-1, "
        f"then abc-dask finalize {name}"
    )


def _open_and_agree(options: dict[str, Any], *, yes: bool) -> Atlas:
    """Open an atlas that need not be on disk, and ask before much is fetched."""
    from abc_dask.cli.fetch import agree_to_fetch
    from abc_dask.release.selection import CellChoice

    if options["cells"] == "-":
        raise UsageError("--fetch reads --cells-from twice; give a file, not standard input")
    selection = {name: options[name] for name in _CHOICES if name != "genes_column"}
    choice = CellChoice.of_options(**selection)
    columns = [*options["annotate"], *(choice.columns if choice else ())]
    atlas = open_atlas(options, remote=True, columns=columns)
    files = atlas.matrix_files(options["normalization"], **selection)
    agree_to_fetch(atlas, files, yes=yes)
    return atlas
