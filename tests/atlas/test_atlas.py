"""The front door, against the reference workflow on the same files."""

from __future__ import annotations

import dask
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abc_dask import Atlas, open_view
from abc_dask.atlas import atlas as atlas_module
from abc_dask.base.errors import GeneError, ReleaseError, UsageError
from abc_dask.run.dataframe import read_partition
from abc_dask.testing import REFERENCE_GENES, REFERENCE_IDENTIFIERS, Quirks, write_atlas
from tests.oracle import assert_same, expected_table


def test_feature_matrices_count_the_cells(atlas, plain_atlas):
    table = atlas.feature_matrices
    cells = pd.read_csv(plain_atlas.cell_metadata)
    counts = cells.groupby(["dataset_label", "feature_matrix_label"]).size()
    assert table.index.names == ["dataset_label", "feature_matrix_label"]
    assert table["cell_count"].to_dict() == counts.to_dict()
    assert table["present"].all()


def test_cells_and_genes_are_the_tables(atlas, plain_atlas):
    cells = pd.read_csv(plain_atlas.cell_metadata, index_col="cell_label")
    assert list(atlas.cells.index) == list(cells.index)
    assert list(atlas.cells.columns) == list(cells.columns)
    pd.testing.assert_series_equal(
        atlas.cells["x"], cells["x"], check_exact=True, check_index_type=False
    )
    genes = pd.read_csv(plain_atlas.metadata / "gene.csv", index_col="gene_identifier")
    assert list(atlas.genes.index) == list(genes.index)
    assert list(atlas.genes["gene_symbol"]) == list(genes["gene_symbol"])


def test_find_genes_keeps_the_order_asked(atlas):
    found = atlas.find_genes(["Tac2", "ENSMUSG00000070570", "Slc6a3"])
    assert list(found["gene_symbol"]) == ["Tac2", "Slc17a7", "Slc6a3"]
    assert found.index.name == "gene_identifier"
    assert atlas.find_genes("Tac2").index.tolist() == ["ENSMUSG00000025400"]


def test_search_genes_says_what_is_ambiguous(atlas):
    symbols = atlas.genes["gene_symbol"]
    twice = symbols[symbols.duplicated()].iloc[0]
    found = atlas.search_genes(twice)
    assert found.loc[found["gene_symbol"] == twice, "ambiguous"].all()
    assert not atlas.search_genes("Tac2")["ambiguous"].any()
    with pytest.raises(GeneError, match="stands for 2 genes; ask by identifier: ENSMUSG"):
        atlas.find_genes([twice])


@pytest.mark.parametrize("normalization", ["log2", "raw"])
def test_expression_equals_the_reference_workflow(atlas, plain_atlas, normalization):
    frame = atlas.expression(REFERENCE_GENES, normalization)
    expected = expected_table(plain_atlas, REFERENCE_GENES, normalization)
    got = frame.compute(scheduler="threads")
    assert list(frame.columns) == list(REFERENCE_GENES)
    assert (got.dtypes == frame.dtypes).all()
    assert frame._meta.index.dtype == got.index.dtype
    assert got.index.name == frame.index.name == "cell_label"
    assert_same(got.loc[expected.index], expected)
    assert len(got) == len(expected) == plain_atlas.n_cells


def test_expression_of_odd_files_equals_the_reference_workflow(odd_atlas):
    atlas = Atlas(odd_atlas.download_base)
    got = atlas.expression(REFERENCE_GENES, block_size="64 kB").compute(scheduler="threads")
    expected = expected_table(odd_atlas, REFERENCE_GENES)
    assert_same(got.loc[expected.index], expected)
    assert got["Tac2"].isna().sum() > len(got) * 0.05, "absent is NaN, not zero"
    assert not set(odd_atlas.missing_cells) & set(got.index)


@settings(max_examples=8)
@given(
    genes=st.lists(st.sampled_from(REFERENCE_GENES), min_size=1, max_size=10, unique=True),
    block_size=st.integers(2_000, 10_000_000),
)
def test_any_genes_and_block_size_give_the_same_values(odd_atlas, genes, block_size):
    atlas = Atlas(odd_atlas.download_base)
    got = atlas.expression(genes, block_size=block_size).compute(scheduler="sync")
    assert_same(got.sort_index(), expected_table(odd_atlas, genes).sort_index())


