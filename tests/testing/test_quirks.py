"""What other releases and other writers do, on request."""

from __future__ import annotations

import csv
import json

import h5py
import numpy as np
import pandas as pd
import pytest

from abc_dask.testing import REFERENCE_GENES, REFERENCE_IDENTIFIERS, Quirks
from tests.testing.atlases import (
    ANNOTATION,
    COLUMNS,
    CTXSP,
    dense,
    digests,
    listed_files,
    log2_of,
    metadata,
    no_columns,
    read,
    small,
)


def test_default_is_no_quirk(tmp_path):
    assert digests(small(tmp_path / "a")) == digests(small(tmp_path / "b", Quirks()))


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
def test_layout_and_compression(tmp_path, layout, compression):
    reference = small(tmp_path / "a")
    quirks = Quirks(layout=layout, shuffle=compression is not None)
    atlas = small(tmp_path / "b", quirks, compression=compression, chunk_values=300)
    for kind in ("log2", "raw"):
        adata = read(atlas, kind)
        expected = read(reference, kind)
        np.testing.assert_array_equal(dense(adata), dense(expected))
        pd.testing.assert_frame_equal(adata.obs, expected.obs)
        with h5py.File(atlas.matrices[(*CTXSP, kind)]) as file:
            encoding = file["X"].attrs["encoding-type"]
            data = file["X"] if layout == "dense" else file["X/data"]
            assert encoding == ("array" if layout == "dense" else f"{layout}_matrix")
            assert data.compression == compression
            assert data.shuffle == (compression is not None)
            assert np.prod(data.chunks) <= 300
            assert data.id.get_num_chunks() > 1
    assert reference.n_values == atlas.n_values


@pytest.mark.parametrize("dtype", ["float64", "int32", "int64", "uint16"])
def test_raw_dtypes(tmp_path, dtype):
    atlas = small(tmp_path / "a", Quirks(raw_dtype=dtype, log2_dtype="float64"))
    plain_counts = dense(read(small(tmp_path / "b"), "raw"))
    raw, log2 = read(atlas, "raw"), read(atlas)
    assert raw.X.dtype == dtype
    assert log2.X.dtype == np.float64
    np.testing.assert_array_equal(dense(raw), plain_counts)
    np.testing.assert_allclose(dense(log2), log2_of(plain_counts), rtol=1e-14)


def test_one_matrix_in_float64(tmp_path):
    atlas = small(tmp_path, Quirks(float64_matrices=[CTXSP[1]]), matrices=2)
    types = {key[1:]: h5py.File(path)["X/data"].dtype for key, path in atlas.matrices.items()}
    assert types[CTXSP[1], "log2"] == np.float64
    assert types[CTXSP[1], "raw"] == types["WMB-10XMulti", "log2"] == np.float32


def test_index_types(tmp_path):
    atlas = small(tmp_path, Quirks(index_dtype="int64", indptr_dtype="int64"))
    with h5py.File(atlas.matrices[(*CTXSP, "raw")]) as file:
        assert file["X/indices"].dtype == file["X/indptr"].dtype == np.int64
    assert read(atlas).X.shape == (atlas.n_rows, 200)


def test_unsorted_indices(tmp_path):
    atlas = small(tmp_path / "a", Quirks(unsorted_indices=True))
    assert not read(atlas).X.has_sorted_indices
    for kind in ("log2", "raw"):
        expected = dense(read(small(tmp_path / "b"), kind))
        np.testing.assert_array_equal(dense(read(atlas, kind)), expected)


def test_duplicate_entries(tmp_path):
    reference = small(tmp_path / "b")
    atlas = small(tmp_path / "a", Quirks(duplicate_entries=True))
    x = read(atlas).X
    assert not x.has_canonical_format
    assert x.nnz == atlas.n_values == reference.n_values + len(range(0, atlas.n_rows, 3))
    for kind in ("log2", "raw"):
        np.testing.assert_array_equal(dense(read(atlas, kind)), dense(read(reference, kind)))
    as_dense = small(tmp_path / "c", Quirks(duplicate_entries=True, layout="dense"))
    np.testing.assert_array_equal(dense(read(as_dense)), dense(read(reference)))


def test_explicit_zeros(tmp_path):
    atlas = small(tmp_path, Quirks(explicit_zeros=0.2))
    raw, log2 = read(atlas, "raw"), read(atlas)
    assert (raw.X.data == 0).mean() == pytest.approx(0.2, abs=0.05)
    assert ((raw.X.data == 0) == (log2.X.data == 0)).all()
    np.testing.assert_allclose(dense(log2), log2_of(dense(raw)), rtol=2e-7)


