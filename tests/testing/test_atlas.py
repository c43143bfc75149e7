"""The synthetic atlas, read back by those who will read it: pandas, anndata, h5py."""

from __future__ import annotations

import hashlib
import json

import h5py
import numpy as np
import pandas as pd
import pytest

from abc_dask.testing import MATRICES, REFERENCE_GENES, REFERENCE_IDENTIFIERS, Quirks, write_atlas
from tests.testing.atlases import (
    ANNOTATION,
    COLUMNS,
    CTXSP,
    dense,
    digests,
    listed_files,
    log2_of,
    metadata,
    read,
    small,
)


def test_manifest_tells_the_truth(plain):
    content = json.loads(plain.manifest.read_text())
    names = ["version", "synthetic", "resource_uri", "directory_listing", "file_listing"]
    assert list(content) == names
    assert content["synthetic"] is True
    assert content["version"] == plain.release == "20250531"
    files = listed_files(content["file_listing"])
    for extension, entry in files:
        path = plain.download_base / entry["relative_path"]
        data = path.read_bytes()
        assert list(entry) == ["version", "relative_path", "url", "size", "file_hash"]
        assert path.suffix == f".{extension}"
        assert entry["size"] == len(data)
        assert entry["file_hash"] == hashlib.md5(data).hexdigest()
        assert entry["url"].endswith(".amazonaws.com/" + entry["relative_path"])
    on_disk = {p for p in plain.download_base.rglob("*") if p.is_file()} - {plain.manifest}
    assert {plain.download_base / entry["relative_path"] for _, entry in files} == on_disk
    assert len(files) == 2 * 24 + 4


def test_manifest_has_the_real_nesting(plain):
    content = json.loads(plain.manifest.read_text())
    listing = content["file_listing"]
    assert set(listing) == {"WMB-10X", "WMB-10Xv2", "WMB-10Xv3", "WMB-10XMulti"}
    entry = listing["WMB-10Xv3"]["expression_matrices"]["WMB-10Xv3-MB"]["raw"]["files"]["h5ad"]
    path = "expression_matrices/WMB-10Xv3/20250531/WMB-10Xv3-MB-raw.h5ad"
    assert entry["relative_path"] == path
    assert plain.matrices["WMB-10Xv3", "WMB-10Xv3-MB", "raw"] == plain.download_base / path
    assert set(listing["WMB-10X"]["metadata"]) == {
        "cell_metadata",
        "cell_metadata_with_cluster_annotation",
        "gene",
        "region_of_interest_metadata",
    }
    directory = content["directory_listing"]["WMB-10X"]["directories"]["metadata"]
    assert directory["relative_path"] == "metadata/WMB-10X/20250531"
    sizes = [entry["size"] for _, entry in listed_files(listing["WMB-10X"])]
    assert directory["total_size"] == sum(sizes)


def test_metadata_columns_and_order(plain):
    table = metadata(plain)
    assert list(table) == COLUMNS
    annotated = pd.read_csv(plain.annotated)
    assert list(annotated) == COLUMNS + ANNOTATION
    pd.testing.assert_frame_equal(annotated[COLUMNS], table)
    assert len(table) == plain.n_cells == sum(plain.cells.values())
    assert table["cell_label"].is_unique
    assert table["cell_label"].str.fullmatch(r"[ACGT]{16}-\d{3}_[A-H]\d\d").all()
    rebuilt = table["cell_barcode"] + "-" + table["barcoded_cell_sample_label"]
    assert (table["cell_label"] == rebuilt).all()
    assert table["abc_sample_id"].is_unique
    assert table["brain_section_label"].isna().all()
    # interleaved: neighbours are mostly of different matrices
    names = table["feature_matrix_label"].to_numpy()
    assert (names[1:] != names[:-1]).mean() > 0.9


