"""Lists of genes or cells as users have them: one strict reader.

A list is a table of which one column has the names, or names alone: several a line,
separated by commas, tabs, semicolons or spaces. Files come from spreadsheets, R, pandas,
scanpy, Seurat or MapMyCells, so gzip, byte order marks, UTF-16, quotes, comment lines and
any line ends are read. A column is taken only because of its name. What then is no name of
the release is refused by those who look it up, so nothing is left out without a word.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import pyarrow as pa

from abc_dask.base.errors import TableError
from abc_dask.base.messages import nearest
from abc_dask.release.user_file import text_lines

_CHUNK = 1 << 16

# Lines that are looked at to find the separator.
_HEAD = 100

_SEPARATORS = "\t,;"

_EXCEL_HINT = re.compile(r"sep=([,;\t])", re.IGNORECASE)

_COMMENT = re.compile(r"(?:^|\s)#.*", re.DOTALL)

_QUOTES = {"'": "'", '"': '"', "`": "`", "\u2018": "\u2019", "\u201c": "\u201d"}


@dataclass(frozen=True)
class ListKind:
    """What a list is of.

    Attributes
    ----------
    noun : str
        Such as ``gene``.
    option, column_option : str
        Options of the command line that name the file and its column.
    headers : tuple of str
        Names of columns as `header_key` has them, the best first.
    """

    noun: str
    option: str
    column_option: str
    headers: tuple[str, ...]


GENES = ListKind(
    "gene",
    "--genes-file",
    "--genes-column",
    (
        *("gene_identifier", "gene_id", "gene_ids", "ensembl_id", "ensembl_gene_id", "ensembl"),
        *("ensembl_ids", "ensemblid", "geneid", "gene_identifiers", "gene_stable_id"),
        *("gene_symbol", "gene_symbols", "genesymbol", "symbol", "symbols", "gene", "genes"),
        *("gene_name", "gene_names", "genename", "external_gene_name", "feature_name"),
        *("mgi_symbol", "hgnc_symbol", "feature", "features", "names", "marker", "markers"),
        *("identifier", "name"),
    ),
)

CELLS = ListKind(
    "cell",
    "--cells-from",
    "--cells-column",
    (
        *("cell_label", "cell_id", "abc_sample_id", "cell_labels", "cell_ids", "celllabel"),
        *("cellid", "cell", "cells", "cell_name", "cell_names", "barcodes", "barcode"),
        *("label", "labels"),
    ),
)


@dataclass(frozen=True, eq=False)
class UserList:
    """The names of a list, as they stand in a file.

    Attributes
    ----------
    kind : ListKind
    source : str
        Path of the file; ``standard input``.
    column : str or None
        Name or number of the column; None where names stand alone.
    names : pyarrow.ChunkedArray
        Text in the file's order, repeats and all; none is empty.
    n_blank : int
        Rows that have something, but no name.
    doubtful : tuple of str
        The first line, where it was left out as a line of headers but might not be one.
    """

    kind: ListKind
    source: str
    column: str | None
    names: pa.ChunkedArray
    n_blank: int = 0
    doubtful: tuple[str, ...] = ()

    @classmethod
    def read(cls, file: str, kind: ListKind, column: str | None = None) -> UserList:
        """Read a list.

        Parameters
        ----------
        file : str
            Path; ``-`` is standard input.
        kind : ListKind
        column : str, optional
            Name of the column, or its number from 1.

        Raises
        ------
        MissingFileError
            If there is no such file.
        TableError
            If it is no text, a quote is not closed, a line has too few columns, or the
            column is not there.
        """
        with text_lines(file, kind.option) as (source, lines):
            reader = _Reader(source, kind, column, lines)
            try:
                return reader.read()
            except csv.Error as error:
                raise reader.refused(f"line {reader.line}: {error}") from None

    def looked_up(self, is_known: Callable[[str], bool]) -> pa.ChunkedArray:
        """Return the names; those that stand alone and are unknown are split at separators.

        Parameters
        ----------
        is_known : callable
            Tells whether the release has a name, which may have spaces or commas.

        Raises
        ------
        TableError
            If a first line that was taken for headers has a name.
        """
        if name := next(filter(is_known, self.doubtful), None):
            raise TableError(
                f"{self.kind.option} {self.source}: the first line has {name!r}, so it is not one "
                f"of headers; give the number of the column with {self.kind.column_option}"
            )
        if self.column is not None:
            return self.names
        pieces: list[str] = []
        for name in self.names.to_pylist():
            split = re.split(r"[\s,;]+", name)
            whole = len(split) == 1 or is_known(name)
            pieces += [name] if whole else filter(None, map(_unquoted, split))
        return pa.chunked_array([pa.array(pieces, pa.string())])


def header_key(name: str) -> str:
    """Return the name of a column as `ListKind.headers` has it.

    Examples
    --------
    >>> header_key(" Gene Symbol"), header_key("gene.symbol")
    ('gene_symbol', 'gene_symbol')
    """
    return re.sub(r"[^0-9a-z]+", "_", name.casefold()).strip("_")


class _Reader:
    """Reads one file; `line` is the number of the line that was read last."""

    def __init__(self, source: str, kind: ListKind, column: str | None, lines: Iterable[str]):
        self.line = 0
        self._source = source
        self._kind = kind
        self._column = column
        self._lines = (
            (number, line)
            for number, line in enumerate(lines, start=1)
            if line.strip() and not line.lstrip().startswith("#")
        )

    def refused(self, why: str) -> TableError:
        return TableError(f"{self._kind.option} {self._source}: {why}")

    def read(self) -> UserList:
        head = list(islice(self._lines, _HEAD))
        hint = _EXCEL_HINT.fullmatch(head[0][1].strip().strip('"')) if head else None
        head = head[1:] if hint else head
        separator: str = hint[1] if hint else self._separator([line for _, line in head])
        rows = self._rows(self._counted(chain(head, self._lines)), separator)
        first, second = next(rows, None), next(rows, None)
        if first is None:
            return self._made(None, iter(()))
        rows = rows if second is None else chain([second], rows)
        # R names rows, and writes no name for the column of these names
        is_shifted = second is not None and len(second) == len(first) + 1 and bool(second[-1])
        if self._column is not None:
            return self._chosen(first, rows, is_shifted=is_shifted)
        keys = [header_key(cell) for cell in first]
        best = next((key for key in self._kind.headers if key in keys), None)
        if best is None and (first[0] or len(first) == 1):
            return self._alone(chain([first], rows))
        if len(first) == 1:
            return self._alone(rows, doubtful=first)
        if best is None:  # pandas and R name rows, too
            return self._made("1", self._cells(rows, 0), doubtful=first[1:])
        if keys.count(best) > 1:
            raise self.refused(
                f"the column {best!r} stands twice; name one with {self._kind.column_option}"
            )
        number = keys.index(best)
        return self._made(first[number], self._cells(rows, number + is_shifted))

    def _counted(self, lines: Iterable[tuple[int, str]]) -> Iterator[str]:
        for self.line, line in lines:
            yield line

    def _rows(self, lines: Iterable[str], separator: str) -> Iterator[list[str]]:
        for row in csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True):
            cells = [_unquoted(cell) for cell in row if cell or separator != " "]
            if any(cells):
                yield cells

    def _separator(self, head: list[str]) -> str:
        """Choose the separator by which the first line names a column, else the commonest."""
        wanted = set(self._kind.headers) if self._column is None else {header_key(self._column)}
        if head and header_key(head[0]) not in wanted:
            for separator in f"{_SEPARATORS} ":
                keys = _keys(head[0], separator)
                if len(keys) > 1 and wanted & keys:
                    return separator
        counts = {s: sum(line.count(s) for line in head) for s in _SEPARATORS}
        if self._column is not None and not any(counts.values()):
            return " "
        # a tab is never part of a name
        return "\t" if counts["\t"] else max(_SEPARATORS, key=lambda s: counts[s])

    def _chosen(self, first: list[str], rows: Iterator[list[str]], *, is_shifted: bool) -> UserList:
        """Read the column that was asked for, by its name or its number."""
        column = self._column or ""
        keys = [header_key(cell) for cell in first]
        named = [k for k, cell in enumerate(first) if cell == column]
        named = named or [k for k, key in enumerate(keys) if key == header_key(column)]
        if len(named) == 1:
            return self._made(column, self._cells(rows, named[0] + is_shifted))
        if named:
            raise self.refused(f"the column {column!r} stands {len(named)} times; give its number")
        if not column.isdecimal() or int(column) == 0:
            raise self.refused(f"no column {column!r}{nearest(column, first)}")
        number = int(column) - 1
        is_header = (
            is_shifted or not first[0] or keys[min(number, len(keys) - 1)] in (self._kind.headers)
        )
        rows = rows if is_header else chain([first], rows)
        return self._made(column, self._cells(rows, number))

    def _cells(self, rows: Iterator[list[str]], number: int) -> Iterator[str]:
        for row in rows:
            if len(row) <= number:
                raise self.refused(
                    f"line {self.line} has {len(row)} of at least {number + 1} columns"
                )
            yield row[number]

    def _alone(self, rows: Iterator[list[str]], doubtful: Sequence[str] = ()) -> UserList:
        """Read names that stand alone, however many a line."""

        def names() -> Iterator[str]:
            for row in rows:
                for cell in row:
                    name = _COMMENT.sub("", cell)
                    if name.strip():
                        yield _unquoted(name)
                    if name != cell:
                        break

        return self._made(None, names(), doubtful)

    def _made(
        self, column: str | None, cells: Iterator[str], doubtful: Sequence[str] = ()
    ) -> UserList:
        chunks, n_blank = [], 0
        while part := list(islice(cells, _CHUNK)):
            names = [cell for cell in part if cell]
            n_blank += len(part) - len(names)
            chunks.append(pa.array(names, pa.string()))
        names_read = pa.chunked_array(chunks, pa.string())
        return UserList(self._kind, self._source, column, names_read, n_blank, tuple(doubtful))


def _keys(line: str, separator: str) -> set[str]:
    """Return what a line names, were it one of headers with this separator."""
    try:
        (cells,) = csv.reader([line], delimiter=separator, skipinitialspace=True)
    except (csv.Error, ValueError):
        return set()
    return {header_key(_unquoted(cell)) for cell in cells if cell}


def _unquoted(cell: str) -> str:
    """Return a cell without the space and the quotes around it."""
    cell = cell.strip(" \t\r\n\v\f\u00a0\u200b\ufeff")
    if len(cell) > 1 and _QUOTES.get(cell[0]) == cell[-1]:
        return cell[1:-1].strip()
    return cell
