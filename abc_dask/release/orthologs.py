"""Genes of several species as one: those that gene tables name as orthologs, one to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from abc_dask.base.columns import GENE_IDENTIFIER, GENE_SYMBOL
from abc_dask.base.errors import GeneError, UsageError
from abc_dask.base.messages import enumerate_names
from abc_dask.release.gene_names import Gene, GeneNames

ENDING = "_ortholog"


class OrthologNames(GeneNames):
    """Look-up of genes by symbol or identifier in any species; each is one gene of all of them.

    Parameters
    ----------
    tables : mapping of str to pyarrow.Table
        Gene tables by name. The column ``human_ortholog``, or another ``*_ortholog``, has the
        identifier of the gene in the species that the others are compared with.

    Raises
    ------
    UsageError
        If no table has such a column.
    """

    def __init__(self, tables: Mapping[str, pa.Table]) -> None:
        columns = {name: ortholog_column(table) for name, table in tables.items()}
        if not any(columns.values()):
            raise UsageError(
                f"none of the gene tables {enumerate_names(list(tables))} has a column that ends "
                f"in {ENDING}; ask for the genes of each species by identifier"
            )
        self._key_of: dict[str, str] = {}
        self._members: dict[str, dict[str, list[Gene]]] = {}
        symbol_of: dict[str, str] = {}
        for name, table in tables.items():
            identifiers = table[GENE_IDENTIFIER].to_pylist()
            symbols = table[GENE_SYMBOL].to_pylist()
            column = columns[name]
            # a table without orthologs is that of the species that is compared with
            keys = identifiers if column is None else table[column].to_pylist()
            for identifier, symbol, key in zip(identifiers, symbols, keys, strict=True):
                gene = Gene(identifier, symbol or "")
                symbol_of[identifier] = gene.symbol
                if key:
                    self._key_of[identifier] = key
                    self._members.setdefault(key, {}).setdefault(name, []).append(gene)
        super().__init__(symbol_of)

    def exact(self, name: str) -> Sequence[Gene]:
        """Return the gene of this identifier or symbol with its orthologs in other species.

        Raises
        ------
        GeneError
            If one species has several.
        """
        one = self.by_identifier.get(name)
        genes = [one] if one is not None else self.by_symbol.get(name, [])
        keys = {self._key_of.get(gene.identifier, "") for gene in genes}
        if len(keys) != 1 or keys == {""}:
            return genes
        (key,) = keys
        for table, members in self._members[key].items():
            if len(members) > 1:
                known = enumerate_names([f"{g.identifier} ({g.symbol})" for g in members])
                raise GeneError(
                    f"gene {name!r} has {len(members)} orthologs in {table}, not one: {known}; "
                    "ask for them without --orthologs"
                )
        found = [gene for members in self._members[key].values() for gene in members]
        found.sort(key=lambda gene: gene.identifier != key)
        symbol = next((gene.symbol for gene in found if gene.symbol), "")
        return [Gene(found[0].identifier, symbol, tuple(g.identifier for g in found[1:]))]


def ortholog_column(table: pa.Table) -> str | None:
    """Return the column of orthologs, that of human genes before others; None: there is none."""
    named = [name for name in table.column_names if name.endswith(ENDING)]
    return next(iter(sorted(named, key=lambda name: not name.startswith("human"))), None)
