"""The terms of a common coordinate framework: of each parcellation, in every set of terms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from abc_dask.base.errors import TableError
from abc_dask.base.messages import enumerate_names
from abc_dask.disk.cache import Cache
from abc_dask.disk.kept_table import read_cached
from abc_dask.release.csv_table import cached_table
from abc_dask.release.linked_tables import PARCELLATION_INDEX
from abc_dask.release.manifest import FileEntry, Manifest
from abc_dask.release.release import Release
from abc_dask.release.term_order import COLOR, TermOrder, first_values

_MEMBERSHIP = "parcellation_to_parcellation_term_membership"

_SET = "parcellation_term_set_name"

_ACRONYM, _NAME = "parcellation_term_acronym", "parcellation_term_name"

_ORDER = "term_order"


@dataclass(frozen=True)
class Parcellation:
    """Terms of parcellations, such as ``parcellation_structure``.

    Each set of terms is two columns, as in the atlas's own tables of annotated cells:
    ``parcellation_SET`` has the acronyms, ``parcellation_SET_name`` the names.

    Attributes
    ----------
    release : Release
    cache : Cache
    entries : tuple of FileEntry
        The long table; none where the release has not exactly one.
    """

    release: Release
    cache: Cache
    entries: tuple[FileEntry, ...]

    @classmethod
    def of(cls, release: Release, cache: Cache) -> Parcellation:
        """Find the terms of a release's one coordinate framework."""
        found = cls.directory_of(release.manifest)
        tables = {} if found is None else release.manifest.tables(found)
        return cls(release, cache, (tables[_MEMBERSHIP],) if tables else ())

    @staticmethod
    def directory_of(manifest: Manifest) -> str | None:
        """Return the directory of the terms; None where there is none, or several."""
        found = [d for d in manifest.datasets if _MEMBERSHIP in manifest.tables(d)]
        return found[0] if len(found) == 1 else None

    @property
    def key(self) -> str:
        """What names a parcellation."""
        return PARCELLATION_INDEX

    @property
    def is_present(self) -> bool:
        """Whether there is one, on disk."""
        return bool(self.entries) and all(self.release.is_present(e) for e in self.entries)

    @cached_property
    def _long(self) -> pd.DataFrame:
        path = cached_table(self.release, self.entries[0], self.cache)
        frame: pd.DataFrame = read_cached(path).to_pandas()
        absent = [n for n in (PARCELLATION_INDEX, _SET, _NAME) if n not in frame]
        if absent:
            raise TableError(
                f"{self.entries[0].relative_path} has no column {enumerate_names(absent)}; "
                f"it has: {enumerate_names(list(frame.columns))}"
            )
        return frame

    @cached_property
    def _columns(self) -> dict[str, tuple[str, str]]:
        """Set and column of the long table, by the name of the column that we offer."""
        if not self.is_present:
            return {}
        sets = [str(name) for name in self._long[_SET].dropna().unique()]
        short = _ACRONYM if _ACRONYM in self._long else _NAME
        found = {f"parcellation_{name}": (name, short) for name in sets}
        return found | {f"parcellation_{name}_name": (name, _NAME) for name in sets}

    @property
    def term_sets(self) -> list[str]:
        """Names of the columns; none where the table is not on disk."""
        return list(self._columns)

    def _members(self, column: str) -> tuple[pd.DataFrame, str]:
        name, term = self._columns[column]
        return self._long[self._long[_SET] == name].dropna(subset=[term]), term

    def terms_of_keys(self, column: str) -> dict[str, str]:
        """Return the term of each parcellation_index, as text.

        Raises
        ------
        TableError
            If one has two.
        """
        members, term = self._members(column)
        index = members[PARCELLATION_INDEX].astype(str)
        if index.duplicated().any():
            twice = index[index.duplicated()].iloc[0]
            source = self.entries[0].relative_path
            raise TableError(f"{source}: {PARCELLATION_INDEX} {twice} has two terms of {column}")
        return dict(zip(index, members[term].astype(str), strict=True))

    def terms(self, column: str) -> TermOrder:
        """Return order and colours of all terms of a column; empty for an unknown one."""
        if column not in self._columns:
            return TermOrder({}, {})
        members, term = self._members(column)
        ranks = first_values(members[term], members[_ORDER]) if _ORDER in members else {}
        colors = first_values(members[term], members[COLOR]) if COLOR in members else {}
        return TermOrder(ranks, colors)
