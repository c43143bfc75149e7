"""Cells onto pixels: every cell counts, and memory is that of the picture.

Two million dots drawn over each other show what was drawn last. Here each pixel gets a
value of all cells that fall on it: the mean of a gene, or the most frequent term.
Pure functions over NumPy arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

EMPTY = -1  # of a pixel on which no cell lies

_LARGEST_RADIUS = 6

# How often all cells together may cover the picture: they lie in islands.
_OFTEN = 4


@dataclass(frozen=True)
class Raster:
    """A rectangle of the plane in pixels; row 0 is the lowest y.

    Attributes
    ----------
    x_limits, y_limits : tuple of float
        Lower and upper edge.
    width, height : int
        Pixels.
    """

    x_limits: tuple[float, float]
    y_limits: tuple[float, float]
    width: int
    height: int

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, lower and upper edge, as `matplotlib.axes.Axes.imshow` takes them."""
        return (*self.x_limits, *self.y_limits)

    def radius(self, n_cells: int) -> int:
        """Return the radius of a cell in pixels: few cells are drawn larger."""
        radius = 0
        while radius < _LARGEST_RADIUS:
            if n_cells * len(_disc(radius + 1)) > _OFTEN * self.width * self.height:
                break
            radius += 1
        return radius


@dataclass(frozen=True)
class PixelHits:
    """Which cell covers which pixel.

    Attributes
    ----------
    raster : Raster
    pixels : array of int64, shape (n_hits,)
        Pixel numbers, row by row.
    cells : array of int64 or slice, length n_hits
        Which cell each hit is of.
    """

    raster: Raster
    pixels: NDArray[np.int64]
    cells: NDArray[np.int64] | slice

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Cells on each pixel, shape (n_pixels,)."""
        return np.bincount(self.pixels, minlength=self.raster.width * self.raster.height)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the picture."""
        return (self.raster.height, self.raster.width)


def _disc(radius: int) -> list[tuple[int, int]]:
    """Return the steps to all pixels of a disc; its edge is rounded, so that 1 is not a cross."""
    steps = range(-radius, radius + 1)
    edge = radius * (radius + 1)
    return [(dx, dy) for dy in steps for dx in steps if dx * dx + dy * dy <= edge]


def hits(raster: Raster, x: NDArray[Any], y: NDArray[Any], *, radius: int = 0) -> PixelHits:
    """Find the pixels that each cell covers.

    Parameters
    ----------
    raster : Raster
    x, y : arrays, shape (n_cells,)
        Places; a cell without one (NaN), or beyond the edges, covers nothing. Pixels are
        half-open: the upper edges are beyond.
    radius : int
        Of a cell's disc in pixels; 0 is a single pixel.
    """
    low, high = np.array([raster.x_limits, raster.y_limits], np.float64).T
    scale = np.array([raster.width, raster.height]) / (high - low)
    columns, rows = (x - low[0]) * scale[0], (y - low[1]) * scale[1]
    inside = (columns >= 0) & (columns < raster.width) & (rows >= 0) & (rows < raster.height)
    cells = slice(None) if inside.all() else np.flatnonzero(inside)
    column, row = columns[cells].astype(np.int32), rows[cells].astype(np.int32)
    if radius == 0:
        pixels = row.astype(np.int64)
        pixels *= raster.width
        pixels += column
        return PixelHits(raster, pixels, cells)
    numbers = np.arange(len(x))[cells]
    found, owners = [], []
    for dx, dy in _disc(radius):
        at, up = column + dx, row + dy
        kept = (at >= 0) & (at < raster.width) & (up >= 0) & (up < raster.height)
        found.append(up[kept].astype(np.int64) * raster.width + at[kept])
        owners.append(numbers[kept])
    return PixelHits(raster, np.concatenate(found), np.concatenate(owners))


def mean_of_pixels(covered: PixelHits, values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean of the values of the cells on each pixel.

    Parameters
    ----------
    covered : PixelHits
    values : array, shape (n_cells,)
        A missing value (NaN) takes no part.

    Returns
    -------
    array of float64, shape (height, width)
        NaN where no cell with a value lies.
    """
    size = covered.raster.width * covered.raster.height
    chosen = values[covered.cells].astype(np.float64)
    present = ~np.isnan(chosen)
    pixels = covered.pixels if present.all() else covered.pixels[present]
    weights = chosen if present.all() else chosen[present]
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.bincount(pixels, weights=weights, minlength=size)
        mean = total / (covered.counts if present.all() else np.bincount(pixels, minlength=size))
    return mean.reshape(covered.shape)


def count_of_pixels(covered: PixelHits) -> NDArray[np.int64]:
    """Return the number of cells on each pixel, as an array of height x width."""
    return covered.counts.reshape(covered.shape)


def most_frequent(covered: PixelHits, codes: NDArray[Any], n_terms: int) -> NDArray[np.int64]:
    """Return the term that most cells on each pixel have.

    Parameters
    ----------
    covered : PixelHits
    codes : array of int, shape (n_cells,)
        Position of each cell's term; -1 where it has none, which counts as a term of its own.
    n_terms : int

    Returns
    -------
    array of int64, shape (height, width)
        Position of the term, the earliest of several as frequent ones; `n_terms` where
        most cells have none; `EMPTY` where no cell lies.
    """
    n_codes = n_terms + 1
    chosen = codes[covered.cells].astype(np.int64)
    chosen[chosen < 0] = n_terms
    # sorted pairs of pixel and term: as much memory as cells, however many terms there are
    pairs = covered.pixels * n_codes + chosen
    pairs.sort()
    starts = np.flatnonzero(np.diff(pairs, prepend=-1))
    counts = np.diff(starts, append=len(pairs))
    pixels, terms = np.divmod(pairs[starts], n_codes)
    best = np.full(covered.raster.width * covered.raster.height, EMPTY, np.int64)
    # of a pixel's pairs the last one stays: the most frequent, then the earliest
    order = np.lexsort((-terms, counts, pixels))
    best[pixels[order]] = terms[order]
    return best.reshape(covered.shape)