def test_rows_are_the_metadata_in_order_plus_unlisted(plain):
    table = metadata(plain)
    for (dataset, name), group in table.groupby(["dataset_label", "feature_matrix_label"]):
        rows = read(plain, key=(dataset, name)).obs_names
        unlisted = plain.unlisted_rows[name]
        assert len(unlisted) >= 1
        assert len(rows) == plain.rows[name] == len(group) + len(unlisted)
        assert [label for label in rows if label not in unlisted] == list(group["cell_label"])
        assert not set(unlisted) & set(table["cell_label"])
    assert plain.n_rows == sum(plain.rows.values())
    assert plain.missing_cells == plain.duplicate_labels == ()


def test_proportions(plain, tmp_path):
    assert len(MATRICES) == 24
    assert sum(matrix.cells for matrix in MATRICES) == 4_042_976
    for matrix in MATRICES:
        assert plain.cells[matrix.name] == max(4, round(2e-4 * matrix.cells))
    even = write_atlas(tmp_path, scale=1e-4, n_genes=10, matrices=3, even=True)
    assert set(even.cells.values()) == {17}


def test_values_a_cell(plain):
    assert plain.n_values / plain.n_rows == pytest.approx(4_660, rel=0.03)
    name = "WMB-10Xv3-Isocortex-1"
    stored = read(plain, key=("WMB-10Xv3", name)).X.nnz / plain.rows[name]
    assert stored == pytest.approx(6_461, rel=0.12)
    total = sum(h5py.File(p)["X/data"].size for k, p in plain.matrices.items() if k[2] == "log2")
    assert plain.n_values == total


def test_gene_table(plain):
    table = pd.read_csv(plain.metadata / "gene.csv")
    assert list(table) == [
        *("gene_identifier", "gene_symbol", "name", "mapped_ncbi_identifier", "comment")
    ]
    assert len(table) == 32_285
    assert table["gene_identifier"].is_unique
    assert table["gene_identifier"].str.fullmatch(r"ENSMUSG\d{11}").all()
    repeated = table["gene_symbol"][table["gene_symbol"].duplicated()]
    assert len(repeated) == 32
    assert not set(repeated) & set(REFERENCE_GENES)
    by_symbol = table.set_index("gene_symbol")["gene_identifier"]
    assert {gene: by_symbol[gene] for gene in REFERENCE_GENES} == REFERENCE_IDENTIFIERS
    adata = read(plain)
    assert list(adata.var_names) == list(table["gene_identifier"])
    assert list(adata.var["gene_symbol"]) == list(table["gene_symbol"])


def test_regions(plain):
    table = pd.read_csv(plain.metadata / "region_of_interest_metadata.csv")
    assert len(table) == 29
    assert table["color_hex_triplet"].str.fullmatch("#[0-9A-F]{6}").all()
    annotated = pd.read_csv(plain.annotated)
    joined = annotated.merge(table, left_on="region_of_interest_acronym", right_on="acronym")
    assert len(joined) == len(annotated)
    assert (joined["order"] == joined["region_of_interest_order"]).all()
    assert (joined["color_hex_triplet"] == joined["region_of_interest_color"]).all()


def test_log2_follows_from_counts(plain):
    for key in (CTXSP, ("WMB-10Xv3", "WMB-10Xv3-TH")):
        raw, log2 = read(plain, "raw", key), read(plain, "log2", key)
        assert raw.X.dtype == log2.X.dtype == np.float32
        counts = dense(raw)
        assert (counts == np.rint(counts)).all()
        assert counts.max() > 20
        assert (raw.X.indices == log2.X.indices).all()
        np.testing.assert_allclose(dense(log2), log2_of(counts), rtol=2e-7, atol=0)


