"""Cells with annotations and no gene: against the tables as pandas reads them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from abc_dask import Atlas
from abc_dask.base.errors import MissingFileError, ReleaseError, TableError, UsageError, ViewError
from abc_dask.run import cell_rows
from abc_dask.run.cell_rows import write_counts
from tests.command_line import run_cli

COLUMNS = ["class", "neurotransmitter", "x", "donor_sex"]


@pytest.fixture
def atlas(plain_atlas, monkeypatch):
    monkeypatch.setattr(cell_rows, "_PARTITION", 500)
    return Atlas(plain_atlas.download_base)


@pytest.fixture(scope="session")
def published(plain_atlas):
    return pd.read_csv(plain_atlas.annotated, dtype={"cell_label": str}, index_col="cell_label")


def assert_same(got, expected):
    for name in got:
        one, other = got[name].astype(object), expected[name].astype(object)
        np.testing.assert_array_equal(one.isna(), other.isna(), err_msg=name)
        assert one[one.notna()].tolist() == other[other.notna()].tolist(), name


def test_annotate_is_the_published_table(atlas, published):
    lazy = atlas.annotate(COLUMNS)
    assert lazy.npartitions >= 3
    assert lazy["class"].cat.known
    frame = lazy.compute()
    assert frame.index.tolist() == published.index.tolist()
    assert_same(frame, published)


@pytest.mark.parametrize("where", ["x > 5", "neurotransmitter == 'GABA' and x < 4", "x < -1e9"])
def test_chosen_cells(atlas, published, where):
    expected = published.query(where)
    if expected.empty:
        with pytest.raises(UsageError, match="no cell of .* fits where"):
            atlas.annotate(COLUMNS, where=where)
        return
    frame = atlas.annotate(COLUMNS, where=where).compute()
    assert frame.index.tolist() == expected.index.tolist()
    assert_same(frame, expected)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_written_tables(atlas, published, tmp_path, suffix):
    path = tmp_path / f"cells.{suffix}"
    atlas.cell_rows(COLUMNS, where="x > 5").write(path)
    read = pd.read_csv if suffix == "csv" else pd.read_parquet
    frame = read(path).astype({"cell_label": str}).set_index("cell_label")
    expected = published.query("x > 5")
    assert frame.index.tolist() == expected.index.tolist()
    assert_same(frame, expected)
    with pytest.raises(ViewError, match="exists; pass overwrite=True"):
        atlas.cell_rows(COLUMNS).write(path)
    atlas.cell_rows(COLUMNS).write(path, overwrite=True)
    assert len(read(path)) == len(published)
    with pytest.raises(UsageError, match="not a name that ends in .csv, .parquet"):
        atlas.cell_rows(COLUMNS).write(tmp_path / "cells.txt")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_only_such_a_table_is_replaced(atlas, tmp_path, suffix):
    mine = tmp_path / f"mine.{suffix}"
    frame = pd.DataFrame({"cell_label": ["a"], "my own work": [1]})
    frame.to_csv(mine, index=False) if suffix == "csv" else frame.to_parquet(mine)
    rows = atlas.cell_rows(["neurotransmitter"])
    for write in (rows.write, partial(write_counts, rows.counts())):
        with pytest.raises(ViewError, match="was not made by abc-dask"):
            write(mine, overwrite=True)
        made = tmp_path / f"{id(write)}.{suffix}"
        assert write(made) == write(made, overwrite=True)
    listed = next(Path(atlas.download_base).rglob("cell_metadata.csv"))
    with pytest.raises(ViewError, match="is a file of the atlas"):
        rows.write(listed, overwrite=True)


def test_counts_are_those_of_a_crosstab(atlas, published):
    one = atlas.cell_rows(["neurotransmitter"]).counts()["n_cells"]
    expected = published["neurotransmitter"].value_counts(dropna=False)
    assert one[one > 0].rename(None).to_dict() == expected.to_dict() or (
        one.iloc[-1] == published["neurotransmitter"].isna().sum()
        and one.iloc[:-1][one.iloc[:-1] > 0].to_dict() == expected[expected.index.notna()].to_dict()
    )
    two = atlas.cell_rows(["class", "donor_sex"], where="x > 2").counts()
    table = pd.crosstab(*(published.query("x > 2")[name] for name in ("class", "donor_sex")))
    got = two.iloc[:-1, :-1].loc[table.index, table.columns]
    np.testing.assert_array_equal(got.to_numpy(), table.to_numpy())
    assert two.to_numpy().sum() == len(published.query("x > 2"))
    with pytest.raises(UsageError, match="'x' holds numbers"):
        atlas.cell_rows(["x"]).counts()


def test_columns_and_terms(atlas, published):
    columns = atlas.columns
    assert set(published.columns) <= set(columns.index)
    assert columns.loc["class", "source"].endswith("cell_metadata_with_cluster_annotation.csv")
    assert columns.loc["x", "joined_by"] == ""
    terms = atlas.terms("class")
    counts = published["class"].value_counts()
    assert terms["n_cells"][terms["n_cells"] > 0].to_dict() == counts.to_dict()
    colors = published.set_index("class")["class_color"].to_dict()
    assert terms["color"].to_dict() == colors
    with pytest.raises(UsageError, match="'x' holds numbers"):
        atlas.terms("x")


def test_tables_and_files_by_name(atlas, plain_atlas):
    frame = atlas.table("WMB-10X/gene")
    assert frame["gene_identifier"].tolist() == atlas.genes.index.tolist()
    log2 = atlas.path("WMB-10Xv2/WMB-10Xv2-TH/log2")
    assert log2.name == "WMB-10Xv2-TH-log2.h5ad"
    assert atlas.path(log2.relative_to(plain_atlas.download_base).as_posix()) == log2
    with pytest.raises(ReleaseError, match="is 2 files .*: .*/log2, .*/raw"):
        atlas.path("WMB-10Xv2/WMB-10Xv2-TH")
    with pytest.raises(ReleaseError, match="no file 'WMB-10X/genes'; nearest: WMB-10X/gene"):
        atlas.table("WMB-10X/genes")
    with pytest.raises(TableError, match="is no CSV table"):
        atlas.table("WMB-10Xv2/WMB-10Xv2-TH/log2")


def test_conditions_name_near_terms(atlas):
    with pytest.raises(UsageError, match="no cell has neurotransmitter 'Gaba'; nearest: GABA"):
        atlas.annotate(["class"], where="neurotransmitter in ['Gaba', 'GABA'] and x < -1e9")


def run(*arguments):
    return run_cli(*arguments).output


def test_commands(plain_atlas, published, tmp_path):
    base = ["--download-base", plain_atlas.download_base]
    lines = run("columns", *base).splitlines()
    assert any(line.startswith("supertype ") for line in lines)
    shown = json.loads(run("columns", "neurotransmitter", "--json", *base))
    assert sum(term["n_cells"] for term in shown) == published["neurotransmitter"].notna().sum()
    assert "(without)" in run("columns", "neurotransmitter", *base)
    text = run("table", "--count-by", "class,donor_sex", "--where", "x > 5", *base)
    assert text.splitlines()[0].split() == ["class", "F", "M"]
    output = tmp_path / "counts.csv"
    run("table", "--count-by", "neurotransmitter", *base, "-o", output)
    assert pd.read_csv(output)["n_cells"].sum() == len(published)
    output = tmp_path / "cells.parquet"
    assert f"{len(published):,} cells" in run("table", "class,x", *base, "-o", output)
    assert pd.read_parquet(output).columns.tolist() == ["cell_label", "class", "x"]
    for wrong in (["class"], [], ["class", "--count-by", "x"]):
        run_cli("table", *wrong, *base, code=2)


def test_a_joined_file_is_found_again_by_its_views(plain_atlas, published, tmp_path):
    mine = tmp_path / "mine.csv"
    pd.DataFrame({"cell_label": published.index[::2], "mood": "fine"}).to_csv(mine, index=False)
    atlas = Atlas(plain_atlas.download_base, join=mine)
    view = atlas.extract(["Tac2"], tmp_path / "v.parquet", annotate=["mood"])
    expected = published.index.isin(published.index[::2])
    frame = view.annotate(["mood"]).compute().reindex(published.index)
    np.testing.assert_array_equal(frame["mood"].notna(), expected)
    plain = atlas.extract(["Tac2"], tmp_path / "plain.parquet")
    again = plain.annotate(["mood"]).compute().reindex(published.index)
    np.testing.assert_array_equal(again["mood"].notna(), expected)
    mine.unlink()
    with pytest.raises(MissingFileError, match=r"mine\.csv"):
        Atlas(plain_atlas.download_base, join=mine).annotate(["mood"])
