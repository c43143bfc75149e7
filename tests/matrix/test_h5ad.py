"""The structure of an h5ad file, and a file that changes while it is in use."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from abc_dask.base.errors import DamagedFileError, MissingFileError
from abc_dask.matrix.h5ad import (
    describe,
    read_gene_identifiers,
    read_gene_symbols,
    read_labels,
    read_row_sizes,
)
from abc_dask.matrix.h5py_reader import open_matrix
from tests.matrix.damaged import N_COLUMNS, N_ROWS, plain


@pytest.mark.parametrize(
    "read", [read_labels, read_gene_identifiers, read_gene_symbols, read_row_sizes]
)
def test_a_file_replaced_after_describe(tmp_path, read):
    matrix = describe(plain(tmp_path / "matrix.h5ad"))
    assert len(read(matrix)) in {N_ROWS, N_COLUMNS}
    plain(tmp_path / "new.h5ad", index_dtype="int64").replace(tmp_path / "matrix.h5ad")
    message = (
        r"matrix\.h5ad changed while it was in use \(size [\d,]+ then, [\d,]+ now\); "
        "run the command again when it is at rest"
    )
    with pytest.raises(DamagedFileError, match=message):
        read(matrix)
    with pytest.raises(DamagedFileError, match=message), open_matrix(matrix):
        raise AssertionError("it was opened")
    (tmp_path / "matrix.h5ad").unlink()
    with pytest.raises(MissingFileError, match=r"matrix\.h5ad is missing"):
        read(matrix)


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_describe(tmp_path, layout):
    path = plain(tmp_path / "matrix.h5ad", layout, compression="gzip", shuffle=True)
    matrix = describe(path)
    with h5py.File(path) as file:
        data = file["X"] if layout == "dense" else file["X/data"]
        assert matrix.n_values == data.size
        assert matrix.chunk_bytes == np.prod(data.chunks) * 4
    assert (matrix.path, matrix.layout) == (str(path), layout)
    assert (matrix.n_rows, matrix.n_columns) == (N_ROWS, N_COLUMNS)
    assert matrix.fingerprint.size == path.stat().st_size
    assert matrix.dtype == "<f4"
    assert matrix.index_dtype == ("" if layout == "dense" else "<i4")
    assert matrix.value_bytes == (4 if layout == "dense" else 8)
    assert [name.lower() for name in matrix.filters] == ["shuffle", "deflate"]


def test_row_sizes(tmp_path):
    path = plain(tmp_path / "csr.h5ad")
    with h5py.File(path) as file:
        expected = np.diff(file["X/indptr"][:])
    np.testing.assert_array_equal(read_row_sizes(describe(path)), expected)
    assert not read_row_sizes(describe(plain(tmp_path / "csc.h5ad", "csc"))).any()
    dense = read_row_sizes(describe(plain(tmp_path / "dense.h5ad", "dense")))
    assert dense.tolist() == [N_COLUMNS] * N_ROWS
