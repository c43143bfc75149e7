"""The tables of a release that go with one cell_metadata table, as a join graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from abc_dask.base.errors import UsageError
from abc_dask.disk.kept_table import Cache
from abc_dask.release.csv_table import csv_header
from abc_dask.release.join_rows import JoinedRows
from abc_dask.release.joins import JoinGraph, Route
from abc_dask.release.linked_tables import (
    BASE,
    CLUSTER_ALIAS,
    VALUE_SETS,
    WITH_ANNOTATIONS,
    LinkedTable,
    candidates,
    directories_beside,
    file_of_user,
    key_of,
    rank_of,
    related_directories,
)
from abc_dask.release.manifest import FileEntry, Manifest
from abc_dask.release.parcellation import Parcellation
from abc_dask.release.release import Release
from abc_dask.release.taxonomy import Taxonomy
from abc_dask.release.term_order import TermOrder, stems

# Tables that describe clusters of the cells that they lie beside.
_OF_CLUSTERS = ("cluster", "cell_cluster_", "cell_to_cluster_")

ANNOTATED_CELLS = "cell_metadata_with_cluster_annotation"

# Tables up to this size are fetched without knowing whether they have a column.
_SMALL = 16 << 20


class TermSets(Protocol):
    """A long table: the terms of each key in several sets, with their order and colours."""

    @property
    def key(self) -> str:
        """What names a row's owner, such as ``cluster_alias``."""

    @property
    def entries(self) -> tuple[FileEntry, ...]:
        """Its tables, the long one first."""

    @property
    def is_present(self) -> bool:
        """Whether there is one, with its tables on disk."""

    @property
    def term_sets(self) -> list[str]:
        """Names of the sets."""

    def terms_of_keys(self, name: str) -> dict[str, str]:
        """Return the term of each key in a set."""

    def terms(self, name: str) -> TermOrder:
        """Return order and colours of a set's terms."""


