"""Real measurements: equal to anndata's reading, and to published means and fractions."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

from abc_dask import Atlas, Manifest

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:anndata")
MANIFESTS = ["20231215-with-hashes", "20231215-without-hashes", "20250531"]
SST = ["053 Sst Gaba", "056 Sst Chodl Gaba"]


@pytest.mark.parametrize("metadata", ["WMB-10X", "MERFISH-C57BL6J-638850"])
@pytest.mark.parametrize("format", ["parquet", "zarr", "csv"])
def test_extract_equals_anndata(real_extract, tmp_path, metadata, format):
    atlas = Atlas(real_extract, metadata=metadata)
    file = atlas.feature_matrices["file"].iloc[0]
    matrix = anndata.read_h5ad(real_extract / file)
    genes = list(matrix.var["gene_symbol"])[::-1]
    view = atlas.extract(genes, tmp_path / "view", format=format, block_size="1 MB")
    reverse = matrix.var_names[::-1]
    expected = matrix[atlas.cells.index, reverse].to_df().set_axis(genes, axis=1)
    got = view.to_pandas()
    assert list(got.index) == list(expected.index)
    assert list(got.columns) == genes
    assert got.dtypes.unique().tolist() == expected.dtypes.unique().tolist()
    np.testing.assert_array_equal(got.to_numpy(), expected.to_numpy())
    extra = view.provenance["counts"]["rows_without_metadata"]
    assert extra == matrix.n_obs - len(atlas.cells)
    assert extra == (200 if metadata == "WMB-10X" else 0)


@pytest.mark.parametrize("statistic", ["mean", "fraction"])
def test_group_statistics_equal_published_tables(real_extract, shared_data, statistic):
    reference = pd.read_csv(
        shared_data
        / "reference"
        / f"sst_isocortex_merfish_{statistic}_by_parcellation_structure.csv",
        index_col=0,
    )
    atlas = Atlas(real_extract, metadata="MERFISH-C57BL6J-638850")
    values = atlas.expression(list(reference.columns)).compute(scheduler="threads")
    annotated = pd.read_csv(
        next(real_extract.rglob("cell_metadata_with_cluster_annotation.csv")),
        dtype={"cell_label": str},
        index_col="cell_label",
    )
    annotated = annotated[annotated["subclass"].isin(SST)]
    chosen = values.loc[annotated.index]
    if statistic == "fraction":
        chosen = (chosen > 0).astype(float)
    got = chosen.groupby(annotated["parcellation_structure"].to_numpy()).mean()
    got = got.loc[reference.index]
    assert len(reference) > 20
    np.testing.assert_allclose(got.to_numpy(), reference.to_numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", MANIFESTS)
def test_real_manifests_list_every_dataset(shared_data, name):
    manifest = Manifest.from_json((shared_data / "manifests" / f"{name}.json").read_bytes())
    assert {"WMB-10X", "WMB-10Xv3", "Zhuang-ABCA-4"} <= set(manifest.datasets)
    for dataset in manifest.datasets:
        assert any(entry.dataset_label == dataset for entry in manifest.files)
        manifest.tables(dataset)
    log2 = [m for m in manifest.feature_matrices if m.normalization == "log2"]
    wmb = [m for m in log2 if m.dataset_label.startswith("WMB-10X")]
    assert len(wmb) == 24
    reference = pd.read_csv(shared_data / "reference" / "wmb_feature_matrices.csv", index_col=0)
    assert {m.feature_matrix_label: m.file.size for m in wmb} == reference["log2_bytes"].to_dict()
