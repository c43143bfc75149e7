"""Names of terms on the map, where a list would need too many colours to be told apart."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.analysis.plots import canvas
from abc_dask.analysis.plots.layers import Layer, TermLayer
from abc_dask.analysis.plots.raster import Raster

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# More terms than this are labelled on the map: their colours cannot be told apart in a list.
MOST_LISTED = 20

# Terms, by number of cells, for which a label is tried.
_MOST_LABELLED = 400

# Fields of the grid, along each axis, in which the densest part of a term is sought.
_GRID = 64

# Cells of a term that are looked at.
_MOST_CELLS = 5000

_SIZE = 5.0  # points

_LETTERS = 16  # of a line

_GAP = 0.8  # points between labels

_LINE = 3.0  # points; no line to the centre is shorter

# Steps away from the centre, in sizes of the label.
_RINGS = (0.75, 1.2, 1.8, 2.6)

_ANGLES = np.arange(12) * np.pi / 6


@dataclass(frozen=True)
class Label:
    """A label that has a place.

    Attributes
    ----------
    term : int
    text : str
    center, at : array, shape (2,)
        Where the term's cells are; the middle of the text; in pixels from the lower left.
    size : array, shape (2,)
        Of the text, with a gap around it.
    """

    term: int
    text: str
    center: NDArray[Any]
    at: NDArray[Any]
    size: NDArray[Any]

    @property
    def edge(self) -> NDArray[Any]:
        """Where a line from the middle of the text to the centre leaves the text."""
        step = self.center - self.at
        with np.errstate(divide="ignore", invalid="ignore"):
            share = float(np.nanmin(self.size / 2 / abs(step), initial=1.0))
        edge: NDArray[Any] = self.at + step * share
        return edge


def is_labelled(layer: Layer) -> bool:
    """Tell whether a layer's terms are named on the map."""
    return isinstance(layer, TermLayer) and int((layer.counts > 0).sum()) > MOST_LISTED


def centers(
    x: NDArray[Any], y: NDArray[Any], codes: NDArray[Any], n_terms: int
) -> NDArray[np.float64]:
    """Return the middle of the densest part of each term's cells.

    A mean may lie between two islands; this lies on the denser one: the median of the
    cells in the fullest field of a grid and around it. Of a term with very many cells,
    every second or third is looked at, and so on.

    Parameters
    ----------
    x, y : arrays of float, shape (n_cells,)
    codes : array of int, shape (n_cells,)
        -1 for cells of no term.
    n_terms : int
        Fewer than 32,768.

    Returns
    -------
    array of float64, shape (n_terms, 2)
        NaN for a term without cells.
    """
    there, terms = _sample(codes, n_terms)
    places = np.stack([x[there], y[there]]).astype(np.float64)
    finite = np.isfinite(places).all(axis=0)
    places, terms = places[:, finite], terms[finite]
    found = np.full((n_terms, 2), np.nan)
    if not len(terms):
        return found
    low, high = places.min(axis=1), places.max(axis=1)
    steps = np.where(high > low, (high - low) / _GRID, 1.0)
    column, row = np.minimum(((places.T - low) / steps).T, _GRID - 1).astype(np.int64)
    fields = np.bincount((terms * _GRID + row) * _GRID + column, minlength=n_terms * _GRID**2)
    padded = np.pad(fields.reshape(n_terms, _GRID, _GRID), ((0, 0), (1, 1), (1, 1)))
    around = sum(padded[:, dy : dy + _GRID, dx : dx + _GRID] for dy in range(3) for dx in range(3))
    # of fields with as full surroundings the fullest itself
    full = around * (int(fields.max()) + 1) + padded[:, 1:-1, 1:-1]
    best_row, best_column = np.divmod(full.reshape(n_terms, -1).argmax(axis=1), _GRID)
    near = (abs(row - best_row[terms]) <= 1) & (abs(column - best_column[terms]) <= 1)
    kept, owners = places[:, near], terms[near]
    numbers, starts = np.unique(owners, return_index=True)
    for term, part in zip(numbers, np.split(kept, starts[1:], axis=1), strict=True):
        found[term] = np.median(part, axis=1)
    return found


