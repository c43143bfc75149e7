"""Colours: scales, limits, and what stands for absent."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.base.errors import UsageError
from abc_dask.base.messages import enumerate_names, nearest

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

# Name of this package's own map: matplotlib's magma_r, whose steps are even for the eye, also for
# one that does not tell red from green, and in print. It rises from pale to dark; without what is
# as good as black, and what is lighter than `ZERO`: cells begin there, tables nearly white.
COLORMAP = "expression"

# For values on both sides of a middle.
DIVERGING = "RdBu_r"

_BASE = "magma_r"

_PALEST, _DARKEST = 0.12, 0.92

# Of tables: the first colour, and the share of the map that leads from it to the palest of cells.
_NOTHING, _SHARE = "#faf5f0", 0.14

# Cells that have a value, and it is 0: lighter than any colour of the scale, not white as paper.
ZERO = "#dddddd"

# Cells without a value: no colour of the scale, no zero.
NO_VALUE = "#9fc9e3"

# Cells without a term, and fields of tables without a value.
ABSENT = "#cccccc"

_ROBUST = 99.0

# Okabe and Ito's colours, told apart with any colour vision (https://jfly.uni-koeln.de/color/);
# black last, yellow not next to white paper.
_OKABE_ITO = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#B8A800", "#000000"),
)

# The plane's counterpart of the golden ratio (M. Roberts, the R2 sequence).
_STEPS = (0.7548776662, 0.5698402910)

_HEXADECIMAL = re.compile(r"#[0-9A-Fa-f]{6}")


def colormap_of(name: str, *, cells: bool = False) -> Colormap:
    """Return a colour map by its name: `COLORMAP`, or one of matplotlib's.

    Parameters
    ----------
    name : str
    cells : bool
        Of `COLORMAP` only what is darker than `ZERO`; else it begins nearly white.

    Raises
    ------
    UsageError
        If there is none.
    """
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    if name == COLORMAP:
        steps = colormaps[_BASE](np.linspace(_PALEST, _DARKEST, 256)).tolist()
        if cells:
            return LinearSegmentedColormap.from_list(COLORMAP, steps)
        stops = [0.0, *np.linspace(_SHARE, 1, len(steps))]
        pairs = list(zip(stops, [_NOTHING, *steps], strict=True))
        return LinearSegmentedColormap.from_list(COLORMAP, pairs)
    if name not in colormaps:
        raise UsageError(f"no colour map {name!r}{nearest(name, [COLORMAP, *colormaps])}")
    return colormaps[name]


def robust_limits(values: NDArray[Any]) -> tuple[float, float]:
    """Return the limits of a colour scale that a few large values do not stretch.

    Parameters
    ----------
    values : array of float
        NaN and infinite values take no part.

    Returns
    -------
    tuple of float
        0 (or the 1st percentile where values are negative) and the 99th percentile of
        the positive values; 0 and 1 where there are none.
    """
    finite = values[np.isfinite(values)]
    positive, negative = finite[finite > 0], finite[finite < 0]
    low = float(np.percentile(finite, 100 - _ROBUST)) if len(negative) else 0.0
    high = float(np.percentile(positive, _ROBUST)) if len(positive) else 0.0
    return (min(low, 0.0), high) if high > min(low, 0.0) else (low, low + 1.0)


def checked_limits(limits: Sequence[float] | None) -> tuple[float, float] | None:
    """Check limits that a person gave: two finite numbers, the lower one first.

    Raises
    ------
    UsageError
        If they are not.
    """
    if limits is None:
        return None
    if len(limits) != 2 or not np.isfinite(limits).all() or not limits[0] < limits[1]:
        raise UsageError(
            f"limits {' '.join(f'{v:g}' for v in limits)}: expected a lower and a higher number, "
            "such as 0 6"
        )
    return float(limits[0]), float(limits[1])


def distinct_colors(terms: Sequence[str]) -> dict[str, str]:
    """Return colours of this package's own: up to 8 for any colour vision, then by hue.

    Parameters
    ----------
    terms : sequence of str

    Returns
    -------
    dict
        ``#RRGGBB`` of each term.
    """
    if len(terms) <= len(_OKABE_ITO):
        return dict(zip(terms, _OKABE_ITO, strict=False))
    colors = {}
    for number, term in enumerate(terms):
        # hue and lightness fill their plane evenly, whatever the number of terms
        hue, light = number * _STEPS[0] % 1, 0.28 + 0.42 * (number * _STEPS[1] % 1)
        parts = (round(255 * part) for part in colorsys.hls_to_rgb(hue, light, 0.75))
        colors[term] = "#{:02X}{:02X}{:02X}".format(*parts)
    return colors


def checked_colors(terms: Sequence[str], colors: Mapping[str, str], *, of: str) -> list[str]:
    """Return the colour of each term, in their order.

    Raises
    ------
    UsageError
        If a term has none, or it is not a colour.
    """
    wrong = [term for term in terms if not _HEXADECIMAL.fullmatch(str(colors.get(term, "")))]
    if wrong:
        named = enumerate_names([repr(term) for term in wrong], most=3)
        raise UsageError(f"{of}: no colour such as '#2B93DF' for {named}; pass --palette=distinct")
    return [colors[term] for term in terms]


def rgb(colors: Sequence[str]) -> NDArray[np.uint8]:
    """Return ``#RRGGBB`` colours as an array of n x 4 bytes, opaque.

    Examples
    --------
    >>> rgb(["#2B93DF"]).tolist()
    [[43, 147, 223, 255]]
    """
    found = [bytes.fromhex(color.removeprefix("#")) + b"\xff" for color in colors]
    return np.frombuffer(b"".join(found), np.uint8).reshape(-1, 4)
