"""Conditions on columns, in the words of `pandas.DataFrame.query`, without running any code.

A condition compares columns with numbers, text, lists of them, or other columns, and
joins comparisons by ``and``, ``or``, ``not`` (``&``, ``|``, ``~``) and parentheses. It is
parsed as Python and walked; what is not in this list is refused. Missing values are as in
pandas: no comparison holds for them but ``!=`` and ``not in``.
"""

from __future__ import annotations

import ast
import keyword
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.errors import UsageError
from abc_dask.messages import shortened
from abc_dask.release.annotation import encode

if TYPE_CHECKING:
    import pandas as pd

_LONGEST = 10_000

_TOKENS = re.compile(
    r"""(?P<text>'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")|`(?P<name>[^`]+)`"""
    r"""|(?P<word>[^\W\d]\w*)|(?P<both>&)|(?P<either>\|)|(?P<space>\s+)"""
)

# All other words of Python's, such as class, are names of columns here.
_WORDS = {"and", "or", "not", "in", "is", "True", "False", "None"}

_PLACEHOLDER = "_abc_dask_name_{}_"

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}

_MISSING = {"isna": True, "isnull": True, "notna": False, "notnull": False}

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Text:
    """A column of text: codes into distinct values, -1 where missing."""

    codes: NDArray[np.int32]
    values: NDArray[np.object_]

    def missing(self) -> Mask:
        """Tell which are missing."""
        return self.codes < 0

    def holds(self, of_values: Mask, *, missing: bool) -> Mask:
        """Spread what holds of the distinct values over all cells."""
        return np.append(of_values, missing)[self.codes]


@dataclass(frozen=True)
class Numbers:
    """A column of numbers, NaN where missing."""

    values: NDArray[Any]

    def missing(self) -> Mask:
        """Tell which are missing."""
        if self.values.dtype.kind != "f":
            return np.zeros(len(self.values), np.bool_)
        missing: Mask = np.isnan(self.values)
        return missing


Column = Text | Numbers


