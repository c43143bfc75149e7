"""The layout of one matrix file, and how to get the arrays of a row range.

An h5ad file is an HDF5 file with ``X`` (a group of data, indices and indptr for CSR or
CSC, or a dense dataset), ``obs`` and ``var`` (groups with an index and columns); see the
on-disk format page of the anndata documentation. Files are untrusted: HDF5 can point
into other files, declare what is not stored, and hold indices that lie.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from abc_dask.base.columns import GENE_IDENTIFIER, GENE_SYMBOL
from abc_dask.base.errors import DamagedFileError, UsageError
from abc_dask.base.messages import enumerate_names
from abc_dask.disk.files import Fingerprint
from abc_dask.matrix.chunk_index import ChunkIndex
from abc_dask.matrix.codecs import Filter
from abc_dask.matrix.frame import Frame
from abc_dask.matrix.hdf5 import (
    attribute,
    check_dataset,
    chunk_bytes,
    filter_names,
    member,
    opened,
    require_sound_start,
    text,
)

# Where anndata before 0.7 had raw/X.
_OLD_RAW = "raw.X"

# What columns of var that name genes are called, by the atlas first, then by others.
_IDENTIFIERS = (GENE_IDENTIFIER, "gene_ids", "ensembl_id", "ensembl_ids", "gene_id")

_SYMBOLS = (GENE_SYMBOL, "feature_name", "gene_name", "gene_symbols", "gene_names")


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
        Path of the kept table of their chunks (`abc_dask.matrix.index`), or "".
    layer : str
        Path of the matrix within the file: ``X``, ``raw/X`` or ``layers/NAME``.
    prefix : str
        What stands before the cell labels of the file, so that no other file has them.
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
    layer: str = "X"
    prefix: str = ""

    @property
    def state(self) -> list[str | int]:
        """What tells the rows of this matrix from those of others; JSON-serialisable."""
        named = [] if (self.layer, self.prefix) == ("X", "") else [self.layer, self.prefix]
        return [self.path, *astuple(self.fingerprint), *named]

    @property
    def var(self) -> str:
        """Where the genes of the matrix are described."""
        return {"raw/X": "raw/var", _OLD_RAW: "raw.var"}.get(self.layer, "var")

    @property
    def value_bytes(self) -> int:
        """Bytes of one stored value with its index, decoded."""
        index = np.dtype(self.index_dtype).itemsize if self.index_dtype else 0
        return np.dtype(self.dtype).itemsize + index


def describe(path: str | Path) -> MatrixFile:
    """Return a matrix file's structure; as `look_at`."""
    return look_at(path)[0]


def look_at(path: str | Path, layer: str = "X") -> tuple[MatrixFile, dict[str, ChunkIndex]]:
    """Look at a matrix file's structure, without reading its values.

    Parameters
    ----------
    path : path
        The h5ad file.
    layer : str
        ``X``, ``raw/X`` or ``layers/NAME``.

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
    UsageError
        If it has no such layer.
    """
    fingerprint = Fingerprint.of(path)
    with opened(path, fingerprint) as (file, source):
        require_sound_start(source)
        x = walked(file, layer)
        if isinstance(x, h5py.Dataset):
            layout, shape, arrays = "dense", x.shape, [x]
            if x.ndim != 2:
                raise DamagedFileError(f"{path}: {layer} has {x.ndim} dimensions, expected 2")
        else:
            layout, shape = _sparse_layout(x, path)
            arrays = [member(x, name) for name in ("data", "indices", "indptr")]
        looked = {
            array.name: check_dataset(array, source, whole=array.name.endswith("/indptr"))
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
            layer=x.name[1:],
        )
    return matrix, {name: index for name, index in looked.items() if index is not None}


