"""Tables of a release, and which cells are in which matrix."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abc_dask.disk.cache import Cache
from abc_dask.disk.kept_table import read_cached, write_cached
from abc_dask.errors import CacheError, DamagedFileError, MissingFileError, ReleaseError, TableError
from abc_dask.release import csv_table as tables
from abc_dask.release.cell_table import CellTable
from abc_dask.release.csv_table import cached_table
from abc_dask.release.matrices import assign_cells, metadata_directory, resolve_matrix
from tests.strategies import (
    WITH_FILES,
    csv_names,
    csv_text,
    h5ad_names,
    manifest_of,
    write_release,
)

CELLS = csv_names("WMB-10X", "cell_metadata")


def table_of(tmp_path, text, tag="cell_metadata") -> pa.Table:
    """Give the cached twin of a CSV."""
    release = write_release(tmp_path, {csv_names("WMB-10X", tag): text})
    return read_cached(
        cached_table(release, release.manifest.files[0], Cache((tmp_path / "cache",)))
    )


def cells_of(tmp_path, columns, rows) -> CellTable:
    release = write_release(tmp_path, {CELLS: csv_text(columns, rows)})
    return CellTable.of(release, "WMB-10X", Cache((tmp_path / "cache",)))


# --- the metadata directory ------------------------------------------------------------------


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
        "name one with --metadata: WHB-10Xv3, Zhuang-ABCA-1"
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


# --- from CSV to Parquet ---------------------------------------------------------------------


def test_labels_stay_text(tmp_path):
    labels = ["1018135075101440088", "007", "1e5", "True", "2020-01-01", "nan1"]
    text = csv_text(
        ["cell_label", "feature_matrix_label", "gene_identifier", "library_label", "x"],
        [[label, "m", "1", "2", 1.5] for label in labels],
    )
    table = table_of(tmp_path, text)
    assert table["cell_label"].to_pylist() == labels
    for name in ("cell_label", "feature_matrix_label", "gene_identifier", "library_label"):
        assert table[name].type == pa.string()
    assert table["x"].type == pa.float64()


def test_types_are_those_of_pandas(tmp_path):
    text = csv_text(
        ["cell_label", "feature_matrix_label", "x", "cluster_alias", "entity", "flag", "none"],
        [["a", "m", 1.25, 3, "cell", True, ""], ["b", "m", "", 4, "nuclei", False, ""]],
    )
    table = table_of(tmp_path, text).to_pandas()
    assert table["x"].dtype == np.float64
    assert table["cluster_alias"].dtype == np.int64
    assert table["flag"].tolist() == [True, False]
    assert table["none"].isna().all()
    assert np.isnan(table["x"][1])


@pytest.mark.parametrize("missing", ["", "NA", "N/A", "NaN", "nan", "null", "NULL"])
def test_what_is_missing(tmp_path, missing):
    text = csv_text(
        ["cell_label", "feature_matrix_label", "neurotransmitter", "x"],
        [["a", "m", missing, missing], ["b", "m", "Glut", 1]],
    )
    table = table_of(tmp_path, text)
    assert table["neurotransmitter"].to_pylist() == [None, "Glut"]
    assert table["x"].to_pylist() == [None, 1]


def test_a_gene_may_be_called_nan(tmp_path):
    """NA and nan are missing in tables of cells; in tables of genes they can be symbols."""
    text = csv_text(
        ["gene_identifier", "gene_symbol", "name"],
        [["ENSMUSG1", "NaN", "null"], ["ENSMUSG2", "", "NA"]],
    )
    table = table_of(tmp_path, text, "gene")
    assert table["gene_symbol"].to_pylist() == ["NaN", None]
    assert table["name"].to_pylist() == ["null", "NA"]


def test_quotes_commas_line_breaks_and_other_scripts(tmp_path):
    names = ["a, b", 'say "x"', "two\nlines", "Ärztin", " spaces "]
    columns = ["gene_identifier", "gene_symbol", "name"]
    rows = [[f"E{n}", f"S{n}", name] for n, name in enumerate(names)]
    table = table_of(tmp_path, csv_text(columns, rows), "gene")
    assert table["name"].to_pylist() == names


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    table = table_of(tmp_path, "\ufeffcell_label,feature_matrix_label\na,m\n")
    assert table.column_names == ["cell_label", "feature_matrix_label"]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends(tmp_path, newline, last):
    text = newline.join(["cell_label,feature_matrix_label", "a,m", "b,m"]) + newline * last
    table = table_of(tmp_path, text)
    assert table["cell_label"].to_pylist() == ["a", "b"]
    assert table["feature_matrix_label"].to_pylist() == ["m", "m"]


def test_no_rows(tmp_path):
    table = table_of(tmp_path, "cell_label,feature_matrix_label,x\n")
    assert table.num_rows == 0
    assert table.column_names == ["cell_label", "feature_matrix_label", "x"]


@pytest.mark.parametrize(
    ("early", "late", "expected"),
    [
        ("1", "2.5", [1.0, 2.5]),
        ("", "7", [None, "7"]),
        ("", "text", [None, "text"]),
        ("1", "text", ["1", "text"]),
        ("1.5", "NA", [1.5, None]),
        ("True", "maybe", ["True", "maybe"]),
        ("2020-01-01", "never", ["2020-01-01", "never"]),
    ],
)
def test_a_column_that_shows_its_type_late(tmp_path, monkeypatch, early, late, expected):
    """The type of a long column is guessed from the first block, and the guess may be wrong."""
    monkeypatch.setattr(tables, "_CSV_BLOCK", 1 << 10)
    rows = [[f"{n}", "m", early] for n in range(500)] + [["last", "m", late]]
    table = table_of(tmp_path, csv_text(["cell_label", "feature_matrix_label", "odd"], rows))
    assert table.num_rows == 501
    values = table["odd"].to_pylist()
    assert [values[0], values[-1]] == expected
    assert set(values[:500]) == {expected[0]}
    assert table["cell_label"].to_pylist() == [row[0] for row in rows]


def test_both_kinds_of_late_types_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_CSV_BLOCK", 1 << 10)
    rows = [[f"{n}", "m", "", 1, 2.5] for n in range(500)]
    rows.append(["last", "m", "here", "x", 3.5])
    columns = ["cell_label", "feature_matrix_label", "empty", "mixed", "x"]
    table = table_of(tmp_path, csv_text(columns, rows))
    assert table["empty"].to_pylist()[-2:] == [None, "here"]
    assert table["mixed"].to_pylist()[-2:] == ["1", "x"]
    assert [float(x) for x in table["x"].to_pylist()[-2:]] == [2.5, 3.5]


CELL = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=6)


@settings(WITH_FILES, max_examples=40)
@given(st.lists(st.tuples(CELL, CELL, CELL), max_size=12))
def test_any_text_is_read_as_pandas_reads_it(tmp_path_factory, rows):
    """The oracle is pandas told of the same words for what is missing."""
    folder = tmp_path_factory.mktemp("any")
    columns = ["cell_label", "feature_matrix_label", "class"]
    source, target = folder / "a.csv", folder / "a.parquet"
    # every value quoted, as a writer does that knows of odd labels
    pd.DataFrame(rows, columns=columns).to_csv(source, index=False, quoting=1)
    tables._csv_to_parquet(source, target)
    found = [tuple(row.values()) for row in read_cached(target).to_pylist()]
    missing = {"", "NA", "N/A", "NaN", "nan", "null", "NULL"}
    assert found == [tuple(None if v in missing else v for v in row) for row in rows]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "csv is empty, expected a CSV table"),
        (b"cell_label,feature_matrix_label\na\n", "csv is not a CSV table: .*Expected 2 columns"),
        (b"cell_label,x,x\na,1,2\n", "csv has the column 'x' more than once"),
        (b"cell_label,\xff\xfe\na,1\n", "csv is not a CSV table"),
        (b"cell_label,feature_matrix_label\n\xff\xfe,m\n", "csv is not a CSV table"),
        (b"\x89HDF\r\n\x1a\n\0\0\0", "csv is not a CSV table"),
        (bytes(1000), "csv is not a CSV table"),
        (b'"' + b"a,m\n" * 9, "csv (is not a CSV table|has the column)"),
        (b'"' + b"a,m\n" * 50_000, "csv is not a CSV table"),
    ],
)
def test_what_is_no_table(tmp_path, content, message):
    release = write_release(tmp_path, {CELLS: content})
    with pytest.raises(TableError, match=message):
        cached_table(release, release.manifest.files[0], Cache((tmp_path / "cache",)))
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_twin_is_made_once(tmp_path):
    text = csv_text(["cell_label", "feature_matrix_label"], [["a", "m"]])
    release = write_release(tmp_path, {CELLS: text})
    cache = Cache((tmp_path / "cache",))
    (entry,) = release.manifest.files
    path = cached_table(release, entry, cache)
    stamp = path.stat().st_mtime_ns
    assert cached_table(release, entry, cache) == path
    assert path.stat().st_mtime_ns == stamp
    # the same size, another time: another table
    other = release.path(entry).with_suffix(".new")
    other.write_text(text.replace("a,m", "b,m"))
    other.replace(release.path(entry))
    assert cached_table(release, entry, cache) != path


def test_a_table_that_is_not_there(tmp_path):
    release = write_release(tmp_path, {CELLS: "cell_label\n"})
    (entry,) = release.manifest.files
    release.path(entry).write_text("longer than it was\n")
    with pytest.raises(DamagedFileError, match=r"has 19 bytes, the manifest .* says 11"):
        cached_table(release, entry, Cache((tmp_path / "cache",)))
    release.path(entry).unlink()
    with pytest.raises(MissingFileError, match="1 file of release 20250531 missing"):
        cached_table(release, entry, Cache((tmp_path / "cache",)))


def test_a_damaged_twin_is_noticed(tmp_path):
    """Flipped bits are an error, not other values; then it is made anew."""
    rows = [[f"{n}", "m"] for n in range(2000)]
    release = write_release(tmp_path, {CELLS: csv_text(["cell_label", "m_label"], rows)})
    path = cached_table(release, release.manifest.files[0], Cache((tmp_path / "cache",)))
    chunk = pq.read_metadata(path).row_group(0).column(0)
    raw = bytearray(path.read_bytes())
    raw[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 0x10
    path.write_bytes(raw)
    with pytest.raises(CacheError, match=r"damaged after it was written and is removed"):
        read_cached(path)
    again = cached_table(release, release.manifest.files[0], Cache((tmp_path / "cache",)))
    assert read_cached(again)["cell_label"].to_pylist() == [label for label, _ in rows]


# --- the table of cells ----------------------------------------------------------------------


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
        "cell_metadata/csv: 2 cell labels stand more than once, such as 'a'; "
        "every cell must have a label of its own"
    )
    with pytest.raises(TableError, match=message):
        cells_of(tmp_path, columns, rows).labels()


@pytest.mark.parametrize(("labels", "count"), [(["a", ""], "1 cell"), (["", "NA"], "2 cells")])
def test_cells_without_a_label(tmp_path, labels, count):
    rows = [[label, "m"] for label in labels]
    with pytest.raises(TableError, match=f"{count} without a label"):
        cells_of(tmp_path, ["cell_label", "feature_matrix_label"], rows).labels()


# --- which cells are in which matrix ---------------------------------------------------------

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
        "feature matrix 'C57' is in several datasets; name one with --dataset: "
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
