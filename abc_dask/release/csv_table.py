"""The tables of a release as Parquet, and which cells are in which matrix.

CSV files are read once and kept as Parquet (see `abc_dask.disk.cache`). Labels are always
text, also where they look like numbers, as those of MERFISH cells do.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple
from itertools import chain, takewhile
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from abc_dask.base.columns import GENE_IDENTIFIER
from abc_dask.base.errors import TableError
from abc_dask.disk.cache import Cache
from abc_dask.disk.checked_parquet import seal
from abc_dask.disk.files import Fingerprint, unreadable
from abc_dask.release.column_types import ARROW, NOTHING, TEXT, kinds_of, typed
from abc_dask.release.manifest import FileEntry
from abc_dask.release.release import Release

_TEXT_COLUMN = re.compile(
    r"(_label|_identifier|_symbol|_id|_acronym|_barcode|_genotype|_sex|_color|_method)$"
    r"|^(name|comment|entity|neurotransmitter|class|subclass|supertype|cluster)$"
)

_MISSING = ["", "NA", "N/A", "NaN", "nan", "null", "NULL"]

_CSV_BLOCK = 1 << 24

# Part of every kept table's key: raise it when columns are typed in another way.
_TYPES = 1

_ROW_GROUP = 1 << 16

# Batches that wait to be written.
_AHEAD = 2


def cached_table(release: Release, entry: FileEntry, cache: Cache) -> Path:
    """Return the Parquet twin of a release's table, made on first use.

    Raises
    ------
    MissingFileError, DamagedFileError
        If the CSV is not on disk, or not of the manifest's size.
    TableError
        If it is not CSV.
    """
    release.require([entry])
    path = release.path(entry)
    state = [_TYPES, entry.relative_path, *astuple(Fingerprint.of(path))]
    write = release.writer_of(entry) or (lambda target: _csv_to_parquet(path, target))
    return cache.get(entry.tag, state, write)


def _csv_to_parquet(source: Path, target: Path) -> None:
    """Convert a CSV table; begin again where later values show that a type is too narrow."""
    try:
        columns = csv_header(source)
        missing = [""] if GENE_IDENTIFIER in columns else _MISSING
        kinds = {name: TEXT if _TEXT_COLUMN.search(name) else NOTHING for name in columns}
        while (wider := _stream_csv(source, target, kinds, missing)) is not None:
            kinds = wider
    except (pa.ArrowInvalid, csv.Error) as error:
        raise TableError(f"{source} is not a CSV table: {' '.join(str(error).split())}") from None


def csv_header(source: Path) -> list[str]:
    """Read the names of a CSV table's columns.

    Raises
    ------
    TableError
        If there is none, or one stands twice.
    """
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            return header_of(file, str(source))
    except UnicodeDecodeError as error:
        raise _not_utf8(source, error) from None
    except OSError as error:
        raise unreadable(source, error) or error from None


def _not_utf8(source: Path, error: UnicodeDecodeError) -> TableError:
    return TableError(
        f"{source} is not UTF-8 text: byte 0x{error.object[error.start]:02x} in its first lines; "
        "save it as CSV in UTF-8"
    )


def header_of(lines: Iterable[str], source: str) -> list[str]:
    """Return the names of columns in the first line that is no comment; as `csv_header`."""
    columns = next(csv.reader(line for line in lines if not line.startswith("#")), [])
    if not columns:
        raise TableError(f"{source} is empty, expected a CSV table")
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise TableError(f"{source} has the column {twice[0]!r} more than once")
    return columns


def _stream_csv(
    source: Path, target: Path, kinds: dict[str, str], missing: list[str]
) -> dict[str, str] | None:
    """Convert in blocks, so that memory does not grow with the table.

    Returns
    -------
    dict of str to str or None
        None when the table is whole; else wider kinds of columns, with which to begin again.
    """
    with _open_csv(source, list(kinds), missing) as reader:
        batches = _batches(reader, source)
        first = next(batches, None)
        if first is not None:
            kinds = kinds_of(first, kinds)
        schema = pa.schema({name: ARROW[kind] for name, kind in kinds.items()})
        with pq.ParquetWriter(target, schema, compression="lz4") as writer:
            pending: deque[Future[None]] = deque()
            with ThreadPoolExecutor(1) as writing:  # one batch is packed while others are parsed
                for batch in batches if first is None else chain([first], batches):
                    wider = kinds_of(batch, kinds)
                    if wider != kinds:
                        return wider
                    table = typed(batch, schema)
                    pending.append(
                        writing.submit(writer.write_table, table, row_group_size=_ROW_GROUP)
                    )
                    if len(pending) > _AHEAD:
                        pending.popleft().result()
                for written in pending:
                    written.result()
    seal(target)
    return None


def _comment_lines(source: Path) -> int:
    """Count the lines above the header that begin with #, as MapMyCells writes them."""
    with source.open("rb") as file:
        lines = (line.removeprefix(b"\xef\xbb\xbf") for line in file)
        return sum(1 for _ in takewhile(lambda line: line.startswith(b"#"), lines))


def _open_csv(
    source: Path, columns: list[str], missing: list[str]
) -> pyarrow.csv.CSVStreamingReader:
    """Open a CSV table whose columns are all read as text."""
    try:
        return pyarrow.csv.open_csv(
            source,
            read_options=pyarrow.csv.ReadOptions(
                block_size=_CSV_BLOCK, skip_rows=_comment_lines(source)
            ),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()),
                null_values=missing,
                strings_can_be_null=True,
            ),
        )
    except OSError as error:
        raise unreadable(source, error) or error from None


def _batches(reader: pyarrow.csv.CSVStreamingReader, source: Path) -> Iterator[pa.RecordBatch]:
    """Read batches; name the source in an error of its disk, and refuse a quote without an end."""
    last = ""
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            break
        except OSError as error:
            raise unreadable(source, error) or error from None
        yield batch
        if batch.num_rows:
            last = batch.column(batch.num_columns - 1)[-1].as_py() or ""
    # Arrow takes all that follows an open quote for one value
    if "\n" in last and not _ends_with_quote(source):
        raise TableError(
            f"{source} is not a CSV table: a quote is not closed, before {last[:40]!r}"
        )


def _ends_with_quote(source: Path) -> bool:
    """Return whether the last line of a file ends with a quote."""
    with source.open("rb") as file:
        file.seek(max(0, source.stat().st_size - 4096))
        return file.read().rstrip().endswith(b'"')
