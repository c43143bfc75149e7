"""Markers and pseudobulks as text and JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from abc_dask.base.messages import enumerate_names, plural, text_table

if TYPE_CHECKING:
    from abc_dask.analysis.markers import Markers
    from abc_dask.analysis.pseudobulk import Pseudobulk

# Names that a line lists.
_NAMED = 5

_LACKS = "without a term"


def markers_text(markers: Markers, top: int) -> str:
    """Return the best markers of each group as a table for a terminal, and what was compared."""
    last = {"wilcoxon": "auroc", "pairwise": "reference"}.get(markers.method)
    header = ["group", "gene", "score", "log2 fold", "p adjusted", "in", "outside"]
    rows = []
    for group in markers.groups:
        for row in markers.of_group(group, top).itertuples(index=False):
            line = [
                group,
                row.gene_symbol or row.names,
                f"{row.scores:.2f}",
                f"{row.logfoldchanges:.2f}",
                f"{row.pvals_adj:.2g}",
                f"{row.pct_nz_group:.3f}",
                f"{row.pct_nz_reference:.3f}",
            ]
            if last:
                value = getattr(row, last)
                line.append(value if isinstance(value, str) else f"{value:.3f}")
            rows.append(line)
    header += [last] if last else []
    align = "<<" + ">" * 5 + ("<" if last == "reference" else ">")
    lines = [text_table(header, rows, align[: len(header)]), ""]
    lines.append(
        f"cells    {markers.n_cells:,}; {plural(len(markers.groups), 'group')} versus "
        f"{markers.versus}, by {markers.method}, {plural(len(markers.genes), 'gene')}"
    )
    if markers.few:
        names = enumerate_names(markers.few, most=_NAMED)
        lines.append(f"too few  {plural(len(markers.few), 'group')} not tested: {names}")
    lines += _left_out(markers, "in no list" if "lists" in markers.provenance else _LACKS)
    if markers.n_absent:
        lines.append(
            f"absent   {plural(markers.n_absent, 'gene')} without a value in some cells: "
            "in no test of them, not zero"
        )
    return "\n".join(lines)


def markers_record(markers: Markers, top: int) -> dict[str, Any]:
    """Return the best markers as values for JSON; what is missing is null."""
    table = markers.to_pandas(top).astype(object)
    return {
        "method": markers.method,
        "versus": markers.versus,
        "cells": markers.n_cells,
        "cells_missing": markers.n_missing,
        "cells_left_out": markers.n_left_out,
        "groups_with_too_few_cells": list(markers.few),
        "genes": len(markers.genes),
        "genes_absent_in_some_cells": markers.n_absent,
        "markers": table.where(table.notna(), None).to_dict("records"),
    }


def pseudobulk_text(pseudobulk: Pseudobulk) -> str:
    """Return what was summed and what was left out, for a terminal."""
    record = pseudobulk_record(pseudobulk)
    genes, cells = plural(record["genes"], "gene"), plural(record["cells"], "cell")
    samples = plural(record["samples"], "sample")
    lines = [f"sums     {record['rows']:,} rows x {genes} of {cells} in {samples}"]
    if pseudobulk.n_few:
        groups = plural(pseudobulk.n_few, "group")
        least = plural(record["min_cells"], "cell")
        cells = plural(pseudobulk.n_few_cells, "cell")
        lines.append(f"too few  {groups} of fewer than {least}, {cells} in all: left out")
    lines += _left_out(pseudobulk)
    if pseudobulk.absent:
        names = enumerate_names(pseudobulk.absent, most=_NAMED)
        lines.append(
            f"absent   {plural(len(pseudobulk.absent), 'gene')} left out that some cells have no "
            f"value of: {names}"
        )
    return "\n".join(lines)


def pseudobulk_record(pseudobulk: Pseudobulk) -> dict[str, Any]:
    """Return the same as values for JSON."""
    table = pseudobulk.table
    return {
        "rows": len(table.obs),
        "genes": len(table.var),
        "samples": int(table.obs[table.info["sample"]].nunique()),
        "cells": int(table.obs["cells"].sum()),
        "min_cells": table.info["min_cells"],
        "groups_with_too_few_cells": pseudobulk.n_few,
        "cells_of_these": pseudobulk.n_few_cells,
        "cells_missing": pseudobulk.n_missing,
        "cells_left_out": pseudobulk.n_left_out,
        "genes_absent": list(pseudobulk.absent),
        "columns": list(table.obs.columns),
    }


def _left_out(found: Markers | Pseudobulk, lacks: str = _LACKS) -> list[str]:
    lines = []
    if found.n_left_out:
        lines.append(f"where    {plural(found.n_left_out, 'cell')} left out by the condition")
    if found.n_missing:
        lines.append(f"missing  {plural(found.n_missing, 'cell')} {lacks}")
    return lines
