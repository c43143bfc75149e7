"""What is printed at the end: the counts that a scientist would check."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abc_dask.base.columns import METADATA_DIRECTORY
from abc_dask.base.messages import enumerate_names, format_bytes, plural, text_table
from abc_dask.cli.common import is_verbose

if TYPE_CHECKING:
    import pandas as pd

    from abc_dask.results.view import View
    from abc_dask.run.subset import Subset

MATRIX = "feature matrix"


def matrices_text(matrices: pd.DataFrame) -> str:
    """Return `Atlas.feature_matrices` as a table for a terminal, with a line of sums."""
    rows: list[list[Any]] = []
    several = [name for name in matrices.index.names if name == METADATA_DIRECTORY]
    for matrix in matrices.reset_index().to_dict("records"):
        known = str(matrix["cell_count"]).isdigit()  # or only labels can tell
        rows.append(
            [
                *(matrix[name] for name in several),
                matrix["dataset_label"],
                matrix["feature_matrix_label"],
                int(matrix["cell_count"]) if known else "?",
                format_bytes(matrix["size"]),
                "present" if matrix["present"] else "missing",
                matrix["file"],
            ]
        )
    header = ["dataset_label", "feature_matrix_label", "cells", "size", "state", "file"]
    header = [*several, *header]
    n_missing = int((~matrices["present"]).sum())
    total = (
        f"{plural(len(matrices), MATRIX)}, "
        f"{plural(int(matrices['cell_count'].fillna(0).sum()), 'cell')}, "
        f"{format_bytes(int(matrices['size'].sum()))}, {n_missing:,} missing"
    )
    return f"{text_table(header, rows, '<' * len(several) + '<<>><<')}\n{total}"


def extraction_text(view: View) -> str:
    """Return a summary of an extraction: cells, rows, genes, seconds, bytes a second.

    Matrices have a line each with ``--verbose``; otherwise those that lack cells.
    """
    info = view.info
    run = info["run"]
    rows = [
        [
            matrix["feature_matrix_label"],
            matrix["cells_asked"],
            matrix["cells_found"],
            matrix["cells_missing"],
            matrix["rows_without_metadata"],
            f"{matrix['task_seconds']:.2f}",
            f"{_rate(matrix['bytes_read'], matrix['task_seconds'])}",
        ]
        for matrix in info["matrices"]
        if matrix["cells_missing"] or is_verbose()
    ]
    header = [
        "feature_matrix_label",
        "cells asked",
        "found",
        "missing",
        "rows without metadata",
        "seconds",
        "read",
    ]
    kept = run["blocks_kept_from_earlier_run"]
    done = info["counts"]["blocks"] - kept
    speed = (
        f"{run['seconds']:.2f} s for {plural(done, 'block')}"
        + (f" ({kept:,} kept from an earlier run)" if kept else "")
        + f", {format_bytes(run['bytes_read'])} of stored values, "
        f"{_rate(run['bytes_read'], run['seconds'])}, "
        f"{info['counts']['cells'] / max(run['seconds'], 1e-9):,.0f} cells/s"
    )
    table = [text_table(header, rows, "<>>>>>>"), ""] if rows else []
    return "\n".join([*table, view_text(view), f"time     {speed}"])


def view_text(view: View) -> str:
    """Return a summary of a view: what it holds and where it is from."""
    from abc_dask.release.release import release_text

    info, counts = view.info, view.info["counts"]
    size = format_bytes(sum(file["size"] for file in info["files"]))
    files, matrices = plural(len(info["files"]), "file"), plural(len(info["matrices"]), MATRIX)
    source = f"{info['metadata']}, {info['normalization']}"
    asked, found, missing = (counts[n] for n in ("cells_asked", "cells", "cells_missing"))
    lines = [
        f"view     {view.path} ({view.format}, {files}, {size})",
        f"source   {release_text(info)}, {source}, {matrices}",
        f"genes    {len(info['genes']):,}: {enumerate_names(view.columns, most=20)}",
        *gene_list_lines(info.get("gene_list")),
        f"cells    {asked:,} asked, {found:,} found, {missing:,} missing",
    ]
    if counts["cells_without_matrix"]:
        missing = plural(counts["cells_without_matrix"], "cell")
        lines.append(f"         of the missing, {missing} without a feature matrix")
    lines += [f"chosen   {line}" for line in selection_lines(info.get("selection"))]
    left_out = plural(counts["rows_without_metadata"], "row")
    lines.append(f"rows     {left_out} without metadata left out")
    lines += [
        f"absent   {gene['column']} ({gene['gene_identifier']}) is not in "
        f"{enumerate_names(gene['absent_in'], most=5)}: missing there, not zero"
        for gene in info["genes"]
        if gene["absent_in"]
    ]
    lines += [
        f"notes    {a.name}: "
        + ("numbers" if a.terms is None else plural(len(a.terms), "term"))
        + f", {plural(a.n_missing, 'cell')} without"
        + (f" ({a.source} by {', '.join(a.joined_by)})" if a.joined_by else "")
        for a in view.annotations
    ]
    unverified = sum(not matrix["md5_verified"] for matrix in info["matrices"])
    if unverified:
        checked = plural(unverified, "input file")
        lines.append(f"inputs   {checked} checked by size, not by the manifest's hash")
    lines.append(f"content  {info['content']}")
    return "\n".join(lines)


def subset_text(subset: Subset) -> str:
    """Return a summary of chosen cells: what they are and where they are from."""
    from abc_dask.release.release import release_text

    info, counts, run = subset.info, subset.info["counts"], subset.info["run"]
    asked, found, missing = (counts[n] for n in ("cells_asked", "cells", "cells_missing"))
    source = f"{info['metadata']}, {info['normalization']}"
    lines = [
        f"cells    {subset.path}",
        f"source   {release_text(info)}, {source}, {plural(len(info['matrices']), MATRIX)}",
        f"cells    {asked:,} asked, {found:,} found, {missing:,} missing",
        *(f"chosen   {line}" for line in selection_lines(info.get("selection"))),
        f"genes    {counts['genes']:,}",
        *gene_list_lines(info.get("gene_list")),
    ]
    if counts["genes_not_in_common"]:
        lines.append(f"         {counts['genes_not_in_common']:,} left out: not in all matrices")
    if counts["genes_absent_somewhere"]:
        absent = plural(counts["genes_absent_somewhere"], "gene")
        lines.append(f"absent   {absent} not in all matrices: NaN there, not zero")
    read = format_bytes(run["bytes_read"])
    lines.append(
        f"time     {run['seconds']:.2f} s for {plural(counts['blocks'], 'block')}, {read} read"
    )
    return "\n".join(lines)


def selection_lines(selection: dict[str, Any] | None) -> list[str]:
    """Return how cells were chosen, and how many."""
    if selection is None:
        return []
    of_all = f"{selection['cells_chosen']:,} of {plural(selection['cells_in_metadata'], 'cell')}"
    lines = []
    if selection["where"] is not None:
        lines.append(f"{of_all}: {' '.join(selection['where'].split())}")
    if "labels_asked" in selection:
        lines.append(
            f"{of_all}, out of {plural(selection['labels_asked'], 'label')} "
            f"({selection['labels_unknown']:,} unknown, {selection['labels_duplicate']:,} repeated)"
        )
        column = selection.get("cells_column")
        if column is not None:
            lines[-1] += f", column {column!r} of {selection['cells_from']}"
        if blank := selection.get("labels_blank"):
            lines.append(f"{plural(blank, 'row')} of the list without a label")
        if unknown := selection.get("unknown"):
            lines.append(f"unknown cells left out: {enumerate_names(unknown, most=10)}")
    return lines


def gene_list_lines(listed: dict[str, Any] | None) -> list[str]:
    """Return how a list of genes was read: from where, what stood again, what was left out."""
    if listed is None:
        return []
    lines = []
    for one in listed["genes_from"]:
        column = "" if one["column"] is None else f", column {one['column']!r}"
        lines.append(f"list     {one['file']}{column}")
    counts = f"{plural(listed['names_asked'], 'name')}, {listed['names_repeated']:,} repeated"
    blank = listed["names_blank"]
    without = f", {plural(blank, 'row')} without" if blank else ""
    if listed["genes_from"]:
        lines.append(f"names    {counts}{without}")
    if listed["read_as"]:
        shown = [f"{name} as {gene}" for name, gene in listed["read_as"].items()]
        lines.append(f"read     {enumerate_names(shown, most=10)}")
    if listed["names_unknown"]:
        unknown = plural(len(listed["names_unknown"]), "unknown name")
        lines.append(f"left out {unknown}: {enumerate_names(listed['names_unknown'], most=10)}")
    return lines


def _rate(size: float, seconds: float) -> str:
    return f"{format_bytes(size / seconds)}/s" if seconds > 0 else "-"


def next_steps(view: Path) -> str:
    """Return the commands that look at a view."""
    paths = (view, view.with_suffix(".html"), view.with_suffix(".h5ad"))
    name, page, copy = (shlex.quote(str(path)) for path in paths)
    code = f"import pandas; print(pandas.read_parquet({str(view)!r}).describe())"
    return "\n".join(
        [
            "where to look next:",
            f"  abc-dask explore {name}",
            f"  abc-dask report {name} -o {page}",
            f"  abc-dask view info {name}",
            f"  abc-dask view verify {name}",
            f"  abc-dask view export {name} {copy}",
            f"  python -c {shlex.quote(code)}",
        ]
    )
