"""A matrix file as it was found: layout, genes, chunks; kept between runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from abc_dask.base.columns import GENE_IDENTIFIER, GENE_SYMBOL
from abc_dask.base.errors import DamagedFileError
from abc_dask.base.records import dumps
from abc_dask.disk.cache import Cache
from abc_dask.disk.files import Fingerprint
from abc_dask.disk.kept_table import read_cached, read_record, write_cached
from abc_dask.matrix.chunk_index import ChunkIndex
from abc_dask.matrix.chunk_table import read_arrays, write_chunks
from abc_dask.matrix.h5ad import MatrixFile, look_at, read_gene_identifiers, read_gene_symbols

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
    def of(cls, path: Path, cache: Cache, layer: str = "X", prefix: str = "") -> MatrixIndex:
        """Look at a matrix file, or find what an earlier run saw of the same file.

        Parameters
        ----------
        path : Path
        cache : Cache
        layer, prefix : str
            As `MatrixFile` has them.

        Raises
        ------
        MissingFileError, DamagedFileError
            As `abc_dask.matrix.h5ad.look_at`; also if a gene identifier stands twice.
        """
        fingerprint = Fingerprint.of(path)
        # read once, on the first look, and used for the table of chunks as well
        indexes: dict[str, ChunkIndex] = {}
        table = cache.get(
            "matrix",
            [str(path), *astuple(fingerprint), *([] if layer == "X" else [layer])],
            lambda target: indexes.update(_write_genes(path, target, layer)),
        )
        matrix = replace(read_record(MatrixFile, table, _LAYOUT), prefix=prefix)
        return cls(_with_chunks(matrix, cache, indexes), table)

    @cached_property
    def genes(self) -> pa.Table:
        """gene_identifier and gene_symbol of every column, in the file's order."""
        return read_cached(self.table)

    def positions(self, identifiers: list[str]) -> tuple[int, ...]:
        """Return the column of each gene, -1 where the matrix lacks it."""
        columns = read_cached(self.table, [GENE_IDENTIFIER])[GENE_IDENTIFIER]
        found = pc.index_in(columns, value_set=pa.array(identifiers, pa.string()))
        positions = np.full(len(identifiers), -1)
        present = found.is_valid().to_numpy()
        positions[found.drop_null().to_numpy()] = np.flatnonzero(present)
        return tuple(positions.tolist())


def _with_chunks(matrix: MatrixFile, cache: Cache, indexes: Mapping[str, ChunkIndex]) -> MatrixFile:
    """Add what tasks need to read rows around HDF5."""
    if matrix.layout != "csr":
        return matrix
    chunks = cache.get(
        "chunks",
        replace(matrix, prefix="").state,
        lambda target: write_chunks(matrix, target, indexes),
    )
    return replace(matrix, arrays=read_arrays(chunks), chunks=str(chunks))


def _write_genes(path: Path, target: Path, layer: str) -> dict[str, ChunkIndex]:
    matrix, indexes = look_at(path, layer)
    identifiers = read_gene_identifiers(matrix)
    if len(twice := duplicates(identifiers)):
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
        metadata={_LAYOUT: dumps(matrix)},
    )
    write_cached(table, target)
    return indexes


def duplicates(names: NDArray[np.object_]) -> list[str]:
    """Return the names that occur more than once."""
    index = pd.Index(names)
    return [] if index.is_unique else list(index[index.duplicated()].unique())


def union_of_genes(indexes: Mapping[Any, MatrixIndex]) -> pa.Table:
    """Return the genes of all matrices, each identifier once, in order of appearance."""
    seen: dict[str, str] = {}
    for index in indexes.values():
        table = index.genes
        pairs = zip(table[GENE_IDENTIFIER].to_pylist(), table[GENE_SYMBOL].to_pylist(), strict=True)
        for identifier, symbol in pairs:
            seen.setdefault(identifier, symbol or "")
    return pa.table({GENE_IDENTIFIER: list(seen), GENE_SYMBOL: list(seen.values())})
