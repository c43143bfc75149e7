"""Types of columns: no value becomes another one."""

from __future__ import annotations

import math
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abc_dask.base.errors import UsageError
from abc_dask.disk.kept_table import read_cached
from abc_dask.release import csv_blocks, csv_table
from abc_dask.release.annotations import Annotations
from abc_dask.release.selection import CellChoice
from abc_dask.release.several import annotations_of_view
from tests.strategies import WITH_FILES, csv_names, csv_text, write_release


def kept(folder, values) -> pa.ChunkedArray:
    """Keep a table with one column of these values, None where missing."""
    source, target = folder / "a.csv", folder / "a.parquet"
    rows = [[f"c{n}", "" if value is None else value] for n, value in enumerate(values)]
    source.write_text(csv_text(["cell_label", "odd"], rows))
    csv_table._csv_to_parquet(source, target)
    return read_cached(target)["odd"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", None, "-3"], "int64"),
        (["1018093344102010152", None], "int64"),
        (["9223372036854775807"], "int64"),
        (["9223372036854775808"], "string"),
        (["18221157143879320271846943710", None], "string"),
        (["1.5", "2", "1e5", None], "double"),
        (["1.5", "9007199254740993"], "string"),
        (["1.5", "9007199254740992"], "double"),
        (["001", "002"], "string"),
        (["1", "002"], "string"),
        (["0", "0.5", "-0.25"], "double"),
        (["0", "10"], "int64"),
        (["-01"], "string"),
        (["00.5"], "string"),
        (["0x1F", "12"], "string"),
        ([" 7", "8 "], "int64"),
        (["True", None, "false"], "bool"),
        (["True", "1"], "string"),
        (["yes", "no"], "string"),
        (["2021-03-04", None], "string"),
        (["2021-03-04 10:11:12.5", "2022-01-01 00:00:00"], "string"),
        (["10:11:12"], "string"),
        ([None, None], "string"),
        (["1_000"], "string"),
    ],
)
def test_types(tmp_path, values, kind):
    column = kept(tmp_path, values)
    assert str(column.type) == kind
    if kind == "string":
        assert column.to_pylist() == values


TEXTS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.integers(2**53 - 2, 2**53 + 2).map(str),
    st.integers(-(2**63) - 2, -(2**63) + 2).map(str),
    st.integers(2**63 - 2, 2**63 + 2).map(str),
    st.integers(0, 99).map("{:03d}".format),
    st.floats(allow_nan=False).map(repr),
    st.decimals(-100, 100, places=2).map(str),
    st.sampled_from(["True", "False", "true", "0x1f", "+5", "1e5", "inf", ".5", "5.", "1-2"]),
    st.dates().map(str),
    st.datetimes().map(str),
    st.times().map(str),
)


@settings(WITH_FILES, max_examples=150)
@given(
    st.one_of(
        st.lists(st.none() | TEXTS, max_size=20),
        *(st.lists(st.none() | texts, max_size=20) for texts in TEXTS.original_strategies),
    ),
    st.sampled_from([1 << 8, 1 << 24]),
)
def test_no_value_becomes_another_one(tmp_path_factory, values, block):
    """The oracle: what Python says that a text is, exactly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_blocks, "CSV_BLOCK", block)
        column = kept(tmp_path_factory.mktemp("types"), values)
    for text, value in zip(values, column.to_pylist(), strict=True):
        if text is None or isinstance(value, str):
            assert value == text
        elif isinstance(value, bool):
            assert str(value).lower() == text.lower()
        elif isinstance(value, int):
            assert int(text) == value
            assert str(value) == text.removeprefix("+").replace("-0", "0")
        elif math.isinf(value):
            assert float(text) == value
        else:
            assert float(text) == value
            # what is written as a whole number is held as it is
            assert not text.lstrip("+-").isdigit() or Decimal(text) == Decimal(value)


def annotations_of(tmp_path, columns) -> Annotations:
    rows = [[f"c{n}", "m", *row] for n, row in enumerate(zip(*columns.values(), strict=True))]
    text = csv_text(["cell_label", "feature_matrix_label", *columns], rows)
    release = write_release(tmp_path, {csv_names("WMB-10X", "cell_metadata"): text})
    return annotations_of_view(
        {
            "atlas": {"download_base": release.download_base},
            "release": release.version,
            "metadata": "WMB-10X",
        }
    )


def test_annotations_of_every_type(tmp_path):
    columns = {
        "number": ["1018093344102010153", "", "1018093344102010152", ""],
        "whole": ["1018093344102010153", "3", "1018093344102010152", "4"],
        "some": ["5", "", "6", ""],
        "code": ["001", "010", "", "002"],
        "date": ["2021-10-04", "", "2021-09-30", "2020-01-01"],
        "at": ["10:11:12", "09:00:00", "", ""],
        "taken": ["2021-03-04 10:11:12", "", "2021-03-04 10:11:11", ""],
        "flag": ["True", "False", "", "False"],
    }
    tables = annotations_of(tmp_path, columns)
    found = {a.name: a.cells(a.values()) for a in tables.find(list(columns))}
    assert found["whole"].tolist() == [int(value) for value in columns["whole"]]
    assert found["some"].dropna().tolist() == [5.0, 6.0]
    for name in ("number", "code", "date", "at", "taken", "flag"):
        got = found[name].astype(object).where(found[name].notna(), "")
        assert got.tolist() == columns[name], name
        # the order of terms is that of numbers and times
        assert list(found[name].cat.categories) == sorted({*columns[name]} - {""})


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("number == 1018093344102010153", [0]),
        ("number != 1018093344102010153", [1, 2, 3]),
        ("code == '001' or code in ['002']", [0, 3]),
        ("date >= '2021-01-01'", [0, 2]),
        ("at == '10:11:12'", [0]),
        ("flag", [0]),
        ("flag == False", [1, 3]),
    ],
)
def test_conditions_on_every_type(tmp_path, where, expected):
    columns = {
        "number": ["1018093344102010153", "", "1018093344102010152", ""],
        "code": ["001", "010", "", "002"],
        "date": ["2021-10-04", "", "2021-09-30", "2020-01-01"],
        "at": ["10:11:12", "09:00:00", "", ""],
        "flag": ["True", "False", "", "False"],
    }
    mask = CellChoice(where=where).choose(annotations_of(tmp_path, columns)).mask
    assert mask.nonzero()[0].tolist() == expected


def test_a_code_is_no_number(tmp_path):
    tables = annotations_of(tmp_path, {"code": ["001", "002"]})
    with pytest.raises(UsageError, match="column 'code' is text, compared with a number"):
        CellChoice(where="code == 1").choose(tables)
