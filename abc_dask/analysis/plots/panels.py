"""Panels of one figure: how many in a row, their size, what is below all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from abc_dask.analysis.plots import canvas
from abc_dask.analysis.plots.canvas import COLUMN, PAGE, Picture
from abc_dask.analysis.plots.cells import Edges, raster_of
from abc_dask.analysis.plots.raster import Raster
from abc_dask.base.errors import UsageError

_CENTIMETRES = 2.54

_FLATTEST, _TALLEST = 0.4, 1.8  # height of a panel over its width


@dataclass
class Page:
    """A figure with panels that show the same range of x and y.

    Attributes
    ----------
    picture : Picture
    panels : list of matplotlib.axes.Axes
        Row by row.
    columns : int
    edges : Edges
        Of what a panel shows.
    caption : str
    width : float
        Of the figure in inches.
    """

    picture: Picture
    panels: list[Any]
    columns: int
    edges: Edges
    caption: str = ""
    width: float = field(init=False)
    _key: Any = None

    def __post_init__(self) -> None:
        self.width = float(self.picture.get_figwidth())

    @classmethod
    def of(cls, count: int, edges: Edges, *, columns: int, width: float | None, dpi: int) -> Page:
        """Make a figure with panels; `width` in centimetres."""
        picture = picture_of(width, count, dpi)
        panels = [picture.add_axes((0, 0, 1, 1), label=str(number)) for number in range(count)]
        return cls(picture, panels, columns, edges)

    @property
    def room(self) -> float:
        """Inches of a column."""
        return self.width / self.columns

    @property
    def aspect(self) -> float:
        """Height of a panel over its width."""
        left, right, low, high = self.edges
        return min(max((high - low) / (right - left), _FLATTEST), _TALLEST)

    @property
    def key(self) -> Any:
        """Axes below all panels, of which only legends below them are seen."""
        if self._key is None:
            self._key = self.picture.add_axes(
                (0, 0, 1, 0.1), label="key", frame_on=False, xticks=[], yticks=[]
            )
        return self._key

    @property
    def rough(self) -> tuple[int, int]:
        """Pixels of a panel as far as they are known before its texts are."""
        width = 0.8 * self.room * float(self.picture.dpi)
        return round(width), round(width * self.aspect)

    @property
    def corner(self) -> Any:
        """The panel at the lower left."""
        return self.panels[(len(self.panels) - 1) // self.columns * self.columns]

    def ends_row(self, number: int) -> bool:
        """Tell whether no panel is at the right of this one."""
        return number % self.columns == self.columns - 1 or number == len(self.panels) - 1

    def fit(self) -> Raster:
        """Place the panels; return the pixels of one."""
        box = canvas.fit_width(
            self.picture,
            self.panels,
            columns=self.columns,
            aspect=self.aspect,
            width=self.width * _CENTIMETRES,
            caption=self.caption,
            key=self._key,
        )
        dpi = float(self.picture.dpi)
        return raster_of(self.edges, round(box[0] * dpi), round(box[1] * dpi))


def picture_of(width: float | None, panels: int, dpi: int) -> Picture:
    """Return an empty figure.

    Parameters
    ----------
    width : float or None
        Centimetres; a journal's column for one panel, its page for more where None.
    panels, dpi : int

    Raises
    ------
    UsageError
        If no figure is of this width or resolution.
    """
    if width is not None and not 3 <= width <= 200:
        raise UsageError(f"width {width:g}: expected centimetres, 3 to 200")
    if not 50 <= dpi <= 1200:
        raise UsageError(f"dpi {dpi}: expected pixels an inch, 50 to 1200")
    return Picture(width or (COLUMN if panels == 1 else PAGE), dpi=dpi)


def columns_for(panels: int, *, lists: bool = False) -> int:
    """Return how many panels stand in a row, of several that leave the fewest places empty.

    Parameters
    ----------
    panels : int
    lists : bool
        Whether some have a list at their right, which takes room.

    Examples
    --------
    >>> [columns_for(count) for count in (1, 2, 3, 4, 5, 6, 7, 9, 10, 12)]
    [1, 2, 3, 4, 3, 3, 4, 3, 4, 4]
    >>> columns_for(4, lists=True)
    2
    """
    if panels <= 3:
        return panels
    return min((3, 2) if lists else (4, 3), key=lambda columns: -panels % columns)


def said(*parts: str) -> str:
    """Return sentences as one text, without those that are empty."""
    return ". ".join(part for part in parts if part)
