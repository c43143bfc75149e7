"""Write h5ad files row block by row block, in the layout that anndata gives them.

The on-disk format is anndata's, encoding-version 0.1.0 for the file and for sparse matrices and
0.2.0 for tables (https://anndata.readthedocs.io/en/stable/fileformat-prose.html).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
import numpy.typing as npt

from abc_dask.testing.quirks import Layout, StringEncoding

_STRING = h5py.string_dtype()


@dataclass(frozen=True)
class Categories:
    """A categorical column: a code per row into the categories."""

    codes: npt.NDArray[np.integer[Any]]
    categories: Sequence[str]


def _encode(element: Any, encoding: str, version: str) -> None:
    element.attrs["encoding-type"] = encoding
    element.attrs["encoding-version"] = version


def _write_strings(
    group: Any, name: str, values: Any, encoding: StringEncoding = "string-array"
) -> None:
    # numpy's byte strings become Python objects, which h5py writes as variable-length strings
    objects = np.asarray(values, dtype=object)
    if encoding == "nullable-string-array":
        nullable = group.create_group(name)
        _encode(nullable, "nullable-string-array", "0.1.0")
        _write_strings(nullable, "values", objects)
        mask = nullable.create_dataset("mask", data=np.zeros(len(objects), dtype=np.bool_))
        _encode(mask, "array", "0.2.0")
        return
    _encode(group.create_dataset(name, data=objects, dtype=_STRING), "string-array", "0.2.0")


def _write_table(
    file: Any,
    name: str,
    index: tuple[str, Any],
    columns: Mapping[str, Any],
    encoding: StringEncoding,
) -> None:
    table = file.create_group(name)
    _encode(table, "dataframe", "0.2.0")
    table.attrs["_index"] = index[0]
    table.attrs.create("column-order", list(columns), shape=(len(columns),), dtype=_STRING)
    _write_strings(table, *index, encoding)
    for column, values in columns.items():
        if isinstance(values, Categories):
            group = table.create_group(column)
            _encode(group, "categorical", "0.2.0")
            group.attrs["ordered"] = False
            _encode(group.create_dataset("codes", data=values.codes), "array", "0.2.0")
            _write_strings(group, "categories", values.categories)
        else:
            _write_strings(table, column, values, encoding)


def _write_uns(file: Any, uns: Mapping[str, Any]) -> None:
    group = file.create_group("uns")
    _encode(group, "dict", "0.1.0")
    for key, value in uns.items():
        if isinstance(value, str):
            _encode(group.create_dataset(key, data=value, dtype=_STRING), "string", "0.2.0")
        else:
            _encode(group.create_dataset(key, data=value), "array", "0.2.0")


class _ChunkedArray:
    """A growing one-dimensional dataset, written in whole chunks."""

    def __init__(
        self, group: Any, name: str, dtype: str, chunk: int, filters: dict[str, Any]
    ) -> None:
        self._dataset = group.create_dataset(
            name, shape=(0,), maxshape=(None,), chunks=(chunk,), dtype=dtype, **filters
        )
        self._chunk = chunk
        self._unfiltered = not filters
        self._waiting = np.empty(chunk, dtype=dtype)
        self._n_waiting = 0
        self._n_written = 0

    def append(self, values: npt.NDArray[Any]) -> None:
        values = values.astype(self._waiting.dtype, copy=False)
        if self._n_waiting:
            first = values[: self._chunk - self._n_waiting]
            self._keep(first)
            values = values[len(first) :]
            if self._n_waiting < self._chunk:
                return
            self._write(self._waiting)
            self._n_waiting = 0
        whole = len(values) - len(values) % self._chunk
        if whole:
            self._write(values[:whole])
        self._keep(values[whole:])

    def _keep(self, values: npt.NDArray[Any]) -> None:
        self._waiting[self._n_waiting : self._n_waiting + len(values)] = values
        self._n_waiting += len(values)

    def _write(self, values: npt.NDArray[Any]) -> None:
        start, stop = self._n_written, self._n_written + len(values)
        self._dataset.resize((stop,))
        if self._unfiltered and len(values) % self._chunk == 0:
            # past HDF5's chunk cache, which would copy each chunk once more
            for at in range(0, len(values), self._chunk):
                piece = values[at : at + self._chunk]
                self._dataset.id.write_direct_chunk((start + at,), piece)
        else:
            self._dataset[start:stop] = values
        self._n_written = stop

    def finish(self) -> None:
        if self._n_waiting:
            self._write(self._waiting[: self._n_waiting])


class H5adWriter:
    """An h5ad file open for writing: rows first, then the labels.

    Parameters
    ----------
    path
        File to write, replaced if it is there.
    shape
        Rows and columns of the finished matrix.
    layout
        ``csr`` and ``dense`` are written as they come, ``csc`` is held in memory to the end.
    data_dtype, index_dtype, indptr_dtype
        Types on disk. `indptr_dtype` is ``int64`` at least where it has to be.
    chunk_values
        Elements of an HDF5 chunk.
    compression, shuffle
        HDF5 filters, as h5py takes them.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, int],
        *,
        layout: Layout = "csr",
        data_dtype: str = "float32",
        index_dtype: str = "int32",
        indptr_dtype: str = "int32",
        chunk_values: int = 20_000,
        compression: str | None = None,
        shuffle: bool = False,
    ) -> None:
        self.shape = shape
        self.layout = layout
        self._indptr_dtype = indptr_dtype
        self._chunk_values = chunk_values
        self._filters: dict[str, Any] = {}
        if compression is not None:
            self._filters["compression"] = compression
        if shuffle:
            self._filters["shuffle"] = True
        self._lengths: list[npt.NDArray[np.int64]] = []
        self._held: list[tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]] = []
        self._n_rows = 0
        self._file = h5py.File(path, "w")
        _encode(self._file, "anndata", "0.1.0")
        if layout == "dense":
            # tiles, 64 rows high where the matrix allows it
            width = min(shape[1], max(1, chunk_values // 64))
            height = min(max(1, shape[0]), max(1, chunk_values // width))
            self._x = self._file.create_dataset(
                "X",
                shape=shape,
                dtype=data_dtype,
                chunks=(height, width),
                maxshape=(None, shape[1]),
                **self._filters,
            )
            _encode(self._x, "array", "0.2.0")
            return
        self._x = self._file.create_group("X")
        _encode(self._x, f"{layout}_matrix", "0.1.0")
        self._x.attrs["shape"] = np.array(shape, dtype=np.int64)
        self._data = _ChunkedArray(self._x, "data", data_dtype, chunk_values, self._filters)
        self._indices = _ChunkedArray(self._x, "indices", index_dtype, chunk_values, self._filters)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def append(
        self,
        lengths: npt.NDArray[np.int64],
        indices: npt.NDArray[Any],
        data: npt.NDArray[Any],
    ) -> None:
        """Append rows: stored values of each, their columns, the values, row after row."""
        if self.layout == "csr":
            self.append_compressed(lengths, indices, data)
        elif self.layout == "csc":
            self._held.append((lengths, indices.copy(), data.copy()))
        else:
            dense = np.zeros((len(lengths), self.shape[1]), dtype=data.dtype)
            np.add.at(dense, (np.repeat(np.arange(len(lengths)), lengths), indices), data)
            self.append_dense(dense)

    def append_compressed(
        self,
        lengths: npt.NDArray[np.int64],
        indices: npt.NDArray[Any],
        data: npt.NDArray[Any],
    ) -> None:
        """Append rows of a CSR matrix, or columns of a CSC matrix."""
        self._lengths.append(lengths)
        self._indices.append(indices)
        self._data.append(data)

    def append_dense(self, rows: npt.NDArray[Any]) -> None:
        """Append rows of a dense matrix."""
        self._x[self._n_rows : self._n_rows + len(rows)] = rows
        self._n_rows += len(rows)

    def _append_held(self) -> None:
        """Turn the rows that `append` held back into the columns of a CSC matrix."""
        lengths, indices, data = map(np.concatenate, zip(*self._held, strict=True))
        rows = np.repeat(np.arange(len(lengths)), lengths)
        order = np.argsort(indices, kind="stable")
        per_column = np.bincount(indices, minlength=self.shape[1])
        self.append_compressed(per_column, rows[order], data[order])

    def finish(
        self,
        cell_labels: Any,
        gene_identifiers: Any,
        gene_symbols: Any = None,
        *,
        obs: Mapping[str, Any] | None = None,
        uns: Mapping[str, Any] | None = None,
        string_encoding: StringEncoding = "string-array",
    ) -> None:
        """Write what remains of X, the labels and the empty rest of an AnnData."""
        if self.layout != "dense":
            if self._held:
                self._append_held()
            self._data.finish()
            self._indices.finish()
            lengths = self._lengths or [np.zeros(self.shape[self.layout == "csc"], dtype=np.int64)]
            indptr = np.cumsum(np.concatenate([np.zeros(1, dtype=np.int64), *lengths]))
            dtype = self._indptr_dtype if indptr[-1] < 2**31 else "int64"
            self._x.create_dataset(
                "indptr",
                data=indptr.astype(dtype),
                chunks=(min(self._chunk_values, len(indptr)),),
                maxshape=(None,),
                **self._filters,
            )
        var = {} if gene_symbols is None else {"gene_symbol": gene_symbols}
        _write_table(self._file, "obs", ("cell_label", cell_labels), obs or {}, string_encoding)
        index = ("gene_identifier", gene_identifiers)
        _write_table(self._file, "var", index, var, string_encoding)
        _write_uns(self._file, uns or {})
        for name in ("layers", "obsm", "obsp", "varm", "varp"):
            _encode(self._file.create_group(name), "dict", "0.1.0")


def write_h5ad(
    path: str | Path,
    X: Any,  # noqa: N803 - anndata's name
    cell_labels: Sequence[str],
    gene_identifiers: Sequence[str],
    gene_symbols: Sequence[str] | None = None,
    *,
    layout: Layout = "csr",
    data_dtype: str | None = None,
    index_dtype: str | None = None,
    indptr_dtype: str | None = None,
    chunk_values: int = 20_000,
    compression: str | None = None,
    shuffle: bool = False,
    string_encoding: StringEncoding = "string-array",
    obs: Mapping[str, Any] | None = None,
    uns: Mapping[str, Any] | None = None,
) -> None:
    """Write an h5ad file out of plain arrays, exactly as given.

    Parameters
    ----------
    path
        File to write, replaced if it is there.
    X
        ``(indptr, indices, data)`` for the layouts ``csr`` and ``csc``, stored as they are
        (sorted or not, with or without duplicates and zeros); a two-dimensional array of cells by
        genes for ``dense``.
    cell_labels, gene_identifiers, gene_symbols
        Index of obs, index of var, and the column gene_symbol of var (left out if None).
    layout
        ``csr``, ``csc`` or ``dense``.
    data_dtype, index_dtype, indptr_dtype
        Types on disk; those of the arrays if None.
    chunk_values
        Elements of an HDF5 chunk.
    compression, shuffle
        HDF5 filters, as h5py takes them.
    string_encoding
        ``string-array`` or, as newer files have it, ``nullable-string-array``.
    obs, uns
        More columns of obs (sequences of strings, or `Categories`) and unstructured entries
        (strings and arrays).

    Raises
    ------
    ValueError
        X does not have one row a cell label and one column a gene identifier.
    """
    shape = (len(cell_labels), len(gene_identifiers))
    options: dict[str, Any] = {
        "layout": layout,
        "chunk_values": chunk_values,
        "compression": compression,
        "shuffle": shuffle,
    }
    labels = (cell_labels, gene_identifiers, gene_symbols)
    rest: dict[str, Any] = {"obs": obs, "uns": uns, "string_encoding": string_encoding}
    if layout == "dense":
        dense = np.asarray(X)
        if dense.shape != shape:
            raise ValueError(f"X has the shape {dense.shape}, the labels make it {shape}")
        dtype = data_dtype or str(dense.dtype)
        with H5adWriter(Path(path), shape, data_dtype=dtype, **options) as writer:
            writer.append_dense(dense)
            writer.finish(*labels, **rest)
        return
    indptr, indices, data = map(np.asarray, X)
    major = shape[0] if layout == "csr" else shape[1]
    if len(indptr) != major + 1:
        raise ValueError(
            f"indptr has {len(indptr)} entries, {layout} of the shape {shape} needs {major + 1}"
        )
    options |= {
        "data_dtype": data_dtype or str(data.dtype),
        "index_dtype": index_dtype or str(indices.dtype),
        "indptr_dtype": indptr_dtype or str(indptr.dtype),
    }
    lengths: npt.NDArray[np.int64] = np.subtract(indptr[1:], indptr[:-1], dtype=np.int64)
    with H5adWriter(Path(path), shape, **options) as writer:
        writer.append_compressed(lengths, indices, data)
        writer.finish(*labels, **rest)
