"""One page about a view: where it is from, what is in it, its tables and pictures.

The page stands alone: pictures and style lie in it, it asks for nothing from anywhere,
and forbids the browser to. All text out of data is escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from abc_dask._version import __version__
from abc_dask.analysis.plots.accessor import ViewPlots
from abc_dask.analysis.summary import Summary, summarize_view
from abc_dask.disk.files import sweep, write_whole
from abc_dask.errors import AbcDaskError, UsageError, ViewError
from abc_dask.messages import enumerate_names, format_bytes, names_of, plural
from abc_dask.views.overwrite import refuse_existing
from abc_dask.views.places import are_sections
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
class _Table:
    """Header and rows; the first column names the rows."""

    header: list[str]
    rows: list[list[Any]]
    missing: str = _MISSING

    def is_number(self, column: int) -> bool:
        """Tell whether a column has only numbers."""
        return bool(self.rows) and all(isinstance(row[column], int | float) for row in self.rows)

    @staticmethod
    def text(value: Any) -> str:
        """Return a value as it is shown."""
        if isinstance(value, _Share):
            return f"{value:.1%}"
        if isinstance(value, float):
            return f"{value:.3f}"
        return f"{value:,}" if isinstance(value, int) else str(value)


class _Share(float):
    """A fraction, shown in percent."""


@dataclass(frozen=True)
class _Shown:
    """A picture with its title, or a title alone that says why there is none."""

    title: str
    png: str = ""
    width: int = 0
    height: int = 0

    @classmethod
    def of(cls, picture: Any, title: str) -> _Shown:
        """Render a picture."""
        png = base64.b64encode(picture.render("png")).decode("ascii")
        width, height = (round(float(inches) * 96) for inches in picture.get_size_inches())
        return cls(title, png, width, height)


@dataclass(frozen=True)
class _Group:
    """What is shown of the groups of one column."""

    by: str
    text: str
    pictures: list[_Shown]
    table: _Table


@dataclass(frozen=True)
class _Page:
    """The sections of the page, in their order."""

    view: View
    palette: str
    download_base: Any
    limits: Sequence[float] | None

    def write(self, by: list[str] | None, color: list[str] | None) -> str:
        from jinja2 import Environment, StrictUndefined

        info, columns = self.view.info, self.view.columns
        names = self._usual() if by is None else by
        colors = [*columns, *names] if color is None else color
        sections = are_sections(self.view, self.download_base)
        genes = enumerate_names(columns) if len(columns) <= 3 else plural(len(columns), "gene")
        tables = [
            ("genes", "Genes", self._genes()),
            ("counts", "Counts", self._counts()),
            ("annotations", "Annotations", self._annotations(names)),
            ("provenance", "Provenance", self._provenance()),
            ("inputs", "Inputs", self._inputs()),
        ]
        here = files("abc_dask.analysis")
        environment = Environment(autoescape=True, undefined=StrictUndefined)
        template = environment.from_string((here / "report.html.j2").read_text("utf-8"))
        return template.render(
            version=__version__,
            style=(here / "report.css").read_text("utf-8"),
            title=f"{genes} in {plural(self.view.n_cells, 'cell')}",
            genes=enumerate_names(columns, most=30),
            source=f"{info['metadata']}, release {info['release']}, {info['normalization']}",
            sums={
                "cells": f"{self.view.n_cells:,}",
                "genes": f"{len(columns):,}",
                "feature matrices": f"{len(info['matrices']):,}",
                "cells missing": f"{info['counts']['cells_missing']:,}",
            },
            cells=self._pictures(colors, sections=sections, asked=color is not None),
            kind="wide" if sections else "pictures",
            groups=[self._group(name) for name in names],
            tables=tables,
            view=self.view.path.name,
            content=info["content"],
        )

    def _usual(self) -> list[str]:
        """Return the usual columns to group by that there are."""
        found = []
        for name in USUAL:
            try:
                self.view.find_annotations([name], download_base=self.download_base)
            except AbcDaskError:
                continue
            found.append(name)
        return found

    # pictures and tables of cells

    def _pictures(self, colors: Sequence[str], *, sections: bool, asked: bool) -> list[_Shown]:
        """Draw the cells, a picture a colouring; tell why where that cannot be."""
        plot = ViewPlots(self.view)
        draw: Callable[..., Any] = plot.sections if sections else plot.umap
        style = {"palette": self.palette, "download_base": self.download_base, "dpi": _DPI}
        shown: list[_Shown] = []
        reason = ""
        for name in colors[:_MOST_PICTURES]:
            try:
                picture = draw(name, **style)
            except AbcDaskError as error:
                if asked:
                    raise
                shown.append(_Shown(f"No picture of {name}: {_why(error)}."))
                if str(error) == reason:
                    break  # it would be the same for all that follow
                reason = str(error)
                continue
            what = f"cells in brain sections by {name}" if sections else f"UMAP of cells by {name}"
            shown.append(_Shown.of(picture, what))
        rest = len(colors) - _MOST_PICTURES
        if rest > 0:
            shown.append(_Shown(f"And {rest:,} more columns without a picture here."))
        return shown

    def _group(self, by: str) -> _Group:
        """Return dots, heatmap and table of one column's groups."""
        summary = summarize_view(
            self.view, by, ["mean", "fraction"], download_base=self.download_base
        )
        text = [
            f"{plural(int(summary.cells.sum()), 'cell')} in {plural(len(summary.cells), 'group')}"
        ]
        if summary.n_missing:
            text.append(f"{plural(summary.n_missing, 'cell')} without {by} are the last group")
        text += [
            f"{plural(count, 'cell')} without a value of {gene} are in no statistic of it"
            for gene, count in summary.n_absent.items()
        ]
        try:
            style: dict[str, Any] = {"limits": self.limits, "dpi": _DPI}
            plot = ViewPlots(self.view)
            pictures = [
                _Shown.of(plot.heatmap_of(summary, "mean", **style), f"means by {by}"),
                _Shown.of(plot.dots_of(summary, **style), f"means and fractions by {by}"),
            ]
        except UsageError as error:
            pictures = [_Shown(f"No picture: {_why(error)}.")]
        return _Group(by, "; ".join(text) + ".", pictures, _statistics(summary))

    # tables

    def _genes(self) -> _Table:
        rows = [
            [
                gene["column"],
                gene["gene_identifier"],
                gene["gene_symbol"],
                enumerate_names(gene["absent_in"], most=5) or "none",
            ]
            for gene in self.view.info["genes"]
        ]
        return _Table(["column", "gene_identifier", "gene_symbol", "absent in"], rows)

    def _counts(self) -> _Table:
        counts = self.view.info["counts"]
        names = {
            "cells_asked": "cells asked",
            "cells": "cells found",
            "cells_missing": "cells that no matrix holds (not in the view)",
            "cells_without_matrix": "of these, cells without a feature matrix",
            "rows_without_metadata": "rows without metadata, left out",
            "blocks": "row blocks",
        }
        rows = [[text, counts[key]] for key, text in names.items() if key in counts]
        return _Table(["", "number"], rows)

    def _annotations(self, groups: Sequence[str]) -> _Table:
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
        return _Table(["column", "kind", "cells without", "from"], rows)

    def _provenance(self) -> _Table:
        info = self.view.info
        size = format_bytes(sum(file["size"] for file in info["files"]))
        told = {
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
        return _Table([], [[name, value] for name, value in told.items() if value])

    def _inputs(self) -> _Table:
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
        return _Table(["feature matrix", "cells", "size", "MD5", "checked by", "file"], rows)


def _statistics(summary: Summary) -> _Table:
    """Return means and fractions side by side, a row a group."""
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
    return _Table(header, rows)


def _selection(info: dict[str, Any]) -> str:
    chosen = info.get("selection", {})
    return "; ".join(str(chosen[name]) for name in ("where", "cells_from") if chosen.get(name))


def _why(error: AbcDaskError) -> str:
    return str(error).rstrip(".")
