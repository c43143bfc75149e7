"""What colours cells: numbers by a scale, terms by a list; and how it is explained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.analysis.plots import canvas, raster
from abc_dask.analysis.plots.colors import (
    ABSENT,
    COLORMAP,
    checked_colors,
    checked_limits,
    distinct_colors,
    rgb,
    robust_limits,
)
from abc_dask.errors import UsageError
from abc_dask.messages import nearest, plural

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

# Terms that a legend lists; the rest are counted.
MOST_TERMS = 60


@dataclass(frozen=True)
class ValueLayer:
    """Cells with a number each.

    Attributes
    ----------
    name, label : str
        Of the column; of the scale.
    values : array of float, shape (n_cells,)
    limits : tuple of float, optional
        Of the colour scale; not yet known where None.
    colormap : matplotlib.colors.Colormap
    """

    name: str
    label: str
    values: NDArray[Any]
    limits: tuple[float, float] | None
    colormap: Colormap

    @property
    def n_absent(self) -> int:
        """Cells without a value."""
        return int(np.isnan(self.values).sum())

    @property
    def rule(self) -> str:
        """What a pixel's colour is."""
        return "mean of its cells"

    def of(self, cells: NDArray[Any]) -> ValueLayer:
        """Return the same for some of the cells."""
        return replace(self, values=self.values[cells])

    def fitted(self, pictures: Iterable[tuple[ValueLayer, raster.PixelHits]]) -> ValueLayer:
        """Set limits that were not given by the means that pictures of cells show."""
        if self.limits is not None:
            return self
        means = [raster.mean_of_pixels(covered, part.values) for part, covered in pictures]
        return replace(self, limits=robust_limits(np.concatenate([m.ravel() for m in means])))

    def scale(self) -> Any:
        """Return matplotlib's mapping from numbers to colours."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        assert self.limits is not None
        return ScalarMappable(Normalize(*self.limits), self.colormap)

    def paint(self, covered: raster.PixelHits) -> NDArray[np.uint8]:
        """Return the pixels' colours, height x width x 4."""
        mean = raster.mean_of_pixels(covered, self.values)
        image: NDArray[np.uint8] = self.scale().to_rgba(mean, bytes=True)
        without = np.isnan(mean)
        image[without] = rgb([ABSENT])[0]
        image[without & (raster.count_of_pixels(covered) == 0)] = 0
        return image

    def explain(self, ax: Axes, room: float) -> None:
        """Add the colour bar at the right; absent cells below."""
        self._bar(ax, ax.inset_axes((1.03, 0.15, 0.04, 0.7)), "vertical", self.label)
        if self.n_absent:
            _legend(ax, [self._absent], [ABSENT], room)

    def explain_below(self, ax: Axes, room: float, drop: float) -> float:
        """Add the colour bar below; give how far down it reaches, in inches."""
        width = min(2.0, 0.4 * room)
        place = canvas.inset(ax, (0.06, -drop - 0.14, width, 0.07), corner=(0, 0))
        self._bar(ax, place, "horizontal", f"{self.name}: {self.label}")
        if self.n_absent:
            _legend(ax, [self._absent], [ABSENT], room / 2, right=width + 0.3, drop=drop)
        return drop + 0.5

    @property
    def _absent(self) -> str:
        return f"no value: {plural(self.n_absent, 'cell')}"

    def _bar(self, ax: Axes, place: Axes, orientation: str, label: str) -> None:
        scale = self.scale()
        extend = canvas.extension(
            below=bool((self.values < scale.norm.vmin).any()),
            above=bool((self.values > scale.norm.vmax).any()),
        )
        bar = ax.figure.colorbar(scale, cax=place, extend=extend, orientation=orientation)
        bar.outline.set_linewidth(0.3)
        bar.ax.tick_params(labelsize=canvas.SMALL, width=0.4, length=2, pad=1.5)
        start = {"loc": "left"} if orientation == "horizontal" else {}
        bar.set_label(label, size=canvas.SMALL, parse_math=False, **start)


@dataclass(frozen=True)
class TermLayer:
    """Cells with a term each.

    Attributes
    ----------
    name : str
        Of the column.
    codes : array of int, shape (n_cells,)
        Position of each cell's term, -1 where it has none.
    terms, colors : list of str
    """

    name: str
    codes: NDArray[Any]
    terms: list[str]
    colors: list[str]

    @property
    def n_absent(self) -> int:
        """Cells without a term."""
        return int((self.codes < 0).sum())

    @property
    def rule(self) -> str:
        """What a pixel's colour is."""
        return "most frequent term of its cells"

    def of(self, cells: NDArray[Any]) -> TermLayer:
        """Return the same for some of the cells."""
        return replace(self, codes=self.codes[cells])

    def fitted(self, pictures: Iterable[tuple[TermLayer, raster.PixelHits]]) -> TermLayer:  # noqa: ARG002
        """Return the same: terms have no limits."""
        return self

    def paint(self, covered: raster.PixelHits) -> NDArray[np.uint8]:
        """Return the pixels' colours, height x width x 4."""
        found = raster.most_frequent(covered, self.codes, len(self.terms))
        # position -1 is the last one: nothing there
        table = np.vstack([rgb([*self.colors, ABSENT]), np.zeros((1, 4), np.uint8)])
        image: NDArray[np.uint8] = table[found]
        return image

    def explain(self, ax: Axes, room: float) -> None:
        """Add the legend below."""
        _legend(ax, *self._entries(), room)

    def explain_below(self, ax: Axes, room: float, drop: float) -> float:
        """Add the legend below, with its title; give how far down it reaches, in inches."""
        return drop + 0.1 + _legend(ax, *self._entries(), room, drop=drop, title=self.name)

    def _entries(self) -> tuple[list[str], list[str]]:
        """Return texts and colours: terms in their order, of very many the most frequent."""
        counts = np.bincount(self.codes[self.codes >= 0], minlength=len(self.terms))
        listed = np.flatnonzero(counts)
        rest = len(listed) - MOST_TERMS
        if rest > 0:
            listed = np.sort(listed[np.argsort(-counts[listed], kind="stable")[:MOST_TERMS]])
        texts = [self.terms[k] for k in listed]
        colors = [self.colors[k] for k in listed]
        if rest > 0:
            texts.append(f"and {rest:,} rarer")
            colors.append("none")
        if self.n_absent:
            texts.append(f"no {self.name}: {plural(self.n_absent, 'cell')}")
            colors.append(ABSENT)
        return texts, colors


