"""The genes of a release: which table names them, and which of them are chosen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from abc_dask.base.columns import GENE_IDENTIFIER, GENE_SYMBOL
from abc_dask.base.errors import GeneError, TableError, UnknownNameError, UsageError
from abc_dask.base.messages import enumerate_names, nearest, plural
from abc_dask.disk.kept_table import read_cached
from abc_dask.release.csv_table import require_table_columns
from abc_dask.release.gene_names import Gene, GeneNames
from abc_dask.release.manifest import FileEntry, Manifest
from abc_dask.release.user_list import GENES, UserList


def gene_tables(manifest: Manifest, directory: str) -> dict[str, FileEntry]:
    """Return a directory's gene tables by tag: ``gene``, or ``human_gene`` and the like."""
    return {
        tag: entry
        for tag, entry in manifest.tables(directory).items()
        if tag == "gene" or tag.endswith("_gene")
    }


def choose_gene_tables(manifest: Manifest, metadata: str, named: str | None) -> list[FileEntry]:
    """Choose the gene tables of an extraction.

    Parameters
    ----------
    manifest : Manifest
        The release.
    metadata : str
        Metadata directory of the cells.
    named : str, optional
        ``DIRECTORY`` or ``DIRECTORY/TAG``.

    Returns
    -------
    list of FileEntry
        One; where none is named and the directory has a table for each of several species,
        all of these; empty where it has none: the matrices' own gene names serve then.

    Raises
    ------
    ReleaseError
        If the named one is not there, or the named directory has several.
    """
    directory, _, tag = (named or metadata).partition("/")
    known = gene_tables(manifest, directory)
    if tag:
        if tag not in known:
            raise UnknownNameError(f"{directory} has no gene table {tag!r}{nearest(tag, known)}")
        return [known[tag]]
    if "gene" in known:
        return [known["gene"]]
    if len(known) == 1 or named is None:
        return list(known.values())
    raise UnknownNameError(
        f"{directory} has no gene table"
        if not known
        else f"{directory} has several gene tables; name one: "
        f"{enumerate_names([f'{directory}/{name}' for name in known])}"
    )


def read_genes(path: Path, source: str) -> pa.Table:
    """Read a cached gene table.

    Raises
    ------
    TableError
        If it lacks gene_identifier or gene_symbol, or an identifier stands twice.
    """
    table = read_cached(path)
    require_table_columns(table.column_names, (GENE_IDENTIFIER, GENE_SYMBOL), source)
    return check_genes(table, source)


def check_genes(table: pa.Table, source: str) -> pa.Table:
    """Raise `TableError` unless every gene has an identifier of its own."""
    identifiers = table[GENE_IDENTIFIER]
    if identifiers.null_count:
        raise TableError(f"{source}: {plural(identifiers.null_count, 'gene')} without identifier")
    counts = pc.value_counts(identifiers)
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if len(twice):
        raise TableError(f"{source}: gene_identifier {twice[0].as_py()!r} stands more than once")
    return table


