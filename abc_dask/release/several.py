"""Several metadata directories as one table of cells: brains of one study, species.

Their names are joined by commas (``Zhuang-ABCA-1,Zhuang-ABCA-2``). The column
`METADATA_DIRECTORY` tells the directories apart. Each finds columns by its own tables; where one
has no such column, its cells have no value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.base.columns import METADATA_DIRECTORY
from abc_dask.base.config import setting
from abc_dask.base.errors import TableError, UsageError
from abc_dask.base.messages import nearest
from abc_dask.disk.kept_table import Cache
from abc_dask.release.annotation import Annotation, is_missing, natural_key
from abc_dask.release.annotations import Annotations, NoCellError
from abc_dask.release.cell_table import CellTable, directories_of
from abc_dask.release.h5ad_files import H5adFiles
from abc_dask.release.joins import Route
from abc_dask.release.release import Release


class SeveralAnnotations(Annotations):
    """The annotations of the cells of several metadata directories, one after the other."""

    @cached_property
    def _members(self) -> tuple[Annotations, ...]:
        """The annotations of each directory."""
        return tuple(
            replace(
                Annotations(
                    self.release, name, CellTable.of(self.release, name, self.cache), self.cache
                ),
                taxonomy=self.taxonomy,
                joined=self.joined,
            )
            for name in directories_of(self.metadata)
        )

    def names(self) -> list[str]:
        """List all columns that any of them has."""
        return list(self.sources())

    def sources(self) -> dict[str, Route]:
        """Return how each column is reached, in the first directory that has it."""
        found = {METADATA_DIRECTORY: Route((), METADATA_DIRECTORY)}
        for member in self._members:
            found = member.sources() | found
        return found

    def column(self, name: str) -> pa.ChunkedArray:
        """Read a column as it is; text or numbers, whatever all of them can be."""
        if name == METADATA_DIRECTORY:
            return self._rows.read(None, [name])[name]
        having = self._having(name)
        read = [_plain(m.column(name)) if m in having else None for m in self._members]
        kinds = [column.type for column in read if column is not None]
        kind = kinds[0] if len(set(kinds)) == 1 else _common(kinds)
        chunks: list[pa.Array] = []
        for member, column in zip(self._members, read, strict=True):
            if column is None:
                chunks.append(pa.nulls(member.cells.n_cells, kind))
            else:
                chunks += column.cast(kind).chunks
        return pa.chunked_array(chunks, kind)

    def _having(self, name: str) -> list[Annotations]:
        """Return those that have a column.

        Raises
        ------
        UsageError, MissingFileError, TableError
            As `find`; if none has it.
        """
        having = []
        elsewhere: NoCellError | None = None
        for member in self._members:
            if name in member.cells.columns or member.tables.graph.find(name):
                try:
                    member.route(name)  # raises where it is ambiguous, or its table is not there
                except NoCellError as error:
                    elsewhere = error
                else:
                    having.append(member)
        if not having:
            if elsewhere is not None:
                raise elsewhere
            absent = [m for m in self._members if m.tables.absent]
            if absent:
                absent[0].route(name)
            raise UsageError(
                f"no column {name!r} in the tables of cells{nearest(name, self.names())}"
            )
        return having

    def one(self, name: str) -> Annotation:
        """Find one column, as `find`."""
        if name == METADATA_DIRECTORY:
            return self._directory()
        having = self._having(name)
        (first, *others) = found = [member.one(name) for member in having]
        kinds = {annotation.is_numeric for annotation in found}
        if len(kinds) > 1:
            odd = next(a for a in others if a.is_numeric != first.is_numeric)
            raise TableError(
                f"column {name!r} holds numbers in one of {first.source} and {odd.source}, "
                "terms in the other"
            )
        parts = dict(zip((m.metadata for m in having), found, strict=True))
        state = ["several", list(self.cells.state), name, [a.table for a in found]]
        state.append([member.metadata for member in having])

        def make(target: Path) -> None:
            terms, values = self._joined_values(parts, found)
            missing = int(is_missing(values).sum()) if values.dtype.kind == "f" or terms else 0
            colors: dict[str, str] = {}
            for annotation in reversed(found):
                colors |= annotation.colors
            whole = replace(
                first,
                terms=terms,
                dtype=values.dtype.name if terms is None else first.dtype,
                colors=colors,
                source=", ".join(dict.fromkeys(a.source for a in found)),
            )
            whole.counted(missing).save(values, target)

        return Annotation.load(self.cache.get("annotation", state, make))

    def _directory(self) -> Annotation:
        """Return the column that tells the directories apart."""

        def make(target: Path) -> None:
            sizes = [member.cells.n_cells for member in self._members]
            codes = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
            terms = tuple(directories_of(self.metadata))
            found = Annotation(METADATA_DIRECTORY, self.cells.source, terms, "category", {}, 0)
            found.save(codes, target)

        state = [METADATA_DIRECTORY, list(self.cells.state)]
        return Annotation.load(self.cache.get("annotation", state, make))

    def _joined_values(
        self, parts: Mapping[str, Annotation], found: Sequence[Annotation]
    ) -> tuple[tuple[str, ...] | None, NDArray[Any]]:
        """Return the terms of all, or None for numbers, and the codes or numbers of all cells."""
        if found[0].is_numeric:
            numbers = [
                parts[m.metadata].values()
                if m.metadata in parts
                else np.full(m.cells.n_cells, np.nan)
                for m in self._members
            ]
            return None, np.concatenate(numbers)
        terms = union_of_terms([annotation.terms or () for annotation in found])
        code = {term: np.int32(k) for k, term in enumerate(terms)}
        columns = []
        for member in self._members:
            annotation = parts.get(member.metadata)
            if annotation is None:
                columns.append(np.full(member.cells.n_cells, -1, np.int32))
                continue
            own = [code[term] for term in annotation.terms or ()]
            columns.append(np.array([*own, -1], np.int32)[annotation.values()])
        return terms, np.concatenate(columns)


def union_of_terms(lists: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the terms of several columns in one order.

    Where each list is in the order of names, so is the result; else the terms of the first
    come first, then those that only others have.

    Examples
    --------
    >>> union_of_terms([["a2", "a10"], ["a3"]])
    ('a2', 'a3', 'a10')
    >>> union_of_terms([["z", "a"], ["b", "z"]])
    ('z', 'a', 'b')
    """
    found = list(dict.fromkeys(term for terms in lists for term in terms))
    if all(list(terms) == sorted(terms, key=natural_key) for terms in lists):
        found.sort(key=natural_key)
    return tuple(found)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def _common(kinds: Sequence[pa.DataType]) -> pa.DataType:
    numeric = all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds)
    return pa.float64() if numeric else pa.string()


