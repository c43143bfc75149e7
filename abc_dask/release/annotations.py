"""Where the annotations of cells are found, aligned with cell_metadata by label.

A column is looked for in cell_metadata, then in the tables of cells beside it
(``cell_metadata_with_cluster_annotation`` and the like), then among the term sets of the
taxonomy, which are joined by cluster_alias. Its order and colours come from the
``*_order`` and ``*_color`` columns beside it, from ``region_of_interest_metadata`` and the
like, or from the taxonomy's terms; without an order terms are sorted by name, numbers in
them by value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from abc_dask.columns import CELL_LABEL
from abc_dask.config import setting
from abc_dask.disk.cache import Cache
from abc_dask.disk.files import Fingerprint
from abc_dask.disk.kept_table import opened_cached, read_cached, read_described
from abc_dask.errors import MissingFileError, TableError, UsageError
from abc_dask.messages import enumerate_names, nearest
from abc_dask.release.annotation import (
    VALUE,
    Annotation,
    encode,
    is_missing,
    order_terms,
    write_values,
)
from abc_dask.release.cell_table import CellTable
from abc_dask.release.csv_table import cached_table, csv_header
from abc_dask.release.manifest import CELL_METADATA, FileEntry
from abc_dask.release.release import Release
from abc_dask.release.taxonomy import CLUSTER_ALIAS, COLOR, Taxonomy, TermOrder, first_values

_WITH = f"{CELL_METADATA}_with_"

_STEMS = ("_acronym", "_label", "_name")

# Part of every cached column's key: raise it when terms or types become others.
_LAYOUT = 2


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
    """

    release: Release
    metadata: str
    cells: CellTable
    cache: Cache
    taxonomy: str | None = None

    @classmethod
    def open(
        cls,
        download_base: str | Path,
        release: str,
        metadata: str,
        taxonomy: str | None = None,
    ) -> Annotations:
        """Find the tables of an atlas on disk.

        Raises
        ------
        ReleaseError, MissingFileError, DamagedFileError, TableError
            If release or cell_metadata are not there or do not fit.
        """
        opened = Release.open(download_base, release)
        cache = Cache.beside(opened.download_base, setting("cache-directory"))
        cells = CellTable.of(opened, metadata, cache)
        return cls(opened, metadata, cells, cache, taxonomy)

    def find(self, columns: Sequence[str]) -> tuple[Annotation, ...]:
        """Find columns; their values are aligned with cell_metadata and kept.

        Parameters
        ----------
        columns : sequence of str

        Returns
        -------
        tuple of Annotation
            In the order asked.

        Raises
        ------
        UsageError
            If a column is unknown (names the nearest ones) or asked for twice.
        MissingFileError
            If a table that may have it is not on disk.
        TableError
            If a table does not fit.
        """
        for name in columns:
            if list(columns).count(name) > 1:
                raise UsageError(f"annotation {name!r} is asked for twice")
        return tuple(self._one(name) for name in columns)

    def names(self) -> list[str]:
        """List all columns that the tables on disk have."""
        found = dict.fromkeys(self.cells.columns)
        for entry in self._tables:
            if self.release.is_present(entry):
                found |= dict.fromkeys(self._columns(entry))
        if self._taxonomy.is_present and CLUSTER_ALIAS in self.cells.columns:
            found |= dict.fromkeys(self._taxonomy.term_sets)
        return [name for name in found if name != CELL_LABEL]

    def entries(self, columns: Sequence[str]) -> list[FileEntry]:
        """Return the tables, beside cell_metadata, from which columns may come."""
        if all(name in self.cells.columns for name in columns):
            return []
        return self._tables or list(self._taxonomy.entries)

    def column(self, name: str) -> pa.ChunkedArray:
        """Read a column as it is, whatever its type, in cell_metadata's order.

        Raises
        ------
        UsageError, MissingFileError, TableError
            As `find`.
        """
        entry = self._table_of(name)
        if entry is None:
            annotation = self._one(name)
            return pa.chunked_array([annotation.arrow(annotation.values())])
        return self._aligned(entry, [name])[name]

    # where a column is

    @cached_property
    def _tables(self) -> list[FileEntry]:
        """Tables of cells beside cell_metadata, those of the same directory first."""
        manifest = self.release.manifest
        near = [d for d in manifest.datasets if d.startswith(f"{self.metadata}-")]
        return [
            entry
            for directory in (self.metadata, *near)
            for tag, entry in sorted(manifest.tables(directory).items())
            if tag.startswith(_WITH)
        ]

    def _columns(self, entry: FileEntry) -> list[str]:
        return csv_header(self.release.path(entry))

    @cached_property
    def _own(self) -> FileEntry:
        return self.release.manifest.tables(self.metadata)[CELL_METADATA]

    def _table_of(self, name: str) -> FileEntry | None:
        """Return the table of cells that has a column; None: the taxonomy has it."""
        if name in self.cells.columns:
            return self._own
        for entry in self._tables:
            if self.release.is_present(entry) and name in self._columns(entry):
                self.release.require([entry])
                return entry
        joins = self._taxonomy.is_present and CLUSTER_ALIAS in self.cells.columns
        if joins and name in self._taxonomy.term_sets:
            return None
        tables = [*self._tables, *self._taxonomy.entries]
        absent = [entry for entry in tables if not self.release.is_present(entry)]
        known = self.names()
        if absent:
            raise MissingFileError(
                f"no column {name!r} in the tables of cells on disk{nearest(name, known)}; "
                f"not on disk: {enumerate_names([e.relative_path for e in absent])}"
            )
        raise UsageError(f"no column {name!r} in the tables of cells{nearest(name, known)}")

    @cached_property
    def _taxonomy(self) -> Taxonomy:
        return Taxonomy.of(self.release, self.metadata, self.cache, self.taxonomy)

    # one column

    def _one(self, name: str) -> Annotation:
        if name == CELL_LABEL:
            raise UsageError(f"{CELL_LABEL} is the index of every view, not an annotation")
        entry = self._table_of(name)
        used = [entry] if entry is not None else []
        used += [
            e for e in (*self._lists(name), *self._taxonomy.entries) if self.release.is_present(e)
        ]
        state = [_LAYOUT, name, list(self.cells.state), *(self._state(e) for e in used)]
        make: Callable[[Path], None] = lambda target: self._write(name, entry, target)  # noqa: E731
        return Annotation.load(self.cache.get("annotation", state, make))

    def _state(self, entry: FileEntry) -> list[Any]:
        return [entry.relative_path, *astuple(Fingerprint.of(self.release.path(entry)))]

    def _lists(self, name: str) -> list[FileEntry]:
        """Return the table of a column's terms, such as region_of_interest_metadata."""
        tables = self.release.manifest.tables(self.metadata)
        return [tables[tag] for stem in _stems(name) if (tag := f"{stem}_metadata") in tables][:1]

    def _write(self, name: str, entry: FileEntry | None, target: Path) -> None:
        if entry is None:
            codes, found = self._joined(name)
            known, source = self._taxonomy.terms(name), self._taxonomy.source
            _save_terms(
                Annotation(name, source, (), "category", {}, 0), codes, found, known, target
            )
            return
        has = self._columns(entry)
        beside = {
            kind: next((n for s in _stems(name) if (n := f"{s}_{kind}") in has), None)
            for kind in ("order", "color")
        }
        wanted = [name, *(n for n in beside.values() if n is not None)]
        table = self._aligned(entry, wanted)
        column = table[name]
        if pa.types.is_boolean(column.type):
            column = pc.if_else(column, "True", "False")
        if (values := _numbers(column)) is not None:
            missing = int(is_missing(values).sum()) if values.dtype.kind == "f" else 0
            described = Annotation(name, entry.relative_path, None, values.dtype.name, {}, missing)
            described.save(values, target)
            return
        codes, found = encode(column, name)
        terms = TermOrder(
            {k: float(v) for k, v in _of_terms(codes, found, table, beside["order"]).items()},
            {k: str(v) for k, v in _of_terms(codes, found, table, beside["color"]).items()},
        )
        for other in self._fallbacks(name):
            terms = TermOrder(terms.ranks or other.ranks, other.colors | terms.colors)
        described = Annotation(name, entry.relative_path, (), "category", {}, 0)
        _save_terms(described, codes, found, terms, target)

    def _fallbacks(self, name: str) -> Iterator[TermOrder]:
        """Yield the orders that other tables have for a column's terms, small tables first."""
        for entry in self._lists(name):
            if self.release.is_present(entry):
                frame = read_cached(cached_table(self.release, entry, self.cache)).to_pandas()
                suffix = next((s[1:] for s in _STEMS if name.endswith(s)), "name")
                if suffix in frame:
                    ranks = first_values(frame[suffix], frame["order"]) if "order" in frame else {}
                    colors = first_values(frame[suffix], frame[COLOR]) if COLOR in frame else {}
                    yield TermOrder(ranks, colors)
        yield self._taxonomy.terms(name)

    def _joined(self, name: str) -> tuple[NDArray[np.int32], list[str]]:
        """Return a term set's codes of all cells by their cluster_alias, and its terms."""
        own = read_cached(self.cells.path, [CLUSTER_ALIAS])[CLUSTER_ALIAS]
        if pa.types.is_floating(own.type):  # whole numbers, some of them missing
            own = own.cast(pa.int64())
        of_cells, aliases = encode(own.cast(pa.string()), CLUSTER_ALIAS)
        of_alias = self._taxonomy.terms_of_clusters(name)
        codes, terms = pd.factorize(pd.Series(list(of_alias.values()), dtype=object))
        code_of_alias = dict(zip(of_alias, codes.tolist(), strict=True))
        lookup = np.array([code_of_alias.get(a, -1) for a in aliases] + [-1], np.int32)
        return lookup[of_cells], [str(term) for term in terms]

    def _aligned(self, entry: FileEntry, columns: Sequence[str]) -> pa.Table:
        """Read columns of a table of cells in the order of cell_metadata."""
        own = entry == self._own
        path = self.cells.path if own else cached_table(self.release, entry, self.cache)
        texts = [
            field.name
            for field in read_described(path)[0]
            if field.name in columns and pa.types.is_string(field.type)
        ]
        with opened_cached(path, columns, read_dictionary=texts) as file:
            table = file.read(columns=list(columns))
        if own:
            return table
        rows = self._rows_of(entry, path)
        if not len(rows):
            return table
        return table.unify_dictionaries().combine_chunks().take(pa.array(rows, mask=rows < 0))

    def _rows_of(self, entry: FileEntry, path: Path) -> NDArray[np.int64]:
        """Return the row of every cell in another table; empty where both have one order."""

        def look(target: Path) -> None:
            labels = self.cells.labels()
            theirs = read_cached(path, [CELL_LABEL])[CELL_LABEL].combine_chunks()
            same = labels.equals(theirs)
            rows = np.empty(0, np.int64) if same else align(labels, theirs, entry.relative_path)
            write_values(rows, target, "rows")

        state = [list(self.cells.state), self._state(entry)]
        kept = self.cache.get("table-rows", state, look)
        rows: NDArray[np.int64] = read_cached(kept)[VALUE].to_numpy()
        return rows


