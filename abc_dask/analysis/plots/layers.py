"""What colours cells: numbers by a scale, terms by a list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.analysis.plots import raster
from abc_dask.analysis.plots.colors import (
    ABSENT,
    COLORMAP,
    NO_VALUE,
    ZERO,
    checked_colors,
    checked_limits,
    colormap_of,
    distinct_colors,
    rgb,
    robust_limits,
)
from abc_dask.base.errors import UsageError
from abc_dask.base.messages import nearest, plural

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.colors import Colormap


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
    is_gene : bool
        Whether the column is a gene.
    zero_apart : bool
        Whether 0 has the colour `ZERO`: where no value is below it.
    """

    name: str
    label: str
    values: NDArray[Any]
    limits: tuple[float, float] | None
    colormap: Colormap
    is_gene: bool = False
    zero_apart: bool = False

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
        if self.zero_apart:
            image[mean == 0] = rgb([ZERO])[0]
        without = np.isnan(mean)
        image[without] = rgb([NO_VALUE])[0]
        image[without & (raster.count_of_pixels(covered) == 0)] = 0
        return image

    def absent(self) -> tuple[list[str], list[str]]:
        """Return text and colour of cells without a value, where there are any."""
        if not self.n_absent:
            return [], []
        return [f"no value: {plural(self.n_absent, 'cell')}"], [NO_VALUE]

    def entries(self) -> tuple[list[str], list[str]]:
        """Return texts and colours of what is not on the scale."""
        texts, colors = self.absent()
        return (["0", *texts], [ZERO, *colors]) if self.zero_apart else (texts, colors)


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
    is_gene = False

    @property
    def n_absent(self) -> int:
        """Cells without a term."""
        return int((self.codes < 0).sum())

    @property
    def rule(self) -> str:
        """What a pixel's colour is."""
        return "most frequent term of its cells"

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Cells of each term."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.terms))

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

    def entries(self, most: int, without: Iterable[int] = ()) -> tuple[list[str], list[str]]:
        """Return texts and colours: terms in their order, of very many the most frequent.

        Parameters
        ----------
        most : int
            Terms that are listed; the rest are counted.
        without : iterable of int
            Terms that are not listed.
        """
        counts = self.counts.copy()
        counts[list(without)] = 0
        listed = np.flatnonzero(counts)
        rest = len(listed) - most
        if rest > 0:
            listed = np.sort(listed[np.argsort(-counts[listed], kind="stable")[:most]])
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

    Parameters are those of `abc_dask.analysis.plots.umap`; a column with a label is a gene.

    Raises
    ------
    UsageError
        If there is no such column, it has neither numbers nor terms, a term has no
        colour, or there is no such colour map.
    """
    import pandas as pd

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
    kept: Any = column.dtype if getattr(column.dtype, "kind", "") == "f" else np.float64
    values = column.to_numpy(dtype=kept, na_value=np.nan)
    return ValueLayer(
        name,
        label or name,
        values,
        checked_limits(limits),
        colormap_of(colormap, cells=True),
        is_gene=label is not None,
        zero_apart=not bool((values < 0).any()),
    )


def with_one_scale(layers: Sequence[Layer]) -> list[Layer]:
    """Return layers of which all with numbers have the lowest and highest of their limits."""
    limits = [layer.limits for layer in layers if isinstance(layer, ValueLayer) and layer.limits]
    if not limits:
        return list(layers)
    shared = (min(low for low, _ in limits), max(high for _, high in limits))
    return [
        replace(layer, limits=shared) if isinstance(layer, ValueLayer) else layer
        for layer in layers
    ]


def have_one_scale(layers: Sequence[Layer]) -> bool:
    """Tell whether one colour bar explains several layers of numbers."""
    values = [layer for layer in layers if isinstance(layer, ValueLayer)]
    return len(values) > 1 and len({(one.limits, one.label) for one in values}) == 1
