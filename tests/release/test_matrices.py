"""The metadata directory, and which cells are in which matrix."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abc_dask.base.errors import ReleaseError
from abc_dask.disk.kept_table import write_cached
from abc_dask.release.cell_table import CellTable, assign_cells, metadata_directory, resolve_matrix
from tests.release.tables import CELLS, cells_of
from tests.strategies import WITH_FILES, csv_names, h5ad_names, manifest_of


def manifest_with(*directories):
    return manifest_of(*(csv_names(name, "cell_metadata") for name in directories))


def test_the_metadata_directory():
    several = manifest_with("WHB-10Xv3", "WMB-10X", "Zhuang-ABCA-1")
    assert metadata_directory(manifest_with("WHB-10Xv3")) == "WHB-10Xv3"
    assert metadata_directory(several) == "WMB-10X"
    assert metadata_directory(several, "Zhuang-ABCA-1") == "Zhuang-ABCA-1"


def test_no_metadata_directory_to_choose():
    message = (
        "release 20250531 has several metadata directories; "
        "name one with metadata: WHB-10Xv3, Zhuang-ABCA-1"
    )
    with pytest.raises(ReleaseError, match=message):
        metadata_directory(manifest_with("Zhuang-ABCA-1", "WHB-10Xv3"))
    with pytest.raises(ReleaseError, match="release 20250531 has no cell_metadata table"):
        metadata_directory(manifest_of(csv_names("WMB-10X", "gene")))
    message = "has no cell_metadata in 'WMB-10Xv2'; nearest: WMB-10X"
    with pytest.raises(ReleaseError, match=message):
        metadata_directory(manifest_with("WMB-10X", "WHB-10Xv3"), "WMB-10Xv2")


def test_a_directory_with_matrices_alone_is_no_metadata_directory():
    manifest = manifest_of(CELLS, h5ad_names("WMB-10Xv2", "WMB-10Xv2-TH"))
    with pytest.raises(ReleaseError, match="has no cell_metadata in 'WMB-10Xv2'"):
        metadata_directory(manifest, "WMB-10Xv2")


MANIFEST = manifest_of(
    CELLS,
    h5ad_names("WMB-10Xv2", "WMB-10Xv2-TH", "log2"),
    h5ad_names("WMB-10Xv2", "WMB-10Xv2-TH", "raw"),
    h5ad_names("WMB-10Xv2", "WMB-10Xv2-HY", "log2"),
    h5ad_names("WMB-10Xv3", "WMB-10Xv3-TH", "log2"),
    h5ad_names("MERFISH", "C57", "log2"),
    h5ad_names("MERFISH-imputed", "C57", "log2"),
    h5ad_names("MERFISH-sections", "C57.01", "log2"),
    h5ad_names("MERFISH-sections", "C57.02", "log2"),
)
TWO = ["cell_label", "feature_matrix_label"]
THREE = [*TWO, "dataset_label"]


def assigned(cells, normalization="log2", dataset=None):
    return {
        (a.feature_matrix.dataset_label, a.feature_matrix.feature_matrix_label): (
            None if a.cells is None else a.cells.tolist()
        )
        for a in assign_cells(MANIFEST, cells, normalization, dataset)
    }


def test_assign_with_dataset_labels(tmp_path):
    rows = [
        ["a", "WMB-10Xv3-TH", "WMB-10Xv3"],
        ["b", "WMB-10Xv2-TH", "WMB-10Xv2"],
        ["c", "WMB-10Xv2-HY", "WMB-10Xv2"],
        ["d", "WMB-10Xv2-TH", "WMB-10Xv2"],
        ["e", "", "WMB-10Xv2"],
        ["f", "C57", "MERFISH"],
    ]
    cells = cells_of(tmp_path, THREE, rows)
    found = assigned(cells)
    assert found == {
        ("MERFISH", "C57"): [5],
        ("WMB-10Xv2", "WMB-10Xv2-HY"): [2],
        ("WMB-10Xv2", "WMB-10Xv2-TH"): [1, 3],
        ("WMB-10Xv3", "WMB-10Xv3-TH"): [0],
    }
    assert list(found) == sorted(found)
    with pytest.raises(ReleaseError, match="has no normalization 'raw'; there is: log2"):
        assigned(cells, "raw")


def test_assign_without_dataset_labels(tmp_path):
    cells = cells_of(tmp_path, TWO, [["a", "WMB-10Xv3-TH"], ["b", "WMB-10Xv2-TH"], ["c", ""]])
    assert assigned(cells) == {
        ("WMB-10Xv2", "WMB-10Xv2-TH"): [1],
        ("WMB-10Xv3", "WMB-10Xv3-TH"): [0],
    }


def test_a_dataset_label_that_is_missing_in_some_rows(tmp_path):
    rows = [
        ["a", "WMB-10Xv2-TH", ""],
        ["b", "WMB-10Xv2-TH", "WMB-10Xv2"],
        ["c", "WMB-10Xv2-TH", "NA"],
    ]
    assert assigned(cells_of(tmp_path, THREE, rows)) == {("WMB-10Xv2", "WMB-10Xv2-TH"): [0, 1, 2]}


def test_no_cell_has_a_matrix(tmp_path):
    assert assigned(cells_of(tmp_path, TWO, [["a", ""], ["b", ""]])) == {}


@pytest.mark.parametrize("columns", [TWO, THREE])
def test_no_cells_at_all(tmp_path, columns):
    assert assigned(cells_of(tmp_path, columns, [])) == {}


def test_a_label_of_several_datasets(tmp_path):
    message = (
        "feature matrix 'C57' is in several datasets; name one with dataset: "
        "MERFISH, MERFISH-imputed"
    )
    cells = cells_of(tmp_path, TWO, [["a", "C57"]])
    with pytest.raises(ReleaseError, match=message):
        assigned(cells)
    assert assigned(cells, dataset="MERFISH-imputed") == {("MERFISH-imputed", "C57"): [0]}
    assert assigned(cells, dataset="MERFISH") == {("MERFISH", "C57"): [0]}


def test_another_dataset_than_the_table_says(tmp_path):
    cells = cells_of(tmp_path, THREE, [["a", "C57", "MERFISH"], ["b", "", "MERFISH"]])
    assert assigned(cells, dataset="MERFISH-imputed") == {("MERFISH-imputed", "C57"): [0]}
    # none of the table's labels: labels of cells must tell
    assert assigned(cells, dataset="MERFISH-sections") == {
        ("MERFISH-sections", "C57.01"): None,
        ("MERFISH-sections", "C57.02"): None,
    }


def test_a_dataset_that_has_some_of_the_labels(tmp_path):
    cells = cells_of(tmp_path, THREE, [["a", "C57", "MERFISH"], ["b", "WMB-10Xv2-TH", "WMB-10Xv2"]])
    with pytest.raises(ReleaseError, match="has no feature matrix MERFISH/WMB-10Xv2-TH; nearest:"):
        assigned(cells, dataset="MERFISH")


def test_an_unknown_dataset(tmp_path):
    cells = cells_of(tmp_path, TWO, [["a", "C57"]])
    with pytest.raises(ReleaseError, match="has no dataset 'MERFISH-import'; nearest: MERFISH"):
        assigned(cells, dataset="MERFISH-import")
    with pytest.raises(ReleaseError, match="dataset 'MERFISH' has no raw feature matrix"):
        assigned(cells, "raw", dataset="MERFISH")
    with pytest.raises(ReleaseError, match="dataset 'WMB-10X' has no log2 feature matrix"):
        assigned(cells, dataset="WMB-10X")


def test_an_unknown_matrix(tmp_path):
    cells = cells_of(tmp_path, THREE, [["a", "WMB-10Xv2-T", "WMB-10Xv2"]])
    message = "release 20250531 has no feature matrix WMB-10Xv2/WMB-10Xv2-T; nearest: WMB-10Xv2-TH"
    with pytest.raises(ReleaseError, match=message):
        assigned(cells)
    with pytest.raises(ReleaseError, match="has no feature matrix nothing; there are: C57"):
        assigned(cells_of(tmp_path, TWO, [["a", "nothing"]]))


def test_resolve_matrix():
    found = resolve_matrix(MANIFEST, "raw", None, "WMB-10Xv2-TH")
    assert (found.dataset_label, found.normalization) == ("WMB-10Xv2", "raw")
    with pytest.raises(ReleaseError, match="WMB-10Xv2/WMB-10Xv2-HY has no normalization 'raw'"):
        resolve_matrix(MANIFEST, "raw", "WMB-10Xv2", "WMB-10Xv2-HY")
    with pytest.raises(ReleaseError, match="has no feature matrix WMB-10Xv3/WMB-10Xv2-TH"):
        resolve_matrix(MANIFEST, "log2", "WMB-10Xv3", "WMB-10Xv2-TH")


@settings(WITH_FILES, max_examples=40)
@given(st.lists(st.sampled_from([None, "WMB-10Xv2-TH", "WMB-10Xv2-HY", "WMB-10Xv3-TH"])))
def test_every_cell_is_assigned_once_in_order(tmp_path_factory, labels):
    path = tmp_path_factory.mktemp("cells") / "a.parquet"
    write_cached(
        pa.table(
            {
                "cell_label": [str(n) for n in range(len(labels))],
                "feature_matrix_label": pa.array(labels, pa.string()),
            }
        ),
        path,
    )
    cells = CellTable(path, "a.csv", ("cell_label", "feature_matrix_label"), len(labels), ("a",))
    expected: dict[str, list[int]] = {}
    for position, label in enumerate(labels):
        if label is not None:
            expected.setdefault(label, []).append(position)
    assert {label: found for (_, label), found in assigned(cells).items()} == expected
