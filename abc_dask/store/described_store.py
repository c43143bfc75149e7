"""A store that is open: its description, its genes and its cells, but no values."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.base.errors import StoreError
from abc_dask.base.messages import plural
from abc_dask.store.arrays import Arrays, Folder, read_description, read_root
from abc_dask.store.axes import Axes
from abc_dask.store.description import (
    StoreInfo,
    html_of,
    metadata_digest,
    require_version,
)
from abc_dask.store.precomputed import Precomputed

if TYPE_CHECKING:
    import pandas as pd


class DescribedStore:
    """What a store says of itself, of its genes and of its cells.

    Parameters
    ----------
    folder : Folder
        Where it lies.

    Attributes
    ----------
    info : StoreInfo
        Its description.
    digest : str
        SHA-256 of it: no two stores of different values have the same.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        root = read_root(folder)
        said = root["attributes"]["abc_dask"]
        require_version(said.get("store_version"), folder.name)
        metadata = root["consolidated_metadata"]["metadata"]
        text = read_description(folder, metadata)
        self.digest = hashlib.sha256(text.encode()).hexdigest()
        if self.digest != said["sha256"]:
            raise StoreError(
                f"{folder.name}: zarr.json and uns/abc_dask are not of one store; "
                "make it anew, or copy it again"
            )
        self.info = StoreInfo.from_json(text, folder.name)
        if metadata_digest(metadata) != self.info.metadata:
            raise StoreError(
                f"{folder.name}: zarr.json is not what was written (its SHA-256 differs); "
                "make the store anew, or copy it again"
            )
        self._axes = Axes(folder, Arrays(folder, metadata, self.info.files), self.info)

    @property
    def name(self) -> str:
        """Its path or address."""
        return self._folder.name

    def close(self) -> None:
        """Let go of files or connections."""
        self._folder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def n_cells(self) -> int:
        """Cells in it."""
        return self.info.n_cells

    @property
    def n_genes(self) -> int:
        """Genes in it."""
        return self.info.n_genes

    @property
    def n_bytes(self) -> int:
        """Bytes of all genes."""
        return self._axes.n_bytes

    @property
    def absent(self) -> NDArray[np.bool_]:
        """Whether each matrix lacks each gene, shape (n_genes, n_matrices)."""
        return self._axes.absent

    def __repr__(self) -> str:
        return (
            f"<GeneStore {self.name}: {plural(self.n_cells, 'cell')}, "
            f"{plural(self.n_genes, 'gene')}, {self.info.kind}>"
        )

    def _repr_html_(self) -> str:
        return html_of(self.info, self.name, self.n_bytes)

    # --- genes and cells ---------------------------------------------------------------

    @property
    def genes(self) -> pd.DataFrame:
        """Genes in the store's order: gene_identifier (index), gene_symbol, name, n_cells."""
        return self._axes.genes

    @property
    def cells(self) -> pd.DataFrame:
        """Cells in the store's order: cell_label (index), whose they are, annotations."""
        return self._axes.cells

    @property
    def labels(self) -> pa.Array:
        """Label of every cell, in the store's order, shape (n_cells,)."""
        return self._axes.labels

    @property
    def totals(self) -> NDArray[np.uint32]:
        """Counts of every cell in all, shape (n_cells,); 0 where no total was found."""
        return self._axes.totals

    @property
    def certain(self) -> NDArray[np.bool_]:
        """Whether the counts of each cell are certain, shape (n_cells,)."""
        return self._axes.certain

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of cells that `annotation` reads."""
        return self._axes.columns

    def annotation(self, name: str) -> Any:
        """Read one column of cells: a pandas.Categorical, or an array.

        Raises
        ------
        UsageError
            If there is no such column.
        """
        return self._axes.annotation(name)

    @property
    def axes(self) -> Axes:
        """All of the store but its values: cells, genes, patches."""
        return self._axes

    @property
    def precomputed(self) -> Precomputed | None:
        """Statistics by groups of cells that it keeps, if any."""
        return Precomputed(self._axes.arrays, self.info) if self.info.precomputed else None

    def find_genes(self, names: str | Sequence[str]) -> list[int]:
        """Find genes by identifier or symbol.

        Parameters
        ----------
        names : str or sequence of str
            Identifiers or symbols, which may be of another case or have a version if that can
            be one gene only.

        Returns
        -------
        list of int
            Positions in the store.

        Raises
        ------
        GeneError
            If a name is unknown, stands for several genes, or comes twice.
        """
        return self._axes.find(names)
