"""Pictures: a figure without pyplot, its axes placed so that no text is cut off, its file."""

from __future__ import annotations

import io
import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abc_dask.base.errors import PathError, UsageError
from abc_dask.base.extras import install_line
from abc_dask.base.messages import enumerate_names
from abc_dask.disk.files import cannot_write, replacing, sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes

try:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
except ImportError as error:
    raise UsageError(
        f"pictures need matplotlib ({error}); install it with: {install_line('plot')}"
    ) from None

SUFFIXES = (".png", ".pdf", ".svg")

# A column of a journal's page; text that is read at this size in print.
COLUMN = 8.5

PAGE = 17.8

DPI = 300

TEXT, SMALL = 7.0, 6.0

INK, FAINT = "#222222", "#666666"

_CENTIMETRES = 2.54

_GAP = 0.06  # inches between neighbours, and at the edge of the picture


class Picture(Figure):
    """A matplotlib figure that a notebook shows, and that is saved whole or not at all.

    It belongs to no pyplot state and changes no setting.

    Attributes
    ----------
    provenance : dict
        What the picture is of; goes into its file.
    """

    def __init__(self, width: float = COLUMN, *, dpi: int = DPI) -> None:
        inches = width / _CENTIMETRES
        super().__init__(figsize=(inches, inches), dpi=dpi, facecolor="white")
        FigureCanvasAgg(self)
        self.provenance: dict[str, Any] = {}

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png", dpi=min(self.dpi, 150))
        return content.getvalue()

    def save(self, path: str | Path) -> Path:
        """Write the picture; what was there is replaced once the new file is complete.

        Parameters
        ----------
        path : path
            ``.png``, ``.pdf`` or ``.svg``. The file's metadata say what the picture is
            of (PNG: text chunks; PDF: document information; SVG: Dublin Core).

        Returns
        -------
        Path
            The file.

        Raises
        ------
        UsageError
            If the suffix is another one.
        ViewError
            If it cannot be written.
        """
        place = picture_path(path)
        kind = place.suffix.lower().removeprefix(".")
        try:
            with replacing(place) as temporary, temporary.open("wb") as file:
                file.write(self.render(kind))
            sweep(place.parent, place.name)
        except OSError as error:
            raise cannot_write(place, error) from None
        return place

    def render(self, kind: str) -> bytes:
        """Return the picture's file content as ``png``, ``pdf`` or ``svg``; the same every time."""
        import matplotlib as mpl

        content = io.BytesIO()
        # else names within an SVG are drawn by lot
        with mpl.rc_context({"svg.hashsalt": "abc_dask"}):
            self.savefig(
                content, format=kind, dpi=self.dpi, metadata=_metadata(kind, self.provenance)
            )
        return content.getvalue()


def picture_path(path: str | Path) -> Path:
    """Check where a picture is to be, before any work.

    Raises
    ------
    UsageError
        If the suffix is not that of a picture.
    ViewError
        If the folder is not there.
    """
    place = Path(path).expanduser().absolute()
    if place.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"unknown kind of picture {place.suffix!r} of {str(path)!r}; "
            f"there are: {enumerate_names(SUFFIXES)}"
        )
    check_place(place)
    return place


def check_place(place: Path) -> None:
    """Raise `ViewError` unless a file can come to this place."""
    if not place.parent.is_dir():
        raise PathError(f"{place} cannot be written: there is no folder {place.parent}")
    if place.is_dir():
        raise PathError(f"{place} is a folder; name a file")


def _metadata(kind: str, provenance: Mapping[str, Any]) -> dict[str, Any]:
    title = str(provenance.get("title", ""))
    text = json.dumps(dict(provenance))
    software = f"abc_dask {provenance.get('abc_dask', '')}".strip()
    if kind == "png":
        return {"Title": title, "Description": text, "Software": software}
    if kind == "pdf":
        return {"Title": title, "Subject": text, "Creator": software, "CreationDate": None}
    return {"Title": title, "Description": text, "Creator": software, "Date": None}


def plain(text: Any) -> Any:
    """Take a text as it stands: a dollar sign in a name starts no formula."""
    text.set_parse_math(False)
    return text


