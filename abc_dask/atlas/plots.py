"""Pictures of all cells of a release, coloured by annotations: no gene, and no extraction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.analysis.plots.accessor import ViewPlots
from abc_dask.base.messages import names_of
from abc_dask.plan.inputs import Inputs
from abc_dask.release.annotation import Annotation
from abc_dask.views.description import DescribedView

if TYPE_CHECKING:
    from abc_dask.analysis.plots.canvas import Picture


class AtlasPlots:
    """Pictures of a release: ``atlas.plot.umap("class").save("class.png")``.

    Parameters
    ----------
    inputs : Inputs
    """

    def __init__(self, inputs: Inputs) -> None:
        self._plots = ViewPlots(_AllCells.of(inputs))

    def umap(self, color: str | Iterable[str], **options: Any) -> Picture:
        """Draw all cells of the UMAP, or another embedding, a panel a colouring.

        Parameters
        ----------
        color : str or iterable of str
            Columns of annotations.
        **options
            embedding, x, y, palette and the style, as for
            `abc_dask.analysis.plots.accessor.ViewPlots.umap`.

        Returns
        -------
        Picture

        Raises
        ------
        UsageError
            If a column is unknown, the atlas has no colours for it, or x and y are places in
            brain sections.
        MissingFileError, TableError
            If a table is missing or does not fit.
        """
        return self._plots.umap(color, **options)

    def sections(self, color: str, **options: Any) -> Picture:
        """Draw the cells of brain sections, a panel a section, y downwards.

        Parameters
        ----------
        color : str
            A column of annotations.
        **options
            sections, x, y, palette and the style, as for
            `abc_dask.analysis.plots.accessor.ViewPlots.sections`.

        Returns
        -------
        Picture

        Raises
        ------
        UsageError, MissingFileError, TableError
            As `umap`; if there are no sections, or not those that are asked for.
        """
        return self._plots.sections(color, **options)


@dataclass(frozen=True)
class _AllCells(DescribedView):
    """The cells of a release as a view without a gene; all annotations lie beside it."""

    inputs: Inputs = field(repr=False, kw_only=True)

    @classmethod
    def of(cls, inputs: Inputs) -> _AllCells:
        """Describe them as a view is described."""
        n_cells = inputs.cells.n_cells
        info = {
            **inputs.release.origin,
            "metadata": inputs.metadata,
            "normalization": "annotations",
            "format": "tables",
            "genes": [],
            "counts": {"cells": n_cells, "cells_asked": n_cells},
            "matrices": [],
            "files": [],
            "content": "",
            "atlas": {
                "download_base": str(inputs.release.download_base),
                **inputs.release.provenance,
            },
        }
        if (places := inputs.release.places_of(inputs.metadata)) is not None:
            info["places"] = places
        return cls(inputs.release.download_base, info, inputs=inputs)

    def find_annotations(
        self, columns: Iterable[str], *, download_base: Any = None
    ) -> tuple[Annotation, ...]:
        """Find columns; `download_base` has no meaning here."""
        del download_base
        return tuple(self.inputs.annotations.find(names_of(columns)))

    def open_reader(self) -> _NoGenes:
        """Open the cells."""
        return _NoGenes(self.inputs)


@dataclass(frozen=True)
class _NoGenes:
    """A reader of cells alone; members as `abc_dask.views.reader.Reader` describes them."""

    inputs: Inputs
    columns: tuple[str, ...] = ()
    annotations: tuple[Annotation, ...] = ()

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    @property
    def n_cells(self) -> int:
        return self.inputs.cells.n_cells

    def labels(self) -> pa.Array:
        return self.inputs.cells.labels()

    def matrices(self) -> dict[str, Any]:
        return {}

    def annotation(self, annotation: Annotation) -> NDArray[Any]:
        return annotation.values()

    def values(self, columns: Sequence[str]) -> NDArray[Any]:
        return np.empty((self.n_cells, len(columns)), self.dtype)

    def blocks(self) -> list[Any]:
        return []
