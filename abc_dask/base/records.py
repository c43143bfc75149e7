"""Frozen dataclasses as JSON and back, strict: what is read may have been written by anybody.

A record is a dataclass of text, numbers, truth values, paths, other records, tuples, lists and
dictionaries with text as keys. A type such as ``tuple[Record, ...]`` may stand for a record.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import reprlib
import types
import typing
from collections.abc import Mapping, Sequence
from operator import is_
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_PLAIN = frozenset((str, int, float, bool, types.NoneType))


def dumps(record: Any) -> bytes:
    """Return a record as JSON text.

    Raises
    ------
    TypeError
        If it holds what is no record.
    """
    return json.dumps(to_json(record)).encode()


def loads(kind: type[T], content: bytes | str) -> T:
    """Return the record that JSON text describes.

    Raises
    ------
    ValueError
        If the text is not JSON, or not that of such a record.
    """
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError("the text is nested too deeply") from None
    return from_json(kind, value)


def to_json(record: Any) -> Any:
    """Return a record as values that `json.dumps` takes.

    Raises
    ------
    TypeError
        If it holds what is no record.

    Examples
    --------
    >>> @dataclasses.dataclass(frozen=True)
    ... class Range:
    ...     file: Path
    ...     stop: int | None = None
    >>> to_json(Range(Path("a/b"), 4))
    {'file': 'a/b', 'stop': 4}
    """
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        fields = dataclasses.fields(record)
        return {field.name: to_json(getattr(record, field.name)) for field in fields}
    if isinstance(record, tuple | list):
        if all(type(one) in _PLAIN for one in record):
            return list(record)
        return [to_json(one) for one in record]
    if isinstance(record, Mapping):
        if not all(isinstance(key, str) for key in record):
            raise TypeError(f"the keys of {reprlib.repr(record)} are not all text")
        return {key: to_json(one) for key, one in record.items()}
    if isinstance(record, Path):
        return str(record)
    if type(record) in _PLAIN:
        return record
    raise TypeError(f"{reprlib.repr(record)} cannot be written as JSON")


def from_json(kind: type[T], value: Any) -> T:
    """Return the record that JSON values describe.

    Parameters
    ----------
    kind : type
        A dataclass, or another type as its fields may have.
    value : object
        As `json.loads` returns it. Every field of a dataclass must be there, and no other.

    Raises
    ------
    ValueError
        If a key is missing or unknown, or a value is of another type. The message names it
        by its keys, such as ``matrices[3].fingerprint.size``.

    Examples
    --------
    >>> @dataclasses.dataclass(frozen=True)
    ... class Range:
    ...     start: int
    ...     stop: int | None
    >>> from_json(tuple[Range, ...], [{"start": 2, "stop": None}])
    (Range(start=2, stop=None),)
    >>> from_json(tuple[Range, ...], [{"start": "2", "stop": None}])
    Traceback (most recent call last):
    ValueError: [0].start is '2', expected int
    """
    record: T = _read(kind, value, "")
    return record


def _read(kind: Any, value: Any, path: str) -> Any:
    """Return a value of some type; `path` is where it stands."""
    origin, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin in {typing.Union, types.UnionType}:  # of one type and None
        (kind,) = (one for one in arguments if one is not types.NoneType)
        return None if value is None else _read(kind, value, path)
    if dataclasses.is_dataclass(kind):
        return _read_fields(kind, value, path)
    if origin in {tuple, list, Sequence}:
        return _read_items(origin, arguments, value, path)
    if origin in {dict, Mapping}:
        _require(value, dict, path, "an object")
        return {key: _read(arguments[1], one, _key(path, key)) for key, one in value.items()}
    return value if kind is Any else _read_plain(kind, value, path)


def _read_plain(kind: Any, value: Any, path: str) -> Any:
    if kind is Path:
        _require(value, str, path, "a path")
        return Path(value)
    if kind is float and type(value) is int and abs(value) < 1 << 1023:
        return float(value)  # JSON has one kind of numbers
    if kind not in _PLAIN:
        raise TypeError(f"{kind} is no type of a record's field")
    _require(value, kind, path, kind.__name__)
    return value


def _read_fields(kind: Any, value: Any, path: str) -> Any:
    _require(value, dict, path, "an object")
    hints = _hints(kind)
    if missing := [name for name in hints if name not in value]:
        raise ValueError(f"{_key(path, missing[0])} is missing")
    if unknown := [key for key in value if key not in hints]:
        raise ValueError(f"{_key(path, unknown[0])} is unknown")
    return kind(
        **{name: _read(hint, value[name], _key(path, name)) for name, hint in hints.items()}
    )


def _read_items(origin: Any, arguments: tuple[Any, ...], value: Any, path: str) -> Any:
    _require(value, list, path, "a list")
    if origin is tuple and Ellipsis not in arguments:
        kinds = arguments
        if len(value) != len(kinds):
            raise _unexpected(value, path, f"a list of {len(kinds)}")
    else:
        kinds = arguments[:1] * len(value)
    if set(kinds) <= _PLAIN and all(map(is_, map(type, value), kinds)):  # most lists are long
        return value if origin is list else tuple(value)
    pairs = enumerate(zip(kinds, value, strict=True))
    items = [_read(kind, one, f"{path}[{k}]") for k, (kind, one) in pairs]
    return items if origin is list else tuple(items)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _key(path: str, key: str) -> str:
    """Return the path of a key; one that is no name is quoted, and cut where it is long."""
    if not (key.isidentifier() and key.isascii() and len(key) <= 60):
        return f"{path}[{reprlib.repr(key)}]"
    return f"{path}.{key}" if path else key


def _require(value: Any, kind: type, path: str, expected: str) -> None:
    if type(value) is not kind:
        raise _unexpected(value, path, expected)


def _unexpected(value: Any, path: str, expected: str) -> ValueError:
    return ValueError(f"{path or 'the value'} is {reprlib.repr(value)}, expected {expected}")
