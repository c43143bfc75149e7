"""The terms of a common coordinate framework: of each parcellation, in every set of terms."""

from __future__ import annotations

from functools import cached_property

from abc_dask.disk.kept_table import Cache
from abc_dask.release.linked_tables import PARCELLATION_INDEX
from abc_dask.release.manifest import Manifest
from abc_dask.release.release import Release
from abc_dask.release.term_order import COLOR, TermOrder, first_values
from abc_dask.release.term_tables import TermTables

_MEMBERSHIP = "parcellation_to_parcellation_term_membership"

_SET = "parcellation_term_set_name"

_ACRONYM, _NAME = "parcellation_term_acronym", "parcellation_term_name"

_ORDER = "term_order"


class Parcellation(TermTables):
    """Terms of parcellations, such as ``parcellation_structure``, in one long table.

    Each set of terms is two columns, as in the atlas's own tables of annotated cells:
    ``parcellation_SET`` has the acronyms, ``parcellation_SET_name`` the names.
    """

    key, _set, _term = PARCELLATION_INDEX, _SET, _NAME

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

    @cached_property
    def _columns(self) -> dict[str, tuple[str, str]]:
        """Set and column of the long table, by the name of the column that we offer."""
        if not self.is_present:
            return {}
        short = _ACRONYM if _ACRONYM in self._long else _NAME
        found = {f"parcellation_{name}": (name, short) for name in self._sets}
        return found | {f"parcellation_{name}_name": (name, _NAME) for name in self._sets}

    @property
    def term_sets(self) -> list[str]:
        """Names of the columns; none where the table is not on disk."""
        return list(self._columns)

    def terms_of_keys(self, column: str) -> dict[str, str]:
        """Return the term of each parcellation_index, as text.

        Raises
        ------
        TableError
            If one has two.
        """
        name, term = self._columns[column]
        return self._terms_of_keys(self._members(name), term, column)

    def terms(self, column: str) -> TermOrder:
        """Return order and colours of all terms of a column; empty for an unknown one."""
        if column not in self._columns:
            return TermOrder({}, {})
        name, term = self._columns[column]
        members = self._members(name).dropna(subset=[term])
        ranks = first_values(members[term], members[_ORDER]) if _ORDER in members else {}
        colors = first_values(members[term], members[COLOR]) if COLOR in members else {}
        return TermOrder(ranks, colors)
