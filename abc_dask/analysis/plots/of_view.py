"""What all pictures of a view share: their style, what they say of where they are from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from abc_dask._version import __version__
from abc_dask.analysis.plots.canvas import Picture
from abc_dask.release.release import origin_of, release_text

_LABELS = {"log2": "log2 expression", "raw": "raw counts"}

_NORMALIZATIONS = {"log2": "log2(CPM + 1)", "raw": "raw counts"}


class Format(TypedDict, total=False):
    """What all pictures take.

    Attributes
    ----------
    limits : two floats
        Of the scale of numbers.
    width : float
        Centimetres; a journal's column (8.5) for one panel, its page (17.8) for more.
    dpi : int
        Pixels an inch.
    """

    limits: Sequence[float] | None
    width: float | None
    dpi: int


def label_of(info: Mapping[str, Any]) -> str:
    """Return what a view's values are, for a scale."""
    normalization = str(info["normalization"])
    return _LABELS.get(normalization, normalization)


class Style(Format, total=False):
    """What pictures take whose colours are a scale of numbers.

    Attributes
    ----------
    colormap : str
        ``expression``, this package's own from pale to dark, or one of matplotlib's.
    """

    colormap: str


class TableStyle(Style, total=False):
    """What pictures of tables take.

    Attributes
    ----------
    scale : str
        Of each gene: ``none``; ``zscore`` over the groups; ``max``, shares of the highest.
    cluster : str
        ``groups``, ``genes``, ``both`` or ``none``: similar ones side by side, with a tree.
    """

    scale: str
    cluster: str


class OfView:
    """Pictures of a view.

    Parameters
    ----------
    view : abc_dask.View
    """

    def __init__(self, view: Any) -> None:
        self._view = view

    @property
    def _label(self) -> str:
        return label_of(self._view.info)

    def _source(self) -> str:
        return f"{self._view.info['metadata']}, {release_text(self._view.info)}"

    def _origin(self) -> str:
        """Return where values are from and what they are, for a caption."""
        if not self._view.info["genes"]:
            return self._source()
        normalization = str(self._view.info["normalization"])
        return f"{self._source()}, {_NORMALIZATIONS.get(normalization, normalization)}"

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