def align(labels: pa.Array, theirs: pa.Array, source: str) -> NDArray[np.int64]:
    """Return the row of each label in another table, -1 where it has none.

    Raises
    ------
    TableError
        If a label stands there more than once.
    """
    index = pd.Index(theirs.to_pandas())
    if not index.is_unique:
        twice = index[index.duplicated()][0]
        raise TableError(f"{source}: cell label {twice!r} stands more than once")
    rows: NDArray[np.int64] = index.get_indexer(pd.Index(labels.to_pandas())).astype(np.int64)
    return rows


def _save_terms(
    annotation: Annotation,
    codes: NDArray[np.int32],
    found: list[str],
    known: TermOrder,
    target: Path,
) -> None:
    """Bring terms into their order and write the codes."""
    occurring = [found[k] for k in np.unique(codes[codes >= 0])]
    terms = order_terms(occurring, known.ranks)
    rank = {term: k for k, term in enumerate(terms)}
    renumbered = np.array([rank.get(term, -1) for term in found] + [-1], np.int32)
    values = renumbered[codes]
    colors = {term: known.colors[term] for term in terms if term in known.colors}
    missing = int((values < 0).sum())
    replace(annotation, terms=tuple(terms), colors=colors, n_missing=missing).save(values, target)


def _stems(name: str) -> list[str]:
    """Return what order and colour columns may be named after.

    Examples
    --------
    >>> _stems("region_of_interest_acronym")
    ['region_of_interest_acronym', 'region_of_interest']
    """
    return [name, *(name.removesuffix(s) for s in _STEMS if name.endswith(s))]