def extension(*, below: bool, above: bool) -> str:
    """Return matplotlib's word for which ends of a scale have values beyond them."""
    return {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[below, above]


def inset(
    ax: Axes, bounds: tuple[float, float, float, float], *, corner: tuple[float, float]
) -> Axes:
    """Return axes beside others, measured in inches from a corner of theirs.

    Parameters
    ----------
    bounds : tuple of float
        Left, bottom, width, height.
    corner : tuple of float
        (0, 0) the lower left, (1, 1) the upper right.
    """
    from matplotlib.transforms import ScaledTranslation

    corner_of_axes: Any = ax.transAxes
    inches = ax.figure.dpi_scale_trans + ScaledTranslation(*corner, corner_of_axes)
    return ax.inset_axes(bounds, transform=inches)


def wrapped(text: str, inches: float, size: float = SMALL) -> str:
    """Break a text into lines of a width; a digit is about half as wide as high."""
    room = max(8, int(inches * 72 / (0.56 * size)))
    lines = text.splitlines() or [""]
    return "\n".join(
        piece for line in lines for piece in (textwrap.wrap(line, room) if line else [""])
    )


def text_width(ax: Axes, text: str) -> float:
    """Measure a small text in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.text import Text

    probe = Text(text=text, fontproperties=FontProperties(size=SMALL), parse_math=False)
    probe.set_figure(ax.figure)
    return float(probe.get_window_extent(dpi=ax.figure.dpi).width / ax.figure.dpi)


def arrange(
    picture: Figure,
    axes: Sequence[Axes],
    *,
    columns: int,
    box: tuple[float, float],
    caption: str = "",
    key: Axes | None = None,
) -> None:
    """Place axes in a grid and give the figure the size that they need.

    Parameters
    ----------
    picture : Figure
    axes : sequence of Axes
        Row by row, each with its title, labels, legend and colour bar.
    columns : int
        Of the grid.
    box : tuple of float
        Width and height of the area within each axes' frame, in inches.
    caption : str
        A note under all of them.
    key : Axes, optional
        With a legend below its frame, which is for all of them.
    """
    rows = -(-len(axes) // columns)
    margins = _margins(picture, axes, box)
    below = _margins(picture, [key], box)[0][2] if key else 0.0
    left, right = ([max(m[side] for m in margins[k::columns]) for k in range(columns)]
                   for side in (0, 1))  # fmt: skip
    low, high = ([max(m[side] for m in margins[r * columns : (r + 1) * columns])
                  for r in range(rows)] for side in (2, 3))  # fmt: skip
    gap = _whole(picture, _GAP)
    width = sum(left) + sum(right) + columns * box[0] + (columns + 1) * gap
    note = _note(picture, caption, width - 2 * gap)
    note += below + gap * bool(below)
    height = sum(low) + sum(high) + rows * box[1] + (rows + 1) * gap + note
    picture.set_size_inches(width, height)
    for number, one in enumerate(axes):
        row, column = divmod(number, columns)
        x = sum(left[: column + 1]) + sum(right[:column]) + column * box[0] + (column + 1) * gap
        y = height - sum(high[: row + 1]) - sum(low[:row]) - (row + 1) * (box[1] + gap)
        one.set_position((x / width, y / height, box[0] / width, box[1] / height))
    if key:
        key.set_position((gap / width, (note + gap) / height, 1 - 2 * gap / width, 1e-9))


def fit_width(
    picture: Figure,
    axes: Sequence[Axes],
    *,
    columns: int,
    aspect: float,
    width: float,
    caption: str = "",
    key: Axes | None = None,
) -> tuple[float, float]:
    """Arrange axes of one shape so that the figure has a width.

    Parameters
    ----------
    aspect : float
        Height of an axes' frame over its width.
    width : float
        Of the figure in centimetres.

    Returns
    -------
    tuple of float
        Width and height of an axes' frame in inches, whole pixels.
    """
    wanted = width / _CENTIMETRES
    box = wanted / columns
    for _ in range(3):  # margins depend a little on the frames
        box = max(_whole(picture, box), 0.4)
        size = (box, _whole(picture, box * aspect))
        arrange(picture, axes, columns=columns, box=size, caption=caption, key=key)
        spare = wanted - float(picture.get_figwidth())
        if 0 <= spare < columns / picture.dpi:
            break
        box += (spare - 0.5 / picture.dpi) / columns
    return size


def _whole(picture: Figure, inches: float) -> float:
    """Round to whole pixels, so that a raster's pixels are the picture's."""
    pixels: int = max(1, round(float(inches * picture.dpi)))
    return pixels / float(picture.dpi)


def renderer_of(picture: Any) -> Any:
    """Return what measures texts."""
    return picture.canvas.get_renderer()


def _margins(
    picture: Figure, axes: Sequence[Axes], box: tuple[float, float]
) -> list[tuple[float, float, float, float]]:
    """Measure how far each axes' texts reach out of its frame: left, right, below, above."""
    picture.set_size_inches(*box)
    for one in axes:
        one.set_position((0, 0, 1, 1))
    picture.draw_without_rendering()
    found = []
    for one in axes:
        outer: Any = one.get_tightbbox(renderer_of(picture))
        inner = one.get_window_extent()
        left, right, low, high = (
            _whole(picture, max(0.0, float(reach)) / picture.dpi)
            for reach in (
                inner.x0 - outer.x0,
                outer.x1 - inner.x1,
                inner.y0 - outer.y0,
                outer.y1 - inner.y1,
            )
        )
        found.append((left, right, low, high))
    return found


def _note(picture: Figure, caption: str, width: float) -> float:
    """Write the note at the lower left; give its height in inches."""
    for text in [text for text in picture.texts if text.get_gid() == "caption"]:
        text.remove()
    if not caption:
        return 0.0
    note = picture.text(
        0, 0, wrapped(caption, width), size=SMALL, color=FAINT, va="bottom", gid="caption"
    )
    plain(note)
    note.set_transform(picture.dpi_scale_trans)
    note.set_position((_GAP, _GAP))
    box = note.get_window_extent(renderer_of(picture))
    return _whole(picture, box.height / picture.dpi + _GAP)
