"""Tables of a page: what is in a view, where it is from, statistics by group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from abc_dask.analysis.plots.colors import COLORMAP, colormap_of
from abc_dask.analysis.report.legends import hexadecimal
from abc_dask.analysis.summary import Summary
from abc_dask.base.messages import enumerate_names, format_bytes, plural
from abc_dask.release.annotation import Annotation
from abc_dask.release.release import SYNTHETIC

if TYPE_CHECKING:
    from abc_dask.analysis.markers import Markers

MISSING = "(missing)"

TOP = 5  # markers of a group

_DARK = 0.179  # luminance below which white has more contrast than black (WCAG 2)


class Share(float):
    """A fraction, shown in percent."""


class Mean(float):
    """A mean, shown on its colour."""


@dataclass(frozen=True)
class Table:
    """Header and rows; the first column names the rows."""

    header: list[str]
    rows: list[list[Any]]
    missing: str = MISSING
    limits: tuple[float, float] = (0.0, 1.0)
    swatches: dict[str, str] = field(default_factory=dict)

    def is_number(self, column: int) -> bool:
        """Tell whether a column has only numbers."""
        return bool(self.rows) and all(isinstance(row[column], int | float) for row in self.rows)

    @staticmethod
    def text(value: Any) -> str:
        """Return a value as it is shown."""
        if isinstance(value, Share):
            return f"{value:.1%}"
        if isinstance(value, float):
            return f"{value:.3f}" if isinstance(value, Mean) else f"{value:.3g}"
        return f"{value:,}" if isinstance(value, int) else str(value)

    @staticmethod
    def rank(value: Any) -> str | None:
        """Return by what a number is sorted, where the text of it does not tell."""
        if isinstance(value, float):
            return "" if math.isnan(value) else repr(float(value))
        return str(value) if isinstance(value, int) else None

    def style(self, value: Any) -> str:
        """Return the look of a mean, on its colour, or of a fraction, a bar."""
        if not isinstance(value, Mean | Share) or math.isnan(value):
            return ""
        if isinstance(value, Share):
            return f"--share:{100 * value:.3g}%"
        color = color_of([value], self.limits)[0]
        return f"background:{color};color:{'#000' if _luminance(color) > _DARK else '#fff'}"


def _luminance(color: str) -> float:
    """Return the relative luminance of #RRGGBB, as WCAG 2 defines it."""
    channels = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def color_of(values: Sequence[float], limits: tuple[float, float]) -> list[str]:
    """Return the colours of means on a scale."""
    low, high = limits
    on_scale = np.clip((np.asarray(values) - low) / ((high - low) or 1.0), 0, 1)
    return hexadecimal(colormap_of(COLORMAP)(on_scale, bytes=True))


def statistics_table(
    summary: Summary, limits: tuple[float, float], colors: dict[str, str]
) -> Table:
    """Return means and fractions side by side, a row a group."""
    mean, fraction = summary["mean"].to_numpy(), summary["fraction"].to_numpy()
    header = [*summary.by, "cells"]
    for gene in summary.genes:
        header += [gene, "> 0"]
    rows = []
    for number, (group, cells) in enumerate(summary.cells.items()):
        row: list[Any] = [MISSING if isinstance(group, float) else str(group), int(cells)]
        for k in range(len(summary.genes)):
            row += [Mean(mean[number, k]), Share(fraction[number, k])]
        rows.append(row)
    return Table(header, rows, limits=limits, swatches=colors)


def markers_table(markers: Markers) -> Table:
    """Return the first markers of each group, a row a marker."""
    found: Any = markers.to_pandas(top=TOP)
    found = found[found["scores"].notna()]
    rows = [
        [
            *(str(r.group), str(r.gene_symbol)),
            *(float(r.scores), float(r.logfoldchanges), float(r.pvals_adj)),
            *(Share(r.pct_nz_group), Share(r.pct_nz_reference)),
        ]
        for r in found.itertuples()
    ]
    header = ["group", "gene", "score", "log2 fold change", "adjusted p", "> 0", "> 0 elsewhere"]
    return Table(header, rows)


def genes_table(info: dict[str, Any]) -> Table:
    """Return the genes of a view, and which matrices lack them."""
    rows = [
        [
            gene["column"],
            gene["gene_identifier"],
            gene["gene_symbol"],
            enumerate_names(gene["absent_in"], most=5) or "none",
        ]
        for gene in info["genes"]
    ]
    return Table(["column", "gene_identifier", "gene_symbol", "absent in"], rows)


def counts_table(info: dict[str, Any]) -> Table:
    """Return the counts that a scientist would check."""
    counts = info["counts"]
    names = {
        "cells_asked": "cells asked",
        "cells": "cells found",
        "cells_missing": "cells that no matrix holds (not in the view)",
        "cells_without_matrix": "of these, cells without a feature matrix",
        "rows_without_metadata": "rows without metadata, left out",
        "blocks": "row blocks",
    }
    rows = [[text, counts[key]] for key, text in names.items() if key in counts]
    return Table(["cells and rows", "number"], rows)


def annotations_table(annotations: Sequence[Annotation]) -> Table:
    """Return columns of annotations and where they are from."""
    rows = [
        [
            a.name,
            "numbers" if a.terms is None else plural(len(a.terms), "term"),
            a.n_missing,
            a.source,
        ]
        for a in annotations
    ]
    return Table(["column", "kind", "cells without", "from"], rows)


def provenance_table(path: str, info: dict[str, Any]) -> Table:
    """Return where a view is from, a fact a row, without a header."""
    size = format_bytes(sum(file["size"] for file in info["files"]))
    told = {
        "view": path,
        "data": "synthetic: made up, not measured" if info.get(SYNTHETIC) else "",
        "format": f"{info['format']}, {plural(len(info['files']), 'file')}, {size}",
        "release": info["release"],
        "metadata": info["metadata"],
        "normalization": info["normalization"],
        "made": f"{info['created']} by abc_dask {info['abc_dask']}",
        "content": info["content"],
        "exported from": info.get("exported_from", ""),
        "cells chosen": _selection(info),
        "versions": ", ".join(f"{k} {v}" for k, v in info["run"]["versions"].items()),
    }
    return Table([], [[name, value] for name, value in told.items() if value])


def inputs_table(info: dict[str, Any]) -> Table:
    """Return the files that values were read of."""
    rows = [
        [
            matrix["feature_matrix_label"],
            matrix["cells_found"],
            format_bytes(matrix["size"]),
            matrix["md5"] or "",
            "hash" if matrix["md5_verified"] else "size only",
            matrix["file"],
        ]
        for matrix in info["matrices"]
    ]
    return Table(["feature matrix", "cells", "size", "MD5", "checked by", "file"], rows)


def _selection(info: dict[str, Any]) -> str:
    chosen = info.get("selection", {})
    return "; ".join(str(chosen[name]) for name in ("where", "cells_from") if chosen.get(name))