def test_h5ad_on_disk(plain):
    with h5py.File(plain.matrices[(*CTXSP, "log2")]) as file:
        assert dict(file.attrs) == {"encoding-type": "anndata", "encoding-version": "0.1.0"}
        x = file["X"]
        assert x.attrs["encoding-type"] == "csr_matrix"
        assert tuple(x.attrs["shape"]) == (plain.rows[CTXSP[1]], 32_285)
        assert (x["data"].dtype, x["indices"].dtype, x["indptr"].dtype) == ("f4", "i4", "i4")
        assert x["data"].chunks == x["indices"].chunks == (20_000,)
        assert x["data"].compression is None
        indptr, indices = x["indptr"][:], x["indices"][:]
        assert indptr[-1] == x["data"].size
        assert (x["data"][:] > 0).all()
        rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        keys = rows * 32_285 + indices
        assert (np.diff(keys) > 0).all()  # sorted, and no column twice in a row
        assert file["uns/normalization"].asstr()[()] == "log2"
        assert set(file["uns"]) == {"normalization", "parent", "parent_layer", "parent_rows"}
    obs = read(plain).obs
    assert list(obs) == ["cell_barcode", "library_label", "anatomical_division_label"]
    table = metadata(plain).set_index("cell_label")
    common = obs.index.intersection(table.index)
    assert (obs.loc[common, "cell_barcode"] == table.loc[common, "cell_barcode"]).all()
    same = obs.loc[common, "library_label"].astype(str) == table.loc[common, "library_label"]
    assert same.all()


def test_same_arguments_same_bytes(tmp_path):
    options = {"n_genes": 60, "matrices": 3, "scale": 3e-4}
    first = digests(small(tmp_path / "a", seed=5, **options))
    assert digests(small(tmp_path / "b", seed=5, workers=2, **options)) == first
    other = digests(small(tmp_path / "c", seed=6, **options))
    differ = {path for path in first if first[path] != other[path]}
    same = {path.rsplit("/", 1)[1] for path in first.keys() - differ}
    assert same == {"gene.csv", "region_of_interest_metadata.csv"}


def test_a_matrix_does_not_depend_on_the_others(tmp_path):
    alone, together = small(tmp_path / "a"), small(tmp_path / "b", matrices=3)
    log2_only = small(tmp_path / "c", normalizations=["log2"])
    path = alone.matrices[(*CTXSP, "log2")].relative_to(alone.download_base).as_posix()
    assert digests(alone)[path] == digests(together)[path] == digests(log2_only)[path]


def test_matrices_differ_and_cells_differ(tmp_path):
    atlas = small(tmp_path, matrices=["WMB-10Xv2-Isocortex-2", "WMB-10Xv2-Isocortex-3"])
    first, second = (
        dense(read(atlas, "raw", ("WMB-10Xv2", f"WMB-10Xv2-Isocortex-{n}"))) for n in (2, 3)
    )
    assert len(np.unique(first, axis=0)) == len(first)
    rows = min(len(first), len(second))
    assert (first[:rows] != second[:rows]).any(axis=1).all()


def test_progress(tmp_path):
    calls = []
    atlas = small(tmp_path, scale=3e-3, progress=lambda *call: calls.append(call))
    n_rows = atlas.rows[CTXSP[1]]
    assert calls[-1] == (CTXSP[1], n_rows, n_rows)
    assert len(calls) > 1
    assert [call[1] for call in calls] == sorted({call[1] for call in calls})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_genes": 9}, "n_genes=9: the ten reference genes"),
        ({"scale": 0}, "scale=0: expected a positive share"),
        ({"matrices": 25}, "matrices=25: expected 1 to 24"),
        ({"matrices": ["WMB-10Xv4"]}, "no feature matrix is called .'WMB-10Xv4'."),
        ({"normalizations": ["log10"]}, "expected some of"),
        ({"quirks": Quirks(empty_matrices=["WMB"])}, "no feature matrix is called .'WMB'."),
        ({"quirks": Quirks(missing_genes={CTXSP[1]: ["Nope"]})}, "'Nope'. are neither symbols"),
        ({"quirks": Quirks(missing_cells=10**6)}, "missing_cells=1000000: the atlas has fewer"),
    ],
)
def test_wrong_arguments(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        write_atlas(tmp_path, **({"scale": 1e-5, "n_genes": 50, "matrices": 2} | options))
