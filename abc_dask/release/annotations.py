"""Where the annotations of cells are found, aligned with cell_metadata by label.

A column is looked for in cell_metadata, then in the tables of cells beside it
(``cell_metadata_with_cluster_annotation`` and the like), then along the join graph
(`abc_dask.release.joins`): tables of cells, donors, libraries, samples, clusters, and the term
sets of taxonomy and parcellations. Its order and colours come from the ``*_order`` and
``*_color`` columns beside it, from ``value_sets``, from tables that list its terms
(``region_of_interest_metadata``), or from the taxonomy's terms; without an order terms are
sorted by name, numbers in them by value.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from abc_dask.base.columns import CELL_LABEL
from abc_dask.base.errors import MissingFileError, TableError, UsageError
from abc_dask.base.messages import enumerate_names, nearest
from abc_dask.disk.kept_table import Cache, read_cached
from abc_dask.release.annotation import Annotation, encode, is_missing
from abc_dask.release.atlas_tables import AtlasTables
from abc_dask.release.cell_table import CellTable
from abc_dask.release.csv_table import cached_table, csv_header
from abc_dask.release.join_rows import JoinedRows
from abc_dask.release.joins import Route
from abc_dask.release.manifest import FileEntry
from abc_dask.release.release import Release
from abc_dask.release.term_order import (
    STEMS,
    TermOrder,
    columns_beside,
    order_beside,
    order_in_list,
    order_in_value_sets,
    save_terms,
)

# Part of every cached column's key: raise it when terms or types become others.
_LAYOUT = 4


class NoCellError(TableError):
    """A table of the user's has none of the cells."""