def test_choosing_a_column_reads_only_that_gene(atlas, monkeypatch):
    asked = []

    def spy(task, columns):
        asked.append(tuple(columns))
        return read_partition(task, columns)

    monkeypatch.setattr("abc_dask.run.dataframe.read_partition", spy)
    frame = atlas.expression(REFERENCE_GENES)
    with dask.config.set(scheduler="sync"):
        mean = frame["Tac2"].mean().compute()
    assert set(asked) == {("Tac2",)}
    expected = frame.compute(scheduler="sync")["Tac2"].mean()
    assert mean == pytest.approx(expected, rel=1e-6)


def test_columns_by_identifier(atlas):
    frame = atlas.expression(["Tac2", "Slc6a3"], columns="gene_identifier")
    assert list(frame.columns) == [REFERENCE_IDENTIFIERS[g] for g in ("Tac2", "Slc6a3")]
    with pytest.raises(UsageError, match=r"columns 'name' is not one of gene_symbol, gene_iden"):
        atlas.expression(["Tac2"], columns="name")


def test_genes_that_share_a_symbol_need_identifiers_as_columns(atlas):
    symbols = atlas.genes["gene_symbol"]
    twice = symbols[symbols.duplicated(keep=False)]
    both = list(twice[twice == twice.iloc[0]].index)
    with pytest.raises(GeneError, match="name the columns by columns='gene_identifier'"):
        atlas.expression(both)
    assert list(atlas.expression(both, columns="gene_identifier").columns) == both


@pytest.mark.parametrize(
    ("genes", "error", "message"),
    [
        ([], UsageError, "no gene is given"),
        (["Slc17a"], GeneError, "gene 'Slc17a' is unknown; nearest: Slc17a[678]"),
        (["tac3"], GeneError, "gene 'tac3' is unknown; nearest: Tac2"),
        (["Tac2", "Tac2"], GeneError, "gene 'Tac2' is asked for twice"),
        (["Tac2", "ENSMUSG00000025400"], GeneError, "asked for twice, as 'Tac2' and as 'ENSMUSG"),
    ],
)
def test_genes_that_cannot_be_extracted(atlas, tmp_path, genes, error, message):
    with pytest.raises(error, match=message):
        atlas.extract(genes, tmp_path / "out.parquet")
    assert not list(tmp_path.iterdir())


def test_gene_of_the_table_in_no_matrix(tmp_path):
    made = write_atlas(
        tmp_path,
        scale=0.0001,
        n_genes=50,
        matrices=2,
        normalizations=("log2",),
        quirks=Quirks(missing_genes={"WMB-10XMulti": ["Tac2"], "WMB-10Xv2-CTXsp": ["Tac2"]}),
    )
    with pytest.raises(GeneError, match=r"1 gene in none of the 2 feature matrices: Tac2 \(ENS"):
        Atlas(made.download_base).expression(["Tac2", "Slc6a3"])


def test_missing_normalization_is_named(odd_atlas):
    with pytest.raises(ReleaseError, match=r"has no normalization 'raw'; there is: log2"):
        Atlas(odd_atlas.download_base).expression(["Tac2"], "raw")


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
def test_layouts_and_filters(tmp_path, layout, compression):
    made = write_atlas(
        tmp_path / "base",
        scale=0.0005,
        n_genes=60,
        matrices=["WMB-10Xv2-TH", "WMB-10Xv3-MB"],
        normalizations=("log2",),
        compression=compression,
        quirks=Quirks(layout=layout, float64_matrices=("WMB-10Xv3-MB",)),
    )
    view = Atlas(made.download_base).extract(REFERENCE_GENES, tmp_path / "out", block_size="20 kB")
    expected = expected_table(made, REFERENCE_GENES)
    assert view.to_pandas().dtypes.unique().tolist() == [np.dtype("float64")]
    assert_same(view.to_pandas(), expected.astype("float64"))


