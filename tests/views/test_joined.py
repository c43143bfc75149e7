"""A view as scanpy and anndata find it."""

from __future__ import annotations

import json
import warnings

import anndata
import numpy as np
import pandas as pd
import pytest

from abc_dask import Atlas, open_view
from abc_dask.base.errors import ReleaseError, UsageError
from abc_dask.testing import REFERENCE_IDENTIFIERS
from abc_dask.views.joined import cells_table, joined_reader
from tests.spatial import write_spatial

FORMATS = ["parquet", "zarr", "csv"]
ANNOTATIONS = ["class", "neurotransmitter", "donor_sex", "x", "y"]
GENES = ["Slc17a7", "Slc32a1", "Tac2"]


@pytest.fixture(scope="module")
def views(plain_atlas, tmp_path_factory):
    folder = tmp_path_factory.mktemp("handover")
    atlas = Atlas(plain_atlas.download_base)
    return {
        format: atlas.extract(GENES, folder / f"genes.{format}", block_size="40 kB")
        for format in FORMATS
    }


@pytest.fixture(scope="module")
def metadata(plain_atlas):
    (path,) = plain_atlas.download_base.glob("metadata/WMB-10X/*/views/cell_metadata_with_*.csv")
    text = {"cell_label": str, "neurotransmitter": str}
    return pd.read_csv(path, dtype=text, index_col="cell_label")


@pytest.fixture(scope="module")
def spatial_view(plain_atlas, tmp_path_factory):
    folder = tmp_path_factory.mktemp("spatial")
    base = write_spatial(plain_atlas.download_base, folder / "base")
    return Atlas(base).extract(GENES, folder / "genes.parquet")


def check(data, view, metadata):
    """Compare everything with the tables of the atlas, by label."""
    own = metadata.loc[data.obs_names]
    np.testing.assert_array_equal(data.X, view.to_pandas().to_numpy())
    assert list(data.obs_names) == list(view.to_pandas().index)
    assert list(data.var_names) == GENES
    assert list(data.var["gene_identifier"]) == [REFERENCE_IDENTIFIERS[g] for g in GENES]
    assert list(data.var["gene_symbol"]) == GENES
    for name in ("class", "neurotransmitter", "donor_sex"):
        column = data.obs[name]
        assert column.dtype.ordered
        missing = own[name].isna()
        np.testing.assert_array_equal(column.isna(), missing)
        assert list(column[~missing.to_numpy()].astype(str)) == list(own[name][~missing])
    np.testing.assert_array_equal(data.obsm["X_umap"], own[["x", "y"]].to_numpy())
    assert set(data.obsm) == {"X_umap"}
    for name in ("class", "neurotransmitter"):
        terms = list(data.obs[name].cat.categories)
        colors = dict(zip(terms, data.uns[f"{name}_colors"], strict=True))
        rows = own.dropna(subset=[name]).drop_duplicates(name)
        assert {term: colors[term] for term in rows[name]} == dict(
            zip(rows[name], rows[f"{name}_color"], strict=True)
        )
    assert "donor_sex_colors" not in data.uns
    provenance = json.loads(data.uns["abc_dask"])
    assert provenance["content"] == view.info["content"]
    assert [a["name"] for a in provenance["annotations"]] == ANNOTATIONS
    assert data.uns["normalization"] == "log2"


@pytest.mark.parametrize("source", FORMATS)
def test_in_memory(views, metadata, source):
    check(views[source].to_anndata(ANNOTATIONS), views[source], metadata)


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", ["h5ad", "zarr"])
def test_exported(views, metadata, tmp_path, source, target):
    view = views[source]
    place = view.export(tmp_path / f"genes.{target}", annotate=ANNOTATIONS)
    read = anndata.read_h5ad if target == "h5ad" else anndata.read_zarr
    check(read(place), view, metadata)
    if target == "zarr":
        again = open_view(place)
        again.verify()
        assert [a.name for a in again.annotations] == ANNOTATIONS
        moved = again.to_anndata()
        check(moved, view, metadata)


@pytest.mark.parametrize("target", ["csv", "parquet"])
def test_tables_carry_annotations_on(views, metadata, tmp_path, target):
    place = views["parquet"].export(tmp_path / f"genes.{target}", annotate=["class", "x"])
    again = open_view(place)
    table = again.annotate(["class", "x"]).compute(scheduler="sync")
    own = metadata.loc[table.index]
    assert list(table["class"].astype(str)) == list(own["class"])
    np.testing.assert_array_equal(table["x"], own["x"])


