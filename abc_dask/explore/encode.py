"""Columns as the page reads them: few bits for pictures, exact values for tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.base.errors import UsageError
from abc_dask.explore.layout import z_curve

# A value of 8 bits: zero, then steps of the range, then missing.
ZERO, MISSING, STEPS = 0, 255, 254

# In a column of terms, by its bytes.
NO_TERM = {1: 255, 2: 65_535}

# Beyond it values count as infinite: edges of steps are float32.
_LARGEST = float(np.finfo(np.float32).max)

# Of gzip: more than this costs more time than it saves on a network.
LEVEL = 6

_FAST = 1


def gzipped(content: bytes | memoryview, level: int = LEVEL) -> bytes:
    """Compress one stream, the same bytes every time; other threads go on meanwhile."""
    import deflate

    return bytes(deflate.gzip_compress(content, level))


def step_edges(low: float, high: float) -> NDArray[np.float32]:
    """Return the lower edges of the steps after the first; the page computes the same numbers.

    Parameters
    ----------
    low, high : float
        Range of the values.

    Returns
    -------
    array of float32, shape (STEPS - 1,)
        Edges are float32 so that ``gene >= edge`` means the same wherever it is asked.
    """
    numbers = np.arange(1, STEPS, dtype=np.float64)
    return (low + (high - low) / STEPS * numbers).astype(np.float32)


def quantised(values: NDArray[Any]) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """Bring values into steps of 8 bits.

    Parameters
    ----------
    values : array of float, shape (n_cells,)
        NaN where missing; infinite values count as the lowest or highest.

    Returns
    -------
    dict
        ``low``, ``high`` (range of the finite values), ``zero`` (whether byte 0 is the
        value 0 and steps start at 1), and counts: ``zeros``, ``missing``.
    array of uint8, shape (n_cells,)
        0 is zero, 1 to 254 are steps of the range, 255 is missing. Where values are
        negative, 0 to 253 are the steps, and zero is one of them.
    """
    missing = np.flatnonzero(np.isnan(values))
    steps = np.zeros(len(values), np.uint8)
    zero = not bool((values < 0).any())
    # most cells have zero of most genes: only the others are looked at again
    held: Any = np.flatnonzero(values > 0) if zero else slice(None)
    own = values[held]
    low, high = _limits(own)
    steps[held] = _steps(own, low, high) + zero
    steps[missing] = MISSING
    about = {
        "low": low,
        "high": high,
        "zero": zero,
        "zeros": len(values) - len(own) - len(missing) if zero else 0,
        "missing": len(missing),
    }
    return about, steps


def _steps(values: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    """Return how many edges are not above each value.

    A search takes eight times as long as working the step out, comparing it with the edges at
    its sides, and moving it by one where rounding went the other way.
    """
    edges = step_edges(low, high)
    lower, upper = np.append(np.float32(-np.inf), edges), np.append(edges, np.float32(np.inf))
    within = np.clip(values, low, high)
    with np.errstate(all="ignore"):
        found: NDArray[Any] = ((within - low) * (STEPS / (high - low))).astype(np.int32)
    np.clip(found, 0, STEPS - 1, out=found)
    found += within >= upper[found]
    found -= within < lower[found]
    if ((within >= lower[found]) & (within < upper[found])).all():
        return found
    return np.searchsorted(edges, values, side="right")


def _limits(values: NDArray[Any]) -> tuple[float, float]:
    """Return lowest and highest finite value; some width where all are equal or none is."""
    if len(values):
        low, high = float(values.min()), float(values.max())
        if not (abs(low) <= _LARGEST and abs(high) <= _LARGEST):
            finite = values[np.abs(values) <= _LARGEST]
            low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
        return (low, high) if high > low else (low, low + max(1.0, abs(low)))
    return 0.0, 1.0


def value_file(
    values: NDArray[Any], order: NDArray[np.int64] | None = None, *, compress: bool = True
) -> bytes:
    """Return the file of a gene or number as the picture needs it: a head, and 8 bits a cell.

    Parameters
    ----------
    values : array of float, shape (n_cells,)
    order : array of int64, optional
        Cell at each rank of the file; steps are brought into it, which are few bytes.
    compress : bool
    """
    about, steps = quantised(values)
    content = (steps if order is None else steps[order]).tobytes()
    return _file(about, content, LEVEL if compress else None)


def exact_file(values: NDArray[Any], *, compress: bool = True) -> bytes:
    """Return the file of exact values: a head, and all first bytes, all second ones, ...

    Bytes of the same weight are alike, which makes the file half as large.
    """
    dtype = "<f8" if values.dtype.itemsize == 8 else "<f4"
    exact = np.ascontiguousarray(values, dtype)
    planes = exact.view(np.uint8).reshape(len(exact), exact.itemsize).T
    about = {"dtype": dtype, "planes": len(planes)}
    return _file(about, np.ascontiguousarray(planes).tobytes(), _FAST if compress else None)


def _file(about: dict[str, Any], content: bytes, level: int | None) -> bytes:
    """Put a head before content: its length as uint32, JSON, spaces up to four bytes."""
    head = json.dumps(about).encode()
    head += b" " * (-len(head) % 4)
    whole = len(head).to_bytes(4, "little") + head + content
    return whole if level is None else gzipped(whole, level)


def term_tiles(
    codes: NDArray[Any], n_terms: int, tiles: Sequence[int]
) -> tuple[int, list[memoryview]]:
    """Return bytes a cell, and codes tile by tile, with `NO_TERM` where missing."""
    if n_terms > NO_TERM[2]:
        raise UsageError(f"{n_terms:,} terms are too many to colour by; at most {NO_TERM[2]:,}")
    width = 1 if n_terms <= NO_TERM[1] else 2
    coded = np.where(codes < 0, NO_TERM[width], codes).astype(f"<u{width}")
    return width, _cut(coded, tiles)


def place_tiles(places: NDArray[np.uint16], tiles: Sequence[int]) -> list[memoryview]:
    """Return places tile by tile: how far each is along the Z curve from the one before.

    Steps of uint32, the first one from 0: all their lowest bytes, then the second ones, ...
    That is 1.4 bytes a cell for four million, where bytes of x and y are 2.2.
    """
    found = []
    for part in np.split(z_curve(places), np.cumsum(tiles)[:-1]):
        steps = np.diff(part, prepend=np.uint32(0)).astype("<u4")
        planes = steps.view(np.uint8).reshape(len(part), 4).T
        found.append(memoryview(np.ascontiguousarray(planes).tobytes()))
    return found


def label_tiles(labels: pa.Array, tiles: Sequence[int]) -> list[memoryview]:
    """Return labels tile by tile: the length of each in bytes as uint32, then their UTF-8."""
    found, start = [], 0
    for count in tiles:
        part = labels.slice(start, count).cast(pa.large_string())
        start += count
        part = pa.concat_arrays([part])  # its own buffers, from 0
        offsets = np.frombuffer(part.buffers()[1], np.int64)[part.offset :][: count + 1]
        lengths = np.diff(offsets).astype("<u4").tobytes()
        text = part.buffers()[2]
        joined = b"" if text is None else memoryview(text)[int(offsets[0]) : int(offsets[-1])]
        found.append(memoryview(lengths + bytes(joined)))
    return found


def _cut(column: NDArray[Any], tiles: Sequence[int]) -> list[memoryview]:
    return [memoryview(part.tobytes()) for part in np.split(column, np.cumsum(tiles)[:-1])]
