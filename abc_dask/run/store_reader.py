"""Genes of a store as the columns of a view: read gene by gene, cells in any order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.base.columns import DATASET_LABEL, FEATURE_MATRIX_LABEL
from abc_dask.release.annotation import Annotation
from abc_dask.store.dataframe import opened
from abc_dask.store.gene_store import GeneStore, open_store
from abc_dask.views.reader import ViewBlock, label_index

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class StoreReader:
    """Some genes of some cells of a store.

    Attributes
    ----------
    store : GeneStore
    genes : tuple of int
        Positions of the genes in the store.
    columns : tuple of str
        Names of their columns.
    rows : array of int64, shape (n_cells,)
        Cells of the store, in the order of the columns.
    normalization : str
        ``log2`` or ``raw``.
    annotations : tuple of Annotation
        Columns of the store's cells.
    block_bytes : int or None
        Bytes of values of a block; None: all cells are one, since a gene's values lie together.
    """

    store: GeneStore
    genes: tuple[int, ...]
    columns: tuple[str, ...]
    rows: NDArray[np.int64] = field(repr=False)
    normalization: str
    annotations: tuple[Annotation, ...] = ()
    block_bytes: int | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.store.dtype

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.rows)

    def labels(self) -> pa.Array:
        """Read the cell labels, in order."""
        return self.store.labels.take(pa.array(self.rows))

    def matrices(self) -> dict[str, pd.Categorical]:
        """Read dataset_label and feature_matrix_label of every cell."""
        names = (DATASET_LABEL, FEATURE_MATRIX_LABEL)
        return {name: self.store.annotation(name)[self.rows] for name in names}

    def annotation(self, annotation: Annotation) -> NDArray[Any]:
        """Read the codes or numbers of a column of annotations, in order."""
        values = self.store.annotation(annotation.name)
        found: NDArray[Any] = values if annotation.is_numeric else values.codes.astype(np.int32)
        return found[self.rows]

    def values(self, columns: Sequence[str]) -> NDArray[Any]:
        """Read some columns as an array of n_cells x columns, in order."""
        place = dict(zip(self.columns, self.genes, strict=True))
        positions = [place[name] for name in columns]
        return self.store.read_values(positions, self.normalization, self.rows).T

    def blocks(self) -> list[ViewBlock]:
        """Return all cells as one block, or in several."""
        step = max(1, self.n_cells)
        if self.block_bytes is not None:
            step = max(1, self.block_bytes // (max(1, len(self.genes)) * self.dtype.itemsize))
        return [
            StoreBlock(
                self.store.name,
                self.store.digest,
                start,
                self.genes,
                self.columns,
                self.rows[start : start + step],
                self.normalization,
                self.annotations,
            )
            for start in range(0, self.n_cells, step) or [0]
        ]


@dataclass(frozen=True)
class StoreBlock:
    """Cells of a `StoreReader`, from `start`, as a task carries them; attributes are those.

    `sha256` is the digest of the store: another one under this path is refused.
    """

    path: str
    sha256: str
    start: int
    genes: tuple[int, ...]
    columns: tuple[str, ...]
    rows: NDArray[np.int64] = field(repr=False)
    normalization: str
    annotations: tuple[Annotation, ...]

    @property
    def stop(self) -> int:
        """Behind the last row."""
        return self.start + len(self.rows)

    def frame(self, columns: Sequence[str]) -> pd.DataFrame:
        """Read columns, index cell_label."""
        import pandas as pd

        reader = StoreReader(
            opened(open_store, self.path, self.sha256),
            self.genes,
            self.columns,
            self.rows,
            self.normalization,
            self.annotations,
        )
        genes = [name for name in columns if name in self.columns]
        frame = pd.DataFrame(
            reader.values(genes), index=label_index(reader.labels()), columns=genes, copy=False
        )
        coded = {annotation.name: annotation for annotation in self.annotations}
        named = set(columns) - set(genes) - set(coded)
        matrices = reader.matrices() if named else {}
        for name in columns:
            if name in coded:
                frame[name] = coded[name].cells(reader.annotation(coded[name])).array
            elif name not in genes:
                frame[name] = matrices[name]
        return frame[list(columns)]