def column_of(values: pa.ChunkedArray, name: str) -> Column:
    """Give an Arrow column as conditions see it."""
    kind = values.type
    if pa.types.is_boolean(kind):
        values = values.cast(pa.int8())
    if pa.types.is_dictionary(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        codes, names = encode(values, name, most=None)
        return Text(codes, np.array(names, dtype=object))
    if values.null_count:
        values = values.cast(pa.float64())
    return Numbers(values.to_numpy())


def column_of_series(values: pd.Series[Any]) -> Column:
    """Give a pandas column as conditions see it: categoricals are text."""
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        names = np.array(list(values.cat.categories), dtype=object)
        return Text(values.cat.codes.to_numpy().astype(np.int32), names)
    if values.dtype.kind in "iufb":
        return Numbers(values.to_numpy())
    return column_of(pa.chunked_array([pa.array(values, pa.string())]), str(values.name))


@dataclass(frozen=True)
class Condition:
    """A parsed condition.

    Attributes
    ----------
    text : str
        As it was written.
    columns : tuple of str
        Columns that it names, in order of appearance.
    """

    text: str
    columns: tuple[str, ...]
    _tree: ast.expr
    _names: tuple[str, ...]

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
            If it is not one; shows the place.
        """
        if not text.strip():
            raise UsageError("--where is empty; give a condition such as \"class == '...'\"")
        if len(text) > _LONGEST:
            raise UsageError(
                f"--where has {len(text):,} characters, at most {_LONGEST:,}; "
                "give long lists of cells by --cells-from"
            )
        rewritten, names = _rewrite(text)
        try:
            tree = ast.parse(rewritten, mode="eval").body
        except SyntaxError as error:
            place = _shown(rewritten[max(0, (error.offset or 1) - 1) :], names)[:40]
            raise UsageError(
                f"--where {shortened(text)} is no condition: {error.msg}, at {place!r}"
            ) from None
        except (ValueError, MemoryError, RecursionError):
            raise UsageError(f"--where {shortened(text)} cannot be parsed") from None
        checked = _Check(text, rewritten, names)
        try:
            checked.condition(tree)
        except RecursionError:
            raise UsageError(f"--where {shortened(text)} is nested too deeply") from None
        return cls(text, tuple(dict.fromkeys(checked.columns)), tree, names)

    def mask(self, columns: Mapping[str, Column]) -> Mask:
        """Tell for which cells the condition holds.

        Parameters
        ----------
        columns : mapping of str to Text or Numbers
            All of `columns`, of equal length.

        Raises
        ------
        UsageError
            If text is compared with a number.
        """
        return _Evaluate(self.text, self._names, columns).condition(self._tree)

    def mask_of_frame(self, frame: pd.DataFrame) -> Mask:
        """Tell for which rows of a DataFrame the condition holds."""
        found = {}
        for name in self.columns:
            series = frame.index.to_series() if name == frame.index.name else frame[name]
            found[name] = column_of_series(series)
        return self.mask(found)


def _rewrite(text: str) -> tuple[str, tuple[str, ...]]:
    """Give what Python can parse: names that are not Python's become others, & and | words."""
    names: list[str] = []

    def plain(found: re.Match[str]) -> str:
        word = found["word"]
        if found["text"] or (word and (word in _WORDS or not keyword.iskeyword(word))):
            return found[0]
        if word or found["name"]:
            names.append(word or found["name"])
            return _PLACEHOLDER.format(len(names) - 1)
        if found["space"]:
            return " "
        # as pandas reads them: looser than comparisons
        return " and " if found["both"] else " or "

    return _TOKENS.sub(plain, text).strip(), tuple(names)


def _shown(text: str, names: Sequence[str]) -> str:
    for number, name in enumerate(names):
        shown = name if name.isidentifier() else f"`{name}`"
        text = text.replace(_PLACEHOLDER.format(number), shown)
    return text


def _name(node: ast.Name, names: Sequence[str]) -> str:
    found = re.fullmatch(_PLACEHOLDER.format(r"(\d+)"), node.id)
    return names[int(found[1])] if found and int(found[1]) < len(names) else node.id


def _is_missing_test(node: ast.expr) -> bool:
    """Tell whether a node is ``column.isna()`` or the like."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in _MISSING
        and isinstance(node.func.value, ast.Name)
        and not node.args
        and not node.keywords
    )


class _Check:
    """Refuses whatever is not in the grammar, and collects the names."""

    def __init__(self, text: str, rewritten: str, names: tuple[str, ...]) -> None:
        self.columns: list[str] = []
        self._text = text
        self._rewritten = rewritten
        self._names = names

    def _refuse(self, node: ast.AST, why: str) -> None:
        place = ast.get_source_segment(self._rewritten, node) or ""
        raise UsageError(
            f"--where {shortened(self._text)}: {why}, at {_shown(place, self._names)[:60]!r}"
        )

    def condition(self, node: ast.expr) -> None:
        match node:
            case ast.BoolOp():
                for value in node.values:
                    self.condition(value)
            case ast.UnaryOp(op=ast.Not() | ast.Invert()):
                self.condition(node.operand)
            case ast.Compare():
                self._compare(node)
            case ast.Call() if _is_missing_test(node):
                self._operand(node.func.value)  # type: ignore[attr-defined]
            case ast.Call():
                self._refuse(node, "a call is not allowed")
            case ast.Name() | ast.Constant():
                self._refuse(node, "this alone is no condition; compare it with something")
            case _:
                self._refuse(node, "only comparisons joined by and, or, not are allowed")

    def _compare(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        for op, left, right in zip(node.ops, sides, sides[1:], strict=False):
            if isinstance(op, ast.In | ast.NotIn):
                if not isinstance(left, ast.Name):
                    self._refuse(left, "a column must stand before 'in'")
                if not isinstance(right, ast.List | ast.Tuple | ast.Set):
                    self._refuse(right, "a list must stand after 'in'")
                else:
                    for item in right.elts:
                        if isinstance(item, ast.Name):
                            self._refuse(item, "a list holds numbers or text in quotes")
                        self._operand(item)
                self._operand(left)
                continue
            if type(op) not in _COMPARE:
                self._refuse(node, "'is' is not allowed; use == or isna()")
            self._operand(left)
            self._operand(right)
            if not isinstance(left, ast.Name) and not isinstance(right, ast.Name):
                self._refuse(node, "one side of a comparison must be a column")

    def _operand(self, node: ast.expr) -> None:
        match node:
            case ast.Name():
                self.columns.append(_name(node, self._names))
            case ast.Constant(value=bool() | int() | float() | str()):
                pass
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=ast.Constant(value=value)) if (
                isinstance(value, int | float) and not isinstance(value, bool)
            ):
                pass
            case ast.Call():
                self._refuse(node, "a call is not allowed")
            case ast.Attribute():
                self._refuse(node, "an attribute is not allowed")
            case _:
                self._refuse(node, "expected a column, a number or text in quotes")


@dataclass(frozen=True)
class _Evaluate:
    """Walks a checked condition."""

    text: str
    names: tuple[str, ...]
    columns: Mapping[str, Column]

    def condition(self, node: ast.expr) -> Mask:
        if isinstance(node, ast.BoolOp):
            masks = [self.condition(value) for value in node.values]
            join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            joined: Mask = join.reduce(masks)
            return joined
        if isinstance(node, ast.UnaryOp):
            return ~self.condition(node.operand)
        if isinstance(node, ast.Call):
            assert isinstance(node.func, ast.Attribute)
            column = self._operand(node.func.value)
            assert isinstance(column, Text | Numbers)
            missing = column.missing()
            return missing if _MISSING[node.func.attr] else ~missing
        assert isinstance(node, ast.Compare)
        sides = [node.left, *node.comparators]
        pairs = zip(node.ops, sides, sides[1:], strict=False)
        all_pairs: Mask = np.logical_and.reduce([self._pair(*pair) for pair in pairs])
        return all_pairs

    def _operand(self, node: ast.expr) -> Column | float | str:
        if isinstance(node, ast.Name):
            return self.columns[_name(node, self.names)]
        if isinstance(node, ast.UnaryOp):
            value: Any = node.operand.value  # type: ignore[attr-defined]
            signed: float = -value if isinstance(node.op, ast.USub) else value
            return signed
        assert isinstance(node, ast.Constant)
        constant: Any = node.value
        held: float | str = int(constant) if isinstance(constant, bool) else constant
        return held

    def _pair(self, op: ast.cmpop, left: ast.expr, right: ast.expr) -> Mask:
        if isinstance(op, ast.In | ast.NotIn):
            assert isinstance(right, ast.List | ast.Tuple | ast.Set)
            return self._within(left, [self._operand(i) for i in right.elts], op)
        one, other = self._operand(left), self._operand(right)
        compare = _COMPARE[type(op)]
        if isinstance(one, Text) and isinstance(other, str):
            held = np.array([compare(value, other) for value in one.values], dtype=np.bool_)
            return one.holds(held, missing=isinstance(op, ast.NotEq))
        if isinstance(other, Text) and isinstance(one, str):
            held = np.array([compare(one, value) for value in other.values], dtype=np.bool_)
            return other.holds(held, missing=isinstance(op, ast.NotEq))
        if isinstance(one, Text) and isinstance(other, Text):
            return self._texts(op, one, other)
        values = [side.values if isinstance(side, Numbers) else side for side in (one, other)]
        if any(isinstance(value, Text | str) for value in values):
            self._mixed(left, right)
        mask: Mask = compare(*values)
        return mask

    def _texts(self, op: ast.cmpop, one: Text, other: Text) -> Mask:
        """Compare two columns of text by the places of their values in one sorted list."""
        known = sorted({*one.values, *other.values})
        place = {value: k for k, value in enumerate(known)}
        first, second = (
            np.append(np.array([place[v] for v in side.values], dtype=np.int64), -1)[side.codes]
            for side in (one, other)
        )
        missing = one.missing() | other.missing()
        held = _COMPARE[type(op)](first, second)
        return np.where(missing, isinstance(op, ast.NotEq), held).astype(np.bool_)

    def _within(self, left: ast.expr, items: list[Any], op: ast.cmpop) -> Mask:
        column = self._operand(left)
        texts = [isinstance(item, str) for item in items]
        if any(text != isinstance(column, Text) for text in texts):
            self._mixed(left, left)
        if isinstance(column, Text):
            chosen = set(items)
            held = np.array([value in chosen for value in column.values], dtype=np.bool_)
            mask = column.holds(held, missing=False)
        else:
            assert isinstance(column, Numbers)
            mask = np.zeros(len(column.values), np.bool_)
            for item in items:
                mask |= column.values == item
        return ~mask if isinstance(op, ast.NotIn) else mask

    def _mixed(self, *nodes: ast.expr) -> None:
        named = [_name(n, self.names) for n in nodes if isinstance(n, ast.Name)]
        name = named[0]
        kind = "text" if isinstance(self.columns[name], Text) else "a number"
        other = "a number" if kind == "text" else "text"
        raise UsageError(
            f"--where {shortened(self.text)}: column {name!r} is {kind}, compared with {other}"
        )
