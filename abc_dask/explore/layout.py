"""Where cells lie on the page: places as 16 bits, brain sections side by side, and their order.

Cells are in the order of a Z curve (G. M. Morton 1966), so that neighbours on the page are
neighbours in the file: places then take a quarter of the bytes. The first tile is a random
sixteenth of all cells, which is the first picture.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.base.errors import UsageError

# Stands for a place that is not there.
NOWHERE = 65_535

_LAST = NOWHERE - 1

TILE = 1 << 18

# Fewer cells are one tile.
_WHOLE = 1 << 16

_SAMPLE = 16

# Between brain sections, as a part of the largest one.
_GAP = 0.06


@dataclass(frozen=True)
class Panel:
    """One brain section on the page.

    Attributes
    ----------
    name : str
    x, y : float
        Its lower left corner on the page.
    width, height : float
    origin : tuple of float
        x and y of the data at the upper left corner.
    cells : int
    """

    name: str
    x: float
    y: float
    width: float
    height: float
    origin: tuple[float, float]
    cells: int


@dataclass(frozen=True)
class Layout:
    """Places of all cells on the page, and the order in which files hold them.

    Attributes
    ----------
    places : array of uint16, shape (n_cells, 2)
        x and y in steps of the ranges, y upwards; `NOWHERE` where a cell has none.
        In the order of the files.
    order : array of int64, shape (n_cells,)
        Cell of the table at each rank in the files.
    tiles : tuple of int
        Cells of each tile.
    x, y : tuple of float
        What 0 and 65,534 stand for.
    panels : tuple of Panel
        Brain sections; empty for a UMAP.
    """

    places: NDArray[np.uint16]
    order: NDArray[np.int64]
    tiles: tuple[int, ...]
    x: tuple[float, float]
    y: tuple[float, float]
    panels: tuple[Panel, ...]

    @property
    def n_nowhere(self) -> int:
        """Cells without a place."""
        return int((self.places[:, 0] == NOWHERE).sum())

    def describe(self, unit: str | None) -> dict[str, Any]:
        """Return what the page has to know, JSON-serialisable; `unit` is that of x and y."""
        return {
            "kind": "sections" if self.panels else "umap",
            "x": list(self.x),
            "y": list(self.y),
            "unit": (unit or "") if self.panels else "",
            "panels": [asdict(panel) for panel in self.panels],
        }


def lay_out(
    x: NDArray[Any],
    y: NDArray[Any],
    sections: tuple[NDArray[Any], tuple[str, ...]] | None = None,
) -> Layout:
    """Place cells on the page and order them.

    Parameters
    ----------
    x, y : arrays of float, shape (n_cells,)
        NaN or infinite where a cell has no place.
    sections : codes (-1 where missing) and names, optional
        Brain sections, which are put side by side; y grows downwards in them, and a cell
        without a section has no place.

    Returns
    -------
    Layout

    Raises
    ------
    UsageError
        If no cell has a place.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    there = np.isfinite(x) & np.isfinite(y)
    panels: tuple[Panel, ...] = ()
    if sections is not None:
        codes, names = sections
        there &= codes >= 0
        x, y, panels = _side_by_side(x, y, codes, names, there)
    if not there.any():
        raise UsageError("x and y are missing in all cells: there is nothing to show")
    x_range, y_range = _range(x[there]), _range(y[there])
    places = np.full((len(x), 2), NOWHERE, np.uint16)
    places[there, 0] = _steps(x[there], x_range)
    places[there, 1] = _steps(y[there], y_range)
    order, tiles = _ordered(places)
    return Layout(places[order], order, tiles, x_range, y_range, panels)


def _range(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _steps(values: NDArray[np.float64], limits: tuple[float, float]) -> NDArray[np.uint16]:
    low, high = limits
    return np.rint((values - low) / (high - low) * _LAST).astype(np.uint16)


def _side_by_side(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    codes: NDArray[Any],
    names: tuple[str, ...],
    there: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[Panel, ...]]:
    """Return places on a common page, and the panels; all at one scale."""
    used = np.unique(codes[there])
    edges = {}
    for code in used:
        inside = there & (codes == code)
        edges[int(code)] = (x[inside].min(), x[inside].max(), y[inside].min(), y[inside].max())
    if not edges:
        return x, y, ()
    width = max(right - left for left, right, _, _ in edges.values()) or 1.0
    height = max(low - high for _, _, high, low in edges.values()) or 1.0
    gap = _GAP * max(width, height)
    # somewhat wider than high, as screens are
    count = max(1, round(math.sqrt(1.5 * len(edges) * (height + gap) / (width + gap))))
    page_x, page_y = np.full(len(x), np.nan), np.full(len(y), np.nan)
    panels = []
    for number, (code, (left, right, top, bottom)) in enumerate(edges.items()):
        row, column = divmod(number, count)
        corner = (column * (width + gap), -row * (height + gap))
        # in the middle of its panel
        origin = ((left + right - width) / 2, (top + bottom - height) / 2)
        inside = there & (codes == code)
        page_x[inside] = corner[0] + x[inside] - origin[0]
        page_y[inside] = corner[1] - (y[inside] - origin[1])
        panels.append(
            Panel(
                name=names[code],
                x=corner[0],
                y=corner[1] - float(height),
                width=float(width),
                height=float(height),
                origin=(float(origin[0]), float(origin[1])),
                cells=int(inside.sum()),
            )
        )
    return page_x, page_y, tuple(panels)


def _ordered(places: NDArray[np.uint16]) -> tuple[NDArray[np.int64], tuple[int, ...]]:
    """Return the order in the files and the cells of each tile."""
    n = len(places)
    curve = np.argsort(z_curve(places), kind="stable")
    if n < _WHOLE:
        return curve, (n,)
    sampled = np.zeros(n, np.bool_)
    # always the same cells: the same table gives the same files
    sampled[np.random.default_rng(0).permutation(n)[: math.ceil(n / _SAMPLE)]] = True
    first = sampled[curve]
    order = np.concatenate([curve[first], curve[~first]])
    n_first = int(first.sum())
    rest = n - n_first
    tiles = [n_first, *[TILE] * (rest // TILE)]
    return order, tuple(tiles + ([rest % TILE] if rest % TILE else []))


def z_curve(places: NDArray[np.uint16]) -> NDArray[np.uint32]:
    """Return the bits of x and y in turn, x in the lower ones."""
    found = np.zeros(len(places), np.uint32)
    for axis in (0, 1):
        bits = places[:, axis].astype(np.uint32)
        for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
            bits = (bits | (bits << np.uint32(shift))) & np.uint32(mask)
        found |= bits << np.uint32(axis)
    return found
