"""What is read once of a matrix file and kept: its layout, genes, rows, and whose rows they are.

Two cached Parquet tables a matrix, beside those of `abc_dask.chunks`:

- ``matrix``: gene_identifier and gene_symbol of every column, and the layout
  (`MatrixFile`) in the schema's metadata; depends on the matrix file alone.
- ``rows``: for every row its cell_label, its cell (position in cell_metadata, -1 where
  the metadata does not list it) and its size (stored values); depends on the matrix
  file and on the cell table.

Tasks read the labels of their rows from the second, so that no task carries a table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from abc_dask.cache import Cache
from abc_dask.cached import read_cached, read_cached_rows, read_note, write_cached
from abc_dask.chunks import write_chunks, write_indptr
from abc_dask.errors import DamagedFileError
from abc_dask.files import Fingerprint
from abc_dask.genes import GENE_SYMBOL
from abc_dask.h5ad import (
    MatrixFile,
    describe,
    read_gene_identifiers,
    read_gene_symbols,
    read_labels,
    read_row_sizes,
)
from abc_dask.tables import CELL_LABEL, GENE_IDENTIFIER
from abc_dask.terms import Annotation
from abc_dask.words import plural

_LAYOUT = b"abc_dask.layout"


@dataclass(frozen=True)
class MatrixIndex:
    """A matrix file that was looked at.

    Attributes
    ----------
    matrix : MatrixFile
        Its layout.
    table : Path
        Cached table of its genes.
    """

    matrix: MatrixFile
    table: Path

    @classmethod
    def of(cls, path: Path, cache: Cache) -> MatrixIndex:
        """Look at a matrix file, or find what an earlier run saw of the same file.

        Raises
        ------
        MissingFileError, DamagedFileError
            As `abc_dask.h5ad.describe`; also if a gene identifier stands twice.
        """
        fingerprint = Fingerprint.of(path)
        table = cache.get(
            "matrix", [str(path), *astuple(fingerprint)], lambda target: _write_genes(path, target)
        )
        layout = json.loads(read_note(table, _LAYOUT))
        layout["fingerprint"] = Fingerprint(**layout["fingerprint"])
        layout["filters"] = tuple(layout["filters"])
        return cls(_with_chunks(MatrixFile(**layout), cache), table)

    @cached_property
    def genes(self) -> pa.Table:
        """gene_identifier and gene_symbol of every column, in the file's order."""
        return read_cached(self.table)

    def positions(self, identifiers: list[str]) -> tuple[int, ...]:
        """Give the column of each gene, -1 where the matrix lacks it."""
        columns = read_cached(self.table, [GENE_IDENTIFIER])[GENE_IDENTIFIER]
        found = pc.index_in(columns, value_set=pa.array(identifiers, pa.string()))
        positions = np.full(len(identifiers), -1)
        present = found.is_valid().to_numpy()
        positions[found.drop_null().to_numpy()] = np.flatnonzero(present)
        return tuple(positions.tolist())


def _with_chunks(matrix: MatrixFile, cache: Cache) -> MatrixFile:
    """Add the tables by which tasks read rows around HDF5."""
    if matrix.layout != "csr":
        return matrix
    state = [matrix.path, *astuple(matrix.fingerprint)]
    return replace(
        matrix,
        indptr=str(cache.get("indptr", state, lambda target: write_indptr(matrix, target))),
        chunks=str(cache.get("chunks", state, lambda target: write_chunks(matrix, target))),
    )


def _write_genes(path: Path, target: Path) -> None:
    matrix = describe(path)
    identifiers = read_gene_identifiers(matrix)
    if len(twice := _duplicates(identifiers)):
        raise DamagedFileError(
            f"{path}: gene_identifier {twice[0]!r} stands for more than one column"
        )
    symbols = read_gene_symbols(matrix)
    if symbols is None:
        symbols = np.full(len(identifiers), "", dtype=object)
    table = pa.table(
        {
            GENE_IDENTIFIER: pa.array(identifiers, pa.string()),
            GENE_SYMBOL: pa.array(symbols, pa.string()),
        },
        metadata={_LAYOUT: json.dumps(asdict(matrix))},
    )
    write_cached(table, target)


@dataclass(frozen=True)
class MatrixRows:
    """The rows of a matrix and whose they are.

    Attributes
    ----------
    table : Path
        Cached table: cell_label, cell, size.
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
            "rows",
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
    if len(twice := _duplicates(of_rows[kept])):
        raise DamagedFileError(
            f"{matrix.path}: {plural(len(twice), 'cell label')} stand for more than one row, "
            f"such as {twice[0]!r}; every row must have a label of its own"
        )
    table = pa.table(
        {
            CELL_LABEL: pa.array(of_rows, pa.string()),
            "cell": pa.array(found, pa.int64()),
            "size": pa.array(read_row_sizes(matrix), pa.int64()),
        }
    )
    write_cached(table, target)


def read_row_labels(table: str | Path, start: int, stop: int) -> tuple[pa.Array, pa.Array]:
    """Read cell_label and cell of a row range; only its row groups are touched.

    Returns
    -------
    labels, cells : pyarrow arrays, length stop - start
    """
    part = read_cached_rows(table, [CELL_LABEL, "cell"], start, stop)
    labels, cells = (part[name].combine_chunks() for name in (CELL_LABEL, "cell"))
    return labels, cells


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
    part = read_cached_rows(table, ["cell", *map(_beside, names)], start, stop)
    found = {name: part[_beside(name)].to_numpy() for name in names}
    return part["cell"].to_numpy(), found


def _duplicates(names: NDArray[np.object_]) -> list[str]:
    index = pd.Index(names)
    return [] if index.is_unique else list(index[index.duplicated()].unique())


def union_of_genes(indexes: Mapping[Any, MatrixIndex]) -> pa.Table:
    """Give the genes of all matrices, each identifier once, in order of appearance."""
    seen: dict[str, str] = {}
    for index in indexes.values():
        table = index.genes
        pairs = zip(table[GENE_IDENTIFIER].to_pylist(), table[GENE_SYMBOL].to_pylist(), strict=True)
        for identifier, symbol in pairs:
            seen.setdefault(identifier, symbol or "")
    return pa.table({GENE_IDENTIFIER: list(seen), GENE_SYMBOL: list(seen.values())})
