"""Tables of a release that list terms in sets: those of clusters, those of parcellations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import pandas as pd

from abc_dask.base.errors import TableError
from abc_dask.disk.kept_table import Cache, read_cached
from abc_dask.release.csv_table import cached_table, require_table_columns
from abc_dask.release.manifest import FileEntry
from abc_dask.release.release import Release


@dataclass(frozen=True)
class TermTables:
    """Terms of what a key names, such as a cluster, in several sets.

    Attributes
    ----------
    release : Release
    cache : Cache
    entries : tuple of FileEntry
        The table of the term of each key in each set, and more; none where there is none.
    """

    release: Release
    cache: Cache
    entries: tuple[FileEntry, ...]

    key: ClassVar[str]
    _set: ClassVar[str]
    _term: ClassVar[str]

    @property
    def source(self) -> str:
        """Relative path of the table of the terms of each key."""
        return self.entries[0].relative_path

    @property
    def is_present(self) -> bool:
        """Whether there is one, with its tables on disk."""
        return bool(self.entries) and all(self.release.is_present(e) for e in self.entries)

    @cached_property
    def _long(self) -> pd.DataFrame:
        frame = self._read(self.entries[0])
        require_table_columns(frame.columns, (self.key, self._set, self._term), self.source)
        return frame

    def _read(self, entry: FileEntry) -> pd.DataFrame:
        frame: pd.DataFrame = read_cached(cached_table(self.release, entry, self.cache)).to_pandas()
        return frame

    @cached_property
    def _sets(self) -> list[str]:
        """Names of the sets; none where the tables are not on disk."""
        return [str(n) for n in self._long[self._set].dropna().unique()] if self.is_present else []

    def _members(self, name: str) -> pd.DataFrame:
        return self._long[self._long[self._set] == name]

    def _terms_of_keys(self, members: pd.DataFrame, term: str, column: str) -> dict[str, str]:
        """Return the term of each key, as text.

        Raises
        ------
        TableError
            If a key has two.
        """
        known = members.dropna(subset=[term])
        keys = known[self.key].astype(str)
        if keys.duplicated().any():
            twice = keys[keys.duplicated()].iloc[0]
            raise TableError(f"{self.source}: {self.key} {twice} has two terms of {column}")
        return dict(zip(keys, known[term].astype(str), strict=True))
