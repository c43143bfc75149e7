"""Conditions: what pandas answers, and nothing that runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abc_dask.errors import AbcDaskError, UsageError
from abc_dask.release.condition import Condition

FRAME = pd.DataFrame(
    {
        "kind": ["a", "b", None, "c d", "b"],
        "other": ["a", "x", "y", "c d", None],
        "n": [1.0, np.nan, 3.0, 4.0, -2.0],
        "i": [1, 2, 3, 4, 5],
        "my col": ["q", "r", "x&y", "`", "it's"],
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
    ],
)
def test_pandas_agrees(text):
    agrees(text)


COMPARISONS = st.one_of(
    st.builds("{} {} {}".format, st.sampled_from(["n", "i"]),
              st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), st.integers(-3, 6)),
    st.builds("kind {} {!r}".format, st.sampled_from(["==", "!="]), st.sampled_from("abcz")),
    st.builds("other {} {!r}".format, st.sampled_from(["in", "not in"]),
              st.lists(st.sampled_from(["a", "x", "c d"]), max_size=3)),
    st.builds("i {} {!r}".format, st.sampled_from(["in", "not in"]),
              st.lists(st.integers(0, 6), max_size=3)),
    st.sampled_from(["n.isna()", "kind.notna()", "kind == other", "0 < i <= 3", "i < n"]),
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


def test_words_of_python_are_columns():
    frame = FRAME.rename(columns={"kind": "class"})
    condition = Condition.parse("class == 'b'\n  and i > 2")
    assert condition.columns == ("class", "i")
    assert condition.mask_of_frame(frame).tolist() == [False, False, False, False, True]


def test_categoricals_are_text():
    frame = FRAME.assign(kind=pd.Categorical(FRAME["kind"], ["c d", "b", "a"], ordered=True))
    condition = Condition.parse("kind < 'b' or kind != kind")
    np.testing.assert_array_equal(
        condition.mask_of_frame(frame), Condition.parse(condition.text).mask_of_frame(FRAME)
    )


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
        ("kind", "alone is no condition"),
        ("'a' == 'b'", "one side of a comparison must be a column"),
        ("kind in other", "a list must stand after 'in'"),
        ("'a' in kind", "a column must stand before 'in'"),
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
