"""Whole rows of matrices: a row block -> pieces of CSR rows with the genes of the result.

Rows come out canonical: columns rise, each at most once; duplicates are summed in storage
order, as scipy does; what is stored stays stored, zeros too. A gene that the matrix lacks
is stored as NaN in each of its rows: what is not stored would read as zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.matrix.h5py_reader import open_matrix
from abc_dask.matrix.kernels import check_range
from abc_dask.matrix.open_rows import open_rows
from abc_dask.plan.subset import Genes
from abc_dask.run.read_block import BlockTables, BlockTask, named_block, read_block_tables

# Values in memory at once: with their rows, columns and order some 60 bytes each.
_PIECE = 1 << 19


@dataclass(frozen=True)
class Rows:
    """Some CSR rows.

    Attributes
    ----------
    labels : pyarrow array of string, length n_rows
    sizes : array of int64, shape (n_rows,)
        Stored values of each row.
    indices : array of int32, shape (n_values,)
        Gene of each value; rising within a row.
    data : array, shape (n_values,)
    """

    labels: pa.Array
    sizes: NDArray[np.int64]
    indices: NDArray[np.int32]
    data: NDArray[Any]


def read_rows_of(task: BlockTask, genes: Genes) -> Iterator[tuple[Rows, int]]:
    """Read the wanted rows of a block, in pieces of some million values.

    Yields
    ------
    rows : Rows
    bytes_read : int
        Decoded bytes so far.

    Raises
    ------
    DamagedFileError
        If the file changed, cannot be read, or holds an index out of range.
    """
    tables = read_block_tables(task, ())
    labels, kept = tables.labels, tables.wanted
    slots, absent = genes.of_matrix(task.block.matrix)
    read = {"csr": _csr, "csc": _csc, "dense": _dense}[task.matrix.matrix.layout]
    for first, (row, column, data, n_rows), bytes_read in read(task, tables):
        with named_block(task):
            check_range(column, task.matrix.matrix.n_columns)
        here = kept[first : first + n_rows]
        number = np.cumsum(here) - 1  # of each row among those kept
        entries = (number[row], slots[column], data.astype(genes.dtype, copy=False))
        sizes, indices, values = canonical(entries, int(here.sum()), genes.n_genes, absent)
        of_rows = labels.slice(first, n_rows).filter(pa.array(here))
        yield Rows(of_rows, sizes, indices, values), bytes_read


Entries = tuple[NDArray[Any], NDArray[Any], NDArray[Any], int]


def _csr(task: BlockTask, tables: BlockTables) -> Iterator[tuple[int, Entries, int]]:
    kept = tables.wanted
    with open_rows(task.matrix.matrix, tables.rows) as reader:
        for piece in reader.pieces(_PIECE, kept):
            first, n_rows = piece.row - task.block.start, len(piece.indptr) - 1
            here = kept[first : first + n_rows]
            sizes = np.diff(piece.indptr)
            row = np.repeat(np.arange(n_rows), sizes)
            places = np.arange(len(row))
            if not here.all():
                places = np.flatnonzero(here[row])
                row = row[places]
            column = piece.indices[places]
            data = reader.values(places) if len(places) else np.zeros(0, task.matrix.matrix.dtype)
            yield first, (row, column, data, n_rows), reader.bytes_read


def _csc(task: BlockTask, tables: BlockTables) -> Iterator[tuple[int, Entries, int]]:
    """Look through all columns: rows do not lie together in this layout."""
    start, stop, matrix = task.block.start, task.block.stop, task.matrix.matrix
    rows, columns, values = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], []
    with open_matrix(matrix) as reader:
        for position in range(matrix.n_columns):
            for row_indices, data in reader.column(position):
                with named_block(task):
                    check_range(row_indices, matrix.n_rows)
                row = row_indices.astype(np.int64) - start
                inside = np.flatnonzero((row >= 0) & (row < stop - start))
                inside = inside[tables.wanted[row[inside]]]
                rows.append(row[inside])
                columns.append(np.full(len(inside), position))
                values.append(data[inside])
        joined = np.concatenate([np.zeros(0, matrix.dtype), *values])
        entries = (np.concatenate(rows), np.concatenate(columns), joined, stop - start)
        yield 0, entries, reader.bytes_read


def _dense(task: BlockTask, tables: BlockTables) -> Iterator[tuple[int, Entries, int]]:
    start, stop = task.block.start, task.block.stop
    everything = np.arange(task.matrix.matrix.n_columns)
    with open_matrix(task.matrix.matrix) as reader:
        for at, values in reader.dense(start, stop, everything, most=_PIECE):
            first = at - start
            row, column = np.nonzero(values)  # NaN is not zero
            held = tables.wanted[first : first + len(values)][row]
            row, column = row[held], column[held]
            yield first, (row, column, values[row, column], len(values)), reader.bytes_read


def canonical(
    entries: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    n_rows: int,
    n_genes: int,
    absent: NDArray[np.int32],
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[Any]]:
    """Sort entries into canonical CSR form.

    Parameters
    ----------
    entries : (row, gene, data)
        In storage order; those of gene -1 are left out.
    n_rows, n_genes : int
    absent : array of int32
        Genes that get NaN in every row.

    Returns
    -------
    sizes : array of int64, shape (n_rows,)
    indices : array of int32
    data : array
    """
    row, gene, data = entries
    if (gene < 0).any():
        held = gene >= 0
        row, gene, data = row[held], gene[held], data[held]
    key = row.astype(np.int64) * n_genes + gene
    if len(absent):
        missing = (np.arange(n_rows)[:, np.newaxis] * n_genes + absent).ravel()
        key = np.concatenate([key, missing])
        data = np.concatenate([data, np.full(len(missing), np.nan, data.dtype)])
    steps = np.diff(key)
    if (steps <= 0).any():
        order = np.argsort(key, kind="stable")
        key, data = key[order], data[order]
        first = np.append(True, np.diff(key) > 0)
        if not first.all():
            summed = np.zeros(int(first.sum()), data.dtype)
            with np.errstate(over="ignore", invalid="ignore"):
                np.add.at(summed, np.cumsum(first) - 1, data)
            key, data = key[first], summed
    row, gene = np.divmod(key, n_genes)
    return np.bincount(row, minlength=n_rows), gene.astype(np.int32), data
