"""Genes by symbol or identifier."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from abc_dask.base.columns import GENE_IDENTIFIER, GENE_SYMBOL
from abc_dask.base.errors import GeneError
from abc_dask.base.messages import enumerate_names, nearest, plural

# So many unknown names a message tells.
_MOST_TOLD = 1000

# Of so few, the second letter may be wrong too.
_FEW = 20

# Columns of other names of genes, and what stands between two of them.
_OTHER_NAMES = re.compile(
    r"(^|_)(synonym|alias|prev(ious)?_symbol|old_symbol|ncbi_identifier|entrez_id)(e?s)?(_symbols?)?$"
)
_SEPARATORS = re.compile(r"[|;,]")

_VERSION = re.compile(r"\.[0-9]+$")

_DATE = re.compile(r"(?:0?(?P<day>[1-9]|[1-3][0-9])-)?(?P<month>[a-z]{3})(?:-0?(?P<after>[0-9]+))?")

# What symbols begin with of which spreadsheets make dates, where it is more than the month.
_MONTHS = {
    "mar": ("march", "marchf", "marc", "mtarc"),
    "sep": ("sept", "septin"),
    "dec": ("delec",),
}


@dataclass(frozen=True)
class Gene:
    """A gene by its identifier, which is unique, and its symbol, which is not always.

    Attributes
    ----------
    identifier : str
        Such as ``ENSMUSG00000070570``; what matrices are searched for.
    symbol : str
        Such as ``Slc17a7``; empty where the table has none.
    others : tuple of str
        Its identifiers in matrices of other species, which have one of all of these at most.
    """

    identifier: str
    symbol: str
    others: tuple[str, ...] = ()

    @property
    def identifiers(self) -> tuple[str, ...]:
        """All of its identifiers."""
        return (self.identifier, *self.others)

    @property
    def key(self) -> str:
        """What tells it from other genes."""
        return "|".join(self.identifiers)


class GeneNames:
    """Look-up of genes by symbol or identifier.

    Parameters
    ----------
    symbols : mapping of str to str
        The symbol of each identifier of a table; empty where it has none.
    apart : sequence of frozenset of str, optional
        Identifiers of each matrix, or species. A symbol that stands for one gene at most in
        each of them is one gene with several identifiers.
    synonyms : pyarrow.Table, optional
        The table's columns of other names, in the order of `symbols`.
    """

    def __init__(
        self,
        symbols: Mapping[str, str],
        apart: Sequence[frozenset[str]] = (),
        synonyms: pa.Table | None = None,
    ) -> None:
        self._symbols, self._apart, self._synonyms = symbols, apart, synonyms

    @classmethod
    def of(cls, table: pa.Table, apart: Sequence[frozenset[str]] = ()) -> GeneNames:
        """Build from a table with gene_identifier and gene_symbol; `apart` as the class has it.

        Columns whose names say so, such as synonyms, alias_symbol or mapped_ncbi_identifier, have
        other names of a gene.
        """
        symbols = pc.fill_null(table[GENE_SYMBOL].cast(pa.string()), "").to_pylist()
        other = [name for name in table.column_names if _OTHER_NAMES.search(name)]
        return cls(
            dict(zip(table[GENE_IDENTIFIER].to_pylist(), symbols, strict=True)),
            apart,
            table.select(other) if other else None,
        )

    # Who asks for ten genes does not wait until 32,285 are made.
    @cached_property
    def by_identifier(self) -> Mapping[str, Gene]:
        """All genes by identifier, in the order of the table."""
        return {
            identifier: Gene(identifier, symbol) for identifier, symbol in self._symbols.items()
        }

    @cached_property
    def by_symbol(self) -> Mapping[str, Sequence[Gene]]:
        """All genes that have a symbol, by symbol."""
        return {
            symbol: [self.by_identifier[identifier] for identifier in identifiers]
            for symbol, identifiers in self._of_symbol.items()
        }

    @cached_property
    def _of_symbol(self) -> Mapping[str, Sequence[str]]:
        found: dict[str, list[str]] = {}
        for identifier, symbol in self._symbols.items():
            if symbol:
                found.setdefault(symbol, []).append(identifier)
        return found

    def _with_symbol(self, symbol: str) -> list[Gene]:
        return [Gene(identifier, symbol) for identifier in self._of_symbol.get(symbol, ())]

    def exact(self, name: str) -> Sequence[Gene]:
        """Return the genes of this identifier, or else of this symbol."""
        if name in self._symbols:
            return [Gene(name, self._symbols[name])]
        return self._merged(self._with_symbol(name))

    def _merged(self, genes: Sequence[Gene]) -> Sequence[Gene]:
        """Return one gene in place of several that no matrix, or species, has two of."""
        names = [gene.identifier for gene in genes]
        if len(names) < 2 or len({gene.symbol for gene in genes}) > 1:
            return genes
        counts = [len(own.intersection(names)) for own in self._apart]
        if not counts or max(counts) > 1:
            return genes
        return [Gene(names[0], genes[0].symbol, tuple(names[1:]))]

    def without_version(self, name: str) -> Sequence[Gene]:
        """Return the gene of an identifier that has a version after a dot."""
        stem = _VERSION.sub("", name)
        return [Gene(stem, self._symbols[stem])] if stem != name and stem in self._symbols else []

    def alike(self, name: str) -> Sequence[Gene]:
        """Return the genes that a name can be, were it not for its version, case or spreadsheet.

        A synonym counts where no symbol or identifier fits.

        Examples
        --------
        >>> names = GeneNames({"E1": "March1", "E2": "Tac2"})
        >>> [names.alike(name)[0].symbol for name in ("E1.4", "TAC2", "1-Mar")]
        ['March1', 'Tac2', 'March1']
        """
        folded = _VERSION.sub("", name).casefold()
        return self._whole(
            self.without_version(name)
            or self._by_fold.get(name.casefold(), [])
            or [gene for gene in self._by_fold.get(folded, []) if gene.symbol.casefold() != folded]
            or self._dated(name)
            or self._by_synonym.get(name.casefold(), [])
        )

    def _whole(self, genes: Sequence[Gene]) -> Sequence[Gene]:
        """Return genes with their identifiers in other matrices, as `exact` does."""
        if len(genes) > 1 and len({gene.symbol for gene in genes}) == 1:
            return self.exact(genes[0].symbol)
        found = [one for gene in genes for one in self.exact(gene.identifier)]
        return list({gene.key: gene for gene in found}.values())

    @cached_property
    def _by_synonym(self) -> Mapping[str, Sequence[Gene]]:
        found: dict[str, dict[str, Gene]] = {}
        for column in [] if self._synonyms is None else self._synonyms.columns:
            values = column.cast(pa.string()).to_pylist()
            for (identifier, symbol), value in zip(self._symbols.items(), values, strict=True):
                for name in _SEPARATORS.split(value or ""):
                    if name.strip():
                        genes = found.setdefault(name.strip().casefold(), {})
                        genes[identifier] = Gene(identifier, symbol)
        return {name: list(genes.values()) for name, genes in found.items()}

    def _dated(self, name: str) -> list[Gene]:
        """Return the genes of which a spreadsheet makes this date."""
        date = _DATE.fullmatch(name.casefold())
        number = date and (date["day"] or date["after"])
        if date is None or not number or (date["day"] and date["after"]):
            return []
        month = date["month"]
        stems = (month, *_MONTHS.get(month, ()))
        found = [gene for stem in stems for gene in self._by_fold.get(f"{stem}{number}", [])]
        return list({gene.identifier: gene for gene in found}.values())

    @cached_property
    def _by_fold(self) -> dict[str, list[Gene]]:
        """Genes by symbol and identifier, in whatever case."""
        folded: dict[str, list[Gene]] = {}
        for name, genes in (
            *self.by_symbol.items(),
            *((identifier, [gene]) for identifier, gene in self.by_identifier.items()),
        ):
            known = folded.setdefault(name.casefold(), [])
            known += [gene for gene in genes if gene not in known]
        return folded

    def refuse(
        self, unknown: Sequence[str], ambiguous: Mapping[str, Sequence[Gene]], n_names: int
    ) -> None:
        """Raise `GeneError` if names are unknown or stand for several genes; tells all of them.

        Parameters
        ----------
        unknown : sequence of str
        ambiguous : mapping of str to sequence of Gene
        n_names : int
            How many names were asked for.
        """
        problems = [self._unknown(unknown, n_names)] if unknown else []
        for name, genes in ambiguous.items():
            symbols = {gene.symbol for gene in genes}
            shown = [
                gene.identifier if len(symbols) == 1 else f"{gene.identifier} ({gene.symbol})"
                for gene in genes
            ]
            problems.append(
                f"gene symbol {name!r} stands for {len(genes)} genes; ask by identifier: "
                f"{enumerate_names(shown)}"
            )
        if problems:
            raise GeneError("; ".join(problems))

    def _unknown(self, names: Sequence[str], n_names: int) -> str:
        if len(names) == 1:
            (name,) = names
            known = [*self.by_symbol, *self.by_identifier] if name[:3] == "ENS" else self.by_symbol
            return f"gene {name!r} is unknown{nearest(name, known)}"
        letters = 1 if len(names) <= _FEW else 2
        told = [
            f"{name} (nearest: {', '.join(near)})" if (near := self._near(name, letters)) else name
            for name in names[:_MOST_TOLD]
        ]
        more = "" if len(names) <= _MOST_TOLD else f" and {len(names) - _MOST_TOLD:,} more"
        return f"{len(names):,} of {plural(n_names, 'name')} are unknown: {', '.join(told)}{more}"

    def _near(self, name: str, letters: int) -> list[str]:
        """Return the nearest names, looked for among those of the same start and about the length.

        In a list of thousands of unknown names, comparing each with all genes takes minutes.
        """
        folded = name.casefold()
        among = [
            known
            for start, group in self._by_start.items()
            if start[:letters] == folded[:letters]
            for known in group
            if abs(len(known) - len(folded)) < 3
        ]
        near = [*difflib.get_close_matches(folded, among, n=3, cutoff=0.6)]
        genes = [gene for known in near for gene in self._by_fold[known]]
        return [
            gene.identifier if gene.identifier.casefold() in near else gene.symbol for gene in genes
        ][:3]

    @cached_property
    def _by_start(self) -> dict[str, list[str]]:
        starts: dict[str, list[str]] = {}
        for known in self._by_fold:
            starts.setdefault(known[:2], []).append(known)
        return starts

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
