"""Pictures of a view: plot umap, heatmap, dots, sections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from abc_dask.cli.command import group, show_written
from abc_dask.cli.opened import columns_of, open_genes
from abc_dask.cli.options import limits, names_option

Command = TypeVar("Command", bound=Callable[..., Any])


def picture_options(command: Command) -> Command:
    """Add the options of all pictures."""
    options = [
        click.option(
            "-o",
            "--output",
            required=True,
            metavar="F",
            help="F.png, F.pdf or F.svg; a picture that is there is replaced.",
        ),
        limits,
        click.option(
            "--colormap",
            default="expression",
            show_default=True,
            metavar="NAME",
            help="For numbers: 'expression', from pale to dark, or one of matplotlib's.",
        ),
        click.option(
            "--width", type=float, metavar="CM", help="8.5 for one panel, 17.8 for more by default."
        ),
        click.option("--dpi", type=int, default=300, show_default=True, help="Pixels an inch."),
        download_base,
    ]
    for option in reversed(options):
        command = option(command)
    return command


download_base = click.option(
    "--download-base",
    metavar="DIR",
    help="Where the atlas lies now, if it was moved.",
)

palette = click.option(
    "--palette",
    type=click.Choice(["atlas", "distinct"]),
    default="atlas",
    show_default=True,
    help="Colours of terms: the atlas's, or this package's own.",
)


same_scale = click.option(
    "--same-scale", is_flag=True, help="One colour scale for all genes, as --limits makes one."
)


def places_options(command: Command) -> Command:
    """Add the options that name the columns of places."""
    for name in ("y", "x"):
        command = click.option(
            f"--{name}",
            default=name,
            show_default=True,
            metavar="COLUMN",
            help="Column of places, such as ccf_coordinates." + name,
        )(command)
    return command


def groups_options(command: Command) -> Command:
    """Add the options of pictures by group."""
    options = [
        names_option(
            "--by",
            required=True,
            metavar="COLUMN",
            help="Column of terms that makes the groups; several make all their combinations.",
        ),
        names_option("--genes", metavar="GENE,...", help="Some of the view's; all by default."),
        click.option(
            "--missing",
            type=click.Choice(["group", "drop"]),
            default="group",
            show_default=True,
            help="Cells without a term are the last group, or left out.",
        ),
        click.option("--where", metavar="CONDITION", help="Only cells that fit, as for extract."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@group()
def plot() -> None:
    """Draw pictures of a finished view, or of genes of a store."""


@plot.command()
@click.argument("out", metavar="VIEW|STORE")
@names_option(
    "--color",
    required=True,
    metavar="NAME",
    help="A gene of the view or an annotation; several make several panels.",
)
@click.option(
    "--embedding",
    metavar="NAME",
    help="Table with x and y, such as UMAP20230830-Pallium-Glut, or array of an h5ad file.",
)
@places_options
@palette
@same_scale
@picture_options
def umap(out: str, output: str, color: tuple[str, ...], **options: Any) -> None:
    """Draw all cells of the UMAP: a pixel has the mean, or the most frequent term, of its cells."""
    _save(out, output, color, lambda view, names: view.plot.umap(names, **options), "--color")


@plot.command()
@click.argument("out", metavar="VIEW|STORE")
@groups_options
@click.option(
    "--statistic",
    type=click.Choice(["mean", "fraction", "median", "count", "sum", "std"]),
    default="mean",
    show_default=True,
)
@picture_options
def heatmap(out: str, output: str, by: tuple[str, ...], **options: Any) -> None:
    """Draw a statistic by group: a row a group, a column a gene."""
    asked = options.pop("genes")
    _save(
        out,
        output,
        asked,
        lambda view, genes: view.plot.heatmap(list(by), genes=genes or None, **options),
    )


@plot.command()
@click.argument("out", metavar="VIEW|STORE")
@groups_options
@picture_options
def dots(out: str, output: str, by: tuple[str, ...], **options: Any) -> None:
    """Draw dots by group: size the fraction of expressing cells, colour the mean of all."""
    asked = options.pop("genes")
    _save(
        out,
        output,
        asked,
        lambda view, genes: view.plot.dots(list(by), genes=genes or None, **options),
    )


@plot.command()
@click.argument("out", metavar="VIEW|STORE")
@names_option(
    "--color",
    required=True,
    metavar="NAME",
    help="A gene of the view or an annotation; several make a column each.",
)
@names_option(
    "--section",
    "sections",
    metavar="NAME",
    help="Only this brain_section_label; may be given several times.",
)
@places_options
@palette
@same_scale
@click.option(
    "--unit",
    metavar="UNIT",
    help="Of x and y, for the scale bar; mm in the atlas's spatial datasets; 'none' for no bar.",
)
@picture_options
def sections(
    out: str, output: str, color: tuple[str, ...], sections: tuple[str, ...], **options: Any
) -> None:
    """Draw the cells of brain sections, y downwards, for spatial datasets."""
    options["sections"] = list(sections) or None
    _save(out, output, color, lambda view, names: view.plot.sections(names, **options), "--color")


def _save(
    out: str,
    output: str,
    names: Sequence[str],
    draw: Callable[[Any, list[str]], Any],
    option: str = "--genes",
) -> None:
    from abc_dask.analysis.plots.canvas import picture_path

    path = picture_path(output)  # before any work
    view = open_genes(out, names, option)
    show_written(draw(view, columns_of(view, names)).save(path))
