"""Conditions on columns, in the words of `pandas.DataFrame.query`, without running any code.

A condition compares columns with numbers, text, lists of them, or other columns, and
joins comparisons by ``and``, ``or``, ``not`` (``&``, ``|``, ``~``) and parentheses. It is
parsed as Python, and one walk over the tree builds an expression of `pyarrow.compute`;
what the walk does not know is refused. Missing values are as in pandas: no comparison
holds for them but ``!=`` and ``not in``.
"""

from __future__ import annotations

import ast
import keyword
import re
import warnings
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from abc_dask.base.errors import UsageError
from abc_dask.base.messages import shortened
from abc_dask.release.comparison import (
    BOOLEAN,
    NUMBER,
    TEXT,
    Operand,
    alike,
    column_operand,
    is_in,
)

if TYPE_CHECKING:
    import pandas as pd

_LONGEST = 10_000

_DEEPEST = 100

_TOKENS = re.compile(
    r"""(?P<text>'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")|(?P<name>`[^`]+`)"""
    r"""|(?P<word>[^\W\d]\w*)|(?P<both>&)|(?P<either>\|)|(?P<space>\s)"""
)

# All other words of Python's, such as class, are names of columns here.
_WORDS = {"and", "or", "not", "in", "is", "True", "False", "None"}

_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
}

_MISSING = {"isna": True, "isnull": True, "notna": False, "notnull": False}

_ALWAYS, _NEVER = pc.scalar(True), pc.scalar(False)  # noqa: FBT003 - values, not flags