@dataclass(frozen=True)
class Annotations:
    """The annotations of one cell_metadata table.

    Attributes
    ----------
    release : Release
    metadata : str
        Directory of the cell_metadata table.
    cells : CellTable
    cache : Cache
    taxonomy : str or None
        Directory of the taxonomy; None: the one whose name fits.
    joined : tuple of str
        CSV files of the user's, keyed by cell_label.
    """

    release: Release
    metadata: str
    cells: CellTable
    cache: Cache
    taxonomy: str | None = None
    joined: tuple[str, ...] = ()

    def find(self, columns: Sequence[str]) -> tuple[Annotation, ...]:
        """Find columns; their values are aligned with cell_metadata and kept.

        Parameters
        ----------
        columns : sequence of str
            ``COLUMN``, or ``TABLE.COLUMN`` where several tables have it.

        Returns
        -------
        tuple of Annotation
            In the order asked.

        Raises
        ------
        UsageError
            If a column is unknown (names the nearest ones), in several tables (names them) or
            asked for twice.
        MissingFileError
            If a table that may have it is not on disk.
        TableError
            If a table does not fit.
        """
        for name in columns:
            if list(columns).count(name) > 1:
                raise UsageError(f"annotation {name!r} is asked for twice")
        return tuple(self.one(name) for name in columns)

    def names(self) -> list[str]:
        """List all columns that the tables on disk have, by the shortest name of each."""
        return list(self.sources())

    def sources(self) -> dict[str, Route]:
        """Return how each column that can be asked for is reached, by its shortest name."""
        graph = self.tables.graph
        found: dict[str, Route] = {}
        for route in graph.all():
            found.setdefault(graph.shortest(route), route)
        return found

    def column(self, name: str) -> pa.ChunkedArray:
        """Read a column as it is, whatever its type, in cell_metadata's order.

        Raises
        ------
        UsageError, MissingFileError, TableError
            As `find`.
        """
        route = self.route(name)
        table = route.table
        if table is not None and table.is_long:
            annotation = self.one(name)
            return pa.chunked_array([annotation.arrow(annotation.values())])
        column = self._rows.read(table, [route.column])[route.column]
        rows = self._rows.rows(route)
        if rows is None:
            return column
        column = column.unify_dictionaries() if pa.types.is_dictionary(column.type) else column
        return pa.chunked_array([_one_chunk(column).take(pa.array(rows, mask=rows < 0))])

    def source(self, name: str) -> str:
        """Return the relative path of the table that a column is from."""
        table = self.route(name).table
        return self.cells.source if table is None else table.entry.relative_path

    # where a column is

    @cached_property
    def tables(self) -> AtlasTables:
        """The tables that go with cell_metadata."""
        return AtlasTables.of(
            self.release,
            self.cells.columns,
            self.metadata,
            taxonomy=self.taxonomy,
            joined=self.joined,
            cache=self.cache,
        )

    @cached_property
    def _rows(self) -> JoinedRows:
        return JoinedRows(self.release, self.cells, self.cache)

    def route(self, name: str) -> Route:
        """Return how a column is reached.

        Raises
        ------
        UsageError, MissingFileError
            As `find`.
        """
        if name == CELL_LABEL:
            raise UsageError(f"{CELL_LABEL} is the index of every view, not an annotation")
        if name in self.cells.columns:
            self._warn_of_own(name)
            return Route((), name)
        # headers of all other tables need not be read for what is in these
        route = self.tables.near.one(name)
        if route is None:
            route = self.tables.one(name, self._rows)
        if route is None:
            raise self._unknown(name)
        for join in route.joins:
            self.release.require([join.table.entry])
        if route.table is None or route.table.entry not in self.tables.joined:
            self._warn_of_own(name)
        self._require_some(route)
        return route

    def _warn_of_own(self, name: str) -> None:
        """Warn that a column is the atlas's, where a file of the user's has one of that name."""
        for file in map(Path, self.joined):
            if name in csv_header(file):
                warnings.warn(
                    f"column {name!r} is that of the atlas; the one of --join {file} is "
                    f"{file.stem}.{name}",
                    stacklevel=3,
                )

    def _require_some(self, route: Route) -> None:
        """Raise `NoCellError` if a column is of a file of the user's that has none of the cells."""
        if route.table is None or route.table.entry not in self.tables.joined:
            return
        rows = self._rows.rows(route)
        if rows is not None and len(rows) and (rows < 0).all():
            raise NoCellError(
                f"--join {route.table.entry.relative_path}: no {route.table.key} of it is a cell "
                f"of {self.metadata}; its labels must be written as in {self.cells.source}"
            )

    def _unknown(self, name: str) -> Exception:
        absent = [entry.relative_path for entry in self.tables.absent]
        known = self.names()
        if absent:
            return MissingFileError(
                f"no column {name!r} in the tables of cells on disk{nearest(name, known)}; "
                f"not on disk: {enumerate_names(absent)}"
            )
        hint = self.tables.other_clusters()
        return UsageError(f"no column {name!r} in the tables of cells{nearest(name, known)}{hint}")

    # one column

    def one(self, name: str) -> Annotation:
        """Find one column, as `find`."""
        route = self.route(name)
        used = [join.table.entry for join in route.joins]
        used += [e for e in self.tables.lists(route.column) if self.release.is_present(e)]
        used += [e for e in self.tables.of_terms if self.release.is_present(e)]
        states = [self._rows.state(entry) for entry in dict.fromkeys(used)]
        state = [_LAYOUT, name, str(route), list(self.cells.state), *states]
        make: Callable[[Path], None] = lambda target: self._write(name, route, target)  # noqa: E731
        return Annotation.load(self.cache.get("annotation", state, make))

    def _write(self, name: str, route: Route, target: Path) -> None:
        table = route.table
        source = self.cells.source if table is None else table.entry.relative_path
        joined_by = tuple(join.by for join in route.joins)
        described = Annotation(name, source, (), "category", {}, 0, joined_by=joined_by)
        if table is not None and table.is_long:
            sets = self.tables.sets_of(table)
            of_key = sets.terms_of_keys(route.column)
            of_rows, terms = pd.factorize(pd.Series(list(of_key.values()), dtype=object))
            found = [str(term) for term in terms]
            codes = _at(of_rows.astype(np.int32), self._rows.rows(route, list(of_key)))
            if (codes < 0).all():
                self._require_none(route)
            save_terms(described, codes, found, sets.terms(route.column), target)
            return
        has = self.cells.columns if table is None else table.columns
        beside = columns_beside(route.column, has)
        wanted = [route.column, *(n for n in beside.values() if n is not None)]
        read = self._rows.read(table, wanted)
        rows = self._rows.rows(route)
        column = read[route.column]
        if pa.types.is_boolean(column.type):
            column = pc.if_else(column, "True", "False")
        if (numbers := _numbers(column, rows)) is not None:
            missing = int(is_missing(numbers).sum()) if numbers.dtype.kind == "f" else 0
            found_numbers = replace(described, terms=None, dtype=numbers.dtype.name)
            found_numbers.counted(missing).save(numbers, target)
            return
        codes, found = encode(column, name)
        order = order_beside(codes, found, read, beside)
        for other in self._orders(route):
            order = order.or_else(other)
        save_terms(described, _at(codes, rows), found, order, target)

    def _require_none(self, route: Route) -> None:
        """Raise `TableError` if cells have keys, but none of them is in the table of terms."""
        by = route.joins[0].by
        if len(route.joins) > 1 or by not in self.cells.columns:
            return
        n_keys = self.cells.n_cells - read_cached(self.cells.path, [by])[by].null_count
        if n_keys and route.table is not None:
            raise TableError(
                f"no {by} of {self.cells.source} is in {route.table.entry.relative_path}"
            )

    def _orders(self, route: Route) -> Iterator[TermOrder]:
        """Yield the orders that other tables have for a column's terms, small tables first."""
        column = route.column
        tag = "cell_metadata" if route.table is None else route.table.tag
        for entry in self.tables.value_sets:
            if self.release.is_present(entry):
                yield order_in_value_sets(self._frame(entry), tag, column)
        for entry in self.tables.lists(column):
            if self.release.is_present(entry):
                frame = self._frame(entry)
                suffix = next((s[1:] for s in STEMS if column.endswith(s)), "name")
                yield order_in_list(frame, column if column in frame else suffix)
        yield self.release.term_order(self.metadata, column)
        for sets in self.tables.sets:
            yield sets.terms(column)

    def _frame(self, entry: FileEntry) -> pd.DataFrame:
        frame: pd.DataFrame = read_cached(cached_table(self.release, entry, self.cache)).to_pandas()
        return frame


def _at(codes: NDArray[np.int32], rows: NDArray[np.int64] | None) -> NDArray[np.int32]:
    """Return the codes of some rows; -1, no code, where there is no row."""
    return codes if rows is None else np.append(codes, np.int32(-1))[rows]


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined


def _numbers(column: pa.ChunkedArray, rows: NDArray[np.int64] | None) -> NDArray[Any] | None:
    """Return a column at some rows (-1: none) as int64, or float64 with NaN.

    None where neither holds its values: whole numbers above 2**53 of which some are missing are
    identifiers, and so are terms.
    """
    if not pa.types.is_integer(column.type) and not pa.types.is_floating(column.type):
        return None
    is_whole = pa.types.is_integer(column.type) and not column.null_count
    if is_whole and (rows is None or not (rows < 0).any()):
        whole: NDArray[Any] = column.to_numpy()
        return whole if rows is None else whole[rows]
    try:
        numbers: NDArray[Any] = column.cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid:  # Arrow refuses to round
        return None
    return numbers if rows is None else np.append(numbers, np.nan)[rows]