def annotations_of(
    release: Release,
    metadata: str,
    cells: CellTable,
    cache: Cache,
    *,
    taxonomy: str | None = None,
    joined: Sequence[str] = (),
) -> Annotations:
    """Return the annotations of one metadata directory, or of several joined by commas."""
    kind = Annotations if len(directories_of(metadata)) == 1 else SeveralAnnotations
    return kind(release, metadata, cells, cache, taxonomy, tuple(joined))


def annotations_of_view(info: Mapping[str, Any]) -> Annotations:
    """Find the tables of the atlas that a view is from, by the view's description.

    Raises
    ------
    KeyError
        If it does not tell from which.
    ReleaseError, MissingFileError, DamagedFileError, TableError
        If release or cell_metadata are not there or do not fit.
    """
    atlas = info["atlas"]
    if "h5ad" in atlas:
        release: Release = H5adFiles.of(Path(atlas["download_base"]), atlas["h5ad"])
    else:
        release = Release.open(atlas["download_base"], info["release"])
    cache = Cache.beside(release.download_base, setting("cache-directory"))
    cells = CellTable.of(release, info["metadata"], cache)
    return annotations_of(
        release,
        info["metadata"],
        cells,
        cache,
        taxonomy=atlas.get("taxonomy"),
        joined=atlas.get("joined", ()),
    )