def test_not_a_number_and_infinite(tmp_path):
    atlas = small(tmp_path, Quirks(nan_values=3, inf_values=2))
    values = dense(read(atlas))
    assert np.isnan(values).sum(axis=1)[:3].tolist() == [1, 1, 1]
    assert np.isinf(values).sum(axis=1)[-2:].tolist() == [1, 1]
    assert (np.isnan(values).sum(), np.isinf(values).sum()) == (3, 2)
    assert np.isfinite(dense(read(atlas, "raw"))).all()


def test_shuffled_genes(tmp_path):
    atlas = small(tmp_path, Quirks(shuffled_genes=True), matrices=2)
    orders = [
        list(read(atlas, key=key).var_names) for key in (("WMB-10XMulti", "WMB-10XMulti"), CTXSP)
    ]
    table = pd.read_csv(atlas.metadata / "gene.csv")
    listed = list(table["gene_identifier"])
    assert orders[0] != listed != orders[1] != orders[0]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(listed)
    var = read(atlas).var["gene_symbol"]
    assert (table.set_index("gene_identifier")["gene_symbol"].loc[var.index] == var).all()


def test_missing_genes(tmp_path):
    lost = ["Tac2", REFERENCE_IDENTIFIERS["Slc6a2"]]
    atlas = small(tmp_path, Quirks(missing_genes={CTXSP[1]: lost}), matrices=2)
    symbols = set(read(atlas).var["gene_symbol"])
    assert set(REFERENCE_GENES) - symbols == {"Tac2", "Slc6a2"}
    assert read(atlas).n_vars == 198
    other = read(atlas, key=("WMB-10XMulti", "WMB-10XMulti"))
    assert set(REFERENCE_GENES) <= set(other.var["gene_symbol"])
    np.testing.assert_allclose(dense(read(atlas)), log2_of(dense(read(atlas, "raw"))), rtol=2e-7)


def test_missing_cells(tmp_path):
    atlas = small(tmp_path, Quirks(missing_cells=5), matrices=2)
    table = metadata(atlas)
    assert len(set(atlas.missing_cells)) == 5
    assert set(atlas.missing_cells) <= set(table["cell_label"])
    rows = set(read(atlas).obs_names) | set(read(atlas, key=("WMB-10XMulti",) * 2).obs_names)
    assert set(table["cell_label"]) - rows == set(atlas.missing_cells)


def test_unlisted_share(tmp_path):
    atlas = small(tmp_path / "a", Quirks(unlisted_share=0.5))
    assert len(atlas.unlisted_rows[CTXSP[1]]) == 11 == atlas.n_rows - atlas.n_cells
    none = small(tmp_path / "b", Quirks(unlisted_share=0))
    assert none.n_rows == none.n_cells
    assert list(read(none).obs_names) == list(metadata(none)["cell_label"])


def test_shuffled_rows(tmp_path):
    atlas = small(tmp_path, Quirks(shuffled_rows=True, unlisted_share=0))
    rows, listed = list(read(atlas).obs_names), list(metadata(atlas)["cell_label"])
    assert rows != listed
    assert sorted(rows) == sorted(listed)


def test_no_dataset_label(tmp_path):
    atlas = small(tmp_path, Quirks(no_dataset_label=True))
    columns = [name for name in COLUMNS if name != "dataset_label"]
    assert list(metadata(atlas)) == columns
    assert list(pd.read_csv(atlas.annotated)) == columns + ANNOTATION


def test_integer_labels(tmp_path):
    atlas = small(tmp_path, Quirks(integer_labels=True), matrices=2)
    labels = metadata(atlas)["cell_label"]
    assert labels.is_unique
    assert labels.str.fullmatch(r"\d{19}").all()
    assert labels.astype(float).nunique() < len(labels)  # a float loses them
    assert set(read(atlas).obs_names) <= set(labels) | set(atlas.unlisted_rows[CTXSP[1]])


def test_neurotransmitter_missing_as_text(tmp_path):
    atlas = small(tmp_path, Quirks(neurotransmitter_missing="NA"))
    with atlas.annotated.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert (row["neurotransmitter"] == "NA") == (int(row["class"][:2]) >= 30)
    assert any(row["neurotransmitter"] == "NA" for row in rows)


