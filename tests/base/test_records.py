"""Records: dataclasses as JSON and back, whatever the JSON says."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abc_dask.base.records import dumps, from_json, loads, to_json
from tests.strategies import IN_MEMORY


@dataclass(frozen=True)
class Inner:
    name: str
    size: int
    path: Path
    share: float = 0.5


@dataclass(frozen=True)
class Outer:
    title: str | None
    inner: Inner
    others: tuple[Inner, ...]
    pair: tuple[int, str]
    ranges: tuple[tuple[int, int], ...]
    by_name: Mapping[str, Inner]
    flag: bool
    free: Any = None
    names: Sequence[str] = ()
    nested: dict[str, list[int | None]] = dataclasses.field(default_factory=dict)


TEXT = st.text(max_size=8)
PATHS = st.lists(st.text("ab.\N{GREEK SMALL LETTER ALPHA}", min_size=1), max_size=3).map(
    lambda names: Path(*names)
)
INNER = st.builds(Inner, TEXT, st.integers(), PATHS, st.floats(allow_nan=False))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
NUMBERS = st.integers()
OUTER = st.builds(
    Outer,
    title=st.none() | TEXT,
    inner=INNER,
    others=st.lists(INNER, max_size=3).map(tuple),
    pair=st.tuples(NUMBERS, TEXT),
    ranges=st.lists(st.tuples(NUMBERS, NUMBERS), max_size=3).map(tuple),
    by_name=st.dictionaries(TEXT, INNER, max_size=3),
    flag=st.booleans(),
    free=JSON,
    names=st.lists(TEXT, max_size=3).map(tuple),
    nested=st.dictionaries(TEXT, st.lists(st.none() | NUMBERS, max_size=3), max_size=3),
)


@IN_MEMORY
@given(OUTER)
def test_a_record_comes_back_as_it_was(record):
    assert loads(Outer, dumps(record)) == record
    assert from_json(Outer, to_json(record)) == record


@IN_MEMORY
@given(OUTER)
def test_json_is_that_of_asdict(record):
    expected = json.loads(json.dumps(dataclasses.asdict(record), default=str))
    assert json.loads(dumps(record)) == expected


def key_paths(value, path=()):
    """All keys that lead into JSON, to its leaves as well."""
    yield path
    if isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from key_paths(one, (*path, key))


def changed(value, path, new):
    """JSON with another value at the end of some keys."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


@IN_MEMORY
@given(OUTER, JSON, st.data())
def test_another_value_is_refused_or_held_as_it_is(record, new, data):
    whole = to_json(record)
    path = data.draw(st.sampled_from(list(key_paths(whole))))
    other = changed(whole, path, new)
    error = None
    try:
        found = from_json(Outer, other)
    except ValueError as refused:
        error = str(refused)
    if error is None:
        # a whole number may stand for a float; a path is written in its shortest form
        if not path or path[-1] not in {"share", "path"}:
            assert json.dumps(to_json(found)) == json.dumps(other)
    else:
        assert error.isprintable()
        assert not path or path[0] != "free"  # anything may stand there


@IN_MEMORY
@given(OUTER, st.data())
def test_a_key_too_few_or_too_many_is_named(record, data):
    whole = to_json(record)
    key = data.draw(st.sampled_from(sorted(whole["inner"])))
    fewer = {name: value for name, value in whole["inner"].items() if name != key}
    with pytest.raises(ValueError, match=rf"^inner\.{key} is missing$"):
        from_json(Outer, whole | {"inner": fewer})
    with pytest.raises(ValueError, match=r"^inner\.more is unknown$"):
        from_json(Outer, whole | {"inner": whole["inner"] | {"more": 1}})


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (Inner, [], "the value is [], expected an object"),
        (int, True, "the value is True, expected int"),
        (bool, 1, "the value is 1, expected bool"),
        (int, 1.0, "the value is 1.0, expected int"),
        (float, "1", "the value is '1', expected float"),
        (str, None, "the value is None, expected str"),
        (Path, 3, "the value is 3, expected a path"),
        (tuple[int, ...], {}, "the value is {}, expected a list"),
        (tuple[int, int], [1], "the value is [1], expected a list of 2"),
        (tuple[tuple[int, ...], ...], [[1], [2, "x"]], "[1][1] is 'x', expected int"),
        (dict[str, int], {"a": 1, "b c\n": None}, "['b c\\n'] is None, expected int"),
        (dict[str, dict[str, int]], {"a": {"b": "x"}}, "a.b is 'x', expected int"),
    ],
)
def test_what_is_wrong_is_said(kind, value, said):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - compared below
        from_json(kind, value)
    assert str(caught.value) == said


def test_messages_stay_short():
    with pytest.raises(ValueError, match="expected int") as caught:
        from_json(dict[str, int], {"k" * 10_000: "v" * 10_000})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b"1e400", b'"\\ud800"'])
def test_text_that_is_no_record(content):
    with pytest.raises(ValueError):  # noqa: PT011 - json's own words
        loads(Inner, content)


def test_a_whole_number_of_any_length_is_no_float_out_of_range():
    assert loads(float, b"3") == 3.0
    with pytest.raises(ValueError, match="expected float"):
        loads(float, b"1" + b"0" * 400)


@pytest.mark.parametrize("value", [{1: 2}, {"a": object()}, [b"x"], Inner])
def test_what_is_no_record_is_not_written(value):
    with pytest.raises(TypeError):
        to_json(value)


def test_a_field_of_no_json_type_is_the_programmers_error():
    with pytest.raises(TypeError, match="no type of a record"):
        from_json(complex, 1)
