"""Which table names the genes of a release."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from abc_dask.base.columns import GENE_IDENTIFIER, GENE_SYMBOL
from abc_dask.base.errors import TableError, UnknownNameError
from abc_dask.base.messages import enumerate_names, nearest, plural
from abc_dask.disk.kept_table import read_cached
from abc_dask.release.csv_table import require_table_columns
from abc_dask.release.manifest import FileEntry, Manifest


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
