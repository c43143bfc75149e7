"""Genes by symbol or identifier, and which table names them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from abc_dask.columns import GENE_IDENTIFIER, GENE_SYMBOL
from abc_dask.disk.kept_table import read_cached
from abc_dask.errors import GeneError, ReleaseError, TableError, UsageError
from abc_dask.messages import enumerate_names, nearest, plural
from abc_dask.release.manifest import FileEntry, Manifest


@dataclass(frozen=True)
class Gene:
    """A gene by its identifier, which is unique, and its symbol, which is not always.

    Attributes
    ----------
    identifier : str
        Such as ``ENSMUSG00000070570``; what matrices are searched for.
    symbol : str
        Such as ``Slc17a7``; empty where the table has none.
    """

    identifier: str
    symbol: str


def gene_tables(manifest: Manifest, directory: str) -> dict[str, FileEntry]:
    """Return a directory's gene tables by tag: ``gene``, or ``human_gene`` and the like."""
    return {
        tag: entry
        for tag, entry in manifest.tables(directory).items()
        if tag == "gene" or tag.endswith("_gene")
    }


def choose_gene_table(manifest: Manifest, metadata: str, named: str | None) -> FileEntry | None:
    """Choose the gene table of an extraction.

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
    FileEntry or None
        None where the metadata directory has not exactly one gene table and none is
        named: the matrices' own gene names serve then.

    Raises
    ------
    ReleaseError
        If the named one is not there, or the directory has several.
    """
    directory, _, tag = (named or metadata).partition("/")
    known = gene_tables(manifest, directory)
    if tag:
        if tag not in known:
            raise ReleaseError(f"{directory} has no gene table {tag!r}{nearest(tag, known)}")
        return known[tag]
    if len(known) == 1 or "gene" in known:
        return known.get("gene") or next(iter(known.values()))
    if named is None:
        return None
    raise ReleaseError(
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
    absent = [n for n in (GENE_IDENTIFIER, GENE_SYMBOL) if n not in table.column_names]
    if absent:
        raise TableError(
            f"{source} has no column {enumerate_names(absent)}; "
            f"it has: {enumerate_names(table.column_names)}"
        )
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


def find_genes(table: pa.Table, names: Sequence[str]) -> list[Gene]:
    """Find genes in a table, as `GeneNames.find` does, without naming all of the others."""
    try:
        asked = pa.array(names, pa.string())
        named = [
            pc.is_in(table[column].cast(pa.string()), value_set=asked)
            for column in (GENE_IDENTIFIER, GENE_SYMBOL)
        ]
        return GeneNames.of(table.filter(pc.or_(*named))).find(names)
    except (GeneError, UnicodeEncodeError):  # the latter: half a character, on the command line
        return GeneNames.of(table).find(names)  # whose message knows what is near


class GeneNames:
    """Look-up of genes by symbol or identifier.

    Parameters
    ----------
    genes : iterable of Gene
        All genes of a table.
    """

    def __init__(self, genes: Iterable[Gene]) -> None:
        self.by_identifier: dict[str, Gene] = {}
        self.by_symbol: dict[str, list[Gene]] = {}
        for gene in genes:
            self.by_identifier[gene.identifier] = gene
            if gene.symbol:
                self.by_symbol.setdefault(gene.symbol, []).append(gene)

    @classmethod
    def of(cls, table: pa.Table) -> GeneNames:
        """Build from a table with gene_identifier and gene_symbol."""
        identifiers = table[GENE_IDENTIFIER].to_pylist()
        symbols = table[GENE_SYMBOL].to_pylist()
        return cls(Gene(i, s or "") for i, s in zip(identifiers, symbols, strict=True))

    def find(self, names: Sequence[str]) -> list[Gene]:
        """Find genes by symbol or identifier, in the order asked.

        Raises
        ------
        UsageError
            If no gene is asked for.
        GeneError
            If one is unknown (names the nearest symbols), ambiguous (lists the
            identifiers), or asked for twice.
        """
        if not names:
            raise UsageError("no gene is given; give symbols or identifiers")
        found: dict[str, str] = {}
        for name in names:
            gene = self._one(name)
            if gene.identifier in found:
                first = found[gene.identifier]
                also = "" if first == name else f", as {first!r} and as {name!r}"
                raise GeneError(f"gene {name!r} is asked for twice{also}")
            found[gene.identifier] = name
        return [self.by_identifier[identifier] for identifier in found]

    def _one(self, name: str) -> Gene:
        if name in self.by_identifier:
            return self.by_identifier[name]
        genes = self.by_symbol.get(name, [])
        if not genes:
            known = [*self.by_symbol, *self.by_identifier] if name[:3] == "ENS" else self.by_symbol
            raise GeneError(f"gene {name!r} is unknown{nearest(name, known)}")
        if len(genes) > 1:
            raise GeneError(
                f"gene symbol {name!r} stands for {len(genes)} genes; ask by identifier: "
                f"{enumerate_names([gene.identifier for gene in genes])}"
            )
        return genes[0]

    def search(self, text: str) -> list[Gene]:
        """Return all genes whose symbol or identifier contains a text, exact matches first."""
        folded = text.casefold()
        found = [
            gene
            for gene in self.by_identifier.values()
            if folded in gene.symbol.casefold() or folded in gene.identifier.casefold()
        ]

        def distance(gene: Gene) -> tuple[bool, bool, int, str]:
            exact = folded in {gene.symbol.casefold(), gene.identifier.casefold()}
            starts = gene.symbol.casefold().startswith(folded)
            return (not exact, not starts, len(gene.symbol), gene.symbol)

        return sorted(found, key=distance)
