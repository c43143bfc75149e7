"""The synthetic atlas, read back by anndata, pandas and h5py."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from abc_dask.testing import (
    MATRICES,
    REFERENCE_GENES,
    REFERENCE_IDENTIFIERS,
    Categories,
    Quirks,
    SyntheticAtlas,
    write_atlas,
    write_h5ad,
)

CTXSP = ("WMB-10Xv2", "WMB-10Xv2-CTXsp")
COLUMNS = [
    *("cell_label", "cell_barcode", "barcoded_cell_sample_label", "library_label"),
    *("feature_matrix_label", "entity", "brain_section_label", "library_method"),
    *("region_of_interest_acronym", "donor_label", "donor_genotype", "donor_sex"),
    *("dataset_label", "x", "y", "cluster_alias", "abc_sample_id"),
]
ANNOTATION = [
    *("neurotransmitter", "class", "subclass", "supertype", "cluster", "neurotransmitter_color"),
    *("class_color", "subclass_color", "supertype_color", "cluster_color"),
    *("region_of_interest_order", "region_of_interest_color"),
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> SyntheticAtlas:
    """All 24 matrices, real gene count, no quirk."""
    return write_atlas(tmp_path_factory.mktemp("plain"), scale=2e-4)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> SyntheticAtlas:
    """Many cells, few genes: what the demo draws."""
    return write_atlas(
        tmp_path_factory.mktemp("shown"), scale=5e-3, n_genes=400, normalizations=("log2",)
    )


def small(folder: Path, quirks: Quirks | None = None, **options) -> SyntheticAtlas:
    options = {"scale": 5e-4, "n_genes": 200, "matrices": [CTXSP[1]]} | options
    return write_atlas(folder, quirks=quirks, **options)


def read(atlas: SyntheticAtlas, normalization: str = "log2", key=CTXSP) -> anndata.AnnData:
    return anndata.read_h5ad(atlas.matrices[(*key, normalization)])


def dense(adata: anndata.AnnData) -> np.ndarray:
    return adata.X.toarray() if scipy.sparse.issparse(adata.X) else np.asarray(adata.X)


def metadata(atlas: SyntheticAtlas) -> pd.DataFrame:
    return pd.read_csv(atlas.cell_metadata, dtype={"cell_label": str})


def digests(atlas: SyntheticAtlas) -> dict[str, str]:
    paths = sorted(p for p in atlas.download_base.rglob("*") if p.is_file())
    return {
        str(p.relative_to(atlas.download_base)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in paths
    }


def log2_of(raw: np.ndarray) -> np.ndarray:
    counts = raw.astype(np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    return np.log2(counts / np.where(totals > 0, totals, 1) * 1e6 + 1)


# --- the release -----------------------------------------------------------------------------


def listed_files(node: dict) -> list[tuple[str, dict]]:
    found = []
    for key, value in node.items():
        if key == "files":
            found += value.items()
        else:
            found += listed_files(value)
    return found


def test_manifest_tells_the_truth(plain):
    content = json.loads(plain.manifest.read_text())
    assert list(content) == ["version", "resource_uri", "directory_listing", "file_listing"]
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


# --- what the cells show ---------------------------------------------------------------------


def test_taxonomy_is_a_tree(shown):
    table = pd.read_csv(shown.annotated)
    for child, parent in (
        ("cluster", "supertype"),
        ("supertype", "subclass"),
        ("subclass", "class"),
    ):
        assert (table.groupby(child)[parent].nunique() == 1).all()
    assert table["class"].nunique() >= 32
    assert table["subclass"].nunique() > 150
    for name in ("class", "subclass", "region_of_interest_acronym"):
        colour = name.replace("_acronym", "") + "_color"
        assert (table.groupby(name)[colour].nunique() == 1).all()


def test_neurotransmitter_is_missing_where_not_neuronal(shown):
    table = pd.read_csv(shown.annotated)
    missing = table["neurotransmitter"].isna()
    assert missing.mean() == pytest.approx(0.27, abs=0.02)
    assert (missing == table["class"].str[:2].astype(int).ge(30)).all()
    assert set(table["neurotransmitter"].dropna()) == {
        *("Glut", "GABA", "Glut-GABA", "Dopa", "Sero", "Nora", "Hist", "Chol", "GABA-Glyc")
    }
    assert table["neurotransmitter_color"].notna().all()


def test_clusters_lie_together(shown):
    table = pd.read_csv(shown.annotated)
    within = table.groupby("class")[["x", "y"]].transform("std").mean().mean()
    assert within < table[["x", "y"]].std().mean() / 3


def test_reference_genes_mark_their_transmitters(shown):
    values = []
    for path in shown.matrices.values():
        adata = anndata.read_h5ad(path)
        adata.var_names = adata.var["gene_symbol"].to_numpy()
        places = [list(adata.var_names).index(gene) for gene in REFERENCE_GENES]
        values.append(
            pd.DataFrame(adata.X[:, places].toarray(), adata.obs_names, list(REFERENCE_GENES))
        )
    table = pd.read_csv(shown.annotated).set_index("cell_label")
    joined = table.join(pd.concat(values))
    genes = list(REFERENCE_GENES)
    means = joined.fillna({"neurotransmitter": "none"}).groupby("neurotransmitter")[genes].mean()
    for transmitter, gene in {
        "Glut": "Slc17a7",
        "GABA": "Slc32a1",
        "GABA-Glyc": "Slc6a5",
        "Dopa": "Slc6a3",
        "Sero": "Slc6a4",
        "Nora": "Slc6a2",
        "Chol": "Slc18a3",
    }.items():
        assert means.loc[transmitter, gene] > 3
        assert means.loc["none", gene] < 0.6
    assert means["Slc6a5"].idxmax() == "GABA-Glyc"
    assert means["Slc6a3"].idxmax() == "Dopa"
    by_class = joined.groupby("class")[genes].mean()
    assert by_class.loc["01 IT-ET Glut", "Slc17a7"] > 5 > by_class.loc["19 MB Glut", "Slc17a7"]
    assert by_class.loc["19 MB Glut", "Slc17a6"] > 5 > by_class.loc["01 IT-ET Glut", "Slc17a6"]
    by_subclass = joined.groupby("subclass")["Tac2"].mean()
    assert (by_subclass > 3).sum() in range(3, 15)
    assert by_subclass.median() < 0.5


# --- determinism -----------------------------------------------------------------------------


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


# anndata's reading of a table without columns trips over its own deprecation in pandas 3
no_columns = pytest.mark.filterwarnings("ignore:.*infer_string")


# --- quirks ----------------------------------------------------------------------------------


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


# --- wrong arguments -------------------------------------------------------------------------


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


# --- write_h5ad ------------------------------------------------------------------------------


@pytest.fixture
def matrix() -> scipy.sparse.csr_matrix:
    return scipy.sparse.random_array((7, 5), density=0.4, format="csr", rng=3, dtype=np.float32)


LABELS = [f"cell {n}" for n in range(7)]
GENES = [f"gene {n}" for n in range(5)]


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
@pytest.mark.parametrize("chunk_values", [1, 3, 20_000])
def test_write_h5ad(tmp_path, matrix, layout, chunk_values):
    path = tmp_path / "small.h5ad"
    stored = matrix.asformat(layout) if layout != "dense" else matrix.toarray()
    x = stored if layout == "dense" else (stored.indptr, stored.indices, stored.data)
    write_h5ad(
        path,
        x,
        LABELS,
        GENES,
        list("abcde"),
        layout=layout,
        chunk_values=chunk_values,
        obs={"kind": Categories(np.arange(7) % 2, ["even", "odd"]), "note": list("tuvwxyz")},
        uns={"normalization": "none", "rows": np.arange(3)},
    )
    adata = anndata.read_h5ad(path)
    np.testing.assert_array_equal(dense(adata), matrix.toarray())
    assert list(adata.obs_names) == LABELS
    assert list(adata.var_names) == GENES
    assert list(adata.var["gene_symbol"]) == list("abcde")
    assert list(adata.obs["kind"]) == ["even", "odd"] * 3 + ["even"]
    assert list(adata.obs["note"]) == list("tuvwxyz")
    assert adata.uns["normalization"] == "none"
    assert list(adata.uns["rows"]) == [0, 1, 2]
    assert adata.X.dtype == np.float32


def test_write_h5ad_refuses_what_does_not_fit(tmp_path, matrix):
    x = (matrix.indptr, matrix.indices, matrix.data)
    with pytest.raises(
        ValueError, match=r"indptr has 8 entries, csr of the shape \(6, 5\) needs 7"
    ):
        write_h5ad(tmp_path / "a.h5ad", x, LABELS[:6], GENES)
    with pytest.raises(ValueError, match=r"X has the shape \(7, 5\), the labels make it \(7, 4\)"):
        write_h5ad(tmp_path / "a.h5ad", matrix.toarray(), LABELS, GENES[:4], layout="dense")