@dataclass(frozen=True)
class Condition:
    """A parsed condition.

    Attributes
    ----------
    text : str
        As it was written.
    columns : tuple of str
        Columns that it names, in order of appearance.
    texts : tuple of (str, str)
        Columns, each with a text that it is compared with.
    """

    text: str
    columns: tuple[str, ...]
    texts: tuple[tuple[str, str], ...]
    _source: _Source
    _tree: ast.expr

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Parse a condition.

        Parameters
        ----------
        text : str
            Such as ``class == '01 IT-ET Glut' and region_of_interest_acronym in ['MOp']``;
            names that are not Python's stand in backticks.

        Raises
        ------
        UsageError
            If it is not one; quotes the part that is wrong.
        """
        if not text.strip():
            raise UsageError("--where is empty; give a condition such as \"class == '...'\"")
        if len(text) > _LONGEST:
            raise UsageError(
                f"--where has {len(text):,} characters, at most {_LONGEST:,}; "
                "give long lists of cells by --cells-from"
            )
        source = _Source.of(text)
        try:
            with warnings.catch_warnings():  # of backslashes in quotes, for example
                warnings.simplefilter("ignore")
                tree = ast.parse(source.rewritten, mode="eval").body
            walk = _Walk(source)
            walk.condition(tree)
        except SyntaxError as error:
            rest = text[source.origin((error.offset or 1) - 1) :].strip()[:40]
            raise UsageError(
                f"--where {shortened(text)} is no condition: {error.msg}, at {rest!r}"
            ) from None
        except (ValueError, MemoryError, RecursionError):
            raise UsageError(f"--where {shortened(text)} cannot be parsed") from None
        return cls(text, tuple(dict.fromkeys(walk.columns)), tuple(walk.texts), source, tree)

    def expression(self, schema: pa.Schema) -> pc.Expression:
        """Return the condition as an expression that is true or false, never missing.

        Parameters
        ----------
        schema : pyarrow.Schema
            Has all of `columns`: text, dictionaries of text, numbers or booleans.

        Raises
        ------
        UsageError
            If text is compared with a number.
        """
        return _Walk(self._source, schema).condition(self._tree)

    def mask(self, table: pa.Table) -> NDArray[np.bool_]:
        """Return for which rows of a table the condition holds.

        Raises
        ------
        UsageError
            If text is compared with a number.
        """
        from pyarrow.acero import Declaration, ProjectNodeOptions, TableSourceNodeOptions

        expression = self.expression(table.schema)
        steps = [
            Declaration("table_source", TableSourceNodeOptions(table)),
            Declaration("project", ProjectNodeOptions([expression], ["holds"])),
        ]
        # without threads, which could bring rows out of order
        holds = Declaration.from_sequence(steps).to_table(use_threads=False)["holds"]
        mask: NDArray[np.bool_] = holds.to_numpy()
        return mask

    def mask_of_frame(self, frame: pd.DataFrame) -> NDArray[np.bool_]:
        """Return for which rows of a DataFrame the condition holds."""
        columns = {}
        for name in self.columns:
            series = frame.index.to_series() if name == frame.index.name else frame[name]
            is_plain = getattr(series.dtype, "kind", "O") in "iufb" or series.dtype == "category"
            columns[name] = pa.array(series, None if is_plain else pa.string(), from_pandas=True)
        return self.mask(pa.table(columns))


@dataclass(frozen=True)
class _Source:
    """A condition as it was written, and rewritten as Python.

    Names that are not Python's become ``_``, and ``&`` and ``|`` become words, which bind
    more loosely than comparisons, as pandas reads them.
    """

    text: str
    rewritten: str
    # where each piece starts, in the rewritten text and in that which was written
    _starts: tuple[int, ...]
    _origins: tuple[int, ...]

    @classmethod
    def of(cls, text: str) -> _Source:
        pieces, starts, origins, length = [], [], [], 0
        begin = len(text) - len(text.lstrip())
        end = len(text.rstrip())
        while begin < end:
            token = _TOKENS.match(text, begin, end)
            piece = text[begin] if token is None else _as_python(token)
            starts.append(length)
            origins.append(begin)
            pieces.append(piece)
            length += len(piece)
            begin = begin + 1 if token is None else token.end()
        return cls(text, "".join(pieces), (*starts, length), (*origins, end))

    def origin(self, offset: int) -> int:
        """Return which character of the text a character of the rewritten one is from."""
        k = max(0, bisect_right(self._starts, offset) - 1)
        return min(self._origins[k] + offset - self._starts[k], len(self.text))

    def of_node(self, node: ast.expr) -> str:
        """Return the part of the text that a node is from."""
        line = self.rewritten.encode()
        # Python counts in bytes
        start, stop = (
            self.origin(len(line[:offset].decode()))
            for offset in (node.col_offset, node.end_col_offset)
        )
        return self.text[start:stop].rstrip()


def _as_python(token: re.Match[str]) -> str:
    word = token["word"]
    if token["name"] or (word and keyword.iskeyword(word) and word not in _WORDS):
        return "_"
    if token["space"]:
        return " "
    if token["both"]:
        return " and "
    return " or " if token["either"] else token[0]


class _Walk:
    """The walk over a tree: collects names, refuses what is unknown, builds the expression.

    Without a schema the types of columns are unknown, and only the grammar is checked.
    """

    def __init__(self, source: _Source, schema: pa.Schema | None = None) -> None:
        self.columns: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self._source = source
        self._schema = schema

    def condition(self, node: ast.expr, depth: int = 0) -> pc.Expression:
        if depth > _DEEPEST:
            raise UsageError(f"--where {shortened(self._source.text)} is nested too deeply")
        match node:
            case ast.BoolOp(op=op):
                holds = [self.condition(value, depth + 1) for value in node.values]
                return _joined(holds, is_any=isinstance(op, ast.Or))
            case ast.UnaryOp(op=ast.Not() | ast.Invert()):
                return ~self.condition(node.operand, depth + 1)
            case ast.Compare():
                sides = [node.left, *node.comparators]
                pairs = zip(node.ops, sides, sides[1:], strict=False)
                return _joined([self._pair(node, *pair) for pair in pairs], is_any=False)
            case ast.Call(func=ast.Attribute(value=ast.Name() as name, attr=test)) if (
                test in _MISSING and not node.args and not node.keywords
            ):
                missing = self._operand(name).value.is_null(nan_is_null=True)
                return missing if _MISSING[test] else ~missing
            case ast.Call():
                raise self._refused(node, "a call is not allowed")
            case ast.Name():
                return self._flag(node)
            case ast.Constant():
                raise self._refused(node, "this alone is no condition; compare a column with it")
            case _:
                raise self._refused(node, "only comparisons joined by and, or, not are allowed")

    def _flag(self, node: ast.Name) -> pc.Expression:
        """Return whether a column of booleans, which stands alone, is true."""
        column = self._operand(node)
        if self._schema is not None and column.kind != BOOLEAN:
            raise self._refused(node, f"this is {column.kind}; compare it with something")
        return pc.coalesce(column.value != 0, _NEVER)

    def _pair(
        self, node: ast.Compare, op: ast.cmpop, left: ast.expr, right: ast.expr
    ) -> pc.Expression:
        if isinstance(right, ast.List | ast.Tuple | ast.Set):
            if isinstance(op, ast.In | ast.Eq):
                return self._within(left, right.elts)
            if isinstance(op, ast.NotIn | ast.NotEq):
                return ~self._within(left, right.elts)
        if isinstance(op, ast.In | ast.NotIn):
            raise self._refused(right, "a list must stand after 'in'")
        if type(op) not in _COMPARE:
            raise self._refused(node, "'is' is not allowed; use == or isna()")
        one, other = self._operand(left), self._operand(right)
        if not one.name and not other.name:
            raise self._refused(node, "one side of a comparison must be a column")
        self._remember(one, [other])
        self._remember(other, [one])
        if self._schema is None:
            return _ALWAYS
        if (one.kind == TEXT) != (other.kind == TEXT):
            raise self._mixed(one, other)
        compare = getattr(pc, _COMPARE[type(op)])
        if_missing = _ALWAYS if isinstance(op, ast.NotEq) else _NEVER
        return pc.coalesce(compare(*alike(one, other)), if_missing)

    def _within(self, left: ast.expr, nodes: Sequence[ast.expr]) -> pc.Expression:
        if not isinstance(left, ast.Name):
            raise self._refused(left, "a column must stand before a list")
        for node in nodes:
            if isinstance(node, ast.Name):
                raise self._refused(node, "a list holds numbers or text in quotes")
        column, items = self._operand(left), [self._operand(node) for node in nodes]
        self._remember(column, items)
        if self._schema is None:
            return _ALWAYS
        for item in items:
            if (item.kind == TEXT) != (column.kind == TEXT):
                raise self._mixed(column, item)
        return is_in(column, [item.value for item in items])

    def _remember(self, column: Operand, compared: Sequence[Operand]) -> None:
        """Remember texts that a column is compared with, for errors that name near ones."""
        if column.name:
            texts = [o.value for o in compared if not o.name and o.kind == TEXT]
            self.texts += [(column.name, text) for text in texts]

    def _operand(self, node: ast.expr) -> Operand:
        match node:
            case ast.Name():
                return self._column(self._source.of_node(node).strip("`"))
            case ast.Constant(value=str() as text):
                if any("\ud800" <= letter <= "\udfff" for letter in text):
                    raise self._refused(node, "half a character is no text")
                return Operand(text, TEXT)
            case ast.Constant(value=bool() | int() | float() as number):
                return Operand(number + 0, NUMBER)
            case ast.UnaryOp(
                op=ast.USub() | ast.UAdd() as sign, operand=ast.Constant(value=int() | float() as n)
            ) if not isinstance(n, bool):
                return Operand(-n if isinstance(sign, ast.USub) else n, NUMBER)
            case ast.Call():
                raise self._refused(node, "a call is not allowed")
            case ast.Attribute():
                raise self._refused(node, "an attribute is not allowed")
            case _:
                raise self._refused(node, "expected a column, a number or text in quotes")

    def _column(self, name: str) -> Operand:
        self.columns.append(name)
        if self._schema is None:
            return Operand(pc.field(name), NUMBER, name)
        return column_operand(name, self._schema.field(name).type)

    def _mixed(self, one: Operand, other: Operand) -> UsageError:
        column, compared = (one, other) if one.name else (other, one)
        return UsageError(
            f"--where {shortened(self._source.text)}: column {column.name!r} is {column.kind}, "
            f"compared with {compared.kind}"
        )

    def _refused(self, node: ast.expr, why: str) -> UsageError:
        where = self._source.of_node(node)[:60]
        return UsageError(f"--where {shortened(self._source.text)}: {why}, at {where!r}")


def _joined(holds: Sequence[pc.Expression], *, is_any: bool) -> pc.Expression:
    """Join conditions, in halves so that long ones do not nest deeply."""
    if len(holds) == 1:
        return holds[0]
    half = len(holds) // 2
    one, other = (_joined(part, is_any=is_any) for part in (holds[:half], holds[half:]))
    return one | other if is_any else one & other
