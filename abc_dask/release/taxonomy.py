"""The taxonomy of a release: term sets, which terms a cluster has, their order and colours."""

from __future__ import annotations

from abc_dask.base.errors import UnknownNameError
from abc_dask.base.messages import nearest
from abc_dask.disk.kept_table import Cache
from abc_dask.release.linked_tables import CLUSTER_ALIAS
from abc_dask.release.manifest import Manifest
from abc_dask.release.release import Release
from abc_dask.release.term_order import COLOR, TermOrder, first_values
from abc_dask.release.term_tables import TermTables

_MEMBERSHIP = "cluster_to_cluster_annotation_membership"

_TERM = "cluster_annotation_term"

_TERM_NAME = "cluster_annotation_term_name"

_SET_NAME = "cluster_annotation_term_set_name"

_SET_LABEL = "cluster_annotation_term_set_label"


class Taxonomy(TermTables):
    """Tables of a taxonomy, as far as they are on disk: membership of clusters, and terms."""

    key, _set, _term = CLUSTER_ALIAS, _SET_NAME, _TERM_NAME

    @classmethod
    def of(
        cls, release: Release, metadata: str, cache: Cache, directory: str | None = None
    ) -> Taxonomy:
        """Find the taxonomy of a metadata directory, as `directory_of` does.

        Parameters
        ----------
        release : Release
        metadata : str
            Such as ``WHB-10Xv3``.
        cache : Cache
        directory : str, optional
            Such as ``WHB-taxonomy``; where not given, the one whose name starts with
            the same word, if it is the only one.

        Raises
        ------
        ReleaseError
            If the release has no such taxonomy.
        """
        found = cls.directory_of(release.manifest, metadata, directory)
        tables = {} if found is None else release.manifest.tables(found)
        entries = tuple(tables[tag] for tag in (_MEMBERSHIP, _TERM) if tag in tables)
        return cls(release, cache, entries)

    @classmethod
    def directory_of(
        cls, manifest: Manifest, metadata: str, directory: str | None = None
    ) -> str | None:
        """Return the directory of the taxonomy of a metadata directory; None where there is none.

        Raises
        ------
        ReleaseError
            If the release has not the one that was named.
        """
        known = [d for d in manifest.datasets if cls.is_in(manifest, d)]
        if directory is not None:
            if directory not in known:
                raise UnknownNameError(
                    f"release {manifest.version} has no taxonomy {directory!r}"
                    f"{nearest(directory, known)}"
                )
            return directory
        first = metadata.partition("-")[0]
        fitting = [d for d in known if d.partition("-")[0] == first]
        return fitting[0] if len(fitting) == 1 else None

    @staticmethod
    def is_in(manifest: Manifest, directory: str) -> bool:
        """Return whether a directory holds a taxonomy."""
        return _MEMBERSHIP in manifest.tables(directory)

    @property
    def term_sets(self) -> list[str]:
        """Names of the term sets; none where the tables are not on disk."""
        return self._sets

    def terms_of_keys(self, name: str) -> dict[str, str]:
        """Return the term that each cluster has in a set, by cluster_alias as text.

        Raises
        ------
        TableError
            If a cluster has two.
        """
        return self._terms_of_keys(self._members(name), _TERM_NAME, name)

    def terms(self, name: str) -> TermOrder:
        """Return order and colours of all terms of a set; empty for an unknown set."""
        if name not in self.term_sets:
            return TermOrder({}, {})
        members = self._members(name)
        colors = first_values(members[_TERM_NAME], members[COLOR]) if COLOR in members else {}
        if len(self.entries) < 2:
            return TermOrder({}, colors)
        terms = self._read(self.entries[1])
        if _SET_LABEL in terms and _SET_LABEL in members:
            terms = terms[terms[_SET_LABEL].isin(members[_SET_LABEL])]
        elif _SET_NAME in terms:
            terms = terms[terms[_SET_NAME] == name]
        else:
            return TermOrder({}, colors)
        if COLOR in terms:
            colors |= first_values(terms["name"], terms[COLOR])
        order = next((n for n in ("term_order", "order") if n in terms), None)
        return TermOrder({} if order is None else first_values(terms["name"], terms[order]), colors)