def _sample(codes: NDArray[Any], n_terms: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return cells of each term, evenly some of very many, term by term; and whose they are."""
    small = codes.astype(np.int16)  # of few terms, which are sorted in one pass
    order = np.argsort(small, kind="stable")
    ends = np.searchsorted(small[order], np.arange(-1, n_terms), side="right")
    parts = [
        order[first : stop : max(1, -(-(stop - first) // _MOST_CELLS))]
        for first, stop in itertools.pairwise(ends)
    ]
    cells = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    return cells, np.repeat(np.arange(n_terms), [len(part) for part in parts])


def place(
    ax: Axes, layer: TermLayer, x: NDArray[Any], y: NDArray[Any], grid: Raster
) -> list[Label]:
    """Find a place for the label of each term, the most frequent first; of some there is none.

    Parameters
    ----------
    ax : Axes
        Of which the figure measures texts.
    layer : TermLayer
    x, y : arrays, shape (n_cells,)
    grid : Raster
        The axes' pixels.

    Returns
    -------
    list of Label
        No text overlaps another or the edge.
    """
    counts = layer.counts
    chosen = np.argsort(-counts, kind="stable")[:_MOST_LABELLED]
    chosen = chosen[counts[chosen] > 0]
    rank = np.full(len(layer.terms) + 1, -1, np.int16)
    rank[chosen] = np.arange(len(chosen))
    points = centers(x, y, rank[layer.codes], len(chosen))
    low, high = np.array([grid.x_limits, grid.y_limits]).T
    shape = np.array([grid.width, grid.height], np.float64)
    points = (points - low) / (high - low) * shape
    texts = [textwrap.fill(layer.terms[k], _LETTERS) for k in chosen]
    sizes = _sizes(ax, texts)
    boxes = np.empty((0, 4))
    placed = []
    for term, text, point, size in zip(chosen, texts, points, sizes, strict=True):
        for at in _candidates(point, size):
            box = np.concatenate([at - size / 2, at + size / 2])
            if (box[:2] < 0).any() or (box[2:] > shape).any():
                continue
            if (np.maximum(boxes[:, :2], box[:2]) < np.minimum(boxes[:, 2:], box[2:])).all(1).any():
                continue
            boxes = np.vstack([boxes, box])
            placed.append(Label(int(term), text, point, at, size))
            break
    return placed


def _candidates(point: NDArray[Any], size: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    """Yield the centre, then places around it."""
    if not np.isfinite(point).all():
        return
    yield point
    for ring in _RINGS:
        for angle in _ANGLES:
            step = np.array([np.cos(angle), np.sin(angle)])
            yield point + step * (size / 2 + (ring - 0.5) * size[1])


def _sizes(ax: Axes, texts: Sequence[str]) -> NDArray[np.float64]:
    """Measure labels in pixels, with a gap around them."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.text import Text

    dpi = float(ax.figure.dpi)
    probe = Text(fontproperties=FontProperties(size=_SIZE), parse_math=False, linespacing=0.95)
    probe.set_figure(ax.figure)
    found = np.empty((len(texts), 2))
    for number, text in enumerate(texts):
        probe.set_text(text)
        box = probe.get_window_extent(canvas.renderer_of(ax.figure), dpi=dpi)
        found[number] = box.width, box.height
    return found + 2 * _GAP * dpi / 72


def write(ax: Axes, placed: Sequence[Label], grid: Raster) -> None:
    """Write labels, with a line to the centre where they are beside it."""
    from matplotlib.patheffects import withStroke

    shape = np.array([grid.width, grid.height], np.float64)
    halo = [withStroke(linewidth=1.4, foreground="white", alpha=0.85)]
    for label in placed:
        at = label.at / shape
        line = np.stack([label.edge, label.center])
        if np.hypot(*(line[1] - line[0])) > _LINE * float(ax.figure.dpi) / 72:
            ax.plot(
                *(line / shape).T, transform=ax.transAxes, color=canvas.INK, linewidth=0.4,
                marker="o", markersize=1.2, markeredgewidth=0, markevery=[1], zorder=3,
            )  # fmt: skip
        ax.text(
            at[0], at[1], label.text, transform=ax.transAxes, ha="center", va="center",
            size=_SIZE, color=canvas.INK, path_effects=halo, parse_math=False, linespacing=0.95,
            zorder=4, gid="label",
        )  # fmt: skip
