"""The join graph: how a column is reached from the cells, along tables with keys.

A pure function of the names of tables, columns and keys. Each join is many-to-one: many cells
have one donor, no cell has two; `abc_dask.release.join_rows` checks that as it reads.

A column of cell_metadata is that one. Another one is looked for in the tables that repeat
cell_metadata with annotations, then in base tables, then in other views of them. Where two
tables of the same rank have it, or one is reached in two ways, neither is taken: the user
names the table, ``ccf_coordinates.x``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from abc_dask.base.columns import CELL_LABEL
from abc_dask.base.errors import UsageError
from abc_dask.base.messages import enumerate_names
from abc_dask.release.linked_tables import BASE, WITH_ANNOTATIONS, LinkedTable

MOST_JOINS = 3


@dataclass(frozen=True)
class Join:
    """One join: `by` of the table before (or of cell_metadata) is `key` of `table`."""

    by: str
    table: LinkedTable

    def __str__(self) -> str:
        """Return the join in words."""
        return f"{self.by} -> {self.table.name}"


@dataclass(frozen=True)
class Route:
    """How a column is reached.

    Attributes
    ----------
    joins : tuple of Join
        None for a column of cell_metadata; at most `MOST_JOINS`.
    column : str
    """

    joins: tuple[Join, ...]
    column: str

    @property
    def table(self) -> LinkedTable | None:
        """The table that has the column; None: cell_metadata."""
        return self.joins[-1].table if self.joins else None

    @property
    def qualified(self) -> str:
        """A name that no other column has."""
        tags = [join.table.tag for join in self.joins]
        return ".".join([*tags, self.column])

    def __str__(self) -> str:
        """Return the joins in words."""
        return ", ".join([*map(str, self.joins), self.column])


@dataclass(frozen=True)
class JoinGraph:
    """Tables, and how they are joined to cells.

    Attributes
    ----------
    own : tuple of str
        Columns of cell_metadata.
    tables : tuple of LinkedTable
    """

    own: tuple[str, ...]
    tables: tuple[LinkedTable, ...]

    def find(self, name: str) -> list[Route]:
        """Return the ways to a column, the best only: none, one, or several that are as good.

        Parameters
        ----------
        name : str
            ``COLUMN``, or ``TABLE.COLUMN`` where TABLE, or several of them, are on the way.
        """
        if name in self.own:
            return [Route((), name)]
        return self._ways(name, MOST_JOINS, ()) or self._qualified(name)

    def one(self, name: str) -> Route | None:
        """Return the way to a column; None where there is none.

        Raises
        ------
        UsageError
            If there are two as good ways; names both.
        """
        found = self.find(name)
        if len(found) > 1:
            names = sorted({self.shortest(route) for route in found})
            raise UsageError(
                f"column {name!r} is in several tables; "
                f"name one of them: {enumerate_names(names, most=8)}"
            )
        return found[0] if found else None

    def shortest(self, route: Route) -> str:
        """Return the shortest name by which a column is asked for."""
        table = route.table
        if table is None:
            return route.column
        one = f"{table.tag}.{route.column}"
        names = [route.column, one, f"{table.name}.{route.column}", route.qualified]
        return next((name for name in names if self.find(name) == [route]), route.qualified)

    def all(self) -> list[Route]:
        """Return a route to every column, those of cell_metadata first, each table in turn.

        What a view only repeats is left out.
        """
        found = [Route((), name) for name in self.own if name != CELL_LABEL]
        for table in self.tables:
            for way in self._ways_to(table, MOST_JOINS, ()):
                routes = [Route(way, name) for name in table.offers]
                is_base = table.rank == BASE
                found += [r for r in routes if is_base or r in self.find(r.column)]
        return found

    def _ways(self, column: str, most: int, seen: tuple[LinkedTable, ...]) -> list[Route]:
        """Return the best ways to a column that avoid some tables."""
        if column in self.own:
            return [Route((), column)]
        for rank in sorted({table.rank for table in self.tables}):
            found = [
                Route(way, column)
                for table in self.tables
                if table.rank == rank and table not in seen and column in table.offers
                for way in self._ways_to(table, most, seen)
            ]
            if found:
                # tables that repeat cell_metadata repeat each other
                return found[:1] if rank == WITH_ANNOTATIONS else found
        return []

    def _ways_to(
        self, table: LinkedTable, most: int, seen: tuple[LinkedTable, ...]
    ) -> list[tuple[Join, ...]]:
        """Return the best ways to a table: along the first of its key's names that leads there."""
        if most == 0:
            return []
        for by in table.by:
            ways = self._ways(by, most - 1, (*seen, table))
            if ways:
                return [(*way.joins, Join(by, table)) for way in ways]
        return []

    def _qualified(self, name: str) -> list[Route]:
        """Return the ways to ``TABLE.COLUMN``."""
        pieces = name.split(".")
        for cut in range(1, len(pieces)):
            tags, column = ".".join(pieces[:cut]), ".".join(pieces[cut:])
            found = [
                Route(way, column)
                for table in self.tables
                if column in table.offers
                for way in self._ways_to(table, MOST_JOINS, ())
                if _is_along(tags, way)
            ]
            # the table that has the column is meant before those on the way to it
            ends = [route for route in found if _names(tags, route.joins[-1].table)]
            if ends or found:
                return ends or found
        return []


def _names(tag: str, table: LinkedTable) -> bool:
    return tag in {table.tag, table.name}


def _is_along(tags: str, way: Sequence[Join]) -> bool:
    """Return whether tables, joined by dots, are on a way in this order."""
    on_way: Iterable[LinkedTable] = iter([join.table for join in way])
    if any(_names(tags, join.table) for join in way):
        return True
    return all(any(_names(tag, table) for table in on_way) for tag in tags.split("."))
