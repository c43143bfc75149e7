"""Pictures of a view: names of columns become tables, tables become pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from abc_dask import __version__
from abc_dask.errors import UsageError
from abc_dask.handover import SECTION, are_sections, cells_table, joined_reader
from abc_dask.plots import figures
from abc_dask.plots.canvas import Picture
from abc_dask.plots.colors import distinct_colors
from abc_dask.words import enumerate_names, nearest

if TYPE_CHECKING:
    import pandas as pd

PALETTES = ("atlas", "distinct")
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
        palette: str = "atlas",
        download_base: Any = None,
        **style: Unpack[Style],
    ) -> Picture:
        """Draw all cells of the atlas's UMAP, a panel a colouring.

        Parameters
        ----------
        color : str or iterable of str
            Genes of the view, and annotations.
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
        if are_sections(self._view, download_base):
            raise UsageError(
                f"x and y of {self._view.info['metadata']} are places in brain sections, "
                "not of a UMAP; draw them with: abc-dask plot sections"
            )
        frame, colors, labels = self._cells([*names, "x", "y"], palette, download_base)
        picture = figures.umap_figure(
            frame, names, colors=colors, labels=labels, caption=self._source(), **style
        )
        return self._signed(picture, f"UMAP of {enumerate_names(names)}")

    def sections(
        self,
        color: str,
        *,
        sections: Iterable[str] | None = None,
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
        frame, colors, labels = self._cells([color, "x", "y", SECTION], palette, download_base)
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

    def _cells(
        self, columns: Sequence[str], palette: str, download_base: Any
    ) -> tuple[pd.DataFrame, dict[str, dict[str, str]], dict[str, str]]:
        """Give the columns of all cells, colours of terms, and labels of the scales."""
        if palette not in PALETTES:
            raise UsageError(f"no palette {palette!r}; there are: {enumerate_names(PALETTES)}")
        view = self._view
        wanted = list(dict.fromkeys(columns))
        others = [name for name in wanted if name not in view.columns]
        try:
            reader = joined_reader(view, others, download_base, on_disk=True)
        except UsageError as error:
            genes = enumerate_names(view.columns, most=20)
            raise UsageError(f"{error}; genes of the view: {genes}") from None
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

    @property
    def _label(self) -> str:
        normalization = str(self._view.info["normalization"])
        return _EXPRESSION.get(normalization, normalization)

    def _source(self) -> str:
        info = self._view.info
        return f"{info['metadata']}, release {info['release']}"

    def _signed(self, picture: Picture, title: str) -> Picture:
        """Say in the picture's file what it is of."""
        info = self._view.info
        picture.provenance = {
            "title": f"{title}, {self._source()}",
            "view": self._view.path.name,
            "content": info["content"],
            **{key: info[key] for key in ("release", "metadata", "normalization")},
            "cells": self._view.n_cells,
            "genes": {gene["column"]: gene["gene_identifier"] for gene in info["genes"]},
            "abc_dask": __version__,
        }
        return picture


def _names(color: str | Iterable[str]) -> list[str]:
    names = [color] if isinstance(color, str) else list(color)
    if not names:
        raise UsageError("nothing to colour by; give a gene of the view or an annotation")
    return names


def _some(frame: pd.DataFrame, sections: Sequence[str]) -> pd.DataFrame:
    """Keep the cells of some sections."""
    known = frame[SECTION].cat.categories
    for name in sections:
        if name not in known:
            raise UsageError(f"no {SECTION} {name!r}{nearest(name, map(str, known))}")
    return frame[frame[SECTION].isin(sections)]
