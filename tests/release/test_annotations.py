"""Annotations: found, ordered, coloured, aligned by label, missing where they are missing."""

from __future__ import annotations

import shutil

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

from abc_dask import Atlas, open_view
from abc_dask.base.errors import MissingFileError, TableError, UsageError, ViewError
from abc_dask.testing import Quirks, write_atlas
from abc_dask.testing.taxonomy import CLASSES, NEUROTRANSMITTERS, REGIONS

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:anndata")
GENES = ["Slc17a7", "Tac2"]
COLUMNS = ["neurotransmitter", "class", "region_of_interest_acronym", "x", "cluster_alias"]
OPTIONS = {"scale": 0.0005, "n_genes": 60, "matrices": 3, "normalizations": ["log2"]}


def annotated(made):
    """The published table, as pandas reads it; missing in whatever way is missing."""
    return pd.read_csv(made.annotated, dtype={"cell_label": str}, index_col="cell_label")


def assert_annotated(frame, expected, columns=COLUMNS):
    expected = expected.loc[frame.index.astype(object)]
    for name in columns:
        got, want = frame[name].astype(object), expected[name].astype(object)
        np.testing.assert_array_equal(got.isna(), want.isna(), err_msg=name)
        assert got[got.notna()].tolist() == want[want.notna()].tolist(), name


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_atlas(tmp_path_factory.mktemp("annotated") / "base", **OPTIONS)


@pytest.fixture(scope="module")
def taxonomic(tmp_path_factory):
    """The same cells, with the tables of a taxonomy in place of the annotated view."""
    quirks = Quirks(no_annotated_view=True)
    return write_atlas(tmp_path_factory.mktemp("taxonomy") / "base", **OPTIONS, quirks=quirks)


@pytest.fixture(scope="module", params=["parquet", "zarr", "csv"])
def views(request, made, tmp_path_factory):
    """Each format, with and without annotations in it."""
    folder = tmp_path_factory.mktemp("views")
    atlas = Atlas(made.download_base)
    suffix = request.param
    plain = atlas.extract(GENES, folder / f"plain.{suffix}", block_size="30 kB")
    full = atlas.extract(GENES, folder / f"full.{suffix}", block_size="30 kB", annotate=COLUMNS)
    return plain, full


def test_columns_beside_a_view_and_in_it(views, made):
    plain, full = views
    frame = plain.annotate(COLUMNS).compute()
    assert list(frame.columns) == [*GENES, *COLUMNS]
    assert_annotated(frame, annotated(made))
    held = full.annotate(COLUMNS).compute()
    pd.testing.assert_frame_equal(held, frame)
    pd.testing.assert_frame_equal(frame[GENES], plain.dataframe().compute()[GENES])
    both = full.annotate(["donor_sex", "class"]).compute()
    assert_annotated(both, annotated(made), ["donor_sex", "class"])
    assert full.term_colors("class") == plain.term_colors("class")


def test_a_view_with_annotations_needs_no_atlas(views, made, monkeypatch):
    _, full = views
    monkeypatch.setattr("abc_dask.views.attach.annotations_of_view", None)
    assert_annotated(full.annotate(COLUMNS).compute(), annotated(made))
    assert full.term_colors("neurotransmitter")["GABA"] == NEUROTRANSMITTERS["GABA"]
    missing = {a.name: a.n_missing for a in full.annotations}
    assert missing["neurotransmitter"] == annotated(made)["neurotransmitter"].isna().sum() > 0
    assert missing["class"] == missing["x"] == 0


def test_exports_keep_annotations(views, made, tmp_path):
    _, full = views
    expected = full.annotate(COLUMNS).compute()
    for suffix in {"parquet", "zarr", "csv"} - {full.format}:
        view = open_view(full.export(tmp_path / f"export.{suffix}"))
        got = view.annotate(COLUMNS).compute().loc[expected.index]
        pd.testing.assert_frame_equal(got, expected)
    table = full.to_anndata().obs
    assert_annotated(table, annotated(made))


def test_categories_are_all_terms_in_order_in_every_part(made, tmp_path):
    view = Atlas(made.download_base).extract(
        GENES, tmp_path / "v.parquet", annotate=COLUMNS, block_size="30 kB"
    )
    assert len(view.parts) > 3
    regions = [name for name in REGIONS if name in set(annotated(made).iloc[:, 8])]
    for part in view.parts:
        one = pd.read_parquet(part)
        assert one["class"].cat.ordered
        assert [*one["class"].cat.categories] == sorted(set(annotated(made)["class"]))
        # region_of_interest_metadata lists all regions, also those without a cell here
        assert [*one["region_of_interest_acronym"].cat.categories] == [*REGIONS]
    assert set(regions) < set(REGIONS)
    frame = view.dataframe()
    assert list(frame.columns) == GENES
    whole = view.annotate("class")
    assert whole["class"].cat.known
    for partition in whole.partitions:
        assert partition.compute()["class"].dtype == whole._meta["class"].dtype


def test_foreign_readers_see_the_terms(made, tmp_path):
    path = tmp_path / "v.parquet"
    Atlas(made.download_base).extract(GENES, path, annotate=COLUMNS, block_size="30 kB")
    expected = annotated(made)
    read = pl.read_parquet(path / "*.parquet").to_pandas().set_index("cell_label")
    assert_annotated(read, expected)
    query = f"SELECT class, count(*) n FROM '{path}/*.parquet' GROUP BY class"
    counts = dict(duckdb.sql(query).fetchall())
    assert counts == expected["class"].value_counts().to_dict()
    assert_annotated(pd.read_parquet(path), expected)