def test_places_in_sections_are_spatial(spatial_view, tmp_path):
    place = spatial_view.export(tmp_path / "s.h5ad", annotate=["x", "y", "class"])
    assert set(anndata.read_h5ad(place).obsm) == {"spatial"}
    carried = spatial_view.to_anndata(["brain_section_label", "x", "y"])
    assert set(carried.obsm) == {"spatial"}
    assert carried.obs["brain_section_label"].isna().sum() == 5


def test_extraction_says_what_places_are(plain_atlas, spatial_view, tmp_path):
    """Also where the atlas is out of reach later."""
    base = spatial_view.info["atlas"]["download_base"]
    for folder, kind in ((plain_atlas.download_base, "X_umap"), (base, "spatial")):
        view = Atlas(folder).extract(GENES, tmp_path / f"{kind}.zarr", annotate=["x", "y"])
        assert set(anndata.read_zarr(view.path).obsm) == {kind}
        assert view.info["places"] == kind


def test_without_annotations_nothing_is_added(views, tmp_path):
    data = views["parquet"].to_anndata()
    assert set(data.obs) == {"dataset_label", "feature_matrix_label"}
    assert not set(data.obsm)
    assert set(data.uns) == {"abc_dask", "normalization"}
    only = views["parquet"].to_anndata(["x"])
    assert not set(only.obsm), "x alone is no place"


def test_on_disk_is_the_same_in_another_order(views):
    view = views["parquet"]
    names = ["Tac2", "class", "x"]
    ordered = cells_table(joined_reader(view, ["class", "x"]), names)
    stored = cells_table(joined_reader(view, ["class", "x"], on_disk=True), names)
    assert not ordered.equals(stored)
    by = ["x", "Tac2"]
    pd.testing.assert_frame_equal(
        ordered.sort_values(by, ignore_index=True), stored.sort_values(by, ignore_index=True)
    )


def test_refusals(views, tmp_path):
    view = views["parquet"]
    with pytest.raises(UsageError, match="no column 'clas' .* nearest: class"):
        view.to_anndata(["clas"])
    with pytest.raises(UsageError, match="no column 'clas'"):
        view.export(tmp_path / "a.h5ad", annotate=["clas"])
    assert not list(tmp_path.iterdir())
    with pytest.raises(ReleaseError, match="holds no release"):
        view.to_anndata(["class"], download_base=tmp_path)


# scanpy


@pytest.fixture(scope="module")
def scanpy():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own imports
        return pytest.importorskip("scanpy", reason="scanpy is not installed with these versions")


@pytest.fixture(scope="module")
def exported(views, tmp_path_factory):
    place = tmp_path_factory.mktemp("scanpy") / "genes.h5ad"
    views["parquet"].export(place, annotate=ANNOTATIONS)
    return anndata.read_h5ad(place)


@pytest.mark.filterwarnings("ignore")  # scanpy's own business
def test_scanpy_draws_the_umap_in_the_colors_of_the_atlas(scanpy, exported):
    import matplotlib as mpl
    from matplotlib.colors import to_hex

    before = mpl.rcParams["backend"]
    mpl.use("agg")
    try:
        axes = scanpy.pl.umap(exported, color=["Slc17a7", "class"], show=False)
        points = axes[1].collections[0]
        drawn = {to_hex(c).upper() for c in points.get_facecolors()}
        terms = exported.obs["class"]
        colors = dict(zip(terms.cat.categories, exported.uns["class_colors"], strict=True))
        assert drawn == {colors[term].upper() for term in terms.unique()}
        np.testing.assert_array_equal(points.get_offsets().data, exported.obsm["X_umap"])
    finally:
        import matplotlib.pyplot as plt

        plt.close("all")
        mpl.use(before)


@pytest.mark.filterwarnings("ignore")
def test_dot_plots_of_scanpy_have_the_same_numbers(scanpy, exported, views):
    """Its fractions and means by group are those of `summarize`."""
    drawn = scanpy.pl.dotplot(exported, GENES, groupby="class", return_fig=True, show=False)
    summary = views["parquet"].summarize("class", ["mean", "fraction"])
    groups = list(drawn.dot_size_df.index)
    assert groups == [str(group) for group in summary.cells.index]
    fraction, mean = summary["fraction"], summary["mean"]
    np.testing.assert_allclose(drawn.dot_size_df[GENES], fraction[GENES], rtol=1e-12)
    np.testing.assert_allclose(drawn.dot_color_df[GENES], mean[GENES], rtol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_values_that_scanpy_gets_are_those_of_the_view(scanpy, exported, views):
    got = scanpy.get.obs_df(exported, [*GENES, "class"])
    table = views["parquet"].to_pandas()
    np.testing.assert_array_equal(got[GENES], table)
    means = got.groupby("class", observed=True)[GENES].mean()
    summary = views["parquet"].summarize("class", ["mean"])
    np.testing.assert_allclose(means, summary["mean"], rtol=1e-5)
