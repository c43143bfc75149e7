"""One page about a view: where it is from, what is in it, its tables and pictures.

The page stands alone: pictures and style lie in it, it asks for nothing from anywhere,
and forbids the browser to. All text out of data is escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from abc_dask._version import __version__
from abc_dask.analysis.plots.accessor import ViewPlots
from abc_dask.analysis.summary import Summary, summarize_view
from abc_dask.disk.files import sweep, write_whole
from abc_dask.errors import AbcDaskError, UsageError, ViewError
from abc_dask.messages import enumerate_names, format_bytes, names_of, plural
from abc_dask.views.places import are_sections
from abc_dask.views.publish import refuse_existing
from abc_dask.views.reader import View

# What the reference workflow groups by and colours with, where the atlas has it.
USUAL = ("neurotransmitter", "class", "region_of_interest_acronym", "parcellation_division")

_SUFFIXES = (".html", ".htm")

_DPI = 200

_MOST_PICTURES = 40

_MISSING = "(missing)"


def write_report(
    view: View,
    output: str | Path,
    *,
    by: Iterable[str] | None = None,
    color: Iterable[str] | None = None,
    limits: Sequence[float] | None = None,
    palette: str = "atlas",
    download_base: Any = None,
    overwrite: bool = False,
) -> Path:
    """Write one page about a view, complete or absent.

    Parameters
    ----------
    view : View
    output : path
        ``.html``.
    by : iterable of str, optional
        Columns of terms, each of which gets a table and a picture of means and fractions;
        `USUAL`, as far as they are there, where not given.
    color : iterable of str, optional
        Genes and annotations, each of which gets a picture of the cells; the genes and
        `by` where not given.
    limits : two floats, optional
        Of the colour scales of means.
    palette, download_base
        As `abc_dask.analysis.plots.accessor.ViewPlots.umap`.
    overwrite : bool
        Replace what is there.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    UsageError
        If the suffix is not that of a page, or a column is unknown.
    ViewError
        If the page exists or cannot be written.
    """
    place = Path(output).expanduser().absolute()
    if place.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"unknown kind of report {str(output)!r}; its suffix may be: .html, .htm")
    refuse_existing(place, overwrite=overwrite)
    page = _Page(view, palette, download_base, limits)
    content = page.write(
        None if by is None else names_of(by), None if color is None else names_of(color)
    )
    try:
        write_whole(place, content.encode())
        sweep(place.parent, place.name)
    except OSError as error:
        raise ViewError(f"{place} cannot be written: {error.strerror or error}") from None
    return place


@dataclass(frozen=True)
class _Page:
    """The sections of the page, in their order."""

    view: View
    palette: str
    download_base: Any
    limits: Sequence[float] | None
    remarks: list[str] = field(default_factory=list)

    def write(self, by: list[str] | None, color: list[str] | None) -> str:
        groups = self._usual() if by is None else by
        colors = [*self.view.columns, *groups] if color is None else color
        sections = [
            ("cells", "Cells", self._pictures(colors, asked=color is not None)),
            ("groups", "Groups", "".join(self._group(name) for name in groups)),
            ("genes", "Genes", _table(*self._genes())),
            ("counts", "Counts", _table(*self._counts())),
            ("annotations", "Annotations", _table(*self._annotations(groups))),
            ("provenance", "Provenance", _pairs(self._provenance())),
            ("inputs", "Inputs", _table(*self._inputs())),
        ]
        sections = [(key, name, body) for key, name, body in sections if body]
        links = "".join(f'<a href="#{key}">{name}</a>' for key, name, _ in sections)
        bodies = "".join(
            f'<section id="{key}"><h2>{name}</h2>{body}</section>' for key, name, body in sections
        )
        few = len(self.view.columns) <= 3
        genes = (
            enumerate_names(self.view.columns) if few else plural(len(self.view.columns), "gene")
        )
        title = f"{genes} in {self._cells}"
        sheet = (files("abc_dask.analysis") / "report.css").read_text("utf-8")
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
            f'<meta name="generator" content="abc_dask {__version__}">\n'
            f"<title>{escape(title)}</title>\n<style>\n{sheet}</style></head>\n"
            f"<body><header><h1>{escape(title)}</h1>{self._lead()}<nav>{links}</nav></header>\n"
            f"<main>{bodies}</main>\n"
            f"<footer>Written by abc_dask {__version__} from {escape(self.view.path.name)}; "
            f"content {escape(str(self.view.info['content']))}.</footer></body></html>\n"
        )

    @property
    def _cells(self) -> str:
        return plural(self.view.n_cells, "cell")

    def _lead(self) -> str:
        info = self.view.info
        sums = {
            "cells": f"{self.view.n_cells:,}",
            "genes": f"{len(self.view.columns):,}",
            "feature matrices": f"{len(info['matrices']):,}",
            "cells missing": f"{info['counts']['cells_missing']:,}",
        }
        cards = "".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
            for name, value in sums.items()
        )
        source = f"{info['metadata']}, release {info['release']}, {info['normalization']}"
        names = enumerate_names(self.view.columns, most=30)
        return (
            f'<p>{escape(names)}</p><p class="faint">{escape(source)}</p>'
            f'<dl class="sums">{cards}</dl>'
        )

    def _usual(self) -> list[str]:
        """Give the usual columns to group by that there are."""
        found = []
        for name in USUAL:
            try:
                self.view.find_annotations([name], download_base=self.download_base)
            except AbcDaskError:
                continue
            found.append(name)
        return found

    # pictures and tables of cells

    def _pictures(self, colors: Sequence[str], *, asked: bool) -> str:
        """Draw the cells, a picture a colouring; say why where that cannot be."""
        sections = are_sections(self.view, self.download_base)
        plot = ViewPlots(self.view)
        drawn = []
        for name in colors[:_MOST_PICTURES]:
            draw: Callable[..., Any] = plot.sections if sections else plot.umap
            try:
                picture = draw(
                    name, palette=self.palette, download_base=self.download_base, dpi=_DPI
                )
            except AbcDaskError as error:
                if asked:
                    raise
                drawn.append(f'<p class="faint">No picture of {escape(name)}: {_why(error)}.</p>')
                if len(drawn) > 1 and drawn[-1].partition(":")[2] == drawn[-2].partition(":")[2]:
                    break
                continue
            what = f"cells in brain sections by {name}" if sections else f"UMAP of cells by {name}"
            drawn.append(_figure(picture, what))
        rest = len(colors) - _MOST_PICTURES
        if rest > 0:
            drawn.append(f'<p class="faint">And {rest:,} more columns without a picture here.</p>')
        kind = "wide" if sections else "pictures"
        return f'<div class="{kind}">{"".join(drawn)}</div>' if drawn else ""

    def _group(self, by: str) -> str:
        """Give dots, heatmap and table of one column's groups."""
        summary = summarize_view(
            self.view, by, ["mean", "fraction"], download_base=self.download_base
        )
        said = [
            f"{plural(int(summary.cells.sum()), 'cell')} in {plural(len(summary.cells), 'group')}"
        ]
        if summary.n_missing:
            said.append(f"{plural(summary.n_missing, 'cell')} without {by} are the last group")
        said += [
            f"{plural(count, 'cell')} without a value of {gene} are in no statistic of it"
            for gene, count in summary.n_absent.items()
        ]
        try:
            style: dict[str, Any] = {"limits": self.limits, "dpi": _DPI}
            plot = ViewPlots(self.view)
            pictures = _figure(plot.heatmap_of(summary, "mean", **style), f"means by {by}")
            pictures += _figure(plot.dots_of(summary, **style), f"means and fractions by {by}")
            body = f'<div class="pictures">{pictures}</div>'
        except UsageError as error:
            body = f'<p class="faint">No picture: {_why(error)}.</p>'
        table = _table(*_statistics(summary))
        return (
            f"<h3>{escape(by)}</h3><p>{escape('; '.join(said))}.</p>{body}"
            f"<details><summary>Means and fractions as a table</summary>{table}</details>"
        )

    # tables

    def _genes(self) -> tuple[list[str], list[list[Any]]]:
        rows = [
            [
                gene["column"],
                gene["gene_identifier"],
                gene["gene_symbol"],
                enumerate_names(gene["absent_in"], most=5) or "none",
            ]
            for gene in self.view.info["genes"]
        ]
        return ["column", "gene_identifier", "gene_symbol", "absent in"], rows

    def _counts(self) -> tuple[list[str], list[list[Any]]]:
        counts = self.view.info["counts"]
        names = {
            "cells_asked": "cells asked",
            "cells": "cells found",
            "cells_missing": "cells that no matrix holds (not in the view)",
            "cells_without_matrix": "of these, cells without a feature matrix",
            "rows_without_metadata": "rows without metadata, left out",
            "blocks": "row blocks",
        }
        return ["", "number"], [[said, counts[key]] for key, said in names.items() if key in counts]

    def _annotations(self, groups: Sequence[str]) -> tuple[list[str], list[list[Any]]]:
        names = dict.fromkeys([*(a.name for a in self.view.annotations), *groups])
        found = self.view.find_annotations(names, download_base=self.download_base)
        rows = [
            [
                a.name,
                "numbers" if a.terms is None else plural(len(a.terms), "term"),
                a.n_missing,
                a.source,
            ]
            for a in found
        ]
        return ["column", "kind", "cells without", "from"], rows

    def _provenance(self) -> dict[str, str]:
        info = self.view.info
        size = format_bytes(sum(file["size"] for file in info["files"]))
        said = {
            "view": str(self.view.path),
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
        return {name: str(value) for name, value in said.items() if value}

    def _inputs(self) -> tuple[list[str], list[list[Any]]]:
        rows = [
            [
                matrix["feature_matrix_label"],
                matrix["cells_found"],
                format_bytes(matrix["size"]),
                matrix["md5"] or "",
                "hash" if matrix["md5_verified"] else "size only",
                matrix["file"],
            ]
            for matrix in self.view.info["matrices"]
        ]
        return ["feature matrix", "cells", "size", "MD5", "checked by", "file"], rows


def _statistics(summary: Summary) -> tuple[list[str], list[list[Any]]]:
    """Give means and fractions side by side, a row a group."""
    mean, fraction = summary["mean"].to_numpy(), summary["fraction"].to_numpy()
    header = [*summary.by, "cells"]
    for gene in summary.genes:
        header += [gene, "> 0"]
    rows = []
    for number, (group, cells) in enumerate(summary.cells.items()):
        terms = group if isinstance(group, tuple) else (group,)
        row: list[Any] = [_MISSING if isinstance(t, float) else str(t) for t in terms]
        row.append(int(cells))
        for k in range(len(summary.genes)):
            row += [float(mean[number, k]), _Share(fraction[number, k])]
        rows.append(row)
    return header, rows


class _Share(float):
    """A fraction, shown in percent."""


def _selection(info: dict[str, Any]) -> str:
    chosen = info.get("selection", {})
    said = [str(chosen[name]) for name in ("where", "cells_from") if chosen.get(name)]
    return "; ".join(said)


def _why(error: AbcDaskError) -> str:
    return escape(str(error).rstrip("."))


def _figure(picture: Any, what: str) -> str:
    """Give a picture with what it shows, for those who do not see it and those who do."""
    content = base64.b64encode(picture.render("png")).decode("ascii")
    width, height = (round(float(inches) * 96) for inches in picture.get_size_inches())
    return (
        f'<figure><img alt="{escape(what)}" width="{width}" height="{height}" '
        f'src="data:image/png;base64,{content}"><figcaption>{escape(what)}</figcaption></figure>'
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Give a table that scrolls by itself on a narrow screen."""
    numbers = [
        bool(rows) and all(isinstance(row[k], int | float) for row in rows)
        for k in range(len(header))
    ]
    marks = [' class="number"' if number else "" for number in numbers]
    head = "".join(
        f'<th scope="col"{mark}>{escape(str(name))}</th>'
        for name, mark in zip(header, marks, strict=True)
    )
    body = []
    for row in rows:
        first, *rest = (_shown(value) for value in row)
        cells = "".join(
            f"<td{mark}>{value}</td>" for value, mark in zip(rest, marks[1:], strict=True)
        )
        missing = ' class="missing"' if row[0] == _MISSING else ""
        body.append(f'<tr{missing}><th scope="row">{first}</th>{cells}</tr>')
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _pairs(rows: dict[str, str]) -> str:
    """Give names and values, of which some are long."""
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="wide">{escape(value)}</td></tr>'
        for name, value in rows.items()
    )
    return f'<div class="scroll"><table><tbody>{body}</tbody></table></div>'


def _shown(value: Any) -> str:
    if isinstance(value, float) and value != value:  # noqa: PLR0124 - only NaN differs from itself
        return '<abbr title="no value">-</abbr>'
    if isinstance(value, _Share):
        return f"{value:.1%}"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else escape(str(value))