def test_expression_annotated_is_lazy_and_projects(made):
    frame = Atlas(made.download_base).expression(["Tac2"], annotate=["class", "x"])
    assert list(frame.columns) == ["Tac2", "class", "x"]
    assert frame["class"].cat.known
    assert_annotated(frame[["x", "class"]].compute(), annotated(made), ["class", "x"])
    assert_annotated(frame.compute(), annotated(made), ["class", "x"])


@pytest.mark.parametrize("written", ["", "NA", "NaN"])
def test_missing_is_never_a_term(tmp_path, written):
    made = write_atlas(
        tmp_path / "base", **OPTIONS, quirks=Quirks(neurotransmitter_missing=written)
    )
    view = Atlas(made.download_base).extract(GENES, tmp_path / "v.parquet")
    (found,) = view.find_annotations("neurotransmitter")
    assert set(found.terms) <= set(NEUROTRANSMITTERS) - {""}
    frame = view.annotate("neurotransmitter").compute()
    classes = view.annotate("class").compute()["class"].astype(str)
    neuronal = classes.str.endswith(("Glut", "GABA", "Dopa", "Sero"))
    assert frame["neurotransmitter"].notna().tolist() == neuronal.tolist()
    assert found.n_missing == (~neuronal).sum() > 0


def test_taxonomy_joined_by_cluster_alias_equals_the_annotated_view(made, taxonomic, tmp_path):
    columns = ["neurotransmitter", "class", "subclass", "supertype", "cluster"]
    view = Atlas(taxonomic.download_base).extract(
        GENES, tmp_path / "v.parquet", annotate=columns, block_size="30 kB"
    )
    assert_annotated(pd.read_parquet(view.path), annotated(made), columns)
    found = {a.name: a for a in view.annotations}
    # the taxonomy's order, which is not that of the alphabet
    named = [name for name in NEUROTRANSMITTERS if name]
    assert list(found["neurotransmitter"].terms) == named != sorted(named)
    assert list(found["class"].terms) == list(CLASSES)
    assert view.term_colors("neurotransmitter") == {n: NEUROTRANSMITTERS[n] for n in named}
    assert found["cluster"].n_missing == 0


def test_rows_in_another_order_are_aligned_by_label(made, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(made.download_base, base, ignore=shutil.ignore_patterns(".abc_dask"))
    view = Atlas(base).extract(GENES, tmp_path / "v.parquet", block_size="30 kB")
    expected = view.annotate(COLUMNS).compute()
    # a later table: other cells first, in another order, and one cell more
    path = next(base.rglob("cell_metadata_with_cluster_annotation.csv"))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], *sorted(lines[1:])]))
    plain = next(base.rglob("cell_metadata.csv"))
    lines = plain.read_text().splitlines(keepends=True)
    plain.write_text("".join([lines[0], *lines[:0:-1]]))
    pd.testing.assert_frame_equal(view.annotate(COLUMNS).compute(), expected)


def test_columns_that_are_not_there(made, taxonomic, tmp_path):
    atlas = Atlas(made.download_base)
    view = atlas.extract(GENES, tmp_path / "v.parquet")
    with pytest.raises(UsageError, match="no column 'neurotransmiter' .*; nearest: neurotransm"):
        view.annotate("neurotransmiter")
    with pytest.raises(UsageError, match="asked for twice"):
        view.annotate(["class", "class"])
    with pytest.raises(UsageError, match="index of every view"):
        view.annotate("cell_label")
    with pytest.raises(UsageError, match="has a column 'dataset_label' already"):
        atlas.expression(GENES, annotate=["dataset_label"])
    with pytest.raises(ViewError, match="no longer at .*gone; name it with download_base"):
        moved = open_view(view.path)
        moved.info["atlas"]["download_base"] = str(tmp_path / "gone")
        moved.annotate("class")
    again = view.annotate("class", download_base=made.download_base).compute()
    assert again["class"].notna().all()
    other = write_atlas(tmp_path / "other", **OPTIONS | {"seed": 5})
    with pytest.raises(TableError, match="cells? of the view, such as .* not in metadata/"):
        view.annotate("class", download_base=other.download_base)


def test_a_table_that_is_not_on_disk_is_named(made, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(made.download_base, base, ignore=shutil.ignore_patterns(".abc_dask"))
    next(base.rglob("cell_metadata_with_cluster_annotation.csv")).unlink()
    atlas = Atlas(base)
    with pytest.raises(MissingFileError, match="no column 'class' .*not on disk: .*cluster_ann"):
        atlas.expression(GENES, annotate=["class"])
    assert atlas.expression(GENES, annotate=["donor_sex"]).compute()["donor_sex"].notna().all()


def test_old_plans_keep_their_digest(made):
    atlas = Atlas(made.download_base)
    assert "annotations" not in atlas.plan(GENES).identity
    one, other = (atlas.plan(GENES, annotate=[name]) for name in ("class", "x"))
    assert len({one.digest, other.digest, atlas.plan(GENES).digest}) == 3


def test_parts_carry_no_long_lists(made, tmp_path):
    view = Atlas(made.download_base).extract(GENES, tmp_path / "v.parquet", annotate=["cluster"])
    metadata = pq.read_schema(view.parts[0]).metadata
    assert len(metadata[b"abc_dask"]) < len(str(view.info["annotations"]))
