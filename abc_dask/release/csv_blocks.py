"""CSV tables in blocks of rows, all columns as text.

Where no value is quoted every line end is the end of a row, so that blocks are parsed apart from
each other, on all cores. A table with a quote is parsed from its beginning to its end, since only
that tells whether a line end lies within a value.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv

from abc_dask.base.errors import TableError
from abc_dask.disk.failures import unreadable

# Bytes of a block: what is parsed stays in a core's cache.
CSV_BLOCK = 1 << 21

_MARK = b"\xef\xbb\xbf"

# Blocks that one line may be long before the reader that parses in order is asked.
_LONGEST_LINE = 4

# Parses one block.
Parse = Callable[[], pa.RecordBatch]


class QuotedError(Exception):
    """Lines cannot be told from rows without parsing all that stands before them."""


def blocks_apart(
    source: Path, columns: list[str], missing: list[str], wanted: list[str]
) -> Iterator[Parse]:
    """Yield what parses each block, to be called in any order and thread.

    Parameters
    ----------
    source : Path
    columns : list of str
        The header.
    missing : list of str
        Spellings of a missing value.
    wanted : list of str
        Columns that a block has.

    Raises
    ------
    QuotedError
        If there is a quote, or a header or line that does not end.
    OSError
        If the file cannot be read.
    """
    skip = _comment_lines(source) + 1
    convert = _conversion(columns, missing, wanted)
    with source.open("rb") as file:
        for _ in range(skip):
            line = file.readline(CSV_BLOCK)
            if b'"' in line or b"\r" in line.rstrip(b"\r\n") or not line.endswith(b"\n"):
                raise QuotedError
        start, size = file.tell(), CSV_BLOCK
        while data := file.read(size):
            if b'"' in data:
                raise QuotedError
            end = data.rfind(b"\n") + 1
            if len(data) < size and data[end:].strip():
                end = len(data)
            if end:
                yield _parser(memoryview(data)[:end], columns, convert)
                size = CSV_BLOCK
            elif len(data) < size:
                break
            elif size > _LONGEST_LINE * CSV_BLOCK:
                raise QuotedError
            else:
                size += CSV_BLOCK
            start += end
            file.seek(start)  # what follows the last whole line is read again


def _parser(content: memoryview, columns: list[str], convert: pyarrow.csv.ConvertOptions) -> Parse:
    def parse() -> pa.RecordBatch:
        table = pyarrow.csv.read_csv(
            pa.py_buffer(content),
            read_options=pyarrow.csv.ReadOptions(
                column_names=columns, use_threads=False, block_size=len(content) + 1
            ),
            convert_options=convert,
        )
        (batch,) = table.combine_chunks().to_batches() or [
            pa.RecordBatch.from_pylist([], table.schema)
        ]
        return batch

    return parse


def blocks_in_order(
    source: Path, columns: list[str], missing: list[str], wanted: list[str]
) -> Iterator[Parse]:
    """Yield what returns each block, parsed in order; parameters are those of `blocks_apart`.

    Raises
    ------
    OSError
        If the file cannot be read.
    pyarrow.ArrowInvalid
        If it is not CSV.
    TableError
        If its last quote is not closed.
    """
    last = ""
    with source.open("rb") as file, _open_csv(source, file, columns, missing) as reader:
        while True:
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                break
            except OSError as error:
                raise unreadable(source, error) or error from None
            yield partial(_same, batch.select(wanted))
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


class _WholeLineEnds(io.RawIOBase):
    """A file of which no read ends between CR and LF.

    Arrow drops a LF at the beginning of a block whose predecessor ends with CR, even where both
    stand within a quoted value.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._kept = b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return at most some bytes, none at the end."""
        data = self._kept + self._file.read(max(size - len(self._kept), 1) if size >= 0 else -1)
        whole = data.rstrip(b"\r") or data
        self._kept = data[len(whole) :]
        return whole


def _same(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch


def _conversion(
    columns: list[str], missing: list[str], wanted: list[str]
) -> pyarrow.csv.ConvertOptions:
    return pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(columns, pa.string()),
        include_columns=wanted,
        null_values=missing,
        strings_can_be_null=True,
    )


def _comment_lines(source: Path) -> int:
    """Count the lines above the header that begin with #, as MapMyCells writes them."""
    with source.open("rb") as file:
        lines = (line.removeprefix(_MARK) for line in file)
        return sum(1 for _ in takewhile(lambda line: line.startswith(b"#"), lines))


def _open_csv(
    source: Path, file: BinaryIO, columns: list[str], missing: list[str]
) -> pyarrow.csv.CSVStreamingReader:
    try:
        return pyarrow.csv.open_csv(
            _WholeLineEnds(file),
            read_options=pyarrow.csv.ReadOptions(
                block_size=CSV_BLOCK, skip_rows=_comment_lines(source)
            ),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            # the last column of all tells whether a quote is open
            convert_options=_conversion(columns, missing, columns),
        )
    except OSError as error:
        raise unreadable(source, error) or error from None
