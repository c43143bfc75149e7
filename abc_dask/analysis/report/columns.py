"""All that a page needs of a view's columns, each of which is read once.

Cells stay in the order on disk. x and y become pixels and columns of terms become groups at first;
then a gene's values give its picture and its sums in all groups, several genes side by side.
Sums of blocks are added up as `abc_dask.analysis.summary` does, so the numbers are the same.
Memory: places, pixels and groups (some 50 bytes a cell), a batch of genes (`_BATCH_BYTES`), and
some 40 bytes a cell for each thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.analysis.moments import Members, Moments, add_up, as_a_tree
from abc_dask.analysis.plots.colors import distinct_colors
from abc_dask.analysis.plots.layers import layer_of
from abc_dask.analysis.report.legends import Shown, shown
from abc_dask.analysis.report.plane import Plane, section_plane, umap_plane
from abc_dask.analysis.summary import Summary, summary_of
from abc_dask.base.errors import UsageError
from abc_dask.release.annotation import Annotation
from abc_dask.release.coordinates import SECTION
from abc_dask.views.frame import with_head
from abc_dask.views.reader import Reader

if TYPE_CHECKING:
    import pandas as pd

STATISTICS = ("mean", "fraction")

# More threads would take memory for little: a page waits for its disk as well.
_MOST_THREADS = 4

# Values of genes that are in memory at once.
_BATCH_BYTES = 64 << 20


@dataclass(frozen=True)
class Groups:
    """Cells by the terms of a column, block by block.

    Attributes
    ----------
    by : Annotation
    members : list of Members
        Of each block.
    n_missing : int
        Cells without a term, which are the last group.
    """

    by: Annotation
    members: list[Members]
    n_missing: int

    @classmethod
    def of(cls, by: Annotation, codes: NDArray[Any], blocks: Sequence[slice]) -> Groups:
        """Put cells into groups."""
        members = []
        for block in blocks:
            own = codes[block].astype(np.int64)
            own[own < 0] = len(by.terms or ())
            found = Members.of(own)
            members.append(Members(found.groups, found.rank.astype(np.int32)))
        return cls(by, members, int((codes < 0).sum()))

    def moments(self, values: NDArray[Any], blocks: Sequence[slice]) -> Moments:
        """Sum up one gene."""
        parts = [
            Moments.of(members, values[np.newaxis, block])
            for members, block in zip(self.members, blocks, strict=True)
        ]
        return as_a_tree(parts, add_up)

    def summary(self, genes: Sequence[Moments], names: Sequence[str]) -> Summary:
        """Return the statistics of all genes."""
        found = replace(Moments.side_by_side(genes), lacking=self.n_missing)
        values = {name: found.statistic(name) for name in STATISTICS}
        return summary_of(found, names, [self.by], values, "group")


@dataclass(frozen=True)
class Columns:
    """A view's columns as a page needs them.

    Attributes
    ----------
    reader : Reader
        Of the view with all annotations that are asked for; cells as they lie on disk.
    plane : Plane or None
        Where the cells are; None where nothing is drawn.
    palette : str
        As `abc_dask.analysis.plots.accessor.ViewPlots.umap`.
    label : str
        Of the scales of genes.
    about : dict
        What goes into every picture's file.
    """

    reader: Reader
    plane: Plane | None
    palette: str
    label: str
    about: dict[str, str]

    def on(self, plane: Plane) -> Columns:
        """Return the same with places of the cells."""
        return replace(self, plane=plane)

    @cached_property
    def described(self) -> dict[str, Annotation]:
        """Annotations by name."""
        return {a.name: a for a in self.reader.annotations}

    @cached_property
    def blocks(self) -> list[slice]:
        """Rows of each partition of the view."""
        pieces = [slice(block.start, block.stop) for block in self.reader.blocks()]
        joined = with_head(pieces, [piece.stop - piece.start for piece in pieces])
        return [slice(some[0].start, some[-1].stop) for some in joined] or [slice(0, 0)]

    def read(
        self, by: Sequence[str], colors: Sequence[str], done: Callable[[str], None]
    ) -> tuple[dict[str, Shown], list[Summary]]:
        """Read all columns.

        Parameters
        ----------
        by : sequence of str
            Columns of terms that make groups, in which all genes are summed up.
        colors : sequence of str
            Genes and annotations that are drawn, where there is a plane.
        done : callable
            Takes the name of each column that was read.

        Returns
        -------
        pictures : dict
            By column.
        summaries : list of Summary
            Of each column of `by`; equal to those of `View.summarize`.
        """
        import pandas as pd

        drawn = set(colors) if self.plane is not None else set()
        terms = list(dict.fromkeys([*by, *(n for n in colors if n in self.described)]))
        genes = [name for name in self.reader.columns if by or name in drawn]
        pictures: dict[str, Shown] = {}
        groups: dict[str, Groups] = {}
        sums: list[list[Moments]] = []

        def of_terms(name: str) -> None:
            annotation = self.described[name]
            codes = self.reader.annotation(annotation)
            if name in by:
                groups[name] = Groups.of(annotation, codes, self.blocks)
            if name in drawn:
                pictures[name] = self.shown(name, annotation.cells(codes))

        def of_gene(name: str, values: NDArray[Any]) -> list[Moments]:
            if name in drawn:
                pictures[name] = self.shown(name, pd.Series(values, copy=False))
            return [groups[one].moments(values, self.blocks) for one in by]

        with ThreadPoolExecutor(min(_threads(), _MOST_THREADS)) as pool:
            for name, _ in zip(terms, pool.map(of_terms, terms), strict=True):
                done(name)
            for batch, values in _batches(self.reader, genes):
                for name, found in zip(batch, pool.map(of_gene, batch, values.T), strict=True):
                    sums.append(found)
                    done(name)
        return pictures, [
            groups[name].summary([found[k] for found in sums], genes) for k, name in enumerate(by)
        ]

    def shown(self, name: str, values: pd.Series[Any]) -> Shown:
        """Paint the cells by a column."""
        assert self.plane is not None
        annotation = self.described.get(name)
        layer = layer_of(
            values.to_frame(name),
            name,
            colors=None if annotation is None else self.colors_of(annotation),
            label=None if annotation else self.label,
        )
        what = "Cells in brain sections" if self.plane.names else "UMAP of cells"
        title = f"{what} by {name}"
        return shown(layer, self.plane, title, self.about | {"Title": title})

    def colors_of(self, annotation: Annotation) -> dict[str, str] | None:
        """Return the colours of terms; None for numbers.

        Raises
        ------
        UsageError
            If the atlas has none.
        """
        if annotation.terms is None:
            return None
        if self.palette == "distinct" or annotation.name == SECTION:
            return distinct_colors(annotation.terms)
        if not annotation.colors:
            raise UsageError(
                f"the atlas has no colours for the terms of {annotation.name!r} "
                f"(no column {annotation.name}_color); pass --palette distinct"
            )
        return dict(annotation.colors)


def plane_of(reader: Reader, *, sections: bool, unit: str | None) -> Plane:
    """Read where the cells are; `unit` is that of x and y in sections.

    Raises
    ------
    UsageError
        If no cell has a place.
    """
    described = {a.name: a for a in reader.annotations}
    x, y = (reader.annotation(described[name]).astype(np.float64) for name in ("x", "y"))
    there = np.isfinite(x) & np.isfinite(y)
    codes = reader.annotation(described[SECTION]) if sections else None
    if not (there if codes is None else there & (codes >= 0)).any():
        raise UsageError("x and y are missing in all cells: there is nothing to draw")
    if codes is None:
        return umap_plane(x, y)
    return section_plane(x, y, codes, tuple(described[SECTION].terms or ()), unit)


def _batches(reader: Reader, genes: Sequence[str]) -> Iterator[tuple[Sequence[str], NDArray[Any]]]:
    """Yield names and values, cells x genes, of as many genes as memory allows."""
    width = max(1, _BATCH_BYTES // max(1, reader.n_cells * reader.dtype.itemsize))
    for first in range(0, len(genes), width):
        names = genes[first : first + width]
        yield names, reader.values(names)


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
