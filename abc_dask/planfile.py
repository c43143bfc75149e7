"""A plan as JSON, so that processes that know nothing but a folder can work on it."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from abc_dask.plan import Plan, RowBlock

_BLOCKS = "blocks"


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Give a plan as JSON-serialisable values; blocks as lists, since there are many."""
    shallow = {f.name: getattr(plan, f.name) for f in dataclasses.fields(plan)}
    blocks = [[b.matrix, b.start, b.stop, b.n_cells] for b in shallow.pop(_BLOCKS)]
    return {name: _to_json(value) for name, value in shallow.items()} | {_BLOCKS: blocks}


def plan_from_json(values: Mapping[str, Any]) -> Plan:
    """Give the plan that `plan_to_json` described.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the values are not those of a plan.
    """
    blocks = tuple(RowBlock(number, *block) for number, block in enumerate(values[_BLOCKS]))
    hints = typing.get_type_hints(Plan)
    rest = {
        f.name: _from_json(hints[f.name], values[f.name])
        for f in dataclasses.fields(Plan)
        if f.name != _BLOCKS
    }
    return Plan(**rest, blocks=blocks)


def _to_json(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [_to_json(one) for one in value]
    if isinstance(value, Mapping):
        return {name: _to_json(one) for name, one in value.items()}
    return value


def _from_json(hint: Any, value: Any) -> Any:
    """Build what a type hint says out of JSON values."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        hints = typing.get_type_hints(hint)
        return hint(**{name: _from_json(hints[name], one) for name, one in value.items()})
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in {typing.Union, types.UnionType}:
        if value is None:
            return None
        (other,) = (a for a in arguments if a is not type(None))
        return _from_json(other, value)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_from_json(arguments[0], one) for one in value)
        return tuple(_from_json(a, one) for a, one in zip(arguments, value, strict=True))
    return value
