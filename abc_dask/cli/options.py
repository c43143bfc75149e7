"""Options that several commands share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from abc_dask.cli import VERBOSE
from abc_dask.cli.command import echo
from abc_dask.errors import UsageError

if TYPE_CHECKING:
    from abc_dask.atlas import Atlas
    from abc_dask.release.manifest import FileEntry

Command = TypeVar("Command", bound=Callable[..., Any])


_OF_RELEASES = ("release", "gene_directory", "dataset", "taxonomy", "orthologs")


def _remember(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001
    if value:
        ctx.meta[VERBOSE] = True


def _several(_ctx: click.Context, _parameter: click.Parameter, value: Any) -> str | None:
    """Return names that were given once or more often as one text; None where there is none."""
    return ",".join(value) or None


verbose = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    expose_value=False,
    callback=_remember,
    help="Show the traceback of an error.",
)

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

normalization = click.option(
    "--normalization",
    type=click.Choice(["log2", "raw"]),
    default="log2",
    show_default=True,
    help="log2(counts per million + 1), or counts.",
)


def atlas_options(command: Command) -> Command:
    """Add the options that choose an atlas."""
    options = [
        click.option(
            "--download-base",
            metavar="DIR",
            help="Folder with releases/<version>/manifest.json and the files.",
        ),
        click.option(
            "--h5ad",
            multiple=True,
            metavar="FOLDER|FILE",
            help="In place of --download-base: any h5ad files; obs is the metadata, var the genes.",
        ),
        click.option(
            "--layer",
            default="X",
            show_default=True,
            metavar="X|raw/X|layers/NAME",
            help="Which matrix of each file.",
        ),
        click.option("--release", metavar="V", help="Release; newest on disk by default."),
        click.option(
            "--metadata",
            multiple=True,
            metavar="NAME[,NAME]",
            callback=_several,
            help="Directory of cell_metadata, or several as one table; the only one, else "
            "WMB-10X, by default.",
        ),
        click.option(
            "--gene-directory",
            metavar="NAME[/TABLE]",
            help="Directory of the gene table; that of the cells by default.",
        ),
        click.option(
            "--dataset",
            metavar="NAME",
            help="Read this dataset's matrices instead of those that cell_metadata names.",
        ),
        click.option(
            "--taxonomy",
            metavar="NAME",
            help="Directory of the taxonomy; the one named like the metadata by default.",
        ),
        click.option(
            "--orthologs",
            is_flag=True,
            help="A gene stands for its one-to-one orthologs in the other species too, by the "
            "columns of the gene tables such as human_ortholog.",
        ),
        click.option(
            "--join",
            multiple=True,
            metavar="F.csv",
            help="A CSV file of yours with a column cell_label, whose other columns can be named "
            "where those of the atlas can, such as MapMyCells results.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def cells_options(command: Command) -> Command:
    """Add the options that choose cells."""
    options = [
        click.option(
            "--where",
            metavar="CONDITION",
            help="Only cells that match, such as \"class == '01 IT-ET Glut' and x > 3\": a "
            "pandas query on columns of the metadata.",
        ),
        click.option(
            "--cells-from",
            "cells",
            metavar="F",
            help="Only the cells of a list: labels, or a table with a column such as cell_label, "
            "cell_id (as MapMyCells writes) or abc_sample_id; - is standard input.",
        ),
        click.option(
            "--cells-column", metavar="NAME|N", help="Column of --cells-from, by name or number."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def genes_options(command: Command) -> Command:
    """Add the options that name lists of genes, and what is done with unknown names."""
    options = [
        click.option(
            "--genes-file",
            metavar="F",
            help="More genes: names, however many a line, or a table with a column such as gene, "
            "gene_symbol or names; # starts a comment; - is standard input.",
        ),
        click.option(
            "--genes-column", metavar="NAME|N", help="Column of --genes-file, by name or number."
        ),
        click.option(
            "--skip-unknown",
            is_flag=True,
            help="Leave out genes and cells that the release does not have, and report them.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def asked_genes(names: tuple[str, ...], file: str | None) -> list[str | Path]:
    """Return the genes that were named, and the list in a file."""
    return [*names, *([] if file is None else [Path(file)])]


annotate = click.option(
    "--annotate",
    multiple=True,
    metavar="COLUMN,...",
    help="Columns of the metadata or the taxonomy to add, such as class,x,y.",
)


def split_names(values: tuple[str, ...]) -> list[str]:
    """Return the names in values that may join several by commas."""
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


def open_atlas(options: dict[str, Any], *, remote: bool = False) -> Atlas:
    """Open the atlas that `atlas_options` chose; a remote one need not be on disk."""
    from abc_dask.atlas import Atlas

    if not options["download_base"] and not options["h5ad"]:
        raise click.UsageError("Missing option '--download-base', or '--h5ad'.")
    names = (
        "download_base",
        "release",
        "metadata",
        "gene_directory",
        "dataset",
        "taxonomy",
        "join",
        "layer",
        "orthologs",
    )
    if options["h5ad"]:
        if options["download_base"]:
            raise UsageError("--h5ad stands in place of --download-base; give one of them")
        wrong = [name for name in _OF_RELEASES if options[name]]
        if wrong or remote:
            name = wrong[0].replace("_", "-") if wrong else "fetch"
            raise UsageError(f"--{name} is for releases of the atlas, not for --h5ad")
        kept = {name: options[name] for name in ("metadata", "join", "layer")}
        return Atlas.from_h5ad(options["h5ad"], **kept)
    opened = Atlas.remote if remote else Atlas
    return opened(**{name: options[name] for name in names})


base_option = click.option(
    "--download-base",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder that mirrors the bucket: releases/<version>/manifest.json and the rest.",
)

needed_base_option = click.option(
    "--download-base",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    required=True,
    help="Folder that mirrors the bucket; created where it is missing.",
)

release_option = click.option(
    "--release", metavar="VERSION", help="Release, such as 20250531; the newest by default."
)

quiet_option = click.option("-q", "--quiet", is_flag=True, help="Show no progress.")


def write_json(value: Any) -> None:
    """Print a value as JSON."""
    echo(json.dumps(value, indent=2, ensure_ascii=False))


def entry_json(entry: FileEntry) -> dict[str, Any]:
    """Return what `--json` tells of a file of a release."""
    return {
        "dataset_label": entry.dataset_label,
        "kind": entry.kind,
        "tag": entry.tag,
        "normalization": entry.normalization,
        "relative_path": entry.relative_path,
        "size": entry.size,
        "file_hash": entry.file_hash,
    }
