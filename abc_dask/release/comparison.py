"""Comparisons by Arrow that answer as pandas does: types of both sides made alike.

Whole numbers are compared exactly, also above 2**53. Other numbers are compared as float64,
or as float32 where the column is of it and the other side a constant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

TEXT, NUMBER, BOOLEAN = "text", "a number", "true or false"


@dataclass(frozen=True)
class Operand:
    """One side of a comparison.

    Attributes
    ----------
    value : Expression, str, int or float
        A column, or a constant.
    kind : str
        `TEXT`, `NUMBER` or `BOOLEAN`.
    name : str
        Name of the column; "" for a constant.
    type : DataType or None
        Type of the column.
    """

    value: Any
    kind: str
    name: str = ""
    type: pa.DataType | None = None


def column_operand(name: str, kind: pa.DataType) -> Operand:
    """Return a column of some type as an operand; booleans as 0 and 1."""
    field = pc.field(name)
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        field = field.cast(kind)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return Operand(field.cast(pa.string()), TEXT, name, pa.string())
    if pa.types.is_float16(kind):  # which Arrow does not compare
        return Operand(field.cast(pa.float32()), NUMBER, name, pa.float32())
    if pa.types.is_floating(kind) or kind == pa.uint64():
        return Operand(field, NUMBER, name, kind)
    is_flag = pa.types.is_boolean(kind)
    return Operand(field.cast(pa.int64()), BOOLEAN if is_flag else NUMBER, name, pa.int64())


def alike(one: Operand, other: Operand) -> tuple[pc.Expression, pc.Expression]:
    """Return two sides, at least one of them a column, as Arrow must compare them."""
    if not one.name:
        column, constant = alike(other, one)
        return constant, column
    if other.name:
        return _columns_alike(one, other)
    if one.kind == TEXT:
        return one.value, pc.scalar(other.value)
    if pa.types.is_floating(one.type):
        # rounded to float32, as the values of such a column were
        return one.value, pc.scalar(pa.scalar(_as_float(other.value)).cast(one.type, safe=False))
    if _fits(other.value, one.type):
        return one.value, pc.scalar(pa.scalar(int(other.value), one.type))
    return _as_double(one), pc.scalar(_beyond(other.value))


def is_in(column: Operand, values: Sequence[Any]) -> pc.Expression:
    """Return whether a column has one of some values; false where it is missing."""
    if column.kind == TEXT:
        return column.value.isin(pa.array(values, pa.string()))
    if pa.types.is_floating(column.type):
        doubles = [_as_float(value) for value in values]
        doubles += [-value for value in doubles if value == 0]  # -0.0, another one to isin
        return column.value.cast(pa.float64()).isin(pa.array(doubles, pa.float64()))
    whole = [int(value) for value in values if _fits(value, column.type)]
    return column.value.isin(pa.array(whole, column.type))


def _columns_alike(one: Operand, other: Operand) -> tuple[pc.Expression, pc.Expression]:
    types = {one.type, other.type}
    inexact = any(pa.types.is_floating(kind) or kind == pa.uint64() for kind in types)
    if one.kind != TEXT and len(types) > 1 and inexact:
        return _as_double(one), _as_double(other)
    return one.value, other.value


def _as_double(column: Operand) -> pc.Expression:
    # not safe: Arrow refuses whole numbers above 2**53 otherwise
    return column.value.cast(pa.float64(), safe=False)


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)


def _beyond(value: float) -> float:
    """Return a constant that no whole number equals, but which orders as this one does."""
    return math.copysign(math.inf, value) if abs(value) >= 1 << 63 else float(value)


def _fits(value: float, kind: Any) -> bool:
    """Return whether a type of whole numbers has a value."""
    signed = pa.types.is_signed_integer(kind)
    bits = kind.bit_width - signed
    within: bool = (-(1 << bits) if signed else 0) <= value < (1 << bits)
    return within and float(value).is_integer()
