"""The table of cells."""

from __future__ import annotations

import pytest

from abc_dask.base.errors import TableError
from tests.release.tables import cells_of


def test_cell_table(tmp_path):
    columns = ["cell_label", "feature_matrix_label", "dataset_label", "x"]
    cells = cells_of(tmp_path, columns, [["2", "m", "D", 1], ["1", "n", "D", 2]])
    assert (cells.n_cells, cells.columns) == (2, tuple(columns))
    assert cells.labels().to_pylist() == ["2", "1"]
    matrix, dataset = cells.matrix_names()
    assert matrix.to_pylist() == ["m", "n"]
    assert dataset.to_pylist() == ["D", "D"]
    frame = cells.to_pandas()
    assert list(frame.index) == ["2", "1"]
    assert frame["x"].tolist() == [1, 2]
    assert cells.state[0] == cells.source == "WMB-10X/metadata/cell_metadata/csv"


def test_no_dataset_label(tmp_path):
    cells = cells_of(tmp_path, ["cell_label", "feature_matrix_label"], [["a", "m"]])
    assert cells.matrix_names()[1] is None


@pytest.mark.parametrize(
    ("columns", "absent"),
    [
        (["cell_label", "x"], "feature_matrix_label"),
        (["feature_matrix_label", "x"], "cell_label"),
        (["label", "x"], "cell_label, feature_matrix_label"),
    ],
)
def test_missing_columns(tmp_path, columns, absent):
    message = f"cell_metadata/csv has no column {absent}; it has: {', '.join(columns)}"
    with pytest.raises(TableError, match=message):
        cells_of(tmp_path, columns, [["a", "b"]])


def test_duplicate_labels(tmp_path):
    columns = ["cell_label", "feature_matrix_label"]
    rows = [[label, "m"] for label in ("a", "b", "a", "c", "c", "c")]
    message = (
        "cell_metadata/csv repeats 2 cell labels, such as 'a'; "
        "every cell must have a label of its own"
    )
    with pytest.raises(TableError, match=message):
        cells_of(tmp_path, columns, rows).labels()


@pytest.mark.parametrize(("labels", "count"), [(["a", ""], "1 cell"), (["", "NA"], "2 cells")])
def test_cells_without_a_label(tmp_path, labels, count):
    rows = [[label, "m"] for label in labels]
    with pytest.raises(TableError, match=f"{count} without a label"):
        cells_of(tmp_path, ["cell_label", "feature_matrix_label"], rows).labels()
