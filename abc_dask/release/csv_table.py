"""The tables of a release as Parquet, and which cells are in which matrix.

CSV files are read once and kept as Parquet (see `abc_dask.disk.kept_table`). Labels are always
text, also where they look like numbers, as those of MERFISH cells do.
"""

from __future__ import annotations

import contextlib
import csv
import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from abc_dask.base.columns import GENE_IDENTIFIER
from abc_dask.base.errors import TableError
from abc_dask.base.messages import enumerate_names
from abc_dask.disk.checked_parquet import seal
from abc_dask.disk.failures import unreadable
from abc_dask.disk.files import Fingerprint
from abc_dask.disk.kept_table import Cache
from abc_dask.release.column_types import ARROW, NOTHING, TEXT, kinds_of, typed
from abc_dask.release.csv_blocks import Parse, QuotedError, blocks_apart, blocks_in_order
from abc_dask.release.manifest import FileEntry
from abc_dask.release.release import Release

_TEXT_COLUMN = re.compile(
    r"(_label|_identifier|_symbol|_id|_acronym|_barcode|_genotype|_sex|_color|_method)$"
    r"|^(name|comment|entity|neurotransmitter|class|subclass|supertype|cluster)$"
)

_MISSING = ["", "NA", "N/A", "NaN", "nan", "null", "NULL"]

# Part of every kept table's key: raise it when columns are typed in another way.
_TYPES = 1

_ROW_GROUP = 1 << 16

_MOST_THREADS = 4

# Blocks that are parsed, or wait to be written.
_AHEAD = 8

T = TypeVar("T")


def require_table_columns(columns: Iterable[str], needed: Iterable[str], source: str) -> None:
    """Raise `TableError` if a table lacks a column; names those that it has."""
    known = list(columns)
    if absent := [name for name in needed if name not in known]:
        raise TableError(
            f"{source} has no column {enumerate_names(absent)}; it has: {enumerate_names(known)}"
        )


def cached_table(
    release: Release, entry: FileEntry, cache: Cache, without: Collection[str] = ()
) -> Path:
    """Return the Parquet twin of a release's table, made on first use.

    Parameters
    ----------
    release : Release
    entry : FileEntry
    cache : Cache
    without : collection of str
        Columns of a CSV table that the twin need not have.

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
    if without:
        state.append(sorted(without))
    write = release.writer_of(entry) or (lambda target: _csv_to_parquet(path, target, without))
    return cache.get(entry.tag, state, write)


def _csv_to_parquet(source: Path, target: Path, without: Collection[str] = ()) -> None:
    """Convert a CSV table; begin again where later values show that a type is too narrow."""
    try:
        columns = csv_header(source)
        missing = [""] if GENE_IDENTIFIER in columns else _MISSING
        wanted = [name for name in columns if name not in without]
        kinds = {name: TEXT if _TEXT_COLUMN.search(name) else NOTHING for name in wanted}
        while (wider := _stream_csv(source, target, kinds, columns, missing)) is not None:
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
    source: Path, target: Path, kinds: dict[str, str], columns: list[str], missing: list[str]
) -> dict[str, str] | None:
    """Convert in blocks, so that memory does not grow with the table.

    Returns
    -------
    dict of str to str or None
        None when the table is whole; else wider kinds of columns, with which to begin again.
    """
    how = (source, columns, missing, list(kinds))
    try:
        return _convert(blocks_apart(*how), target, kinds)
    except (QuotedError, pa.ArrowInvalid):  # the latter tells the row if it is met in order
        return _convert(blocks_in_order(*how), target, kinds)
    except OSError as error:
        raise unreadable(source, error) or error from None


def _convert(blocks: Iterator[Parse], target: Path, kinds: dict[str, str]) -> dict[str, str] | None:
    """Write blocks in their order, as `_stream_csv`; others are parsed meanwhile."""
    first = next(blocks, None)
    batch = None if first is None else first()
    if batch is not None:
        kinds = kinds_of(batch, kinds)
    schema = pa.schema({name: ARROW[kind] for name, kind in kinds.items()})

    def typed_block(parse: Parse) -> tuple[dict[str, str], pa.Table | None]:
        parsed = parse()
        wider = kinds_of(parsed, kinds)
        return wider, typed(parsed, schema) if wider == kinds else None

    options: dict[str, Any] = {"compression": "lz4", "use_dictionary": _repeated(batch)}
    with pq.ParquetWriter(target, schema, **options) as writer, _pool() as pool:
        ready = [] if batch is None else [typed(batch, schema)]
        for wider, table in _mapped(pool, typed_block, blocks):
            if table is None:
                return wider
            ready.append(table)
            if sum(map(len, ready)) >= _ROW_GROUP:
                writer.write_table(pa.concat_tables(ready), row_group_size=2 * _ROW_GROUP)
                ready = []
        if ready:
            writer.write_table(pa.concat_tables(ready), row_group_size=2 * _ROW_GROUP)
    seal(target)
    return None


def _repeated(batch: pa.RecordBatch | None) -> list[str]:
    """Return the columns whose values repeat, which are shorter as dictionaries."""
    if batch is None:
        return []
    return [n for n in batch.schema.names if pc.count_distinct(batch[n]).as_py() * 4 < len(batch)]


@contextlib.contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    """Start a thread a core; what has not begun at the end is dropped."""
    from dask.system import CPU_COUNT

    pool = ThreadPoolExecutor(min(CPU_COUNT, _MOST_THREADS))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _mapped(
    pool: ThreadPoolExecutor, function: Callable[[Parse], T], blocks: Iterator[Parse]
) -> Iterator[T]:
    """Yield what a function returns for each block, in order; few blocks are held at a time."""
    pending: deque[Future[T]] = deque()
    for block in blocks:
        pending.append(pool.submit(function, block))
        if len(pending) > _AHEAD:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