def union_of_tables(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the genes of several tables, each identifier once, in order of appearance."""
    if len(tables) == 1:
        return tables[0]
    common = [
        name
        for name in tables[0].column_names
        if all(name in t.column_names and t[name].type == tables[0][name].type for t in tables)
    ]
    whole = pa.concat_tables([table.select(common) for table in tables]).combine_chunks()
    first = whole[GENE_IDENTIFIER].to_pandas().duplicated()
    return whole.filter(pa.array(~first.to_numpy()))


@dataclass(frozen=True)
class GeneChoice:
    """A choice of genes, before they are looked up.

    Attributes
    ----------
    parts : tuple of str or UserList
        Names and lists, in the order of the result.
    skip_unknown : bool
        Leave out names that the release does not have, and report them.
    """

    parts: tuple[str | UserList, ...]
    skip_unknown: bool = False

    @classmethod
    def of(
        cls,
        genes: Iterable[str | Path] | Path,
        column: str | None = None,
        *,
        skip_unknown: bool = False,
    ) -> Self:
        """Build from what users give; a `Path` is a list, which is read now.

        Raises
        ------
        UsageError
            If a column is named, but no list.
        MissingFileError, TableError
            As `UserList.read`.
        """
        given: list[Any] = [genes] if isinstance(genes, str | Path) else list(genes)
        parts = [
            UserList.read(str(one), GENES, column) if isinstance(one, Path) else str(one)
            for one in given
        ]
        if column is not None and not any(isinstance(part, UserList) for part in parts):
            raise UsageError(
                "--genes-column names a column of the file that --genes-file names; give both"
            )
        return cls(tuple(parts), skip_unknown)

    def choose(self, names: GeneNames) -> ChosenGenes:
        """Look the genes up among those of a release.

        A name may be of another case, a synonym of the gene table, or what a spreadsheet made of
        it (``1-Mar``), if that can be only one gene; it is reported then. Identifiers may have
        a version (``ENSMUSG00000070570.5``). In lists a name may stand again.

        Raises
        ------
        UsageError
            If no gene is chosen.
        GeneError
            If names are unknown (all of them, each with the nearest), ambiguous, or given twice.
        """
        lists = [part for part in self.parts if isinstance(part, UserList)]
        lookup = _Lookup(names)
        for part in self.parts:
            if isinstance(part, str):
                lookup.take_given(part)
            else:
                lookup.take_list(part)
        lookup.refuse(lists, skip_unknown=self.skip_unknown)
        if not lookup.found and lookup.unknown:
            told = enumerate_names(list(lookup.unknown), most=20)
            raise UsageError(f"none of the {plural(lookup.n_names, 'name')} is known: {told}")
        if not lookup.found:
            raise UsageError("no gene is given; give symbols or identifiers")
        report: dict[str, Any] = {
            "genes_from": [{"file": one.source, "column": one.column} for one in lists],
            "names_asked": lookup.n_names,
            "names_blank": sum(one.n_blank for one in lists),
            "names_repeated": lookup.n_repeated,
            "names_unknown": list(lookup.unknown),
            "read_as": lookup.read_as,
        }
        is_plain = not (lists or lookup.unknown or lookup.read_as)
        return ChosenGenes(lookup.genes(), None if is_plain else report)


@dataclass(frozen=True)
class ChosenGenes:
    """Genes of a release.

    Attributes
    ----------
    genes : tuple of Gene
        In the order asked, each once.
    report : dict or None
        What was asked, and counts, JSON-serialisable; None where all names were given one by
        one, and as the release writes them.
    """

    genes: tuple[Gene, ...]
    report: dict[str, Any] | None = field(repr=False)


class _Lookup:
    """Genes found so far, and what is wrong with the other names."""

    def __init__(self, names: GeneNames) -> None:
        self.found: dict[str, str] = {}
        self._genes: dict[str, Gene] = {}
        self.unknown: dict[str, None] = {}
        self.ambiguous: dict[str, Sequence[Gene]] = {}
        self.read_as: dict[str, str] = {}
        self.n_names = 0
        self.n_repeated = 0
        self._names = names

    def genes(self) -> tuple[Gene, ...]:
        return tuple(self._genes.values())

    def take_given(self, name: str) -> None:
        """Take a name that was given by itself."""
        gene = self._take(name)
        if gene is not None and gene.identifier in self.found:
            first = self.found[gene.identifier]
            also = "" if first == name else f", as {first!r} and as {name!r}"
            raise GeneError(f"gene {name!r} is asked for twice{also}")
        if gene is not None:
            self._keep(gene, name)

    def take_list(self, listed: UserList) -> None:
        """Take the names of a list."""
        for name in listed.looked_up(lambda name: bool(self._names.exact(name))).to_pylist():
            gene = self._take(name)
            if gene is not None and gene.identifier in self.found:
                self.n_repeated += 1
            elif gene is not None:
                self._keep(gene, name)

    def _keep(self, gene: Gene, name: str) -> None:
        self._genes[gene.identifier] = gene
        self.found |= dict.fromkeys(gene.identifiers, name)

    def _take(self, name: str) -> Gene | None:
        """Return the gene that a name can only be; else remember what is wrong."""
        self.n_names += 1
        exact = self._names.exact(name)
        genes = exact or self._names.alike(name)
        if len(genes) > 1:
            self.ambiguous[name] = genes
        elif not genes:
            self.unknown[name] = None
        elif not exact:
            self.read_as[name] = genes[0].symbol or genes[0].identifier
        return genes[0] if len(genes) == 1 else None

    def refuse(self, lists: Sequence[UserList], *, skip_unknown: bool) -> None:
        """Raise `GeneError` for all names that are no gene, or more than one."""
        unknown = [] if skip_unknown else list(self.unknown)
        try:
            self._names.refuse(unknown, self.ambiguous, self.n_names)
        except GeneError as error:
            told = [str(error)]
            if self.read_as:
                shown = [f"{name} as {gene}" for name, gene in self.read_as.items()]
                told.append(f"read as other names: {enumerate_names(shown, most=20)}")
            told += [f"of {one.source}{_column(one)}" for one in lists]
            if unknown and lists:
                told.append("correct these names, or leave them out with --skip-unknown")
            raise GeneError("; ".join(told)) from None


def _column(listed: UserList) -> str:
    if listed.column is None:
        return f"; if a column has them, name it with {GENES.column_option}"
    return f", column {listed.column!r}"
