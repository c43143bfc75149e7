"""The layout of one matrix file, and how to get the arrays of a row range.

An h5ad file is an HDF5 file with ``X`` (a group of data, indices and indptr for CSR or
CSC, or a dense dataset), ``obs`` and ``var`` (groups with an index and columns); see the
on-disk format page of the anndata documentation. Files are untrusted: HDF5 can point
into other files, declare what is not stored, and hold indices that lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from abc_dask.disk.files import Fingerprint
from abc_dask.errors import DamagedFileError
from abc_dask.matrix.chunk_index import ChunkIndex
from abc_dask.matrix.codecs import Filter
from abc_dask.matrix.hdf5 import (
    attribute,
    check_dataset,
    chunk_bytes,
    filter_names,
    member,
    opened,
    require_sound_start,
    strings,
    text,
)


@dataclass(frozen=True)
class StoredArray:
    """How one array is stored.

    Attributes
    ----------
    name : str
        ``X/data`` or ``X/indices``.
    dtype : str
        NumPy type with byte order.
    length : int
        Elements.
    chunk : int
        Elements of a chunk; the last one is padded, unless the array is contiguous.
    filters : tuple of (code, values)
        In the order of writing.
    first, n_chunks : int
        Rows of the chunk table.
    """

    name: str
    dtype: str
    length: int
    chunk: int
    filters: tuple[Filter, ...]
    first: int
    n_chunks: int

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a decoded chunk."""
        return self.chunk * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class MatrixFile:
    """What a task must know to read rows of a matrix: frozen, small, picklable.

    Attributes
    ----------
    path : str
        The h5ad file.
    fingerprint : Fingerprint
        Its state when it was looked at; every later opening checks it.
    layout : str
        ``csr``, ``csc`` or ``dense``.
    n_rows, n_columns : int
        Cells and genes.
    n_values : int
        Stored values (nnz); cells times genes where dense.
    dtype, index_dtype : str
        NumPy names of the types of values and indices ("" where dense).
    chunk_bytes : int
        Largest decoded chunk of ``X`` in bytes, 0 for contiguous arrays.
    filters : tuple of str
        Names of the HDF5 filters of ``X``, in their order.
    arrays : tuple of StoredArray
        How indices and values of a CSR matrix are stored; none where only HDF5 can read them.
    chunks : str
        Path of the kept table of their chunks (`abc_dask.matrix.chunk_table`), or "".
    """

    path: str
    fingerprint: Fingerprint
    layout: str
    n_rows: int
    n_columns: int
    n_values: int
    dtype: str
    index_dtype: str
    chunk_bytes: int
    filters: tuple[str, ...]
    arrays: tuple[StoredArray, ...] = ()
    chunks: str = ""

    @property
    def value_bytes(self) -> int:
        """Bytes of one stored value with its index, decoded."""
        index = np.dtype(self.index_dtype).itemsize if self.index_dtype else 0
        return np.dtype(self.dtype).itemsize + index


def describe(path: str | Path) -> MatrixFile:
    """Return a matrix file's structure; as `look_at`."""
    return look_at(path)[0]


def look_at(path: str | Path) -> tuple[MatrixFile, dict[str, ChunkIndex]]:
    """Look at a matrix file's structure, without reading its values.

    Parameters
    ----------
    path : path
        The h5ad file.

    Returns
    -------
    matrix : MatrixFile
    indexes : dict of str to ChunkIndex
        Where the chunks of its arrays lie, by the arrays' names.

    Raises
    ------
    MissingFileError
        If it is not there.
    DamagedFileError
        If it is not an h5ad file, is cut short, points outside of itself, declares what
        it does not hold, or uses a filter that is not installed.
    """
    fingerprint = Fingerprint.of(path)
    with opened(path, fingerprint) as (file, source):
        require_sound_start(source)
        x = member(file, "X")
        if isinstance(x, h5py.Dataset):
            layout, shape, arrays = "dense", x.shape, [x]
            if x.ndim != 2:
                raise DamagedFileError(f"{path}: X has {x.ndim} dimensions, expected 2")
        else:
            layout, shape = _sparse_layout(x, path)
            arrays = [member(x, name) for name in ("data", "indices", "indptr")]
        looked = {
            array.name: check_dataset(array, source, whole=array.name == "/X/indptr")
            for array in arrays
        }
        data = arrays[0]
        if data.dtype.kind not in "fiub" or data.dtype.itemsize > 8:
            raise DamagedFileError(f"{path}: {data.name} is of type {data.dtype}, not numeric")
        if layout != "dense":
            _check_sparse(arrays, shape, layout, path)
        matrix = MatrixFile(
            path=str(path),
            fingerprint=fingerprint,
            layout=layout,
            n_rows=int(shape[0]),
            n_columns=int(shape[1]),
            n_values=int(data.size),
            dtype=data.dtype.str,
            index_dtype="" if layout == "dense" else arrays[1].dtype.str,
            chunk_bytes=max(chunk_bytes(array) for array in arrays),
            filters=tuple(
                dict.fromkeys(f for array in arrays for f in filter_names(array, source))
            ),
        )
    return matrix, {name: index for name, index in looked.items() if index is not None}


