"""Pictures of a view: names of columns become tables, tables become pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from abc_dask.analysis.plots import figures
from abc_dask.analysis.plots.canvas import Picture
from abc_dask.analysis.plots.colors import distinct_colors
from abc_dask.analysis.plots.group_accessor import GroupPlots
from abc_dask.analysis.plots.of_view import Style
from abc_dask.base.errors import UsageError
from abc_dask.base.messages import enumerate_names, nearest
from abc_dask.release.coordinates import SECTION, unit_of
from abc_dask.views.joined import cells_table, joined_reader
from abc_dask.views.places import are_sections

if TYPE_CHECKING:
    import pandas as pd

PALETTES = ("atlas", "distinct")

_XY = ("x", "y")


class ViewPlots(GroupPlots):
    """Pictures of a view: ``view.plot.umap("class").save("class.png")``.

    Parameters
    ----------
    view : abc_dask.View
    """

    def umap(
        self,
        color: str | Iterable[str],
        *,
        embedding: str | None = None,
        x: str = "x",
        y: str = "y",
        palette: str = "atlas",
        same_scale: bool = False,
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
        same_scale : bool
            One colour scale for all genes, as far as no limits are given.
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
            same_scale=same_scale,
            caption=self._origin(),
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
        color: str | Iterable[str],
        *,
        sections: Iterable[str] | None = None,
        x: str = "x",
        y: str = "y",
        palette: str = "atlas",
        same_scale: bool = False,
        unit: str | None = None,
        download_base: Any = None,
        **style: Unpack[Style],
    ) -> Picture:
        """Draw the cells of brain sections, y downwards, with a scale bar.

        Of one colouring a panel a section; of several a row a section, a column a colouring.

        Parameters
        ----------
        color : str or iterable of str
            Genes of the view, and annotations.
        sections : iterable of str, optional
            Some of brain_section_label; all of them where not given.
        x, y : str
            Columns of places, such as ``reconstructed_coordinates.x``.
        unit : str, optional
            Of x and y; millimetres, the atlas's own, where not given, but for files of other
            origin: they have no scale bar unless a unit is given. ``none`` leaves it out.
        palette, same_scale, download_base, **style
            As `umap`.

        Returns
        -------
        Picture

        Raises
        ------
        UsageError
            As `umap`; if there are no sections, or not those that are asked for.
        """
        names = _names(color)
        frame, colors, labels = self._cells([*names, x, y, SECTION], palette, download_base)
        frame = _placed(frame, (x, y), names)
        if sections is not None:
            frame = _some(frame, _names(sections))
        picture = figures.sections_figure(
            frame,
            names,
            by=SECTION,
            colors=colors,
            labels=labels,
            same_scale=same_scale,
            caption=self._origin(),
            unit=None if unit == "none" else unit or unit_of(self._view.info),
            **style,
        )
        return self._signed(picture, f"{enumerate_names(names)} in brain sections")

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
            genes = f"of the genes{nearest(unknown, view.columns)}"
            raise UsageError(
                f"{error}; {genes if view.columns else 'genes are drawn of a view, by view.plot'}"
            ) from None
        colors = {}
        for annotation in reader.annotations:
            if annotation.name not in others or annotation.terms is None:
                continue
            if palette == "distinct" or annotation.name == SECTION:
                colors[annotation.name] = distinct_colors(annotation.terms)
            elif not annotation.colors:
                raise UsageError(
                    f"the atlas has no colours for the terms of {annotation.name!r} "
                    f"(no column {annotation.name}_color); pass --palette=distinct"
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


def _some(frame: pd.DataFrame, sections: Sequence[str]) -> pd.DataFrame:
    """Keep the cells of some sections."""
    known = frame[SECTION].cat.categories
    for name in sections:
        if name not in known:
            raise UsageError(f"no {SECTION} {name!r}{nearest(name, map(str, known))}")
    return frame[frame[SECTION].isin(sections)]
