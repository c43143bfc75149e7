"""Commands that look at the cells of an atlas without its genes: columns, table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from abc_dask.base.errors import UsageError
from abc_dask.cli.command import command, echo, show, show_made
from abc_dask.cli.common import wants_json
from abc_dask.cli.options import (
    atlas_options,
    cells_options,
    names_argument,
    names_option,
    open_atlas,
)

if TYPE_CHECKING:
    import pandas as pd

_CHOICE = ("where", "cells", "cells_column", "skip_unknown")


@command()
@click.argument("column", required=False)
@atlas_options
def columns(column: str | None, **options: Any) -> None:
    """List the columns that can be asked for, and where each is from; or the terms of COLUMN."""
    from abc_dask.base.messages import text_table

    atlas = open_atlas(options)
    table = atlas.columns if column is None else atlas.terms(column)
    if wants_json():
        echo(json.dumps(_records(table), indent=1))
        return
    if column is None:
        rows = [
            [str(name), *map(str, row)]
            for name, row in zip(table.index, table.to_numpy(), strict=True)
        ]
        echo(text_table(["column", "source", "joined by"], rows, "<<<"))
        return
    rows = [
        [term, f"{count:,}", color]
        for term, count, color in zip(table.index, table["n_cells"], table["color"], strict=True)
    ]
    without = len(atlas.cells) - int(table["n_cells"].sum())
    if without:
        rows.append(["(without)", f"{without:,}", ""])
    echo(text_table([column, "cells", "colour"], rows, "<><"))


@command()
@names_argument("columns", metavar="[COLUMN]...")
@atlas_options
@cells_options
@click.option("--skip-unknown", is_flag=True, help="Leave out cells that are unknown.")
@names_option("--count-by", metavar="COLUMN[,COLUMN]", help="Count the cells by their terms.")
@click.option("-o", "--output", metavar="T.csv|T.parquet", help="What to write.")
@click.option("--overwrite", is_flag=True, help="Replace the output.")
def table(
    columns: tuple[str, ...],
    count_by: tuple[str, ...],
    output: str | None,
    overwrite: bool,  # noqa: FBT001 - a flag
    **options: Any,
) -> None:
    """Write the COLUMNs of cells as a table, or count cells by terms; no gene is read."""
    from abc_dask.base.messages import plural
    from abc_dask.run.cell_rows import require_table, write_counts

    asked = list(columns)
    if bool(asked) == bool(count_by):
        raise UsageError("name the columns of the table, or give --count-by")
    if asked and output is None:
        raise UsageError("a table of cells may be long; name a file with --output")
    if output is not None and not overwrite:
        require_table(output, (), overwrite=False)
    chosen: Any = {name: options[name] for name in _CHOICE}
    rows = open_atlas(options).cell_rows(asked or list(count_by), **chosen)
    if asked and output is not None:
        rows.write(output, overwrite=overwrite)
    elif output is not None:
        write_counts(rows.counts(), output, overwrite=overwrite)
    else:
        counts = rows.counts()
        show(lambda: _counts_text(counts), lambda: _records(counts))
        return
    record = {"written": output, "cells": rows.n_cells}
    show_made(lambda: f"{output}: {plural(rows.n_cells, 'cell')}", lambda: record)


def _records(table: pd.DataFrame) -> Any:
    return json.loads(table.reset_index().to_json(orient="records"))


def _counts_text(counts: pd.DataFrame) -> str:
    """Return counts as text; terms without a cell are left out."""
    from abc_dask.base.messages import text_table

    kept = counts.loc[counts.any(axis=1).to_numpy(), counts.any().to_numpy()]
    heads = [str(counts.index.name), *kept.columns.astype(object).fillna("(without)")]
    rows = [
        [str(term), *(f"{n:,}" for n in row)]
        for term, row in zip(
            kept.index.astype(object).fillna("(without)"), kept.to_numpy().tolist(), strict=True
        )
    ]
    return text_table(heads, rows, "<" + ">" * len(kept.columns))
