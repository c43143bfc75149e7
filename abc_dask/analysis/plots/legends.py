"""What colours mean: colour bars and lists beside or below their panel, never over cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from abc_dask.analysis.plots import canvas
from abc_dask.analysis.plots.colors import ZERO
from abc_dask.analysis.plots.layers import Layer, TermLayer, ValueLayer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Terms that a list has; the rest are counted.
MOST_TERMS = 60

# Lines of a list at the right of a panel; inches that it is wide at most.
_LINES = 24

_WIDEST, _WIDEST_OF_MANY = 1.5, 1.2

_BAR = 0.06  # inches, thickness of a colour bar

_EM = canvas.SMALL / 72


def explain_right(
    ax: Axes, layer: Layer, height: float, *, label: bool = True, alone: bool = True
) -> None:
    """Add a colour bar with what is not on it, or a list of terms, at the right of axes.

    Parameters
    ----------
    ax : Axes
    layer : Layer
    height : float
        Of a colour bar, in inches.
    label : bool
        Name what a colour bar shows.
    alone : bool
        Whether this is the only panel; of several a list is narrower.
    """
    if isinstance(layer, TermLayer):
        texts, colors = layer.entries(MOST_TERMS)
        columns = -(-len(texts) // _LINES)
        room = columns * (_WIDEST if alone else _WIDEST_OF_MANY)
        legend(ax, texts, colors, room, corner=(1, 1), right=0.1, columns=columns)
        return
    _bar_right(ax, [layer], height, layer.label if label else "")
    _list_right(ax, *layer.entries(), height)


def explain_scale(ax: Axes, layers: Sequence[ValueLayer], height: float) -> None:
    """Add the colour bar of several layers of one scale at the right of axes."""
    _bar_right(ax, layers, height, layers[0].label)
    if any(layer.zero_apart for layer in layers):
        _list_right(ax, ["0"], [ZERO], height)


def _bar_right(ax: Axes, layers: Sequence[ValueLayer], height: float, label: str) -> None:
    place = canvas.inset(ax, (0.1, -height, _BAR, height), corner=(1, 1))
    color_bar(layers, place, "vertical", label)


def _list_right(ax: Axes, texts: Sequence[str], colors: Sequence[str], height: float) -> None:
    legend(ax, texts, colors, 0.8, corner=(1, 1), right=0.085, drop=height + 0.06, columns=1)


def explain_below(
    ax: Axes,
    layer: Layer,
    room: float,
    drop: float = 0.0,
    *,
    named: bool = False,
    without: Iterable[int] = (),
) -> float:
    """Add a colour bar, or a list of terms, below axes.

    Parameters
    ----------
    ax : Axes
    layer : Layer
    room, drop : float
        Inches that it may be wide; inches below the axes.
    named : bool
        With the layer's name.
    without : iterable of int
        Terms that are not listed.

    Returns
    -------
    float
        How far down it reaches, in inches.
    """
    if isinstance(layer, TermLayer):
        texts, colors = layer.entries(MOST_TERMS, without)
        title = f"{layer.name}, not labelled above" if without else layer.name
        if without and not layer.entries(MOST_TERMS, without)[0][: -1 if layer.n_absent else None]:
            title = ""
        top = drop + 1.2 * _EM
        return top + legend(
            ax, texts, colors, room, drop=top, title=title if named and texts else None
        )
    width = min(2.0, 0.5 * room)
    place = canvas.inset(ax, (0.06, -drop - 0.14, width, _BAR), corner=(0, 0))
    text = f"{layer.name}: {layer.label}" if named and layer.name != layer.label else layer.label
    color_bar([layer], place, "horizontal", text)
    texts, colors = layer.entries()
    legend(ax, texts, colors, room - width - 0.25, right=width + 0.25, drop=drop + 0.06)
    return drop + 0.5


def color_bar(layers: Sequence[ValueLayer], place: Axes, orientation: str, label: str) -> None:
    """Draw the colour bar of layers of one scale; 0 is not on it where it is a colour apart."""
    from matplotlib.ticker import MaxNLocator

    scale = layers[0].scale()
    low, high = scale.norm.vmin, scale.norm.vmax
    apart = any(layer.zero_apart for layer in layers)
    extend = canvas.extension(
        below=any(_is_below(layer, low) for layer in layers),
        above=any(bool((layer.values > high).any()) for layer in layers),
    )
    ticks = [
        tick
        for tick in MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        if low <= tick <= high and not (tick == 0 and apart)
    ]
    bar = place.figure.colorbar(
        scale, cax=place, extend=extend, orientation=orientation, ticks=ticks
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=canvas.SMALL, width=0.4, length=2, pad=1.5)
    if label:
        start = {"loc": "left"} if orientation == "horizontal" else {"loc": "top"}
        bar.set_label(label, size=canvas.SMALL, parse_math=False, **start)


def _is_below(layer: ValueLayer, low: float) -> bool:
    below = layer.values < low
    return bool((below & (layer.values != 0)).any() if layer.zero_apart else below.any())


def legend(
    ax: Axes,
    texts: Sequence[str],
    colors: Sequence[str],
    room: float,
    *,
    corner: tuple[float, float] = (0, 0),
    right: float = 0.0,
    drop: float = 0.0,
    title: str | None = None,
    columns: int | None = None,
) -> float:
    """List colours and what they mean beside axes, in as many columns as fit.

    Parameters
    ----------
    room : float
        Inches that it may be wide.
    corner : tuple of float
        Of the axes, at which the list begins.
    right, drop : float
        Inches from there to the right and down.
    title : str, optional
        Above the list.
    columns : int, optional

    Returns
    -------
    float
        Height in inches.
    """
    from matplotlib.lines import Line2D
    from matplotlib.transforms import ScaledTranslation

    if not texts:
        return 0.0
    lines = [canvas.wrapped(text, room / (columns or 1) - 3 * _EM) for text in texts]
    if columns is None:
        widest = max(canvas.text_width(ax, line) for line in lines)
        columns = max(1, min(len(lines), int((0.97 * room + _EM) / (widest + 3 * _EM))))
    drawn = ax.legend(
        [Line2D([], [], ls="none", marker="s", markersize=4, color=color) for color in colors],
        [f"{number}" for number in range(len(lines))],
        loc="upper left",
        bbox_to_anchor=corner,
        bbox_transform=ax.transAxes + ScaledTranslation(right, -drop, ax.figure.dpi_scale_trans),
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
    drawn.remove()
    ax.add_artist(drawn)  # or the next legend of the same axes would replace it
    drawn.set_clip_on(False)
    # texts are set afterwards: a legend leaves out what starts with an underscore
    for text, line in zip(drawn.get_texts(), lines, strict=True):
        canvas.plain(text).set_text(line)
    canvas.plain(drawn.get_title())
    height = drawn.get_window_extent(canvas.renderer_of(ax.figure)).height
    return float(height / ax.figure.dpi)


def scale_bar(ax: Axes, length: float, share: float, unit: str) -> float:
    """Draw a scale bar below the left corner of axes.

    Parameters
    ----------
    ax : Axes
    length : float
        In the coordinates' unit.
    share : float
        The same, as a share of the axes' width.
    unit : str

    Returns
    -------
    float
        How far down it reaches, in inches.
    """
    from matplotlib.lines import Line2D
    from matplotlib.transforms import ScaledTranslation

    down: Any = ax.transAxes + ScaledTranslation(0, -0.08, ax.figure.dpi_scale_trans)
    line = Line2D(
        [0.02, 0.02 + share], [0, 0], transform=down, color=canvas.INK, linewidth=1.2,
        solid_capstyle="butt", clip_on=False, gid="scale bar",
    )  # fmt: skip
    ax.add_artist(line)
    ax.annotate(
        f"{length:g} {unit}".strip(), (0.02 + share, 0), xycoords=down, xytext=(3, 0),
        textcoords="offset points", va="center", size=canvas.SMALL, color=canvas.INK,
        annotation_clip=False, parse_math=False,
    )  # fmt: skip
    return 0.2


def bar_length(width: float) -> float:
    """Return a round length of up to a third of a width.

    Examples
    --------
    >>> bar_length(11.0), bar_length(0.7)
    (2.0, 0.2)
    """
    import math

    most = width / 3
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in (5.0, 2.0, 1.0) if step * power <= most * (1 + 1e-9))
