"""Places of all cells as the pixels of one picture: read, and turned into pixels, once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.analysis.plots.cells import raster_of, span
from abc_dask.analysis.plots.legends import bar_length
from abc_dask.analysis.plots.raster import PixelHits, hits

# Pixels of a picture.
_WIDTH, _WIDTH_OF_SECTIONS = 800, 1600

_FLATTEST, _TALLEST = 0.4, 1.5  # height of a picture over its width

_GAP = 1.04  # of a section's field over the largest section

_WIDER = 1.6  # width of a picture of sections over its height, as far as they allow


# Sides of a field, as a share of the other one and of the coordinates, that are not too narrow.
_NARROWEST, _SMALLEST = 1e-2, 1e-9


@dataclass(frozen=True)
class Name:
    """Name of a section, and where its field begins, in percent of the picture."""

    text: str
    left: float
    top: float


@dataclass(frozen=True)
class Bar:
    """A scale bar: a round length with its unit, and its percentage of the picture's width."""

    text: str
    share: float


@dataclass(frozen=True)
class Plane:
    """All cells of a UMAP, or of brain sections side by side.

    Attributes
    ----------
    covered : PixelHits
        Which cell covers which pixel.
    n_drawn, n_without : int
        Cells that have a place, and those that have none.
    names : tuple of Name
        Of sections; none in a UMAP.
    bar : Bar or None
        Of sections whose unit is known.
    """

    covered: PixelHits
    n_drawn: int
    n_without: int
    names: tuple[Name, ...] = ()
    bar: Bar | None = None

    def upright(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return rows of pixels as a file has them: y upwards in a UMAP, downwards in sections."""
        return image if self.names else image[::-1]


def umap_plane(x: NDArray[Any], y: NDArray[Any]) -> Plane:
    """Turn x and y of a UMAP into pixels; some cell has both."""
    there = np.isfinite(x) & np.isfinite(y)
    left, right, low, high = edges = span(x, y)
    aspect = min(max((high - low) / (right - left), _FLATTEST), _TALLEST)
    grid = raster_of(edges, _WIDTH, round(_WIDTH * aspect))
    n_drawn = int(there.sum())
    return Plane(hits(grid, x, y, radius=grid.radius(n_drawn)), n_drawn, len(x) - n_drawn)


def section_plane(
    x: NDArray[Any],
    y: NDArray[Any],
    codes: NDArray[Any],
    terms: tuple[str, ...],
    unit: str | None = None,
) -> Plane:
    """Lay brain sections out side by side, all at one scale, y downwards.

    Parameters
    ----------
    x, y : arrays, shape (n_cells,)
    codes : array of int, shape (n_cells,)
        Section of each cell, -1 where it has none; some cell has one, and a place.
    terms : tuple of str
        Their names.
    unit : str, optional
        Of x and y; without one there is no scale bar.
    """
    import pandas as pd

    there = np.isfinite(x) & np.isfinite(y) & (codes >= 0)
    limits = pd.DataFrame({"x": x[there], "y": y[there]}).groupby(codes[there]).agg(["min", "max"])
    low, high = limits.xs("min", axis=1, level=1), limits.xs("max", axis=1, level=1)
    size = (high - low).to_numpy().max(axis=0)
    width, height = _field_of(size, float(np.abs(limits.to_numpy()).max()))
    columns = int(np.ceil(np.sqrt(len(limits) * _WIDER * height / width)))
    columns = min(max(columns, 1), len(limits))
    rows = -(-len(limits) // columns)
    at = np.divmod(np.arange(len(limits)), columns)
    rank = np.zeros(len(terms), np.int64)
    rank[limits.index] = np.arange(len(limits))
    field = rank[np.where(there, codes, 0)]
    places = []
    for name, step, number in (("x", width, at[1]), ("y", height, at[0])):
        middle = ((low[name] + high[name]) / 2).to_numpy()
        moved = (x if name == "x" else y) + ((number + 0.5) * step - middle)[field]
        places.append(np.where(there, moved, np.nan))
    edges = (0.0, columns * width, 0.0, rows * height)
    pixels = _WIDTH_OF_SECTIONS if len(limits) > 1 else _WIDTH
    grid = raster_of(edges, pixels, round(pixels * edges[3] / edges[1]))
    n_drawn = int(there.sum())
    length, whole = bar_length(width), grid.x_limits[1] - grid.x_limits[0]
    return Plane(
        hits(grid, *places, radius=grid.radius(n_drawn)),
        n_drawn,
        len(x) - n_drawn,
        tuple(
            Name(terms[code], 100 * column / columns, 100 * row / rows)
            for code, row, column in zip(limits.index, *at, strict=True)
        ),
        None if unit is None else Bar(f"{length:g} {unit}", 100 * length / whole),
    )


def _field_of(size: NDArray[np.float64], magnitude: float) -> tuple[float, float]:
    """Return width and height of a section's field; some size where all cells are at one place."""
    longer = float(size.max()) * _GAP
    if longer <= _SMALLEST * magnitude:
        longer = magnitude or 1.0
    width, height = np.maximum(size * _GAP, longer * _NARROWEST)
    return float(width), float(height)