def test_duplicate_labels(tmp_path):
    quirks = Quirks(duplicate_metadata_label=True)
    atlas = small(tmp_path / "a", quirks)
    labels = metadata(atlas)["cell_label"]
    assert list(labels[labels.duplicated()]) == list(atlas.duplicate_labels) == [labels[0]]
    assert len(labels) == atlas.n_cells == atlas.cells[CTXSP[1]] + 1

    atlas = small(tmp_path / "b", Quirks(duplicate_matrix_label=True))
    with h5py.File(atlas.matrices[(*CTXSP, "log2")]) as file:
        rows = file["obs/cell_label"].asstr()[:]
        indptr = file["X/indptr"][:]
        indices = file["X/indices"][:]
    assert rows[-1] == rows[0] == atlas.duplicate_labels[0]
    assert len(rows) == len(set(rows)) + 1 == atlas.n_rows
    assert set(indices[: indptr[1]]) != set(indices[indptr[-2] :])


def test_zero_rows(tmp_path):
    atlas = small(tmp_path, Quirks(zero_row_matrices=[CTXSP[1]]), matrices=2)
    adata = read(atlas)
    assert adata.shape == (0, 200)
    assert atlas.rows[CTXSP[1]] == 0
    table = metadata(atlas)
    lost = table["cell_label"][table["feature_matrix_label"] == CTXSP[1]]
    assert sorted(lost) == sorted(atlas.missing_cells)
    assert len(lost) == atlas.cells[CTXSP[1]] > 0


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_no_stored_values(tmp_path, layout):
    atlas = small(tmp_path, Quirks(empty_matrices=[CTXSP[1]], layout=layout))
    adata = read(atlas)
    assert adata.shape == (atlas.n_rows, 200)
    assert atlas.n_rows > 0
    assert not dense(adata).any()
    assert atlas.n_values == 0


@no_columns
def test_no_gene_symbol(tmp_path):
    assert list(read(small(tmp_path, Quirks(no_gene_symbol=True))).var) == []


@pytest.mark.parametrize("encoding", ["string-array", "nullable-string-array"])
def test_string_encoding(tmp_path, encoding):
    reference = small(tmp_path / "a")
    atlas = small(tmp_path / "b", Quirks(string_encoding=encoding))
    with h5py.File(atlas.matrices[(*CTXSP, "log2")]) as file:
        assert file["obs/cell_label"].attrs["encoding-type"] == encoding
        assert file["var/gene_identifier"].attrs["encoding-type"] == encoding
    assert list(read(atlas).obs_names) == list(read(reference).obs_names)
    assert list(read(atlas).var_names) == list(read(reference).var_names)


def test_missing_files(tmp_path):
    atlas = small(tmp_path, Quirks(missing_files=[CTXSP[1]]), matrices=2)
    assert not atlas.matrices[(*CTXSP, "log2")].exists()
    assert not atlas.matrices[(*CTXSP, "raw")].exists()
    assert atlas.matrices["WMB-10XMulti", "WMB-10XMulti", "log2"].exists()
    listing = json.loads(atlas.manifest.read_text())["file_listing"]["WMB-10Xv2"]
    entry = listing["expression_matrices"][CTXSP[1]]["log2"]["files"]["h5ad"]
    assert entry["size"] > 0
    assert len(entry["file_hash"]) == 32


def test_no_hashes(tmp_path):
    atlas = small(tmp_path, Quirks(no_hashes=True))
    files = listed_files(json.loads(atlas.manifest.read_text())["file_listing"])
    assert len(files) == 6
    assert all("file_hash" not in entry and entry["size"] > 0 for _, entry in files)


@no_columns
def test_many_quirks_at_once(tmp_path):
    quirks = Quirks(
        layout="csc",
        raw_dtype="uint16",
        index_dtype="int64",
        unsorted_indices=True,
        duplicate_entries=True,
        explicit_zeros=0.1,
        shuffled_genes=True,
        shuffled_rows=True,
        missing_genes={CTXSP[1]: ["Tac2"]},
        missing_cells=3,
        integer_labels=True,
        string_encoding="nullable-string-array",
        no_gene_symbol=True,
    )
    atlas = small(tmp_path, quirks, compression="gzip")
    raw, log2 = read(atlas, "raw"), read(atlas)
    assert raw.shape == (atlas.n_rows, 199)
    np.testing.assert_allclose(dense(log2), log2_of(dense(raw)), rtol=2e-7)
    listed = set(metadata(atlas)["cell_label"]) - set(atlas.missing_cells)
    assert listed <= set(raw.obs_names)