def walked(file: h5py.File, layer: str) -> Any:
    """Return a matrix of a file by the name of its layer.

    Raises
    ------
    UsageError
        If the file has none of this name; names those that it has.
    """
    first, *rest = layer.split("/")
    if layer != "X" and (len(rest) != 1 or first not in {"raw", "layers"}):
        raise UsageError(f"layer {layer!r} is not X, raw/X or layers/NAME")
    group = file
    if layer == "raw/X" and _OLD_RAW in file:
        return member(file, _OLD_RAW)
    for name in (first, *rest):
        if not isinstance(group, h5py.Group) or name not in group:
            if known := layers_of(file):
                raise UsageError(
                    f"{file.filename} has no {layer}; name one with --layer: "
                    f"{enumerate_names(known)}"
                )
            break
        group = member(group, name)
    else:
        return group
    return member(file, "X")  # raises


def layers_of(file: h5py.File) -> list[str]:
    """Return the names of the matrices that a file has."""
    found = [name for name in ("X", "raw/X") if name in file or name.replace("/", ".") in file]
    layers = file.get("layers")
    named = list(layers) if isinstance(layers, h5py.Group) else []
    return [*found, *(f"layers/{name}" for name in named)]


def layers_in(matrix: MatrixFile) -> list[str]:
    """Return the names of all matrices in the file of one."""
    with opened(matrix.path, matrix.fingerprint) as (file, _):
        return layers_of(file)


def read_labels(matrix: MatrixFile) -> NDArray[np.object_]:
    """Read the cell label of every row, shape (n_rows,), as str."""
    labels = _read_names(matrix, "obs", "cell_label", matrix.n_rows)
    if not matrix.prefix:
        return labels
    return np.array([matrix.prefix + label for label in labels], object)


def read_gene_identifiers(matrix: MatrixFile) -> NDArray[np.object_]:
    """Read the gene identifier of every column, shape (n_columns,), as str."""
    with opened(matrix.path, matrix.fingerprint) as (file, source):
        var = Frame.of(_var(file, matrix), source)
        name = next((name for name in _IDENTIFIERS if name in var.columns), None)
        names = var.index() if name is None else var.text(name)
        if name not in {None, GENE_IDENTIFIER} and len(set(names) - {""}) < len(names):
            names = var.index()  # such as Ensembl identifiers that some genes lack
    return _checked(matrix, matrix.var, names, matrix.n_columns)


def read_gene_symbols(matrix: MatrixFile) -> NDArray[np.object_] | None:
    """Read the gene symbol of every column, shape (n_columns,); None where there is none."""
    with opened(matrix.path, matrix.fingerprint) as (file, source):
        var = Frame.of(_var(file, matrix), source)
        name = next((name for name in _SYMBOLS if name in var.columns), None)
        if name is not None:
            return _checked(matrix, name, var.text(name), matrix.n_columns)
        if any(name in var.columns for name in _IDENTIFIERS[1:]):
            return _checked(matrix, matrix.var, var.index(), matrix.n_columns)
    return None


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
        indptr: NDArray[np.int64] = file[f"{matrix.layer}/indptr"][:].astype(np.int64)
    if indptr[0] != 0 or indptr[-1] != matrix.n_values or (np.diff(indptr) < 0).any():
        raise DamagedFileError(
            f"{matrix.path}: {matrix.layer}/indptr does not rise from 0 to {matrix.n_values:,}; "
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


def _var(file: h5py.File, matrix: MatrixFile) -> Any:
    group = member(file, "raw") if matrix.var == "raw/var" else file
    return member(group, matrix.var.removeprefix("raw/"))


def _read_names(matrix: MatrixFile, group: str, column: str, length: int) -> NDArray[np.object_]:
    """Read an axis's names: the column of that name where there is one, else the index."""
    with opened(matrix.path, matrix.fingerprint) as (file, source):
        frame = Frame.of(member(file, group), source)
        names = frame.text(column) if column in frame.columns else frame.index()
    return _checked(matrix, group, names, length)


def _checked(
    matrix: MatrixFile, group: str, names: NDArray[np.object_], length: int
) -> NDArray[np.object_]:
    if len(names) != length:
        raise DamagedFileError(
            f"{matrix.path}: {group} has {len(names):,} names, {matrix.layer} has {length:,}; "
            "fetch the file again"
        )
    return names
