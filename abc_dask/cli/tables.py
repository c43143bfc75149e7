"""Commands that look at an atlas: matrices, genes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from abc_dask.base.columns import METADATA_DIRECTORY
from abc_dask.cli.command import command, echo
from abc_dask.cli.common import is_quiet, wants_json
from abc_dask.cli.options import atlas_options, names_argument, normalization, open_atlas

if TYPE_CHECKING:
    import pandas as pd

    from abc_dask.atlas import Atlas, Atlases


@command()
@atlas_options
@normalization
def matrices(normalization: str, **options: Any) -> None:
    """List the feature matrices that hold the cells of a metadata directory, or of all."""
    table = _atlas_or_all(options).list_matrices(normalization)
    _note_left_out(table)
    if wants_json():
        records = json.loads(table.reset_index().to_json(orient="records"))
        echo(json.dumps(records, indent=1))
    else:
        from abc_dask.cli.text import matrices_text

        echo(matrices_text(table))


@command()
@names_argument("texts", metavar="TEXT...", required=True)
@atlas_options
@click.option("--most", default=20, show_default=True, help="Matches shown for a text.")
def genes(texts: tuple[str, ...], most: int, **options: Any) -> None:
    """Look up genes whose symbol or identifier contains TEXT; exact matches come first."""
    from abc_dask.base.messages import text_table

    atlas = _atlas_or_all(options)
    found = {text: atlas.search_genes(text) for text in texts}
    _note_left_out(found[texts[0]])
    if wants_json():
        records = {
            text: json.loads(table.reset_index().to_json(orient="records"))
            for text, table in found.items()
        }
        echo(json.dumps(records, indent=1))
    elif rows := [row for text, table in found.items() for row in _gene_rows(text, table, most)]:
        several = [METADATA_DIRECTORY] if len(rows[0]) > len(_GENE_COLUMNS) else []
        header = [_GENE_COLUMNS[0], *several, *_GENE_COLUMNS[1:]]
        echo(text_table(header, rows, "<" * len(header)))
    unknown = [text for text, table in found.items() if table.empty]
    if unknown:
        raise _unknown(unknown, atlas)


_GENE_COLUMNS = ("text", "gene_symbol", "gene_identifier", "")


def _gene_rows(text: str, table: pd.DataFrame, most: int) -> list[list[str]]:
    """Return the lines of what was found for a text; the first ones of each directory."""
    if table.index.nlevels == 1:
        return [[text, *row] for row in _first(table, most)]
    return [
        [text, str(name), *row]
        for name, found in table.groupby(level=0, sort=False)
        for row in _first(found.droplevel(0), most)
    ]


def _first(table: pd.DataFrame, most: int) -> list[list[str]]:
    rows = [
        [row["gene_symbol"], identifier, "ambiguous: ask by identifier" if row["ambiguous"] else ""]
        for identifier, row in table.head(most).iterrows()
    ]
    more = len(table) - most
    return [*rows, ["...", f"{more:,} more", ""]] if more > 0 else rows


def _unknown(texts: list[str], atlas: Atlas | Atlases) -> Exception:
    from abc_dask.base.errors import GeneError
    from abc_dask.base.messages import nearest

    tables = atlas.search_genes("")
    symbols = tables["gene_symbol"].dropna().unique()
    hints = [f"{text!r}{nearest(text, symbols)}" for text in texts]
    return GeneError(f"no gene's symbol or identifier contains {' or '.join(hints)}")


def _atlas_or_all(options: dict[str, Any]) -> Atlas | Atlases:
    """Open the atlas that was named, or all where a release has several and none was."""
    named = [options[name] for name in ("h5ad", "metadata", "gene_directory", "dataset")]
    if options["download_base"] and not any(named):
        from abc_dask.atlas import Atlases

        names = ("release", "taxonomy", "join", "layer", "orthologs")
        every = Atlases(options["download_base"], **{name: options[name] for name in names})
        if every:
            return every if len(every) > 1 else next(iter(every.values()))
    return open_atlas(options)


def _note_left_out(table: pd.DataFrame) -> None:
    """Print which directories are not in a table, and why the first one is not."""
    from abc_dask.base.messages import enumerate_names

    left_out = table.attrs.get("left_out")
    if left_out and not is_quiet():
        why = next(iter(left_out.values()))
        echo(f"abc-dask: note: without {enumerate_names(list(left_out))}: {why}", err=True)
