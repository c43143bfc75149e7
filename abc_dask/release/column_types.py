"""What a column of a CSV table is: decided once, from all of its values.

A column is whole numbers, numbers or booleans only where that changes no value. All else is
text: codes such as ``001``, identifiers that float64 cannot hold, dates, times, mixtures.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

NOTHING, WHOLE, NUMBER, BOOLEAN, TEXT = "nothing", "whole", "number", "boolean", "text"

ARROW = {
    NOTHING: pa.string(),
    WHOLE: pa.int64(),
    NUMBER: pa.float64(),
    BOOLEAN: pa.bool_(),
    TEXT: pa.string(),
}

# What a column may become when values do not fit what it was, narrow kinds first.
_WIDER = {
    NOTHING: (WHOLE, NUMBER, BOOLEAN, TEXT),
    WHOLE: (WHOLE, NUMBER, TEXT),
    NUMBER: (NUMBER, TEXT),
    BOOLEAN: (BOOLEAN, TEXT),
}

# Leading zeros belong to codes; Arrow would also read hexadecimal numbers.
_CODE = r"^[+-]?0[0-9xX]"

_LONG = 16

_LONG_WHOLE = rf"^[+-]?[0-9]{{{_LONG},}}$"

# Up to this float64 holds every whole number; what is longer is an identifier.
_EXACT = 2**53

_TRUTH = ["true", "false", "True", "False", "TRUE", "FALSE"]


def kinds_of(batch: pa.RecordBatch, kinds: Mapping[str, str]) -> dict[str, str]:
    """Return the kinds of columns, widened as far as the values of a batch ask for.

    Parameters
    ----------
    batch : pyarrow.RecordBatch
        Columns of text.
    kinds : mapping of str to str
        Kind of each column as far as it is known.
    """
    return {name: _kind(batch[name], kind) for name, kind in kinds.items()}


def typed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.Table:
    """Return a batch of text as a table of the types that its kinds ask for."""
    return pa.table(
        [_cast(batch[field.name], field.type) for field in schema],
        schema=schema,
    )


def _kind(values: pa.Array, kind: str) -> str:
    if kind == TEXT or values.null_count == len(values):
        return kind
    return next(wider for wider in _WIDER[kind] if wider == TEXT or _fits(values, wider))


def _cast(values: pa.Array, kind: pa.DataType) -> pa.Array:
    return values if pa.types.is_string(kind) else pc.utf8_trim_whitespace(values).cast(kind)


def _fits(values: pa.Array, kind: str) -> bool:
    """Return whether values can be of a kind without being changed."""
    values = pc.utf8_trim_whitespace(values.drop_null())
    if kind == BOOLEAN:
        return bool(pc.all(pc.is_in(values, value_set=pa.array(_TRUTH))).as_py())
    try:
        values.cast(ARROW[kind])
    except pa.ArrowInvalid:
        return False
    if _has_code(values):
        return False
    if kind == WHOLE or (pc.max(pc.binary_length(values)).as_py() or 0) < _LONG:
        return True
    long = values.filter(pc.match_substring_regex(values, _LONG_WHOLE)).unique().to_pylist()
    return all(abs(int(text)) <= _EXACT for text in long)


def _has_code(values: pa.Array) -> bool:
    """Return whether a value is a code; only what may be one meets the regular expression."""
    may_be = pc.starts_with(values, "0")
    for sign in "+-":
        may_be = pc.or_(may_be, pc.starts_with(values, sign))
    return _any(pc.match_substring_regex(values.filter(may_be), _CODE))


def _any(mask: pa.Array) -> bool:
    return bool(pc.any(mask).as_py())
