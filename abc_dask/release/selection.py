"""Which cells are wanted: by a condition on their metadata, by a list of labels, or both."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypedDict, Unpack

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from abc_dask.base.columns import CELL_LABEL
from abc_dask.base.errors import UsageError
from abc_dask.base.messages import nearest, plural
from abc_dask.release.condition import Condition
from abc_dask.release.user_list import CELLS, UserList, header_key

if TYPE_CHECKING:
    import pandas as pd

ABC_SAMPLE_ID = "abc_sample_id"

# So many unknown labels a message, and a provenance, tells.
_MOST_TOLD = 1000

# Labels that begin with so many equal letters may be meant.
_SAME_START = 8


class CellOptions(TypedDict, total=False):
    """What may be said of cells; see `CellChoice.of`."""

    where: str | None
    cells: Iterable[str] | str | Path | None
    cells_column: str | None
    skip_unknown: bool


class CellTable(Protocol):
    """The cells to choose among, in their order."""

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        ...

    @property
    def source(self) -> str:
        """What messages call the table."""
        ...

    def labels(self) -> pa.Array:
        """Return the label of every cell."""
        ...


class CellTables(Protocol):
    """Cells with their columns: those of a release, or of a store."""

    @property
    def cells(self) -> CellTable:
        """The cells."""
        ...

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a column of the cells."""
        ...


