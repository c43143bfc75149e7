"""One page about a view, put together and written.

The page stands alone: pictures, style and a small script lie in it, it asks for nothing from
anywhere, and forbids the browser to. All text out of data is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from abc_dask._version import __version__
from abc_dask.analysis.plots.of_view import label_of
from abc_dask.analysis.report.columns import Columns, plane_of
from abc_dask.analysis.report.dots import Dots, dots_of, dots_of_markers
from abc_dask.analysis.report.legends import Scale, Shown
from abc_dask.analysis.report.tables import (
    Table,
    annotations_table,
    color_of,
    counts_table,
    genes_table,
    inputs_table,
    markers_table,
    provenance_table,
    statistics_table,
)
from abc_dask.analysis.summary import Summary, check_request
from abc_dask.base.errors import AbcDaskError, UsageError
from abc_dask.base.messages import enumerate_names, names_of, nearest, plural
from abc_dask.base.progress import Progress
from abc_dask.disk.files import cannot_write, sweep, write_whole
from abc_dask.release.coordinates import SECTION, unit_of
from abc_dask.release.release import SYNTHETIC, origin_of, release_text
from abc_dask.views.joined import joined_reader
from abc_dask.views.overwrite import refuse_existing
from abc_dask.views.places import are_sections
from abc_dask.views.reader import View

if TYPE_CHECKING:
    from abc_dask.analysis.markers import Markers

# What the reference workflow groups by and colours with, where the atlas has it.
USUAL = ("neurotransmitter", "class", "region_of_interest_acronym", "parcellation_division")

_SUFFIXES = (".html", ".htm")
_MOST_PICTURES = 40
_STOPS = 12  # colours of a scale that stand in the page


def write_report(
    view: View,
    output: str | Path,
    *,
    by: Iterable[str] | None = None,
    color: Iterable[str] | None = None,
    limits: Sequence[float] | None = None,
    palette: str = "atlas",
    download_base: Any = None,
    markers: Markers | None = None,
    explorer: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Write one page about a view, complete or absent.

    Every column is read once; numbers are those of `View.summarize`.

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
    markers : Markers, optional
        Of a store, `GeneStore.markers`: the first ones of each group get a table.
    explorer : path, optional
        Folder of the explorer's page, to which a link leads.
    overwrite : bool
        Replace what is there.
    progress : bool
        Show how many columns are read, where it takes long.

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
    place = check_place(output, overwrite=overwrite)
    report = _Report(
        view,
        None if by is None else names_of(by),
        None if color is None else names_of(color),
        limits=limits,
        palette=palette,
        download_base=download_base,
    )
    folder = None if explorer is None else Path(explorer).expanduser().absolute()
    content = report.render(
        markers, None if folder is None else os.path.relpath(folder, place.parent), progress
    )
    try:
        write_whole(place, content.encode())
        sweep(place.parent, place.name)
    except OSError as error:
        raise cannot_write(place, error) from None
    return place


def check_place(output: str | Path, *, overwrite: bool) -> Path:
    """Check where a page is to be, before any work; raises as `write_report`."""
    place = Path(output).expanduser().absolute()
    if place.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"unknown kind of report {str(output)!r}; its suffix may be: .html, .htm")
    refuse_existing(place, overwrite=overwrite)
    return place


@dataclass(frozen=True)
class _Group:
    """What is shown of the groups of one column."""

    by: str
    text: str
    dots: Dots | None
    table: Table


@dataclass(frozen=True)
class _Marked:
    """What is shown of the markers of groups."""

    by: str
    text: str
    dots: Dots | None
    scale: Scale
    table: Table


def _scale(low: float, high: float) -> Scale:
    colors = color_of(list(np.linspace(low, high, _STOPS)), (low, high))
    return Scale(colors, f"{low:.4g}", f"{high:.4g}")


@dataclass(frozen=True)
class _Report:
    """What is asked for, and the view that it is asked of."""

    view: View
    by: list[str] | None
    color: list[str] | None
    limits: Sequence[float] | None = field(kw_only=True)
    palette: str = field(kw_only=True)
    download_base: Any = field(kw_only=True)

    def render(self, markers: Markers | None, explorer: str | None, show: bool) -> str:  # noqa: FBT001
        """Return the page."""
        from jinja2 import Environment, StrictUndefined

        by = self._usual() if self.by is None else self.by
        pictures, summaries = self._read(by, show)
        here = files("abc_dask.analysis.report")
        texts = {name: (here / f"page.{name}").read_text("utf-8") for name in ("css", "js")}
        digest = hashlib.sha256(texts["js"].encode()).digest()
        environment = Environment(
            autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        template = environment.from_string((here / "page.html.j2").read_text("utf-8"))
        view, info = self.view, self.view.info
        scale, limits = self._scale_of(summaries)
        return template.render(
            version=__version__,
            style=texts["css"],
            script=texts["js"],
            script_hash=base64.b64encode(digest).decode("ascii"),
            title=self._title,
            genes=enumerate_names(view.columns, most=30),
            synthetic=bool(info.get(SYNTHETIC)),
            source=f"{info['metadata']}, {release_text(info)}, {info['normalization']}",
            sums=self._sums(),
            pictures=[p for p in pictures if p.png],
            reasons=[p.reason for p in pictures if not p.png],
            is_wide=any(p.names for p in pictures),
            scale_of_means=scale,
            scale_label=f"mean {label_of(info)}",
            groups=[self._group(one, limits) for one in summaries],
            markers=None if markers is None else self._markers(markers),
            explorer=explorer,
            tables=[
                ("genes", "Genes", genes_table(info)),
                ("counts", "Counts", counts_table(info)),
                ("annotations", "Annotations", annotations_table(self._annotations(by))),
                ("provenance", "Provenance", provenance_table(str(view.path), info)),
                ("inputs", "Inputs", inputs_table(info)),
            ],
            view=view.path.name,
            content=info["content"],
        )

    @property
    def _title(self) -> str:
        columns = self.view.columns
        genes = enumerate_names(columns) if len(columns) <= 3 else plural(len(columns), "gene")
        return f"{genes} in {plural(self.view.n_cells, 'cell')}"

    def _sums(self) -> dict[str, str]:
        info = self.view.info
        return {
            "cells": f"{self.view.n_cells:,}",
            "genes": f"{len(self.view.columns):,}",
            "feature matrices": f"{len(info['matrices']):,}",
            "cells missing": f"{info['counts']['cells_missing']:,}",
        }

    def _usual(self) -> list[str]:
        """Return the usual columns to group by that there are."""
        return [name for name in USUAL if self._lacks([name]) is None]

    def _lacks(self, names: Sequence[str]) -> str | None:
        """Return why columns of annotations cannot be had; None: they can."""
        try:
            self.view.find_annotations(names, download_base=self.download_base)
        except AbcDaskError as error:
            return str(error).rstrip(".")
        return None

    def _annotations(self, by: Sequence[str]) -> Sequence[Any]:
        names = dict.fromkeys([*(a.name for a in self.view.annotations), *by])
        return self.view.find_annotations(names, download_base=self.download_base)

    # columns

    def _read(self, by: list[str], show: bool) -> tuple[list[Shown], list[Summary]]:  # noqa: FBT001
        """Read all columns; return pictures, or reasons that there are none, and statistics."""
        genes = self.view.columns
        asked = [*genes, *by] if self.color is None else self.color
        others = list(dict.fromkeys(n for n in [*by, *asked] if n not in genes))
        sections = bool(asked) and are_sections(self.view, self.download_base)
        places = ["x", "y", *([SECTION] if sections else [])] if asked else []
        reason = self._lacks(places) if places else None
        if reason is not None:
            if self.color is not None:
                raise UsageError(reason)
            places = []
        try:
            reader = joined_reader(
                self.view, dict.fromkeys([*others, *places]), self.download_base, on_disk=True
            )
        except UsageError as error:
            unknown = next((name for name in others if self._lacks([name])), "")
            raise UsageError(f"{error}; of the genes{nearest(unknown, genes)}") from None
        columns = Columns(reader, None, self.palette, label_of(self.view.info), self._about())
        check_request(by, ("mean",), "group", [columns.described[n] for n in by]) if by else None
        drawn, reasons = self._drawable(columns, asked[:_MOST_PICTURES])
        if places and drawn:
            columns = columns.on(plane_of(reader, sections=sections, unit=unit_of(self.view.info)))
        elif reason:
            drawn, reasons = [], [Shown("", "", reason=f"No picture of {asked[0]}: {reason}.")]
        with Progress(
            len({*genes, *others}), "report", unit="column", enabled=show, delay=2
        ) as bar:
            pictures, summaries = columns.read(by, drawn, lambda name: bar.add(1, name))
        rest = len(asked) - _MOST_PICTURES
        if rest > 0:
            reasons.append(Shown("", "", reason=f"And {rest:,} more columns without a picture."))
        return [*(pictures[name] for name in drawn), *reasons], summaries

    def _drawable(self, columns: Columns, names: Sequence[str]) -> tuple[list[str], list[Shown]]:
        """Return the columns that have colours, and why others have none."""
        drawn: list[str] = []
        reasons: list[Shown] = []
        for name in dict.fromkeys(names):
            try:
                if name in columns.described:
                    columns.colors_of(columns.described[name])
                drawn.append(name)
            except UsageError as error:
                if self.color is not None:
                    raise
                why = str(error).rstrip(".")
                reasons.append(Shown("", "", reason=f"No picture of {name}: {why}."))
        return drawn, reasons

    def _about(self) -> dict[str, str]:
        """Return what goes into the files of pictures."""
        info = self.view.info
        said = {
            "view": self.view.path.name,
            "content": info["content"],
            **(origin_of(info) | {key: info[key] for key in ("metadata", "normalization")}),
            "cells": self.view.n_cells,
        }
        return {"Description": json.dumps(said), "Software": f"abc_dask {__version__}"}

    # statistics

    def _scale_of(self, summaries: Sequence[Summary]) -> tuple[Scale | None, tuple[float, float]]:
        """Return the scale of means: the same for all tables, so that colours can be compared."""
        if not summaries:
            return None, (0.0, 1.0)
        if self.limits is not None:
            low, high = map(float, self.limits)
        else:
            means = np.concatenate([one["mean"].to_numpy().ravel() for one in summaries])
            finite = means[np.isfinite(means)]
            low, high = min(0.0, float(finite.min(initial=0))), float(finite.max(initial=0))
        high = high if high > low else low + 1.0
        return _scale(low, high), (low, high)

    @staticmethod
    def _markers(markers: Markers) -> _Marked:
        """Return dots and table of the first markers of each group."""
        dots, text, highest = dots_of_markers(markers)
        by = enumerate_names(markers.provenance["by"])
        return _Marked(by, text, dots, _scale(0.0, highest or 1.0), markers_table(markers))

    def _group(self, summary: Summary, limits: tuple[float, float]) -> _Group:
        """Return dots and table of one column's groups."""
        (by,) = summary.by
        (annotation,) = self.view.find_annotations([by], download_base=self.download_base)
        text = [
            f"{plural(int(summary.cells.sum()), 'cell')} in {plural(len(summary.cells), 'group')}"
        ]
        if summary.n_missing:
            text.append(f"{plural(summary.n_missing, 'cell')} without {by} are the last group")
        text += [
            f"{plural(count, 'cell')} without a value of {gene} are in no statistic of it"
            for gene, count in summary.n_absent.items()
        ]
        colors = dict(annotation.colors)
        dots, why = dots_of(summary, limits)
        text += [why] if why else []
        table = statistics_table(summary, limits, colors)
        return _Group(by, "; ".join(text) + ".", dots, table)