def test_integer_counts_become_floats(tmp_path):
    made = write_atlas(
        tmp_path / "base",
        scale=0.0005,
        n_genes=60,
        matrices=["WMB-10Xv2-TH"],
        normalizations=("raw",),
        quirks=Quirks(raw_dtype="uint16"),
    )
    frame = Atlas(made.download_base).expression(REFERENCE_GENES, "raw")
    got = frame.compute(scheduler="sync")
    assert got.dtypes.unique().tolist() == [np.dtype("float32")]
    expected = expected_table(made, REFERENCE_GENES, "raw")
    assert expected.dtypes.unique().tolist() == [np.dtype("uint16")]
    assert_same(got.loc[expected.index], expected.astype("float32"))


def test_matrix_without_rows_or_without_values(tmp_path):
    made = write_atlas(
        tmp_path / "base",
        scale=0.0005,
        n_genes=60,
        matrices=["WMB-10Xv2-TH", "WMB-10Xv3-CB", "WMB-10Xv3-MB"],
        normalizations=("log2",),
        quirks=Quirks(zero_row_matrices=("WMB-10Xv2-TH",), empty_matrices=("WMB-10Xv3-CB",)),
    )
    view = Atlas(made.download_base).extract(["Tac2", "Slc6a3"], tmp_path / "out")
    assert_same(view.to_pandas(), expected_table(made, ["Tac2", "Slc6a3"]))
    by_label = {m["feature_matrix_label"]: m for m in view.provenance["matrices"]}
    assert by_label["WMB-10Xv2-TH"]["cells_found"] == 0
    assert by_label["WMB-10Xv2-TH"]["cells_missing"] == by_label["WMB-10Xv2-TH"]["cells_asked"] > 0
    assert (
        view.to_pandas(matrices=True).query("feature_matrix_label == 'WMB-10Xv3-CB'").iloc[:, :2]
        == 0
    ).all(axis=None)


def test_no_cell_in_any_matrix(tmp_path):
    made = write_atlas(
        tmp_path / "base",
        scale=0.0005,
        n_genes=60,
        matrices=["WMB-10Xv2-TH"],
        normalizations=("log2",),
        quirks=Quirks(zero_row_matrices=("WMB-10Xv2-TH",)),
    )
    with pytest.raises(ReleaseError, match=r"none of the \d+ cells of WMB-10X is in a feature mat"):
        Atlas(made.download_base).extract(["Tac2"], tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_counts_of_missing_cells_and_extra_rows(odd_atlas, tmp_path):
    view = Atlas(odd_atlas.download_base).extract(REFERENCE_GENES, tmp_path / "view")
    counts = view.provenance["counts"]
    assert counts["cells_asked"] == odd_atlas.n_cells
    assert counts["cells_missing"] == len(odd_atlas.missing_cells) == 7
    assert counts["cells"] == odd_atlas.n_cells - 7
    assert counts["rows_without_metadata"] == sum(
        len(rows) for rows in odd_atlas.unlisted_rows.values()
    )
    for matrix in view.provenance["matrices"]:
        unlisted = odd_atlas.unlisted_rows.get(matrix["feature_matrix_label"], ())
        assert matrix["rows_without_metadata"] == len(unlisted)
    absent = {gene["column"]: gene["absent_in"] for gene in view.provenance["genes"]}
    assert absent["Tac2"] == ["WMB-10Xv2-TH"]
    assert absent["Slc17a7"] == ["WMB-10Xv3-MB"]


def test_representations(atlas, tmp_path):
    assert "release 20250531 (synthetic data), WMB-10X" in repr(atlas)
    assert "<td style='text-align:left'>WMB-10X</td>" in atlas._repr_html_()
    view = atlas.extract(["Tac2"], tmp_path / "view.parquet")
    assert f"{len(atlas.cells):,} cells, 1 gene, parquet" in repr(view)
    assert "of " in view._repr_html_()
    assert open_view(tmp_path / "view.parquet").n_cells == view.n_cells


def test_many_columns_are_warned_of(plain_atlas, tmp_path, monkeypatch):
    monkeypatch.setattr(atlas_module, "_MANY_COLUMNS", 1)
    with pytest.warns(UserWarning, match="2 columns take long to write; for all genes of some"):
        Atlas(plain_atlas.download_base).extract(["Tac2", "Slc17a7"], tmp_path / "v.parquet")
