"""Pictures of markers: the best genes of each group, in all groups."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Unpack

from abc_dask._version import __version__
from abc_dask.analysis.marker_table import MarkerStatistics, marker_statistics
from abc_dask.analysis.plots import group_figures
from abc_dask.analysis.plots.canvas import Picture
from abc_dask.analysis.plots.of_view import TableStyle
from abc_dask.base.messages import names_of, plural


class MarkerPlots:
    """Pictures of a table of markers: ``MarkerPlots("M.csv").dots(top=3).save("dots.png")``.

    Parameters
    ----------
    markers : path, pandas.DataFrame or Markers
        What `abc-dask markers` wrote, or a table with its columns.
    """

    def __init__(self, markers: Any) -> None:
        self._markers = markers

    def dots(
        self, *, top: int = 3, groups: Iterable[str] | None = None, **style: Unpack[TableStyle]
    ) -> Picture:
        """Draw a dot for each marker and group: size the expressing fraction, colour the mean.

        Parameters
        ----------
        top : int
            Markers of each group, by score; they stand under its name.
        groups : iterable of str, optional
            Some of the groups; all where not given.
        **style
            See `abc_dask.analysis.plots.of_view.TableStyle`.

        Returns
        -------
        Picture

        Raises
        ------
        UsageError
            If it is no table of markers, lacks a group, or there are too many groups.
        """
        found = self._found(top, groups)
        picture = group_figures.dots_figure(
            found.mean, found.fraction, **self._labels(found, top), **style
        )
        return self._signed(picture, "mean and fraction of markers")

    def heatmap(
        self, *, top: int = 3, groups: Iterable[str] | None = None, **style: Unpack[TableStyle]
    ) -> Picture:
        """Draw the means of markers by groups; parameters as `dots`."""
        found = self._found(top, groups)
        picture = group_figures.heatmap_figure(found.mean, **self._labels(found, top), **style)
        return self._signed(picture, "mean of markers")

    def _found(self, top: int, groups: Iterable[str] | None) -> MarkerStatistics:
        return marker_statistics(self._markers, top, None if groups is None else names_of(groups))

    def _labels(self, found: MarkerStatistics, top: int) -> dict[str, Any]:
        count = len(dict.fromkeys(one.group for one in found.marked))
        said = f"The best {plural(top, 'marker')} by score of each of {plural(count, 'group')}"
        return {
            "counts": found.cells,
            "label": "mean expression",
            "caption": f"{said}, out of {self._name}",
            "column_brackets": [one.group for one in found.marked],
        }

    @property
    def _name(self) -> str:
        return Path(self._markers).name if isinstance(self._markers, str | Path) else "markers"

    def _signed(self, picture: Picture, title: str) -> Picture:
        picture.provenance = {
            "title": f"{title}, {self._name}",
            "markers": self._name,
            "abc_dask": __version__,
        }
        return picture
