"""Pictures of a view, a store or markers: plot umap, sections, heatmap, dots, violins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from abc_dask.base.errors import UsageError
from abc_dask.cli.command import group, show_written
from abc_dask.cli.opened import columns_of, open_genes
from abc_dask.cli.options import by_option, limits, missing_option, names_option, view_base, where
from abc_dask.cli.parameters import options_of

# Options of all pictures.
picture_options = options_of(
    click.option(
        "-o",
        "--output",
        required=True,
        metavar="F",
        help="F.png, F.pdf or F.svg; a picture that is there is replaced.",
    ),
    limits,
    click.option(
        "--width", type=float, metavar="CM", help="8.5 for one panel, 17.8 for more by default."
    ),
    click.option("--dpi", type=int, default=300, show_default=True, help="Pixels an inch."),
    view_base,
)

colormap = click.option(
    "--colormap",
    default="expression",
    show_default=True,
    metavar="NAME",
    help="For numbers: 'expression', from pale to dark, or one of matplotlib's.",
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

# Options that name the columns of places.
places_options = options_of(
    *(
        click.option(
            f"--{name}",
            default=name,
            show_default=True,
            metavar="COLUMN",
            help=f"Column of places, such as ccf_coordinates.{name}",
        )
        for name in ("x", "y")
    )
)

# Options of pictures by group.
groups_options = options_of(
    by_option(),
    names_option("--genes", metavar="GENE,...", help="Some of the view's; all by default."),
    missing_option("are the last group"),
    where,
)

# Options of pictures with a row a group, a column a gene.
table_options = options_of(
    click.option(
        "--markers",
        metavar="M",
        help="Draw the best genes of this table of markers, in place of --genes.",
    ),
    click.option("--top", type=int, default=3, show_default=True, help="Markers of each group."),
    names_option("--group", "groups", metavar="NAME", help="Of MARKERS only these groups."),
    click.option(
        "--brackets",
        metavar="COLUMN",
        help="Put groups together by a column of which each has one term, such as class for "
        "subclasses.",
    ),
    click.option(
        "--cluster",
        type=click.Choice(["groups", "genes", "both", "none"]),
        default="none",
        show_default=True,
        help="Put similar ones side by side, with a tree; else in the order of the taxonomy.",
    ),
    click.option(
        "--scale",
        type=click.Choice(["none", "zscore", "max"]),
        default="none",
        show_default=True,
        help="Each gene's colours: z-scores over the groups, or shares of its highest group.",
    ),
    colormap,
)


@group()
def plot() -> None:
    """Draw pictures of a finished view, of genes of a store, or of markers."""


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
@colormap
@picture_options
def umap(out: str, output: str, color: tuple[str, ...], **options: Any) -> None:
    """Draw all cells of the UMAP: a pixel has the mean, or the most frequent term, of its cells.

    A gene's zeros are light grey, and values rise from pale to dark. More than 20 terms are
    labelled on the map, others listed beside it in the atlas's colours.
    """
    _save(out, output, color, lambda view, names: view.plot.umap(names, **options), "--color")


@plot.command()
@click.argument("out", metavar="VIEW|STORE|MARKERS")
@groups_options
@click.option(
    "--statistic",
    type=click.Choice(["mean", "fraction", "median", "count", "sum", "std"]),
    default="mean",
    show_default=True,
)
@table_options
@picture_options
def heatmap(out: str, output: str, **options: Any) -> None:
    """Draw a statistic by group: a row a group, a column a gene.

    Of MARKERS, a table that abc-dask markers wrote, the means of the best genes of each group.
    """
    _save_table("heatmap", out, output, **options)


@plot.command()
@click.argument("out", metavar="VIEW|STORE|MARKERS")
@groups_options
@table_options
@picture_options
def dots(out: str, output: str, **options: Any) -> None:
    """Draw dots by group: size the fraction of expressing cells, colour the mean of all.

    Of MARKERS, a table that abc-dask markers wrote, the best genes of each group.
    """
    _save_table("dots", out, output, **options)


@plot.command()
@click.argument("out", metavar="VIEW|STORE")
@groups_options
@picture_options
def violins(
    out: str, output: str, by: tuple[str, ...], genes: tuple[str, ...], **options: Any
) -> None:
    """Draw the distribution of each gene by group, with quartiles; all cells count."""
    columns = _named(by)
    _save(
        out,
        output,
        genes,
        lambda view, names: view.plot.violins(columns, genes=names or None, **options),
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
@colormap
@picture_options
def sections(
    out: str, output: str, color: tuple[str, ...], sections: tuple[str, ...], **options: Any
) -> None:
    """Draw the cells of brain sections, y downwards, for spatial datasets.

    Of one --color a panel a section; of several a row a section and a column a colour.
    """
    options["sections"] = list(sections) or None
    _save(out, output, color, lambda view, names: view.plot.sections(names, **options), "--color")


def _named(by: Sequence[str]) -> list[str]:
    if not by:
        raise UsageError("name the column that makes the groups with --by")
    return list(by)


def _save_table(
    kind: str,
    out: str,
    output: str,
    *,
    by: tuple[str, ...],
    genes: tuple[str, ...],
    markers: str | None,
    top: int,
    groups: tuple[str, ...],
    **options: Any,
) -> None:
    """Draw a table of groups by genes, of a view, a store or markers."""
    from abc_dask.analysis.marker_table import is_marker_table, top_markers
    from abc_dask.analysis.plots.canvas import picture_path

    if "://" not in out and is_marker_table(out):
        given = {"--by": by, "--genes": genes, "--markers": markers}
        _save_markers(kind, out, output, given, top=top, groups=groups, **options)
        return
    columns = _named(by)
    if groups:
        raise UsageError("--group chooses groups of a table of markers; use --where")
    if markers is None:

        def draw(view: Any, names: list[str]) -> Any:
            return getattr(view.plot, kind)(columns, genes=names or None, **options)

        _save(out, output, genes, draw)
        return
    if genes:
        raise UsageError("name --genes or --markers, not both")
    path = picture_path(output)  # before any work
    best = [one.identifier for one in top_markers(markers, top)]
    plots = open_genes(out, best, "--markers").plot
    picture = getattr(plots, kind)(columns, markers=markers, top=top, **options)
    show_written(picture.save(path))


def _save_markers(
    kind: str,
    out: str,
    output: str,
    given: dict[str, Any],
    *,
    groups: Sequence[str],
    **options: Any,
) -> None:
    """Draw the table of markers itself: there are no cells to group or to choose."""
    from abc_dask.analysis.plots.canvas import picture_path
    from abc_dask.analysis.plots.marker_accessor import MarkerPlots

    given |= {f"--{name}": options.pop(name) for name in ("where", "brackets")}
    given["--statistic"] = options.pop("statistic", "mean") != "mean"
    wrong = next((name for name, value in given.items() if value), None)
    if wrong:
        raise UsageError(
            f"{wrong} needs cells, and {out} is a table of markers; draw VIEW or STORE with "
            f"--markers {out}"
        )
    for name in ("missing", "download_base"):
        options.pop(name)
    path = picture_path(output)
    picture = getattr(MarkerPlots(out), kind)(groups=list(groups) or None, **options)
    show_written(picture.save(path))


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
