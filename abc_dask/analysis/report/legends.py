"""Pictures of cells on a page: a PNG of the pixels alone, and what explains its colours as text."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.analysis.plots.colors import ABSENT
from abc_dask.analysis.plots.layers import Layer, ValueLayer
from abc_dask.analysis.report.plane import Bar, Name, Plane

# Colours of a scale that stand in the page; the browser fills in between.
_STOPS = 12

_COLORS = 256  # that a PNG numbers


@dataclass(frozen=True)
class Entry:
    """A colour and what it means; `color` is "" where it is of something that is not drawn."""

    text: str
    color: str
    cells: int | None = None


@dataclass(frozen=True)
class Scale:
    """A scale of numbers: its colours, the texts at its ends."""

    colors: list[str]
    low: str
    high: str


@dataclass(frozen=True)
class Shown:
    """A picture of cells, or the reason that there is none.

    Attributes
    ----------
    name, title : str
        Of the column; of the picture, for those who do not see it.
    png : str
        Base64.
    width, height : int
        Pixels.
    scale : Scale or None
        Of numbers.
    entries : list of Entry
        Terms, and what is on no scale.
    names : tuple of Name
        Of sections.
    bar : Bar or None
        Scale bar of sections.
    reason : str
    """

    name: str
    title: str
    png: str = ""
    width: int = 0
    height: int = 0
    scale: Scale | None = None
    entries: list[Entry] | None = None
    names: tuple[Name, ...] = ()
    bar: Bar | None = None
    reason: str = ""


def shown(layer: Layer, plane: Plane, title: str, about: Mapping[str, str]) -> Shown:
    """Paint cells by a column; `about` goes into the file."""
    fitted: Any = layer.fitted([(layer, plane.covered)])  # type: ignore[list-item]
    image = plane.upright(fitted.paint(plane.covered))
    height, width = image.shape[:2]
    png = base64.b64encode(encoded(image, about)).decode("ascii")
    scale = _scale(fitted) if isinstance(fitted, ValueLayer) else None
    entries = _entries(fitted)
    return Shown(layer.name, title, png, width, height, scale, entries, plane.names, plane.bar)


def encoded(image: NDArray[np.uint8], about: Mapping[str, str]) -> bytes:
    """Return pixels, height x width x 4, as a PNG: numbered colours where they are few enough."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    said = PngInfo()
    for key, text in about.items():
        said.add_itxt(key, text)
    colors, numbers = _numbered(image)
    if len(colors) > _COLORS:  # a scale and what is on none: merge those a step apart
        colors, numbers = _numbered(image & np.array([254, 254, 254, 255], np.uint8))
    content = io.BytesIO()
    if len(colors) <= _COLORS:
        made = Image.fromarray(numbers.astype(np.uint8), "P")
        made.putpalette(colors.view(np.uint8).tobytes(), "RGBA")
        made.save(content, "png", pnginfo=said)
    else:
        Image.fromarray(image, "RGBA").save(content, "png", pnginfo=said)
    return content.getvalue()


def _numbered(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    packed = np.ascontiguousarray(image).view(np.uint32)[..., 0]
    colors, numbers = np.unique(packed, return_inverse=True)
    return colors, numbers.reshape(packed.shape)


def hexadecimal(colors: Any) -> list[str]:
    """Return RGBA colours, n x 4 of 0 to 255, as CSS has them."""
    return ["#" + bytes(color[:3]).hex() for color in np.asarray(colors, np.uint8)]


def _scale(layer: ValueLayer) -> Scale:
    assert layer.limits is not None
    low, high = layer.limits
    colors = layer.scale().to_rgba(np.linspace(low, high, _STOPS), bytes=True)
    below, above = bool((layer.values < low).any()), bool((layer.values > high).any())
    return Scale(
        hexadecimal(colors),
        f"{'≤ ' if below else ''}{low:.4g}",
        f"{'≥ ' if above else ''}{high:.4g}",
    )


def _entries(layer: Any) -> list[Entry]:
    if isinstance(layer, ValueLayer):
        return [Entry(text, color) for text, color in zip(*layer.entries(), strict=True)]
    counts = np.bincount(layer.codes[layer.codes >= 0], minlength=len(layer.terms))
    found = [Entry(layer.terms[k], layer.colors[k], int(counts[k])) for k in np.flatnonzero(counts)]
    if layer.n_absent:
        found.append(Entry(f"no {layer.name}", ABSENT, layer.n_absent))
    return found