@dataclass(frozen=True)
class AtlasTables:
    """Tables that go with a cell_metadata table, as far as they are on disk.

    Attributes
    ----------
    release : Release
    metadata : str
        Directory of cell_metadata.
    own : tuple of str
        Columns of cell_metadata.
    directories : tuple of str
        Where tables are looked for.
    sets : tuple of TermSets
        Those of the taxonomy, and of parcellations.
    joined : tuple of FileEntry
        Files of the user's.
    headers : mapping of FileEntry to tuple of str
        Columns of tables that are not on disk, as far as they are known.
    """

    release: Release
    metadata: str
    own: tuple[str, ...]
    directories: tuple[str, ...]
    sets: tuple[TermSets, ...]
    joined: tuple[FileEntry, ...]
    headers: Mapping[FileEntry, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        release: Release,
        own: Sequence[str],
        metadata: str,
        *,
        cache: Cache,
        taxonomy: str | None = None,
        joined: Sequence[str] = (),
        headers: Mapping[FileEntry, tuple[str, ...]] | None = None,
    ) -> AtlasTables:
        """Find the directories whose tables go with that of a metadata directory.

        `own` are the columns of its cell_metadata.

        Raises
        ------
        ReleaseError
            If the release has not the taxonomy that was named.
        MissingFileError, TableError
            If a file of the user's does not fit.
        """
        manifest = release.manifest
        sets = (Taxonomy.of(release, metadata, cache, taxonomy), Parcellation.of(release, cache))
        of_sets = [one.entries[0].dataset_label for one in sets if one.entries]
        near = [metadata, *directories_beside(manifest, metadata)]
        related = [
            name
            for name in related_directories(manifest, metadata)
            if not sets[0].entries or not Taxonomy.is_in(manifest, name)
        ]
        directories = tuple(dict.fromkeys([*near, *of_sets, *related]))
        files = tuple(map(file_of_user, joined))
        return cls(release, metadata, tuple(own), directories, sets, files, headers or {})

    @property
    def value_sets(self) -> list[FileEntry]:
        """Tables that give the terms of columns an order and colours."""
        manifest = self.release.manifest
        found = [manifest.tables(name).get(VALUE_SETS) for name in self.directories]
        return [entry for entry in found if entry is not None]

    @property
    def of_terms(self) -> list[FileEntry]:
        """Tables on which order and colours of terms may depend."""
        return [*self.value_sets, *(entry for one in self.sets for entry in one.entries)]

    @cached_property
    def _entries(self) -> list[FileEntry]:
        """Tables that may have columns, those on which other ones depend first."""
        long = {entry for one in self.sets for entry in one.entries}
        found = candidates(self.release.manifest, self.directories)
        return [*self.joined, *(entry for entry in found if entry not in long)]

    def _rank(self, entry: FileEntry) -> int:
        near = [name for name in self.directories if name.startswith(self.metadata)]
        return BASE if entry in self.joined else rank_of(entry, near)

    @property
    def absent(self) -> list[FileEntry]:
        """Tables that are not on disk, those that most likely have a column first."""
        long = [entry for one in self.sets for entry in one.entries]
        found = [e for e in [*self._entries, *long] if not self.release.is_present(e)]
        return sorted(found, key=lambda e: (self._rank(e), e.size > _SMALL, e.size))

    def is_found(self, name: str) -> bool:
        """Return whether a column is in a table whose columns are known, on disk or not."""
        if name in self.own or self.near.find(name):
            return True
        return not self._unread(WITH_ANNOTATIONS) and bool(self.graph.find(name))

    def unread_for(self, name: str) -> list[FileEntry]:
        """Return the tables whose columns must be known next to find a column."""
        return [] if self.is_found(name) else self._unread(WITH_ANNOTATIONS) or self._unread()

    def _unread(self, rank: int | None = None) -> list[FileEntry]:
        """Return the tables, or those of a rank, that are not on disk, nor their columns known."""
        return [
            entry
            for entry in self._entries
            if rank in {None, self._rank(entry)}
            and entry not in self.headers
            and not self.release.is_present(entry)
        ]

    @property
    def absent_terms(self) -> list[FileEntry]:
        """Tables that give terms, or their order and colours, and are not on disk."""
        return [entry for entry in self.of_terms if not self.release.is_present(entry)]

    def absent_for(self, name: str) -> list[FileEntry]:
        """Return the tables to fetch for a column that was found: its own, and those of terms."""
        routes = [] if name in self.own else self.near.find(name) or self.graph.find(name)
        tables = [join.table.entry for route in routes for join in route.joins]
        tables += self.lists(routes[0].column if routes else name)
        absent = [entry for entry in tables if not self.release.is_present(entry)]
        return [*absent, *self.absent_terms]

    def lists(self, column: str) -> list[FileEntry]:
        """Return the tables of a column's terms, such as region_of_interest_metadata."""
        tables = self.release.manifest.tables(self.metadata)
        kinds = ("metadata", "structure_map")
        names = [f"{stem}_{kind}" for kind in kinds for stem in stems(column)]
        return [tables[name] for name in names if name in tables]

    def names(self) -> list[str]:
        """Return all columns that are known, by the shortest name of each."""
        return list(dict.fromkeys(map(self.graph.shortest, self.graph.all())))

    @cached_property
    def near(self) -> JoinGraph:
        """The tables of cells that repeat cell_metadata with annotations."""
        entries = [e for e in self._entries if self._rank(e) == WITH_ANNOTATIONS]
        return JoinGraph(self.own, tuple(filter(None, map(self._linked, entries))))

    @cached_property
    def graph(self) -> JoinGraph:
        """All tables."""
        others = [e for e in self._entries if self._rank(e) != WITH_ANNOTATIONS]
        linked = [*self.near.tables, *filter(None, map(self._linked, others))]
        for one in self.sets:
            if one.is_present:
                entry, key = one.entries[0], one.key
                columns = (key, *one.term_sets)
                by = self._names_of(entry, key, (key,))
                linked.append(LinkedTable(entry, BASE, columns, key, by, is_long=True))
        return JoinGraph(self.own, tuple(linked))

    def one(self, name: str, rows: JoinedRows) -> Route | None:
        """Return the way to a column; a table that is not many-to-one does not count beside others.

        Raises
        ------
        UsageError
            If two tables have it.
        """
        try:
            return self.graph.one(name)
        except UsageError:
            found = [
                route
                for route in self.graph.find(name)
                if route.table is not None and rows.is_many_to_one(route.table)
            ]
            if len(found) != 1:
                raise
            return found[0]

    def sets_of(self, table: LinkedTable) -> TermSets:
        """Return the sets of a long table."""
        return next(one for one in self.sets if one.entries and one.entries[0] == table.entry)

    def _linked(self, entry: FileEntry) -> LinkedTable | None:
        if self.release.is_present(entry):
            columns = tuple(csv_header(self.release.path(entry)))
        elif entry in self.headers:
            columns = self.headers[entry]
        else:
            return None
        found = key_of(entry.tag, columns)
        if found is None:
            return None
        key, by = found
        by = self._names_of(entry, key, by)
        return LinkedTable(entry, self._rank(entry), columns, key, by)

    @cached_property
    def _has_own_clusters(self) -> bool:
        """Whether cluster_alias of the cells numbers clusters that their own tables describe."""
        manifest = self.release.manifest
        if any(tag.startswith(_OF_CLUSTERS) for tag in manifest.tables(self.metadata)):
            return True
        named = [name for name in manifest.datasets if self._is_of_the_family(name)]
        return any(Taxonomy.is_in(manifest, name) for name in named)

    def _is_of_the_family(self, directory: str) -> bool:
        """Return whether a directory begins with the same word as that of the cells."""
        return _family(directory) == _family(self.metadata)

    def _names_of(self, entry: FileEntry, key: str, by: tuple[str, ...]) -> tuple[str, ...]:
        """Return what cells call a key: the clusters of another taxonomy have another name."""
        directory = entry.dataset_label
        if key != CLUSTER_ALIAS or not directory or self._is_of_the_family(directory):
            return by
        alias = _alias_of(directory)
        return (alias,) if alias in self.own or self._has_own_clusters else by

    def other_clusters(self) -> str:
        """Return the tail of a message where the taxonomy is one of other clusters."""
        taxonomy = self.sets[0]
        if not taxonomy.entries or not self._has_own_clusters:
            return ""
        directory = taxonomy.entries[0].dataset_label
        alias = _alias_of(directory)
        if self._is_of_the_family(directory) or alias in self.own:
            return ""
        return (
            f"; {CLUSTER_ALIAS} of {self.metadata} are its own clusters, not those of "
            f"{directory}, which would be {alias}"
        )