@dataclass(frozen=True)
class CellChoice:
    """A choice of cells.

    Attributes
    ----------
    where : str or None
        Condition on columns of the metadata.
    listed : UserList or None
        Labels or abc_sample_ids of a file.
    labels : tuple of str or None
        Cell labels.
    skip_unknown : bool
        Leave out labels that the metadata does not have, and report them.
    """

    where: str | None = None
    listed: UserList | None = None
    labels: tuple[str, ...] | None = None
    skip_unknown: bool = False

    @classmethod
    def of(
        cls,
        where: str | None = None,
        cells: Iterable[str] | str | Path | None = None,
        column: str | None = None,
        *,
        skip_unknown: bool = False,
    ) -> Self | None:
        """Build from what users give; a file is read now. None if they want all cells.

        Raises
        ------
        UsageError
            If a column is named, but no file.
        MissingFileError, TableError
            As `UserList.read`.
        """
        is_file = isinstance(cells, str | Path)
        if column is not None and not is_file:
            raise UsageError(
                "--cells-column names a column of the file that --cells-from names; give both"
            )
        if cells is None:
            return None if where is None else cls(where)
        if isinstance(cells, str | Path):
            listed = UserList.read(str(cells), CELLS, column)
            return cls(where, listed=listed, skip_unknown=skip_unknown)
        labels = tuple(str(label) for label in cells)
        return cls(where, labels=labels, skip_unknown=skip_unknown)

    @classmethod
    def of_options(cls, **asked: Unpack[CellOptions]) -> Self | None:
        """Build from `CellOptions`, as `of`."""
        return cls.of(
            asked.get("where"),
            asked.get("cells"),
            asked.get("cells_column"),
            skip_unknown=asked.get("skip_unknown", False),
        )

    @property
    def condition(self) -> Condition | None:
        """The parsed condition.

        Raises
        ------
        UsageError
            If it is not one.
        """
        return None if self.where is None else Condition.parse(self.where)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the metadata that must be known."""
        condition = self.condition
        named = () if condition is None else condition.columns
        return tuple(name for name in (*named, self._key) if name != CELL_LABEL)

    @property
    def _key(self) -> str:
        """The column of the metadata in which listed cells are looked up."""
        column = "" if self.listed is None else header_key(self.listed.column or "")
        return ABC_SAMPLE_ID if column == ABC_SAMPLE_ID else CELL_LABEL

    def choose(self, tables: CellTables) -> Selection:
        """Choose among the cells of a cell_metadata table.

        Raises
        ------
        UsageError
            If the condition is none, a listed cell is unknown, or no cell is chosen.
        MissingFileError, TableError
            If a table or file is missing or does not fit.
        """
        n_cells = tables.cells.n_cells
        mask = np.ones(n_cells, np.bool_)
        report: dict[str, Any] = {
            "where": self.where,
            "cells_from": None if self.listed is None else self.listed.source,
            "cells_in_metadata": n_cells,
        }
        if (condition := self.condition) is not None:
            named = {name: _column(tables, name) for name in condition.columns}
            mask &= condition.mask(pa.table(named))
            report["cells_where"] = int(mask.sum())
            if not mask.any():
                raise UsageError(
                    f"no cell of {tables.cells.source} fits --where {self.where!r}"
                    f"{_near_terms(condition, named)}"
                )
        if self.listed is not None or self.labels is not None:
            listed, of_labels = self._listed(tables)
            report |= of_labels
            mask &= listed
            if not mask.any():
                raise UsageError("no cell that fits --where is among those listed")
        return Selection(mask, report | {"cells_chosen": int(mask.sum())})

    def _listed(self, tables: CellTables) -> tuple[NDArray[np.bool_], dict[str, Any]]:
        """Return which cells are listed, and counts."""
        import pandas as pd

        known = pd.Index(_column(tables, self._key).cast(pa.string()).to_pandas())
        if self.listed is None:
            asked: Any = pa.array(self.labels or (), pa.string())
        else:
            asked = self.listed.looked_up(lambda label: label in known)
        labels = pd.Index(asked.to_pandas())
        distinct = labels.unique()
        if not len(distinct):
            raise UsageError(f"the list of cells{self._source} is empty")
        is_known = distinct.isin(known)
        unknown = distinct[~is_known].tolist()
        if not is_known.any() or (unknown and not self.skip_unknown):
            raise UsageError(self._unknown(unknown, len(distinct), known, tables.cells.source))
        return known.isin(distinct), {
            "cells_column": None if self.listed is None else self.listed.column,
            "labels_asked": len(labels),
            "labels_blank": 0 if self.listed is None else self.listed.n_blank,
            "labels_duplicate": len(labels) - len(distinct),
            "labels_unknown": len(unknown),
            "unknown": unknown[:_MOST_TOLD],
        }

    @property
    def _source(self) -> str:
        return "" if self.listed is None else f" in {self.listed.source}"

    def _unknown(self, unknown: list[str], n_asked: int, known: pd.Index[Any], source: str) -> str:
        """Return the error that names all unknown labels, each with the nearest."""
        cells = f"the {plural(n_asked, 'cell')} listed{self._source}"
        none = len(unknown) == n_asked
        what = f"none of {cells} is" if none else f"{len(unknown):,} of {cells} are not"
        near = _nearest(unknown[:_MOST_TOLD], known)
        told = [
            f"{label!r} (nearest: {near[label]!r})" if label in near else repr(label)
            for label in unknown[: 5 if none else _MOST_TOLD]
        ]
        left = len(unknown) - len(told)
        more = f" and {left:,} more" if left else ""
        mend = "" if none else "; correct them, or leave them out with --skip-unknown"
        if self.listed is not None and self.listed.column is None:
            mend += f"; if a column has them, name it with {CELLS.column_option}"
        return f"{what} in {source} (by {self._key}): {', '.join(told)}{more}{mend}"


@dataclass(frozen=True)
class Selection:
    """Chosen cells of a cell_metadata table.

    Attributes
    ----------
    mask : array of bool, shape (n_cells,)
        Whether each cell of the table is wanted.
    report : dict
        What was asked, and counts, JSON-serialisable.
    """

    mask: NDArray[np.bool_] = field(repr=False)
    report: dict[str, Any]

    @property
    def n_chosen(self) -> int:
        """Number of wanted cells."""
        return int(self.report["cells_chosen"])

    @property
    def digest(self) -> str:
        """SHA-256 of which cells are wanted, however they were asked for."""
        return hashlib.sha256(np.packbits(self.mask).tobytes()).hexdigest()


def _column(tables: CellTables, name: str) -> pa.ChunkedArray:
    if name == CELL_LABEL:
        return pa.chunked_array([tables.cells.labels()])
    return tables.column(name)


def _near_terms(condition: Condition, columns: dict[str, pa.ChunkedArray]) -> str:
    """Return the tail of a message that names texts of the condition that no cell has."""
    told = []
    for name, text in condition.texts:
        terms = [str(term) for term in columns[name].unique().drop_null().to_pylist()]
        if text not in terms:
            told.append(f"; no cell has {name} {text!r}{nearest(text, terms)}")
    return "".join(told[:5])


def _nearest(unknown: list[str], known: pd.Index[Any]) -> dict[str, str]:
    """Return the nearest label of each unknown one, where one begins in the same way."""
    labels = pa.array(known, pa.string())
    starts = {label[:_SAME_START] for label in unknown}
    start_of = pc.utf8_slice_codeunits(labels, 0, _SAME_START)
    same = pc.is_in(start_of, value_set=pa.array(list(starts), pa.string()))
    by_start: dict[str, list[str]] = {}
    for label in labels.filter(same).to_pylist():
        by_start.setdefault(label[:_SAME_START], []).append(label)
    near = {}
    for label in unknown:
        among = by_start.get(label[:_SAME_START], [])[:_MOST_TOLD]
        if best := difflib.get_close_matches(label, among, n=1):
            near[label] = best[0]
    return near