def _of_terms(
    codes: NDArray[np.int32], terms: list[str], table: pa.Table, beside: str | None
) -> dict[str, Any]:
    """Return the first value that another column has beside each term."""
    if beside is None:
        return {}
    column = table[beside]
    if pa.types.is_dictionary(column.type):
        others, values = encode(column, beside)
        held = others >= 0
    else:
        plain = column.to_numpy()
        held = ~pd.isna(plain)
        others, values = np.arange(len(plain), dtype=np.int32), plain
    held &= codes >= 0
    first = np.full(len(terms), -1, np.int64)
    # written from the end, so that the first one stays
    first[codes[held][::-1]] = others[held][::-1]
    return {term: values[k] for term, k in zip(terms, first.tolist(), strict=True) if k >= 0}


def _numbers(column: pa.ChunkedArray) -> NDArray[Any] | None:
    """Return a column as int64, or float64 with NaN; None where neither holds its values.

    Whole numbers above 2**53 of which some are missing are identifiers, and so are terms.
    """
    if pa.types.is_integer(column.type) and not column.null_count:
        whole: NDArray[Any] = column.to_numpy()
        return whole
    if not pa.types.is_integer(column.type) and not pa.types.is_floating(column.type):
        return None
    try:
        numbers: NDArray[Any] = column.cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid:  # Arrow refuses to round
        return None
    return numbers
