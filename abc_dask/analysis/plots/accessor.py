"""Pictures of a view: names of columns become tables, tables become pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from abc_dask._version import __version__
from abc_dask.analysis.plots import figures
from abc_dask.analysis.plots.canvas import Picture
from abc_dask.analysis.plots.colors import distinct_colors
from abc_dask.errors import UsageError
from abc_dask.messages import enumerate_names, nearest, plural
from abc_dask.release.coordinates import SECTION
from abc_dask.release.origin import origin_of, release_text
from abc_dask.views.joined import cells_table, joined_reader
from abc_dask.views.places import are_sections

if TYPE_CHECKING:
    import pandas as pd

PALETTES = ("atlas", "distinct")

_XY = ("x", "y")

_EXPRESSION = {"log2": "log2 expression", "raw": "raw counts"}


class Style(TypedDict, total=False):
    """What all pictures take.

    Attributes
    ----------
    limits : two floats
        Of the colour scale of numbers.
    colormap : str
        Of matplotlib, for numbers.
    width : float
        Centimetres; a journal's column (8.5) for one panel, its page (17.8) for more.
    dpi : int
        Pixels an inch.
    """

    limits: Sequence[float] | None
    colormap: str
    width: float | None
    dpi: int


class ViewPlots:
    """Pictures of a view: ``view.plot.umap("class").save("class.png")``.

    Parameters
    ----------
    view : abc_dask.View
    """

    def __init__(self, view: Any) -> None:
        self._view = view

    def umap(
        self,
        color: str | Iterable[str],
        *,
        embedding: str | None = None,
        x: str = "x",
        y: str = "y",
        palette: str = "atlas",
        download_base: Any = None,
        **style: Unpack[Style],
    ) -> Picture:
        """Draw all cells of the atlas's UMAP, or another embedding, a panel a colouring.

        Parameters
        ----------
        color : str or iterable of str
            Genes of the view, and annotations.
        embedding : str, optional
            Table with x and y, such as ``UMAP20230830-Pallium-Glut``, or array of an h5ad file,
            such as ``X_tsne``.
        x, y : str
            Columns of places, in place of an embedding's.
        palette : str
            Colours of terms: ``atlas`` for its own, or ``distinct``.
        download_base : path, optional
            As `View.annotate`.
        **style
            See `Style`.

        Returns
        -------
        Picture

        Raises
        ------
        UsageError
            If a column is unknown, the atlas has no colours for it, or x and y are
            places in brain sections.
        """
        names = _names(color)
        places = self._places_of(embedding, x, y, download_base)
        if places == _XY and are_sections(self._view, download_base):
            raise UsageError(
                f"x and y of {self._view.info['metadata']} are places in brain sections, "
                "not of a UMAP; draw them with: abc-dask plot sections"
            )
        frame, colors, labels = self._cells([*names, *places], palette, download_base)
        picture = figures.umap_figure(
            _placed(frame, places, names),
            names,
            axes=("UMAP 1", "UMAP 2") if places == _XY else places,
            colors=colors,
            labels=labels,
            caption=self._source(),
            **style,
        )
        return self._signed(picture, f"UMAP of {enumerate_names(names)}")

    def _places_of(
        self, embedding: str | None, x: str, y: str, download_base: Any
    ) -> tuple[str, str]:
        """Return the columns of places.

        Raises
        ------
        UsageError
            If an embedding and columns are named, or there is no such embedding.
        """
        if embedding is None:
            return x, y
        if (x, y) != _XY:
            raise UsageError("name an embedding, or the columns x and y, not both")
        known = [(f"{embedding}.x", f"{embedding}.y"), (f"{embedding}_1", f"{embedding}_2")]
        found = [pair for pair in known if all(self._has(name, download_base) for name in pair)]
        if not found:
            raise UsageError(
                f"no embedding {embedding!r}: there is no table of this name with x and y; "
                "abc-dask columns lists all columns"
            )
        return found[0]

    def sections(
        self,
        color: str,
        *,
        sections: Iterable[str] | None = None,
        x: str = "x",
        y: str = "y",
        palette: str = "atlas",
        download_base: Any = None,
        **style: Unpack[Style],
    ) -> Picture:
        """Draw the cells of brain sections, a panel a section, y downwards.

        Parameters
        ----------
        color : str
            A gene of the view, or an annotation.
        sections : iterable of str, optional
            Some of brain_section_label; all of them where not given.
        x, y : str
            Columns of places, such as ``reconstructed_coordinates.x``.
        palette, download_base, **style
            As `umap`.

        Returns
        -------
        Picture

        Raises
        ------
        UsageError
            As `umap`; if there are no sections, or not those that are asked for.
        """
        frame, colors, labels = self._cells([color, x, y, SECTION], palette, download_base)
        frame = _placed(frame, (x, y), [color])
        if sections is not None:
            frame = _some(frame, _names(sections))
        picture = figures.sections_figure(
            frame,
            color,
            by=SECTION,
            colors=colors.get(color),
            label=labels.get(color),
            caption=self._source(),
            **style,
        )
        return self._signed(picture, f"{color} in brain sections")

    def heatmap(
        self,
        by: str | Iterable[str],
        *,
        statistic: str = "mean",
        missing: str = "group",
        where: str | None = None,
        genes: Iterable[str] | None = None,
        download_base: Any = None,
        **style: Unpack[Style],
    ) -> Picture:
        """Draw a statistic of genes by groups of cells: a row a group, a column a gene.

        Parameters
        ----------
        by : str or iterable of str
            Columns of terms that make the groups.
        statistic : str
            As `View.summarize`.
        missing, where, genes, download_base
            As `View.summarize`; cells without a term are the last row, or left out and
            counted below.
        **style
            See `Style`; limits are 0 and the highest value where not given.

        Returns
        -------
        Picture

        Raises
        ------
        UsageError
            As `View.summarize`; if there are too many groups to be read.
        """
        summary = self._view.summarize(
            by,
            [statistic],
            missing=missing,
            where=where,
            genes=genes,
            download_base=download_base,
        )
        return self.heatmap_of(summary, statistic, **style)

    def heatmap_of(self, summary: Any, statistic: str, **style: Unpack[Style]) -> Picture:
        """Draw a summary that is at hand; see `heatmap`."""
        picture = figures.heatmap_figure(
            _named(summary, statistic),
            counts=list(summary.cells),
            label=self._label_of(statistic),
            caption=self._groups_said(summary),
            **style,
        )
        return self._signed(picture, f"{statistic} by {enumerate_names(summary.by)}")

    def dots(
        self,
        by: str | Iterable[str],
        *,
        missing: str = "group",
        where: str | None = None,
        genes: Iterable[str] | None = None,
        download_base: Any = None,
        **style: Unpack[Style],
    ) -> Picture:
        """Draw a dot for each gene and group: size the expressing fraction, colour the mean.

        Parameters are those of `heatmap`. The fraction is of cells with a value above 0,
        the mean is over all cells of the group.

        Returns
        -------
        Picture
        """
        summary = self._view.summarize(
            by,
            ["mean", "fraction"],
            missing=missing,
            where=where,
            genes=genes,
            download_base=download_base,
        )
        return self.dots_of(summary, **style)

    def dots_of(self, summary: Any, **style: Unpack[Style]) -> Picture:
        """Draw a summary with mean and fraction that is at hand; see `dots`."""
        picture = figures.dots_figure(
            _named(summary, "mean"),
            _named(summary, "fraction"),
            counts=list(summary.cells),
            label=self._label_of("mean"),
            caption=self._groups_said(summary),
            **style,
        )
        return self._signed(picture, f"mean and fraction by {enumerate_names(summary.by)}")

    def _label_of(self, statistic: str) -> str:
        if statistic == "fraction":
            return "fraction of cells with a value > 0"
        return statistic if statistic == "count" else f"{statistic} {self._label}"

    def _groups_said(self, summary: Any) -> str:
        """Return how many cells are in the groups, which are not, and which have no value."""
        by = enumerate_names(summary.by)
        parts = [f"{plural(int(summary.cells.sum()), 'cell')} by {by}"]
        if summary.missing == "drop" and summary.n_missing:
            parts[0] += f"; {plural(summary.n_missing, 'cell')} without {by} left out"
        if summary.n_left_out:
            parts[0] += f"; {plural(summary.n_left_out, 'cell')} left out by the condition"
        if summary.n_absent:
            names = enumerate_names(list(summary.n_absent), most=5)
            parts.append(f"Cells without a value of {names} are in no statistic of it")
        return ". ".join([*parts, self._source()])

    def _cells(
        self, columns: Sequence[str], palette: str, download_base: Any
    ) -> tuple[pd.DataFrame, dict[str, dict[str, str]], dict[str, str]]:
        """Return the columns of all cells, colours of terms, and labels of the scales."""
        if palette not in PALETTES:
            raise UsageError(f"no palette {palette!r}; there are: {enumerate_names(PALETTES)}")
        view = self._view
        wanted = list(dict.fromkeys(columns))
        others = [name for name in wanted if name not in view.columns]
        try:
            reader = joined_reader(view, others, download_base, on_disk=True)
        except UsageError as error:
            unknown = next((name for name in others if not self._has(name, download_base)), "")
            raise UsageError(f"{error}; of the genes{nearest(unknown, view.columns)}") from None
        colors = {}
        for annotation in reader.annotations:
            if annotation.name not in others or annotation.terms is None:
                continue
            if palette == "distinct" or annotation.name == SECTION:
                colors[annotation.name] = distinct_colors(annotation.terms)
            elif not annotation.colors:
                raise UsageError(
                    f"the atlas has no colours for the terms of {annotation.name!r} "
                    f"(no column {annotation.name}_color); pass --palette distinct"
                )
            else:
                colors[annotation.name] = dict(annotation.colors)
        labels = dict.fromkeys(view.columns, self._label)
        return cells_table(reader, wanted), colors, labels

    def _has(self, annotation: str, download_base: Any) -> bool:
        try:
            self._view.find_annotations([annotation], download_base=download_base)
        except UsageError:
            return False
        return True

    @property
    def _label(self) -> str:
        normalization = str(self._view.info["normalization"])
        return _EXPRESSION.get(normalization, normalization)

    def _source(self) -> str:
        return f"{self._view.info['metadata']}, {release_text(self._view.info)}"

    def _signed(self, picture: Picture, title: str) -> Picture:
        """Write into the picture what it is of."""
        info = self._view.info
        picture.provenance = {
            "title": f"{title}, {self._source()}",
            "view": self._view.path.name,
            "content": info["content"],
            **(origin_of(info) | {key: info[key] for key in ("metadata", "normalization")}),
            "cells": self._view.n_cells,
            "genes": {gene["column"]: gene["gene_identifier"] for gene in info["genes"]},
            "abc_dask": __version__,
        }
        return picture


def _placed(frame: pd.DataFrame, places: tuple[str, str], shown: Sequence[str]) -> pd.DataFrame:
    """Return a table whose x and y are columns of other names."""
    if places == _XY:
        return frame
    if set(_XY) & set(shown):
        raise UsageError("x and y cannot be colours where other columns are the places")
    return frame.assign(x=frame[places[0]].to_numpy(), y=frame[places[1]].to_numpy())


def _names(color: str | Iterable[str]) -> list[str]:
    names = [color] if isinstance(color, str) else list(color)
    if not names:
        raise UsageError("nothing to colour by; give a gene of the view or an annotation")
    return names


def _named(summary: Any, statistic: str) -> pd.DataFrame:
    """Return a table of groups x genes with the groups' names as one text each."""
    table: pd.DataFrame = summary[statistic]
    rows = table.index.to_frame(index=False).astype(object)
    names = [
        " / ".join(f"no {by}" if missing else str(term) for by, term, missing in row)
        for row in (
            zip(rows.columns, values, absent, strict=True)
            for values, absent in zip(rows.to_numpy(), rows.isna().to_numpy(), strict=True)
        )
    ]
    return table.set_axis(names, axis=0)


def _some(frame: pd.DataFrame, sections: Sequence[str]) -> pd.DataFrame:
    """Keep the cells of some sections."""
    known = frame[SECTION].cat.categories
    for name in sections:
        if name not in known:
            raise UsageError(f"no {SECTION} {name!r}{nearest(name, map(str, known))}")
    return frame[frame[SECTION].isin(sections)]
