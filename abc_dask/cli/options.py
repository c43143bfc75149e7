"""Options that several commands share."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abc_dask.base.errors import UsageError
from abc_dask.cli.command import echo, show_made
from abc_dask.cli.parameters import Command, ListArgument, Option, PairOption, options_of

if TYPE_CHECKING:
    from abc_dask.atlas import Atlas
    from abc_dask.release.manifest import FileEntry
    from abc_dask.results.view import View

_OPERATOR = re.compile(r"[=<>!&|]+|and|or|not|in")

_OF_RELEASES = ("release", "gene_directory", "dataset", "taxonomy", "orthologs")


_NO_BASE = (
    "no atlas is named: pass --download-base DIR{}, or set ABC_DASK_DOWNLOAD_BASE in the "
    "environment, or abc-dask.download-base in dask's configuration"
)


def _needed(_ctx: click.Context, _parameter: click.Parameter, value: Path | None) -> Path:
    """Return the folder of the atlas; where there is none, the error names all ways to it."""
    if value is None:
        raise UsageError(_NO_BASE.format(""))
    return value


def _several(_ctx: click.Context, _parameter: click.Parameter, value: Any) -> str | None:
    """Return names that were given once or more often as one text; None where there is none."""
    return ",".join(value) or None


normalization = click.option(
    "--normalization",
    cls=Option,
    shared=True,
    type=click.Choice(["log2", "raw"]),
    default="log2",
    show_default=True,
    help="log2(counts per million + 1), or counts.",
)


def names_option(*names: str, **attributes: Any) -> Callable[[Command], Command]:
    """Make an option that takes names, by commas or given again."""
    return click.option(*names, cls=Option, multiple=True, **attributes)


def names_argument(*names: str, **attributes: Any) -> Callable[[Command], Command]:
    """Make an argument that takes names, by commas or blanks."""
    return click.argument(*names, cls=ListArgument, **attributes)


layer = click.option(
    "--layer",
    default="X",
    show_default=True,
    metavar="X|raw/X|layers/NAME",
    help="Which matrix of each file.",
)

# Options that choose an atlas.
atlas_options = options_of(
    click.option(
        "--download-base",
        cls=Option,
        shared=True,
        metavar="DIR",
        help="Folder with releases/<version>/manifest.json and the files.",
    ),
    click.option(
        "--h5ad",
        cls=Option,
        paths=True,
        multiple=True,
        metavar="FOLDER|FILE",
        help="In place of --download-base: any h5ad files; obs is the metadata, var the genes.",
    ),
    layer,
    click.option(
        "--release",
        cls=Option,
        shared=True,
        metavar="V",
        help="Release; newest on disk by default.",
    ),
    click.option(
        "--metadata",
        cls=Option,
        shared=True,
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
        cls=Option,
        paths=True,
        multiple=True,
        metavar="F.csv",
        help="A CSV file of yours with a column cell_label, whose other columns can be named "
        "where those of the atlas can, such as MapMyCells results.",
    ),
)

# Options that choose cells.
cells_options = options_of(
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
)

# Options that name lists of genes, and what is done with unknown names.
genes_options = options_of(
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
)


block_size = click.option(
    "--block-size",
    metavar="BYTES",
    help="Stored values that one task reads, such as '512 MiB' (the default).",
)

where = click.option("--where", metavar="CONDITION", help="Only cells that fit, as for extract.")

view_base = click.option(
    "--download-base",
    metavar="DIR",
    help="Where the atlas of a view lies now, if it was moved.",
)


def by_option(*, required: bool = False) -> Callable[[Command], Command]:
    """Make the option for columns whose terms make groups."""
    return names_option(
        "--by",
        required=required,
        metavar="COLUMN",
        help="Column of terms that makes the groups; several make all their combinations.",
    )


def missing_option(where_they_are: str) -> Callable[[Command], Command]:
    """Make the option for cells without a term; help tells where they are if not left out."""
    return click.option(
        "--missing",
        type=click.Choice(["group", "drop"]),
        default="group",
        show_default=True,
        help=f"Cells without a term {where_they_are}, or are left out.",
    )


def output_options(name: str) -> Callable[[Command], Command]:
    """Add the options of what is made while its matrices may be fetched.

    Parameters
    ----------
    name : str
        The output, as help calls it.
    """
    return options_of(
        click.option(
            "--overwrite",
            is_flag=True,
            help=f"Replace {name}; it stays until the new one is complete.",
        ),
        click.option(
            "--fetch",
            is_flag=True,
            help="Fetch what is missing, matrix by matrix; one is read while the next is fetched.",
        ),
        click.option(
            "--discard",
            is_flag=True,
            help="With --fetch: remove each matrix file that it fetched once its values are safe.",
        ),
        click.option("--yes", is_flag=True, help="With --fetch: do not ask before a large fetch."),
    )


def asked_genes(names: tuple[str, ...], file: str | None) -> list[str | Path]:
    """Return the genes that were named, and the list in a file.

    Raises
    ------
    UsageError
        If a name is a file, or a part of a condition that the shell took apart.
    """
    for name in names:
        if _OPERATOR.fullmatch(name):
            raise UsageError(
                f"{name!r} is no gene; put the whole condition of --where in quotes, such as "
                "--where \"class == '01 IT-ET Glut'\""
            )
        if Path(name).suffix and Path(name).is_file():
            raise UsageError(f"{name!r} is a file; a list of genes is named by --genes-file {name}")
    return [*names, *([] if file is None else [Path(file)])]


annotate = names_option(
    "--annotate",
    metavar="COLUMN,...",
    help="Columns of the metadata or the taxonomy to add, such as class,x,y.",
)


def is_given(name: str) -> bool:
    """Return whether the command line itself says something, not the environment or settings."""
    source = click.get_current_context().get_parameter_source(name)
    return source == click.core.ParameterSource.COMMANDLINE


def open_atlas(
    options: dict[str, Any], *, remote: bool = False, columns: Iterable[str] = ()
) -> Atlas:
    """Open the atlas that `atlas_options` chose; a remote one need not be on disk.

    `columns` are those that will be asked for, as for `Atlas.remote`.
    """
    from abc_dask.atlas import Atlas

    if not options["download_base"] and not options["h5ad"]:
        raise UsageError(_NO_BASE.format(", or --h5ad FOLDER"))
    if options["h5ad"]:
        if is_given("download_base"):
            raise UsageError("--h5ad stands in place of --download-base; give one of them")
        wrong = [name for name in _OF_RELEASES if options[name] and is_given(name)]
        if wrong or remote:
            name = wrong[0].replace("_", "-") if wrong else "fetch"
            raise UsageError(f"--{name} is for releases of the atlas, not for --h5ad")
        kept = {name: options[name] for name in ("join", "layer")}
        kept["metadata"] = options["metadata"] if is_given("metadata") else None
        return Atlas.from_h5ad(options["h5ad"], **kept)
    names = ("download_base", "metadata", "join", "layer", *_OF_RELEASES)
    given = {name: options[name] for name in names}
    return Atlas.remote(**given, columns=columns) if remote else Atlas(**given)


limits = click.option(
    "--limits",
    cls=PairOption,
    metavar="LOW,HIGH",
    help="Ends of the colour scale of numbers, such as 0,6.",
)

base_option = click.option(
    "--download-base",
    cls=Option,
    shared=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder that mirrors the bucket: releases/<version>/manifest.json and the rest.",
)

needed_base_option = click.option(
    "--download-base",
    cls=Option,
    shared=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    callback=_needed,
    help="Folder that mirrors the bucket; created where it is missing.",
)

release_option = click.option(
    "--release",
    cls=Option,
    shared=True,
    metavar="VERSION",
    help="Release, such as 20250531; the newest by default.",
)


dry_run = click.option(
    "--dry-run",
    is_flag=True,
    help="Show what would be read, written and taken, and what is missing; make nothing.",
)


def show_view(view: View) -> None:
    """Print what a view that was made holds."""
    from abc_dask.cli.text import extraction_text

    show_made(lambda: extraction_text(view), lambda: view.provenance)


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
