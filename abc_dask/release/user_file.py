"""Text files of users: packed or not, in whatever encoding they were saved."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from abc_dask.base.errors import TableError, UnknownNameError

_GZIP = b"\x1f\x8b"

_ZIP = b"PK\x03\x04"

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

_HEAD = 1 << 12

_STEP = 1 << 20


@contextlib.contextmanager
def text_lines(file: str, option: str) -> Iterator[tuple[str, Iterator[str]]]:
    """Open a file of text; line ends are those of any system.

    Parameters
    ----------
    file : str
        Path; ``-`` is standard input.
    option : str
        How errors call it.

    Yields
    ------
    source : str
        How messages call the file.
    lines : iterator of str

    Raises
    ------
    UnknownNameError
        If it is not there.
    TableError
        If it cannot be read, or is not text.
    """
    source = "standard input" if file == "-" else str(Path(file).expanduser())
    try:
        with _opened(file, source) as raw:
            encoding = _encoding(raw, f"{option} {source}")
            raw.seek(0)
            yield source, iter(io.TextIOWrapper(raw, encoding=encoding))
    except FileNotFoundError:
        raise UnknownNameError(f"{option} {source} is missing") from None
    except (EOFError, zlib.error) as error:
        raise TableError(f"{option} {source} is damaged gzip: {error}") from None
    except OSError as error:
        raise TableError(f"{option} {source} cannot be read: {error.strerror or error}") from None
    except UnicodeError:
        raise TableError(f"{option} {source} cannot be read: not text") from None


@contextlib.contextmanager
def _opened(file: str, source: str) -> Iterator[IO[bytes]]:
    """Open bytes that can be read twice, unpacked."""
    with contextlib.ExitStack() as stack:
        if file == "-":
            raw: IO[bytes] = io.BytesIO(sys.stdin.buffer.read())
        else:
            raw = stack.enter_context(Path(source).open("rb"))
            if not raw.seekable():  # a pipe, such as <(command)
                raw = io.BytesIO(raw.read())
        is_packed = raw.read(len(_GZIP)) == _GZIP
        raw.seek(0)
        yield cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if is_packed else raw


def _encoding(raw: IO[bytes], name: str) -> str:
    head = raw.read(_HEAD)
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding
    if head.startswith(_ZIP):
        raise TableError(f"{name} is a spreadsheet or an archive; save it as CSV")
    if b"\0" in head:
        for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
            zeros = head[start::2].count(0)
            if zeros > len(head) // 4 and head[1 - start :: 2].count(0) == 0:
                return encoding
        raise TableError(f"{name} cannot be read: not text")
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while head:
            decoder.decode(head)
            head = raw.read(_STEP)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "latin-1"  # every byte is a character of it; names are ASCII in both
    return "utf-8"