def tables_to_fetch(manifest: Manifest, metadata: str) -> list[FileEntry]:
    """Return the tables from which columns of a metadata directory's cells are joined.

    Of views, which repeat what base tables have, only that of annotated cells; embeddings and
    the like of directories that are no taxonomy are left to those who ask for them.
    """
    beside = directories_beside(manifest, metadata)
    taxonomies = [
        name for name in related_directories(manifest, metadata) if "taxonomy" in name.split("-")
    ]
    terms = [Taxonomy.directory_of(manifest, metadata)]
    terms += [Parcellation.directory_of(manifest)] if beside else []
    named = [metadata, *beside, *(name for name in terms if name is not None), *taxonomies]
    directories = list(dict.fromkeys(named))
    found = [
        entry
        for entry in candidates(manifest, directories)
        if rank_of(entry, ()) == BASE or entry.tag == ANNOTATED_CELLS
    ]
    sets = [manifest.tables(name).get(VALUE_SETS) for name in directories]
    return [*found, *(entry for entry in sets if entry is not None)]


def _alias_of(taxonomy: str) -> str:
    """Return the column that names the clusters of another taxonomy, such as wmb_cluster_alias."""
    return f"{_family(taxonomy)}_{CLUSTER_ALIAS}"


def _family(directory: str) -> str:
    """Return the first word of a directory's name, by which taxonomies go with cells."""
    return directory.partition("-")[0].lower()
