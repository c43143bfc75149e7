"""What other writers of h5ad do, and is fine."""

from __future__ import annotations

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from abc_dask.base.errors import DamagedFileError
from abc_dask.matrix.h5ad import describe, read_gene_identifiers, read_gene_symbols, read_labels
from tests.matrix.damaged import (
    GENES,
    LABELS,
    N_ROWS,
    Change,
    categorical,
    changed,
    nullable,
    plain,
    replaced,
)
from tests.strategies import index_of, plan_of, read_all


def by_categories(file: h5py.File) -> None:
    """Labels as a categorical, its categories in another order."""
    categorical(file, np.arange(N_ROWS)[::-1])
    del file["obs/cell_label/categories"]
    file.create_dataset("obs/cell_label/categories", data=LABELS[::-1], dtype=h5py.string_dtype())


def old_words(file: h5py.File) -> None:
    attrs = file["X"].attrs
    attrs["h5sparse_format"] = attrs.pop("encoding-type").removesuffix("_matrix")
    attrs["h5sparse_shape"] = attrs.pop("shape")


def old_bytes(file: h5py.File) -> None:
    old_words(file)
    file["X"].attrs["h5sparse_format"] = np.bytes_(file["X"].attrs["h5sparse_format"])


def other_index(file: h5py.File) -> None:
    """The index has another name, and no column has the usual one."""
    for group, name in (("obs", "cell_label"), ("var", "gene_identifier")):
        file.move(f"{group}/{name}", f"{group}/_index")
        file[group].attrs["_index"] = "_index"


FINE: dict[str, Change] = {
    "as it is": lambda file: None,
    "categorical": by_categories,
    "nullable": lambda file: nullable(file, np.zeros(N_ROWS, bool)),
    "numbers": replaced("obs/cell_label", data=np.array(LABELS).astype("int64")),
    "fixed length": replaced("obs/cell_label", data=np.array(LABELS, "S19")),
    "other index": other_index,
    "old words": old_words,
    "old bytes": old_bytes,
    "hard link": lambda file: file.__setitem__("obs/also", file["obs/cell_label"]),
    "links elsewhere in uns": lambda file: file.__setitem__("uns/x", h5py.SoftLink("/nowhere")),
}


@pytest.mark.parametrize(
    ("name", "layout"), [*((name, "csr") for name in FINE), ("old words", "csc")]
)
def test_other_encodings_are_read_alike(tmp_path, name, layout):
    expected = read_all(plan_of(plain(tmp_path / "plain.h5ad", layout), tmp_path, GENES, 500))
    path = changed(tmp_path / "matrix.h5ad", FINE[name], layout)
    labels, values = read_all(plan_of(path, tmp_path, GENES, 500))
    assert labels == expected[0] == LABELS
    np.testing.assert_array_equal(values, expected[1])
    assert {type(label) for label in read_labels(describe(path))} == {str}


@pytest.mark.parametrize("encoding", ["string-array", "nullable-string-array"])
def test_string_encodings(tmp_path, encoding):
    matrix = describe(plain(tmp_path / "matrix.h5ad", string_encoding=encoding))
    assert list(read_labels(matrix)) == LABELS
    assert list(read_gene_identifiers(matrix)) == GENES
    assert list(read_gene_symbols(matrix)) == [f"Gene{n}" for n in range(12)]


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_labels_in_chunks(tmp_path, compression):
    """A reference to text is longer in a file than in memory, and than HDF5 2.0 says it is."""

    def chunked(file):
        names = file["obs/cell_label"].asstr()[:]
        del file["obs/cell_label"]
        options = {"chunks": (7,), "compression": compression, "dtype": h5py.string_dtype()}
        file["obs"].create_dataset("cell_label", data=names, **options)

    path = changed(tmp_path / "matrix.h5ad", chunked)
    assert list(read_labels(describe(path))) == LABELS


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_a_packed_chunk_that_is_said_not_to_be(tmp_path, layout):
    """HDF5 would take it as it is, and fill it up with whatever its memory holds."""
    path = plain(tmp_path / "matrix.h5ad", layout, compression="gzip")
    with h5py.File(path, "r+") as file:
        array = file["X"] if layout == "dense" else file["X/data"]
        first = (0,) * array.ndim
        _, packed = array.id.read_direct_chunk(first)
        # of another length, or HDF5 keeps the mask as it was
        array.id.write_direct_chunk(first, packed + b"\0", filter_mask=1)
    with pytest.raises(DamagedFileError, match=r"/X\S* has chunks of a wrong length"):
        describe(path)


def test_what_is_missing_in_a_categorical_or_nullable_is_no_label(tmp_path):
    mask = np.arange(N_ROWS) == 4
    codes = np.where(mask, -1, np.arange(N_ROWS))
    expected = ["" if missing else label for label, missing in zip(LABELS, mask, strict=True)]
    for name, change in (
        ("codes", lambda file: categorical(file, codes)),
        ("mask", lambda file: nullable(file, mask)),
    ):
        path = changed(tmp_path / f"{name}.h5ad", change)
        assert list(read_labels(describe(path))) == expected
        _, rows = index_of(path, tmp_path, LABELS)
        assert (rows.n_asked, int(rows.wanted.sum()), rows.n_extra) == (30, 29, 1)


def test_two_rows_without_a_label_are_not_one_cell_twice(tmp_path):
    codes = np.where(np.arange(N_ROWS) < 2, -1, np.arange(N_ROWS))
    path = changed(tmp_path / "matrix.h5ad", lambda file: categorical(file, codes))
    _, rows = index_of(path, tmp_path, LABELS)
    assert (int(rows.wanted.sum()), rows.n_extra) == (28, 2)


def test_labels_twice_that_nobody_wants_are_no_matter(tmp_path):
    names = [*LABELS[:-2], "failed", "failed"]
    change = replaced("obs/cell_label", data=names, dtype=h5py.string_dtype())
    _, rows = index_of(changed(tmp_path / "matrix.h5ad", change), tmp_path, LABELS)
    assert (rows.n_asked, int(rows.wanted.sum()), rows.n_extra) == (30, 28, 2)


def test_the_column_gene_identifier_goes_before_the_index(tmp_path):
    obs = pd.DataFrame(index=LABELS[:2])
    var = pd.DataFrame(
        {"gene_identifier": ["ENS1", "ENS2"], "gene_symbol": ["A", "B"]}, index=["A", "B"]
    )
    path = tmp_path / "matrix.h5ad"
    x = scipy.sparse.csr_matrix(np.array([[1, 2], [3, 4]], "float32"))
    anndata.AnnData(x, obs=obs, var=var).write_h5ad(path)
    matrix = describe(path)
    assert list(read_gene_identifiers(matrix)) == ["ENS1", "ENS2"]
    assert list(read_gene_symbols(matrix)) == ["A", "B"]
    assert list(read_labels(matrix)) == LABELS[:2]


def test_no_gene_symbols(tmp_path):
    path = plain(tmp_path / "matrix.h5ad", gene_symbols=None)
    assert read_gene_symbols(describe(path)) is None
    index, _ = index_of(path, tmp_path)
    assert set(index.genes["gene_symbol"].to_pylist()) == {""}
