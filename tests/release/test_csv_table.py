"""From the tables of a release, which are CSV, to Parquet."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from abc_dask.base.errors import CacheError, DamagedFileError, MissingFileError, TableError
from abc_dask.disk.kept_table import Cache, read_cached
from abc_dask.release import csv_blocks, csv_table
from abc_dask.release.csv_table import cached_table
from tests.release.tables import CELLS
from tests.strategies import WITH_FILES, csv_names, csv_text, write_release


def table_of(tmp_path, text, tag="cell_metadata") -> pa.Table:
    """Give the cached twin of a CSV."""
    release = write_release(tmp_path, {csv_names("WMB-10X", tag): text})
    return read_cached(
        cached_table(release, release.manifest.files[0], Cache((tmp_path / "cache",)))
    )


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


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
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
        ("", "7", [None, 7]),
        ("", "text", [None, "text"]),
        ("1", "text", ["1", "text"]),
        ("1.5", "NA", [1.5, None]),
        ("True", "maybe", ["True", "maybe"]),
        ("2020-01-01", "never", ["2020-01-01", "never"]),
    ],
)
def test_a_column_that_shows_its_type_late(tmp_path, monkeypatch, early, late, expected):
    """The type of a long column is guessed from the first block, and the guess may be wrong."""
    monkeypatch.setattr(csv_blocks, "CSV_BLOCK", 1 << 10)
    rows = [[f"{n}", "m", early] for n in range(500)] + [["last", "m", late]]
    table = table_of(tmp_path, csv_text(["cell_label", "feature_matrix_label", "odd"], rows))
    assert table.num_rows == 501
    values = table["odd"].to_pylist()
    assert [values[0], values[-1]] == expected
    assert set(values[:500]) == {expected[0]}
    assert table["cell_label"].to_pylist() == [row[0] for row in rows]


FIELDS = st.text(st.sampled_from('ab1.-,"\r\n é#'), max_size=6)


@settings(WITH_FILES, max_examples=40)
@given(
    rows=st.lists(st.lists(FIELDS, min_size=2, max_size=2), max_size=30),
    block=st.integers(8, 80),
    newline=st.sampled_from(["\n", "\r\n", "\n\n"]),
    wanted=st.lists(st.sampled_from("abc"), min_size=1, unique=True),
)
def test_blocks_do_not_change_a_table(tmp_path_factory, rows, block, newline, wanted):
    """Against pandas: quotes and line ends within values, blocks that end anywhere."""
    folder = tmp_path_factory.mktemp("blocks")
    frame = pd.DataFrame([[f"c{k}", *row] for k, row in enumerate(rows)], columns=list("abc"))
    text = frame.to_csv(index=False, lineterminator="\n").replace("\n", newline)
    path = folder / "t.csv"
    path.write_bytes(text.encode())
    try:
        want = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
    except pd.errors.ParserError:  # its parser has no room for some lone \\r
        assume(False)
    want = want[wanted]
    whole = [csv_blocks.blocks_apart, csv_blocks.blocks_in_order]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_blocks, "CSV_BLOCK", block)
        for blocks in whole[1:] if '"' in text else whole:
            try:
                parts = [parse() for parse in blocks(path, list("abc"), [""], wanted)]
            except (csv_blocks.QuotedError, pa.ArrowInvalid):
                continue  # a line, or the header, is longer than a block
            got = pa.Table.from_batches(parts).to_pandas() if parts else want
            assert got.astype(object).where(got.notna(), None).to_numpy().tolist() == (
                want.astype(object).where(want.notna(), None).to_numpy().tolist()
            )


@pytest.mark.parametrize("block", range(30, 60))
def test_a_line_end_in_a_value_where_a_block_ends(tmp_path, monkeypatch, block):
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,b\r\n" + b'"\r\n\r\n,\r\n",x\r\n' * 20)
    monkeypatch.setattr(csv_blocks, "CSV_BLOCK", block)
    parts = [parse() for parse in csv_blocks.blocks_in_order(path, ["a", "b"], [""], ["a", "b"])]
    table = pa.Table.from_batches(parts).to_pydict()
    assert table == {"a": ["\r\n\r\n,\r\n"] * 20, "b": ["x"] * 20}


def test_a_quote_behind_many_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_blocks, "CSV_BLOCK", 1 << 10)
    rows = [[f"{n}", "m", "one"] for n in range(500)] + [["last", "m", "two\nlines, and more"]]
    table = table_of(tmp_path, csv_text(["cell_label", "feature_matrix_label", "note"], rows))
    assert table["cell_label"].to_pylist() == [row[0] for row in rows]
    assert table["note"].to_pylist() == [row[2] for row in rows]


def test_both_kinds_of_late_types_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_blocks, "CSV_BLOCK", 1 << 10)
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
    csv_table._csv_to_parquet(source, target)
    found = [tuple(row.values()) for row in read_cached(target).to_pylist()]
    missing = {"", "NA", "N/A", "NaN", "nan", "null", "NULL"}
    assert found == [tuple(None if v in missing else v for v in row) for row in rows]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "csv is empty, expected a CSV table"),
        (b"cell_label,feature_matrix_label\na\n", "csv is not a CSV table: .*Expected 2 columns"),
        (b"cell_label,x,x\na,1,2\n", "csv has the column 'x' more than once"),
        (b"cell_label,\xff\xfe\na,1\n", "csv is not UTF-8 text: byte 0xff .*; save it as CSV"),
        (b"cell_label,feature_matrix_label\n\xff\xfe,m\n", "csv is not UTF-8 text: byte 0xff"),
        (b"\x89HDF\r\n\x1a\n\0\0\0", "csv is not UTF-8 text: byte 0x89"),
        (b'cell_label,x\na,"1\nb,2\nc,3\n', "csv is not a CSV table: a quote is not closed"),
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
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    raw[start + chunk.total_compressed_size // 2] ^= 0x10
    path.write_bytes(raw)
    with pytest.raises(CacheError, match=r"damaged after it was written and is removed"):
        read_cached(path)
    again = cached_table(release, release.manifest.files[0], Cache((tmp_path / "cache",)))
    assert read_cached(again)["cell_label"].to_pylist() == [label for label, _ in rows]