def read_labels(matrix: MatrixFile) -> NDArray[np.object_]:
    """Read the cell label of every row, shape (n_rows,), as str."""
    return _read_names(matrix, "obs", "cell_label", matrix.n_rows)


def read_gene_identifiers(matrix: MatrixFile) -> NDArray[np.object_]:
    """Read the gene identifier of every column, shape (n_columns,), as str."""
    return _read_names(matrix, "var", "gene_identifier", matrix.n_columns)


def read_gene_symbols(matrix: MatrixFile) -> NDArray[np.object_] | None:
    """Read the gene symbol of every column, shape (n_columns,); None where there is none."""
    with opened(matrix.path, matrix.fingerprint) as (file, source):
        var = member(file, "var")
        if "gene_symbol" not in var:
            return None
        symbols = strings(var, "gene_symbol", source)
    if len(symbols) != matrix.n_columns:
        raise DamagedFileError(
            f"{matrix.path}: gene_symbol has {len(symbols):,} names, "
            f"X has {matrix.n_columns:,}; fetch the file again"
        )
    return symbols


def read_row_sizes(matrix: MatrixFile) -> NDArray[np.int64]:
    """Count the stored values of every row, shape (n_rows,).

    For CSC, where rows are not stored together, every row counts as 0; for dense
    matrices every row counts all columns.

    Raises
    ------
    DamagedFileError
        If indptr does not start at 0, falls, or does not end at the number of values.
    """
    if matrix.layout == "dense":
        return np.full(matrix.n_rows, matrix.n_columns, dtype=np.int64)
    sizes = np.diff(read_indptr(matrix))
    return sizes if matrix.layout == "csr" else np.zeros(matrix.n_rows, dtype=np.int64)


def read_indptr(matrix: MatrixFile) -> NDArray[np.int64]:
    """Read where each row (CSR) or column (CSC) of a sparse matrix starts.

    Returns
    -------
    array of int64, shape (n_rows + 1,) or (n_columns + 1,)

    Raises
    ------
    DamagedFileError
        If indptr does not start at 0, falls, or does not end at the number of values.
    """
    with opened(matrix.path, matrix.fingerprint) as (file, _):
        indptr: NDArray[np.int64] = file["X/indptr"][:].astype(np.int64)
    if indptr[0] != 0 or indptr[-1] != matrix.n_values or (np.diff(indptr) < 0).any():
        raise DamagedFileError(
            f"{matrix.path}: X/indptr does not rise from 0 to {matrix.n_values:,}; "
            "fetch the file again"
        )
    return indptr


def _sparse_layout(x: h5py.Group, path: str | Path) -> tuple[str, tuple[int, ...]]:
    """Read format and shape, as anndata writes them today, or did before 0.7."""
    kind = text(attribute(x, "encoding-type", "h5sparse_format"))
    layout = kind.removesuffix("_matrix")
    if layout not in {"csr", "csc"}:
        raise DamagedFileError(f"{path}: X is of the kind {kind!r}, expected CSR, CSC or dense")
    shape = attribute(x, "shape", "h5sparse_shape")
    if np.ndim(shape) != 1 or len(shape) != 2 or min(int(n) for n in shape) < 0:
        raise DamagedFileError(f"{path}: X has no usable shape")
    return layout, tuple(int(n) for n in shape)


def _check_sparse(
    arrays: list[h5py.Dataset], shape: tuple[int, ...], layout: str, path: str | Path
) -> None:
    data, indices, indptr = arrays
    for array in (indices, indptr):
        if array.dtype.kind not in "iu":
            raise DamagedFileError(f"{path}: {array.name} is of type {array.dtype}, not integer")
    if any(array.ndim != 1 for array in arrays) or len(data) != len(indices):
        raise DamagedFileError(f"{path}: X/data and X/indices differ in length")
    major = shape[0] if layout == "csr" else shape[1]
    if len(indptr) != major + 1:
        raise DamagedFileError(
            f"{path}: X/indptr has {len(indptr):,} entries, its shape asks for {major + 1:,}"
        )


def _read_names(matrix: MatrixFile, group: str, column: str, length: int) -> NDArray[np.object_]:
    """Read an axis's names: the column of that name where there is one, else the index."""
    with opened(matrix.path, matrix.fingerprint) as (file, source):
        frame = member(file, group)
        if not isinstance(frame, h5py.Group):
            raise DamagedFileError(
                f"{matrix.path}: {group} is in the layout of anndata before 0.7; "
                "write the file anew with a current anndata"
            )
        name = column if column in frame else text(attribute(frame, "_index") or "_index")
        names = strings(frame, name, source)
    if len(names) != length:
        raise DamagedFileError(
            f"{matrix.path}: {group} has {len(names):,} names, X has {length:,}; "
            "fetch the file again"
        )
    return names
