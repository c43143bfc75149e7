"""Commands that look at an atlas: matrices, genes."""

from __future__ import annotations

import json
from typing import Any

import click

from abc_dask.cli.command import command, echo
from abc_dask.cli.common import wants_json
from abc_dask.cli.options import atlas_options, names_argument, normalization, open_atlas


@command()
@atlas_options
@normalization
def matrices(normalization: str, **options: Any) -> None:
    """List the feature matrices that hold the cells of a metadata directory."""
    table = open_atlas(options).list_matrices(normalization)
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
    from abc_dask.errors import GeneError
    from abc_dask.messages import nearest, text_table

    atlas = open_atlas(options)
    found = {text: atlas.search_genes(text) for text in texts}
    if wants_json():
        records = {
            text: json.loads(table.reset_index().to_json(orient="records"))
            for text, table in found.items()
        }
        echo(json.dumps(records, indent=1))
    else:
        rows = []
        for text, table in found.items():
            for identifier, row in table.head(most).iterrows():
                note = "ambiguous: ask by identifier" if row["ambiguous"] else ""
                rows.append([text, row["gene_symbol"], identifier, note])
            if len(table) > most:
                rows.append([text, "...", f"{len(table) - most:,} more", ""])
        if rows:
            echo(text_table(["text", "gene_symbol", "gene_identifier", ""], rows, "<<<<"))
    unknown = [text for text, table in found.items() if table.empty]
    if unknown:
        symbols = atlas.genes["gene_symbol"].dropna()
        hints = [f"{text!r}{nearest(text, symbols)}" for text in unknown]
        raise GeneError(f"no gene's symbol or identifier contains {' or '.join(hints)}")
