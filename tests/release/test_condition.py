"""Conditions: what pandas answers, and nothing that runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abc_dask.base.errors import AbcDaskError, UsageError
from abc_dask.release.condition import Condition

FRAME = pd.DataFrame(
    {
        "kind": ["a", "b", None, "c d", "b"],
        "other": ["a", "x", "y", "c d", None],
        "n": [1.0, np.nan, 3.0, 4.0, -2.0],
        "i": [1, 2, 3, 4, 5],
        "big": [2**53, 2**53 + 1, -(2**63), 2**63 - 1, 0],
        "f": np.array([0.1, np.nan, 3, np.inf, -0.0], np.float32),
        "flag": [True, False, True, False, False],
        "my col": ["q", "r", "x&y", "`", "it's"],
        "größe": [1, 2, 3, 4, 5],
    }
)


def agrees(text: str, query: str | None = None) -> None:
    got = Condition.parse(text).mask_of_frame(FRAME)
    expected = FRAME.index.isin(FRAME.query(query or text, engine="python").index)
    np.testing.assert_array_equal(got, expected, err_msg=text)


@pytest.mark.parametrize(
    "text",
    [
        "kind == 'b'",
        "kind != 'b'",
        "kind == other",
        "kind != other",
        "kind in ['a', 'c d'] and n > 0",
        "kind not in ('a',)",
        "not kind in ['a'] or i >= 4",
        "1 < n <= 4",
        "0 < i < n",
        "n == -2 | i == 1 & kind == 'a'",
        "~(n > 0) and i < 5",
        "n.isna()",
        "kind.notnull() and not other.isnull()",
        "`my col` in ['x&y', '`', \"it's\"]",
        "i in [1, 2.0, -3, +4]",
        "'b' == kind",
        "`my col` < 'r'",
        "3 <= i",
        "kind in []",
        "kind == ['a', 'b'] or i != [1, 2]",
        "flag",
        "~flag and not i > 4",
        "flag == True and i < 3",
        "flag != 1",
        "f == 0.1",
        "f in [3, 0]",
        "f > n",
        "i <= f",
        "big == 9007199254740993",
        "big in [9007199254740993, 1]",
        "big > 9223372036854775806",
        "big < 9223372036854775808",
        "big != -9223372036854775809",
        "i < 2.5 < n",
        "`größe` > 2 and größe < 5",
    ],
)
def test_pandas_agrees(text):
    agrees(text)


COMPARE = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
WITHIN = st.sampled_from(["in", "not in", "==", "!="])
NUMERIC = st.sampled_from(["n", "i", "f", "flag"])
WORDS = st.sampled_from(["a", "b", "c d", "x", "it's", "x&y"])
COMPARISONS = st.one_of(
    st.builds("{} {} {}".format, NUMERIC, COMPARE, st.integers(-3, 6)),
    st.builds("{} {} {}".format, NUMERIC, COMPARE, st.floats(-3, 6)),
    st.builds("{} {} {}".format, st.integers(-3, 6), COMPARE, NUMERIC),
    st.builds("{} {} {}".format, NUMERIC, COMPARE, NUMERIC),
    st.builds("{} {} {} {} {}".format, st.integers(-3, 3), COMPARE, NUMERIC, COMPARE, NUMERIC),
    st.builds("big {} {}".format, COMPARE, st.sampled_from([*FRAME["big"], 2**53 + 2, 1])),
    st.builds("{} {} {!r}".format, st.sampled_from(["kind", "other", "`my col`"]),
              st.sampled_from(["==", "!="]), WORDS),
    st.builds("{!r} {} `my col`".format, WORDS, COMPARE),
    st.builds("{} {} {!r}".format, st.sampled_from(["kind", "other", "`my col`"]), WITHIN,
              st.lists(WORDS, min_size=1, max_size=3)),
    st.builds("{} {} {!r}".format, NUMERIC, WITHIN,
              st.lists(st.integers(0, 6), min_size=1, max_size=3)),
    st.builds("{}.{}()".format, st.sampled_from(["n", "f", "i", "kind", "other", "flag"]),
              st.sampled_from(["isna", "isnull", "notna", "notnull"])),
    st.sampled_from(["flag", "kind == other", "kind != other"]),
)  # fmt: skip
CONDITIONS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.builds("({}) and ({})".format, inner, inner),
        st.builds("({}) | ({})".format, inner, inner),
        st.builds("not ({})".format, inner),
        st.builds("~({})".format, inner),
    ),
    max_leaves=6,
)


@given(CONDITIONS)
def test_any_condition_is_what_pandas_answers(text):
    agrees(text)


def test_any_space_is_a_space():
    agrees("kind\n!=\tother\r\nand  i>1 ", "kind != other and i > 1")


def test_words_of_python_are_columns():
    frame = FRAME.rename(columns={"kind": "class"})
    condition = Condition.parse("class == 'b'\n  and i > 2")
    assert condition.columns == ("class", "i")
    assert condition.mask_of_frame(frame).tolist() == [False, False, False, False, True]


@given(CONDITIONS)
def test_categoricals_and_arrow_tables_answer_as_text_does(text):
    frame = FRAME.assign(
        kind=pd.Categorical(FRAME["kind"], ["c d", "b", "z", "a"], ordered=True),
        other=FRAME["other"].astype("category"),
    )
    condition = Condition.parse(text)
    expected = condition.mask_of_frame(FRAME)
    np.testing.assert_array_equal(condition.mask_of_frame(frame), expected)
    # in several chunks, with dictionaries of their own
    schema = pa.Schema.from_pandas(frame)
    parts = [pa.Table.from_pandas(part, schema) for part in (frame[:2], frame[2:2], frame[2:])]
    table = pa.concat_tables(parts)
    np.testing.assert_array_equal(condition.mask(table), expected)


def test_whole_numbers_with_missing_ones_are_compared_exactly():
    table = pa.table({"id": pa.array([1018093344102010152, None, 1018093344102010153])})
    for text, expected in {
        "id == 1018093344102010153": [False, False, True],
        "id != 1018093344102010153": [True, True, False],
        "id in [1018093344102010152, 0.5]": [True, False, False],
        "id not in [1018093344102010152]": [False, True, True],
        "id > 1018093344102010112.0": [True, False, True],
        "id < 1e300 and id > 0.5": [True, False, True],
        "id.isna()": [False, True, False],
        "not id > 0": [False, True, False],
    }.items():
        assert Condition.parse(text).mask(table).tolist() == expected, text


@given(st.integers(-(2**64), 2**64), st.sampled_from([np.uint8, np.int8, np.int32, np.uint64]))
def test_any_constant_beside_any_type_of_whole_numbers(constant, kind):
    limits = np.iinfo(kind)
    frame = pd.DataFrame({"i": np.array([limits.min, 0, 1, limits.max], kind)})
    for compare in ("==", "<", ">="):
        got = Condition.parse(f"i {compare} {constant}").mask_of_frame(frame).tolist()
        values = [int(value) for value in frame["i"]]
        assert got == [eval(f"{value} {compare} {constant}") for value in values]


def test_booleans_with_missing_ones():
    table = pa.table({"flag": pa.array([True, None, False])})
    assert Condition.parse("flag").mask(table).tolist() == [True, False, False]
    assert Condition.parse("not flag").mask(table).tolist() == [False, True, True]
    assert Condition.parse("flag == False").mask(table).tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("kind ==", "no condition: .*, at 'kind =='"),
        ("kind = 'a'", "no condition: .*, at .= 'a'"),
        ("__import__('os').system('touch x')", "a call is not allowed, at '?\"?__import__"),
        ("kind.str.contains('a') == 1", "a call is not allowed, at"),
        ("kind.values == 1", "an attribute is not allowed, at 'kind.values'"),
        ("@kind == 'a'", "no condition"),
        ("n == i ** 9 ** 9", r"expected a column, .* at 'i \*\* 9 \*\* 9'"),
        ("n[0] == 1", "expected a column"),
        ("[n == 1 for n in i]", "no condition|only comparisons"),
        ("(lambda: 1)() == n", "no condition|a call"),
        ("f'{n}' == kind", "expected a column"),
        ("kind is None", "'is' is not allowed"),
        ("kind == None", "expected a column"),
        ("kind", "this is text; compare it with something, at 'kind'"),
        ("'a' == 'b'", "one side of a comparison must be a column"),
        ("kind in other", "a list must stand after 'in'"),
        ("'a' in kind", "a list must stand after 'in', at 'kind'"),
        ("'a' in ['a']", r"a column must stand before a list, at .'a'"),
        ("'a'", "alone is no condition"),
        ("kind in [other]", "a list holds numbers or text"),
        ("(" * 3000, "no condition|cannot be parsed"),
        ("not " * 2400 + "n == 1", "nested too deeply|cannot be parsed|no condition"),
        ("n == 1 " * 2000, "14,000 characters"),
        ("\0", "no condition|cannot be parsed"),
        ("kind > 3", "column 'kind' is text, compared with a number"),
        ("n == 'a'", "column 'n' is a number, compared with text"),
        ("n in ['a']", "column 'n' is a number, compared with text"),
        ("kind in [1]", "column 'kind' is text, compared with a number"),
        ("kind == n", "column 'kind' is text, compared with a number"),
        ("n < kind", "column 'n' is a number, compared with text"),
        ("flag == 'True'", "column 'flag' is true or false, compared with text"),
        ("kind < ['a']", r"expected a column, a number or text in quotes, at .\['a'\]"),
        ("`my col` == 3", "column 'my col' is text, compared with a number"),
        ("größe == 1 and foo(größe)", r"a call is not allowed, at 'foo\(größe\)'"),
        ("größe == 1 and `my col` is 3", "'is' is not allowed; .*, at '`my col` is 3'"),
        ("kind == '\\ud800'", "half a character"),
    ],
)
def test_refusals_are_one_line(text, message):
    with pytest.raises(UsageError, match=message) as caught:
        Condition.parse(text).mask_of_frame(FRAME)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@given(st.text(max_size=40))
def test_any_text_is_a_condition_or_a_usage_error(text):
    problem = ""
    try:
        assert Condition.parse(text).columns
    except AbcDaskError as error:
        problem = str(error)
    assert "\n" not in problem
