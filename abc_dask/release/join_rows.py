"""Rows along a route: for each cell the row of the table at its end."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from abc_dask.base.columns import CELL_LABEL
from abc_dask.base.errors import TableError
from abc_dask.disk.files import Fingerprint
from abc_dask.disk.kept_table import Cache, opened_cached, read_cached, read_described
from abc_dask.release.annotation import VALUE, encode, write_values
from abc_dask.release.cell_table import CellTable
from abc_dask.release.csv_table import cached_table
from abc_dask.release.joins import Route
from abc_dask.release.linked_tables import WITH_ANNOTATIONS, LinkedTable
from abc_dask.release.manifest import FileEntry
from abc_dask.release.release import Release


@dataclass(frozen=True)
class JoinedRows:
    """Reads linked tables, and finds their rows.

    Attributes
    ----------
    release : Release
    cells : CellTable
    cache : Cache
    """

    release: Release
    cells: CellTable
    cache: Cache

    @cached_property
    def _found(self) -> dict[Any, NDArray[np.int64] | None]:
        return {}

    def read(self, table: LinkedTable | None, columns: Sequence[str]) -> pa.Table:
        """Read columns of a table, or of cell_metadata; text as dictionaries."""
        path = self.cells.path if table is None else self._twin(table, columns)
        texts = [
            field.name
            for field in read_described(path)[0]
            if field.name in columns and pa.types.is_string(field.type)
        ]
        with opened_cached(path, columns, read_dictionary=texts) as file:
            return file.read(columns=list(dict.fromkeys(columns)))

    def rows(self, route: Route, of_long: Sequence[str] = ()) -> NDArray[np.int64] | None:
        """Return for each cell its row in the table at a route's end, -1 where it has none.

        Parameters
        ----------
        route : Route
        of_long : sequence of str
            Keys of the table at the end where that is a long one: rows are counted in these.

        Returns
        -------
        array of int64, shape (n_cells,), or None
            None where the table has the order of the cells, or is cell_metadata.

        Raises
        ------
        TableError
            If a key stands in a table more than once: the join is not many-to-one.
        """
        key = (route.joins, tuple(of_long))
        if key not in self._found:
            self._found.clear()  # of the last route only: some 30 MB for 4 million cells
            self._found[key] = self._walk(route, of_long)
        return self._found[key]

    def _walk(self, route: Route, of_long: Sequence[str]) -> NDArray[np.int64] | None:
        rows: NDArray[np.int64] | None = None
        source: LinkedTable | None = None
        for join in route.joins:
            table = join.table
            if source is None and join.by == CELL_LABEL:
                rows = self._of_cells(table)
            else:
                codes, names = encode(
                    as_keys(self.read(source, [join.by])[join.by]), join.by, most=None
                )
                theirs = list(of_long) if table.is_long else self._keys(table)
                of_source = np.append(_find(names, theirs), -1)[codes]
                rows = of_source if rows is None else np.append(of_source, -1)[rows]
            source = table
        return rows

    def _keys(self, table: LinkedTable) -> list[str | None]:
        """Return the keys of all rows, as text.

        Raises
        ------
        TableError
            If one stands twice.
        """
        column = as_keys(self.read(table, [table.key])[table.key])
        keys = column.cast(pa.string()).to_pandas()
        twice = keys[keys.duplicated() & keys.notna()]
        if len(twice):
            raise TableError(
                f"{table.entry.relative_path}: {table.key} {twice.iloc[0]!r} stands more than "
                "once, so that a cell could have several values of its columns"
            )
        return list(keys)

    def is_many_to_one(self, table: LinkedTable) -> bool:
        """Return whether each key of a table stands once."""
        if table.is_long:
            return True
        try:
            self._keys(table)
        except TableError:
            return False
        return True

    def _of_cells(self, table: LinkedTable) -> NDArray[np.int64] | None:
        """Return the row of every cell in a table of cells; kept between runs."""
        key, source = table.key, table.entry.relative_path
        path = self._twin(table, [key])

        def look(target: Path) -> None:
            labels = self.cells.labels()
            theirs = read_cached(path, [key])[key].cast(pa.string()).combine_chunks()
            same = labels.equals(theirs)
            rows = np.empty(0, np.int64) if same else align(labels, theirs, source)
            write_values(rows, target, "rows")

        state = [list(self.cells.state), self.state(table.entry)]
        kept = self.cache.get("table-rows", state, look)
        rows: NDArray[np.int64] = read_cached(kept)[VALUE].to_numpy()
        return rows if len(rows) else None

    def state(self, entry: FileEntry) -> list[Any]:
        """Return what tells a table from a later one of that name."""
        return [entry.relative_path, *astuple(Fingerprint.of(self.release.path(entry)))]

    def _twin(self, table: LinkedTable, columns: Collection[str]) -> Path:
        """Return the kept table; what it repeats of cell_metadata is kept only if asked for."""
        repeated: set[str] = set()
        if table.rank == WITH_ANNOTATIONS:
            repeated = set(self.cells.columns).intersection(table.offers)
        without = repeated if repeated.isdisjoint(columns) else ()
        return cached_table(self.release, table.entry, self.cache, without)


def as_keys(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of keys as text; whole numbers that were stored as 7.0 are 7."""
    if pa.types.is_floating(column.type):
        whole = pc.equal(column, pc.floor(column))
        if pc.all(whole).as_py() is not False:
            column = column.cast(pa.int64())
    return column if pa.types.is_dictionary(column.type) else column.cast(pa.string())


def align(labels: pa.Array, theirs: pa.Array, source: str) -> NDArray[np.int64]:
    """Return the row of each label in another table, -1 where it has none.

    Raises
    ------
    TableError
        If a label stands there more than once.
    """
    held = theirs.drop_null()
    if pc.count_distinct(held).as_py() != len(held):
        counts = pc.value_counts(held)
        twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
        raise TableError(f"{source}: cell label {twice[0].as_py()!r} stands more than once")
    found = pc.index_in(labels, value_set=theirs.cast(labels.type), skip_nulls=True)
    rows: NDArray[np.int64] = np.asarray(found.fill_null(-1).cast(pa.int64()))
    return rows


def _find(names: Sequence[Any], keys: Sequence[Any]) -> NDArray[np.int64]:
    """Return where each name is among keys, -1 where it is not; a missing key has no name."""
    known = pd.Series(keys, dtype=object)
    held = np.flatnonzero(known.notna())
    found = pd.Index(known.iloc[held]).get_indexer(pd.Index(names, dtype=object))
    positions: NDArray[np.int64] = np.append(held, -1)[found]
    return positions