Layer = ValueLayer | TermLayer


def layer_of(
    frame: pd.DataFrame,
    name: str,
    *,
    colors: Mapping[str, str] | None = None,
    limits: Sequence[float] | None = None,
    colormap: str = COLORMAP,
    label: str | None = None,
) -> Layer:
    """Make out how a column colours the cells.

    Parameters are those of `abc_dask.analysis.plots.umap`.

    Raises
    ------
    UsageError
        If there is no such column, it has neither numbers nor terms, a term has no
        colour, or there is no such colour map.
    """
    import pandas as pd
    from matplotlib import colormaps

    if name not in frame:
        raise UsageError(f"no column {name!r} to colour by{nearest(name, map(str, frame))}")
    column = frame[name]
    if isinstance(column.dtype, pd.CategoricalDtype):
        terms = [str(term) for term in column.cat.categories]
        codes = column.cat.codes.to_numpy()
        chosen = distinct_colors(terms) if colors is None else colors
        used = np.unique(codes[codes >= 0])
        checked_colors([terms[k] for k in used], chosen, of=name)
        return TermLayer(name, codes, terms, [chosen.get(term, ABSENT) for term in terms])
    if not pd.api.types.is_numeric_dtype(column.dtype):
        raise UsageError(f"column {name!r} has neither numbers nor terms: {column.dtype}")
    if colormap not in colormaps:
        raise UsageError(f"no colour map {colormap!r}{nearest(colormap, colormaps)}")
    kept: Any = column.dtype if getattr(column.dtype, "kind", "") == "f" else np.float64
    values = column.to_numpy(dtype=kept, na_value=np.nan)
    said = f"{label or name}, mean of a pixel"
    return ValueLayer(name, said, values, checked_limits(limits), colormaps[colormap])


def _legend(
    ax: Axes,
    texts: Sequence[str],
    colors: Sequence[str],
    room: float,
    *,
    right: float = 0.0,
    drop: float = 0.0,
    title: str | None = None,
) -> float:
    """List colours and what they mean under axes, in as many columns as fit.

    Parameters
    ----------
    room : float
        Inches that it may be wide.
    right, drop : float
        Inches to the right and down.
    title : str, optional
        Above the list.

    Returns
    -------
    float
        Height in inches.
    """
    from matplotlib.lines import Line2D
    from matplotlib.transforms import ScaledTranslation

    if not texts:
        return 0.0
    em = canvas.SMALL / 72
    lines = [canvas.wrapped(text, room - 3 * em) for text in texts]
    widest = max(_width(ax, line) for line in lines)
    columns = max(1, min(len(lines), int((0.97 * room + em) / (widest + 3 * em))))
    legend = ax.legend(
        [Line2D([], [], ls="none", marker="s", markersize=4, color=color) for color in colors],
        [f"{number}" for number in range(len(lines))],
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=ax.transAxes
        + ScaledTranslation(right, -1.7 * em - drop, ax.figure.dpi_scale_trans),
        borderaxespad=0,
        borderpad=0,
        ncols=-(-len(lines) // -(-len(lines) // columns)),  # no column stays empty
        fontsize=canvas.SMALL,
        handlelength=1,
        handletextpad=0.5,
        columnspacing=1,
        labelspacing=0.25,
        frameon=False,
        title=title,
        title_fontsize=canvas.SMALL,
        alignment="left",
    )
    legend.remove()
    ax.add_artist(legend)  # or the next legend of the same axes would replace it
    legend.set_clip_on(False)
    # texts are set afterwards: a legend leaves out what starts with an underscore
    for text, line in zip(legend.get_texts(), lines, strict=True):
        canvas.plain(text).set_text(line)
    canvas.plain(legend.get_title())
    height = legend.get_window_extent(canvas.renderer_of(ax.figure)).height
    return float(height / ax.figure.dpi)


def _width(ax: Axes, text: str) -> float:
    """Measure a text in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.text import Text

    font = FontProperties(size=canvas.SMALL)
    probe = Text(text=text, fontproperties=font, parse_math=False)
    probe.set_figure(ax.figure)
    return float(probe.get_window_extent(dpi=ax.figure.dpi).width / ax.figure.dpi)
