"""What is read once of a matrix file and kept: its layout, genes, rows, and whose rows they are.

Two cached Parquet tables a matrix, beside those of `abc_dask.matrix.chunk_table`:

- ``matrix``: gene_identifier and gene_symbol of every column, and the layout
  (`MatrixFile`) in the schema's metadata; depends on the matrix file alone.
- ``rows``: for every row its cell_label, its cell (position in cell_metadata, -1 where
  the metadata does not list it), its size (stored values) and the number of its first
  stored value; depends on the matrix file and on the cell table.

A task reads all that it must know of its rows from the second, so that no task carries a table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.columns import CELL_LABEL
from abc_dask.disk.cache import Cache
from abc_dask.disk.kept_table import read_cached, read_cached_rows, write_cached
from abc_dask.errors import DamagedFileError
from abc_dask.matrix.h5ad import MatrixFile, read_labels, read_row_sizes
from abc_dask.matrix.index import MatrixIndex, duplicates
from abc_dask.messages import plural
from abc_dask.release.annotation import Annotation


@dataclass(frozen=True)
class MatrixRows:
    """The rows of a matrix and whose they are.

    Attributes
    ----------
    table : Path
        Kept table: cell_label, cell, size, first.
    n_asked, n_found, n_extra : int
        Cells that the metadata assigns to the matrix, how many of them it holds, and
        rows that the metadata does not list.
    sizes, cells : arrays of int64, shape (n_rows,)
        Stored values and cell (position in cell_metadata, -1: not wanted) of every row.
    """

    table: Path
    n_asked: int
    n_found: int
    n_extra: int
    sizes: NDArray[np.int64] = field(repr=False, compare=False)
    cells: NDArray[np.int64] = field(repr=False, compare=False)

    @classmethod
    def of(
        cls,
        index: MatrixIndex,
        labels: Callable[[], pa.Array],
        cells: NDArray[np.int64] | None,
        state: object,
        cache: Cache,
    ) -> MatrixRows:
        """Align a matrix's rows with cells by label.

        Parameters
        ----------
        index : MatrixIndex
            The matrix.
        labels : callable
            Gives the label of every cell of cell_metadata, each once; called only where
            no earlier run has aligned the same two files.
        cells : array of int64 or None
            Positions of the cells that are in this matrix; None: any may be.
        state : object
            JSON-serialisable state of the cell table.
        cache : Cache

        Raises
        ------
        DamagedFileError
            If a wanted label stands in the matrix twice, or indptr lies.
        """
        matrix = index.matrix
        table = cache.get(
            "row-table",
            [matrix.path, *astuple(matrix.fingerprint), state, cells is None],
            lambda target: _write_rows(matrix, labels(), cells, target),
        )
        rows = read_cached(table, ["size", "cell"])
        cell = rows["cell"].to_numpy()
        n_found = int((cell >= 0).sum())
        n_asked = n_found if cells is None else len(cells)
        sizes = rows["size"].to_numpy()
        return cls(table, n_asked, n_found, matrix.n_rows - n_found, sizes, cell)


def _write_rows(
    matrix: MatrixFile, labels: pa.Array, cells: NDArray[np.int64] | None, target: Path
) -> None:
    of_rows = read_labels(matrix)
    wanted = labels if cells is None else labels.take(pa.array(cells))
    found = pd.Index(wanted.to_pandas()).get_indexer(pd.Index(of_rows)).astype(np.int64)
    if cells is not None and len(cells):
        found = np.where(found >= 0, cells[found], -1)
    kept = found >= 0
    if len(twice := duplicates(of_rows[kept])):
        raise DamagedFileError(
            f"{matrix.path}: {plural(len(twice), 'cell label')} stand for more than one row, "
            f"such as {twice[0]!r}; every row must have a label of its own"
        )
    sizes = read_row_sizes(matrix)
    table = pa.table(
        {
            CELL_LABEL: pa.array(of_rows, pa.string()),
            "cell": pa.array(found, pa.int64()),
            "size": pa.array(sizes, pa.int64()),
            "first": pa.array(np.cumsum(sizes) - sizes, pa.int64()),
        }
    )
    write_cached(table, target)


def write_details(
    cells: NDArray[np.int64],
    wanted: NDArray[np.bool_],
    annotations: Sequence[Annotation],
    target: Path,
) -> None:
    """Write which rows of a matrix are wanted, and their annotations.

    Parameters
    ----------
    cells : array of int64, shape (n_rows,)
        Position of each row's cell in cell_metadata, -1 where it is not listed.
    wanted : array of bool, shape (n_rows,)
    annotations : sequence of Annotation
    target : Path
    """
    columns: dict[str, Any] = {"cell": np.where(wanted, cells, -1)}
    for annotation in annotations:
        columns[_beside(annotation.name)] = annotation.values()[np.where(wanted, cells, 0)]
    write_cached(pa.table({name: pa.array(values) for name, values in columns.items()}), target)


def _beside(name: str) -> str:
    """Keep names of annotations apart from our own."""
    return f"annotation:{name}"


def read_details(
    table: str | Path, start: int, stop: int, names: Sequence[str]
) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]]]:
    """Read cell (-1: not wanted) and annotations (codes or numbers) of a row range."""
    (part,) = read_cached_rows(table, ["cell", *map(_beside, names)], (start, stop))
    found = {name: part[_beside(name)].to_numpy() for name in names}
    return part["cell"].to_numpy(), found
