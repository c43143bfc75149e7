"""Summaries as text, JSON, CSV and Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from abc_dask.analysis.group_table import TABLES, format_of_table, write_frames
from abc_dask.analysis.summary import Summary
from abc_dask.base.errors import PathError
from abc_dask.base.messages import enumerate_names, plural, text_table
from abc_dask.disk.files import cannot_write, replacing, sweep
from abc_dask.views.overwrite import refuse_existing

_NO_TERM = "(missing)"

# Genes up to which a table is printed.
_MOST_GENES = 100


def check_table(output: str | Path, *, overwrite: bool) -> Path:
    """Check the path of a table before any work.

    Raises
    ------
    UsageError
        If its suffix is not known.
    ViewError
        If something is there that may not be replaced.
    """
    place = Path(output).expanduser().absolute()
    format_of_table(place, TABLES)
    if place.is_dir():
        raise PathError(f"{place} is a folder; name a file")
    refuse_existing(place, overwrite=overwrite)
    return place


def write_summary(summary: Summary, place: Path) -> None:
    """Write the flat table, whole or not at all; floats to the last bit, missing terms empty.

    Raises
    ------
    ViewError
        If it cannot be written.
    """
    try:
        with replacing(place) as temporary:
            write_frames([summary.to_pandas()], temporary, format_of_table(place, TABLES))
        sweep(place.parent, place.name)
    except OSError as error:
        raise cannot_write(place, error) from error


def summary_record(summary: Summary) -> dict[str, Any]:
    """Return a summary as values for JSON; what is missing is null."""
    rows = summary.to_pandas()
    for name in rows.columns:
        rows[name] = rows[name].astype(object).where(rows[name].notna(), None)
    return {
        "by": list(summary.by),
        "statistics": list(summary.statistics),
        "genes": list(summary.genes),
        "missing": summary.missing,
        "cells": int(summary.cells.sum()),
        "cells_missing": summary.n_missing,
        "cells_left_out": summary.n_left_out,
        "cells_without_value": summary.n_absent,
        "groups": rows.to_dict("records"),
    }


def summary_text(summary: Summary) -> str:
    """Return a summary as a table for a terminal, with what it leaves out."""
    if len(summary.genes) > _MOST_GENES:
        return "\n".join(_counts(summary))
    table = summary.to_pandas()
    n_fixed = len(table.columns) - len(summary.genes)
    rows = [[_shown(value) for value in row] for row in table.itertuples(index=False)]
    header = [str(name) for name in table.columns]
    align = "".join(
        "<" if name in summary.by or name == "statistic" else ">" for name in header[:n_fixed]
    )
    table_text = text_table(header, rows, align + ">" * len(summary.genes))
    return "\n".join([table_text, "", *_counts(summary)])


def _counts(summary: Summary) -> list[str]:
    """Return the lines below the table: cells, and which are in no statistic."""
    lines = []
    n_cells = int(summary.cells.sum())
    lines.append(f"cells    {n_cells:,} in {plural(len(summary.cells), 'group')}")
    if summary.n_left_out:
        lines.append(f"where    {plural(summary.n_left_out, 'cell')} left out by the condition")
    if summary.n_missing:
        fate = f"the group {_NO_TERM}" if summary.missing == "group" else "left out"
        by = enumerate_names(summary.by)
        lines.append(f"missing  {plural(summary.n_missing, 'cell')} without {by}: {fate}")
    if len(summary.genes) > _MOST_GENES:
        lines.append(f"genes    {len(summary.genes):,}")
        if summary.n_absent:
            n_genes = plural(len(summary.n_absent), "gene")
            lines.append(
                f"absent   {n_genes} without a value in some cells: in no statistic, not zero"
            )
        return lines
    lines += [
        f"absent   {plural(n, 'cell')} without a value of {gene}: in no statistic of it, not zero"
        for gene, n in summary.n_absent.items()
    ]
    return lines


def _shown(value: Any) -> object:
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return _NO_TERM
    return f"{value:.4f}" if isinstance(value, float) else int(value)
