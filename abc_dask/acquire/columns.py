"""Fetch the tables that columns of annotations are from, and no others.

Which columns a table has is told by its first line, which is read from the server where the table
is not on disk. So a name that no table has is refused before a table is fetched; only the small
tables of a taxonomy or of parcellations, whose names of columns stand in rows, are fetched to look.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from abc_dask.acquire.fetch import fetch
from abc_dask.acquire.headers import read_headers
from abc_dask.acquire.progress import FetchProgress
from abc_dask.base.columns import METADATA_DIRECTORY
from abc_dask.base.errors import UsageError
from abc_dask.base.messages import enumerate_names, nearest
from abc_dask.disk.kept_table import Cache
from abc_dask.release.atlas_tables import AtlasTables
from abc_dask.release.cell_table import CellTable, directories_of
from abc_dask.release.csv_table import csv_header
from abc_dask.release.manifest import CELL_METADATA, FileEntry
from abc_dask.release.release import Release


class TablesOfCells(Protocol):
    """What says in which tables columns are looked for; `abc_dask.plan.inputs.Inputs` does."""

    @property
    def release(self) -> Release:
        """The release."""

    @property
    def metadata(self) -> str:
        """Metadata directories, joined by commas."""

    @property
    def cache(self) -> Cache:
        """Where tables are kept."""

    @property
    def taxonomy(self) -> str | None:
        """Directory of the taxonomy."""

    @property
    def joined(self) -> tuple[str, ...]:
        """Files of the user's."""


def require_columns(
    inputs: TablesOfCells, columns: Sequence[str], progress: FetchProgress | None = None
) -> None:
    """Check that some table has each column, by first lines; cell_metadata need not be on disk.

    Raises
    ------
    UsageError
        If none has one; names the nearest.
    DownloadError
        If the first line of a table cannot be read.
    """
    _Search(inputs, progress).find(columns)


def fetch_columns(
    inputs: TablesOfCells, columns: Sequence[str], progress: FetchProgress | None = None
) -> None:
    """Fetch the tables that columns are from, and those that give their terms an order.

    Raises
    ------
    UsageError
        As `require_columns`.
    DownloadError
        If a table cannot be fetched.
    """
    search = _Search(inputs, progress)
    search.find(columns)
    if needed := search.needed(columns):
        fetch(inputs.release, needed, progress=progress)


class _Search:
    """Looks for columns in the tables of some metadata directories, on disk or not."""

    def __init__(self, inputs: TablesOfCells, progress: FetchProgress | None) -> None:
        self._inputs, self._progress = inputs, progress
        self._headers: dict[FileEntry, tuple[str, ...]] = {}
        self._own = {name: self._own_columns(name) for name in directories_of(inputs.metadata)}

    def _own_columns(self, metadata: str) -> tuple[str, ...]:
        """Return the columns of a cell_metadata table."""
        release = self._inputs.release
        entry = release.manifest.tables(metadata)[CELL_METADATA]
        if not release.is_present(entry):
            return read_headers([entry])[entry]
        if release.writer_of(entry) is None:
            return tuple(csv_header(release.path(entry)))
        return CellTable.of(release, metadata, self._inputs.cache).columns

    def _members(self) -> list[AtlasTables]:
        """Return the tables of each directory, as far as they are known by now."""
        inputs = self._inputs
        return [
            AtlasTables.of(
                inputs.release,
                own,
                name,
                cache=inputs.cache,
                taxonomy=inputs.taxonomy,
                joined=inputs.joined,
                headers=self._headers,
            )
            for name, own in self._own.items()
        ]

    def find(self, columns: Sequence[str]) -> None:
        """Read first lines, and fetch tables of terms, until each column is found."""
        several = len(self._own) > 1
        todo = [name for name in columns if not (several and name == METADATA_DIRECTORY)]
        while todo:
            members = self._members()
            todo = [name for name in todo if not all(m.is_found(name) for m in members)]
            if not todo:
                return
            unread = [entry for m in members for name in todo for entry in m.unread_for(name)]
            if unread:
                self._headers |= read_headers(list(dict.fromkeys(unread)))
                continue
            terms = [entry for m in members for entry in m.absent_terms]
            if terms:
                if self._progress is not None:
                    names = enumerate_names([repr(name) for name in todo])
                    self._progress.note(f"tables of terms are fetched to look for {names} in them")
                fetch(self._inputs.release, list(dict.fromkeys(terms)), progress=self._progress)
                continue
            for name in todo:
                if not any(member.is_found(name) for member in members):
                    raise _unknown(name, members)
            return

    def needed(self, columns: Sequence[str]) -> list[FileEntry]:
        """Return the tables to fetch for columns that were found."""
        found = [entry for m in self._members() for c in columns for entry in m.absent_for(c)]
        return list(dict.fromkeys(found))


def _unknown(name: str, members: Sequence[AtlasTables]) -> UsageError:
    known = {column for member in members for column in member.names()}
    hint = members[0].other_clusters() if len(members) == 1 else ""
    return UsageError(f"no column {name!r} in the tables of cells{nearest(name, known)}{hint}")
