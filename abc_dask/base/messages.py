"""Text for people: parts of messages, and what makes them safe to print.

Names come from tables, manifests and files that others made. A control character among them
could move the cursor, retitle a window or answer a question in the user's place. And what is
printed is never worth more than the work: a stream that is closed, full or a broken pipe
loses its text and stops nothing.
"""

from __future__ import annotations

import difflib
import html
import reprlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any

_KEPT_IN_TEXT = frozenset("\n\t")

# Invisible letters that reorder the ones beside them.
_REORDERING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str, *, keep: frozenset[str] = _KEPT_IN_TEXT) -> str:
    r"""Return a text with its control characters written as escapes.

    Parameters
    ----------
    text : str
    keep : frozenset of str
        Control characters that stay; by default line breaks and tabs.

    Examples
    --------
    >>> print(printable("\x1b]0;title\x07Tac2"))
    \x1b]0;title\x07Tac2
    """
    if text.isprintable() and text.isascii():
        return text
    return "".join(c if c in keep or not _is_control(c) else _escape(c) for c in text)


def one_line(text: object) -> str:
    r"""Return a text as one line, for errors.

    Examples
    --------
    >>> print(one_line("a\nb"))
    a\nb
    """
    return printable(str(text), keep=frozenset())


_quote = reprlib.Repr()
_quote.maxlevel = 3
_quote.maxstring = _quote.maxother = _quote.maxlong = 120


def quoted(value: object) -> str:
    """Return a value as errors quote it: cut before it is rendered, however large it is.

    Examples
    --------
    >>> quoted("Tac2"), quoted([[[[[]]]]])
    ("'Tac2'", '[[[...]]]')
    """
    return _quote.repr(value)


def without_password(address: str) -> str:
    """Return an address without the name and password that it may hold.

    Examples
    --------
    >>> without_password("https://user:secret@host/path")
    'https://***@host/path'
    """
    before, at, host = address.rpartition("@")
    scheme, colon, _ = before.partition("://")
    return f"{scheme}{colon}***@{host}" if colon else f"{'***@' if at else ''}{host}"


def _is_control(character: str) -> bool:
    code = ord(character)
    return (
        code < 0x20
        or 0x7F <= code < 0xA0
        or 0xD800 <= code < 0xE000  # a byte of a name that is not UTF-8
        or character in "\u2028\u2029"
        or character in _REORDERING
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


class Stream:
    """A text stream to which writing never fails.

    Parameters
    ----------
    stream : text file or None
        None where the process was started without it.

    Attributes
    ----------
    error : Exception or None
        Why a text was lost.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.encoding = getattr(stream, "encoding", None) or "utf-8"
        self.error: Exception | None = None

    def write(self, text: str) -> int:
        """Write a text, as far as that works."""
        if self._stream is not None and self.error is None:
            try:
                # a letter that the terminal's encoding lacks is no reason to fail
                self._stream.write(
                    text.encode(self.encoding, "backslashreplace").decode(self.encoding)
                )
            except (OSError, ValueError) as error:
                self.error = error
        return len(text)

    def flush(self) -> None:
        """Flush it, as far as that works."""
        if self._stream is not None and self.error is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self.error = error

    def isatty(self) -> bool:
        """Tell whether a person may be looking."""
        try:
            return bool(self._stream is not None and self._stream.isatty())
        except (OSError, ValueError):
            return False

    def fileno(self) -> int:
        """Return its descriptor, by which the width of a terminal is found."""
        return int(self._stream.fileno())


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> Exception | None:
    """Print a text, without its control characters.

    Parameters
    ----------
    text : object
    err : bool
        On standard error.
    nl : bool
        End the line.

    Returns
    -------
    Exception or None
        Why the text was lost, if it was; a stream that was closed from the start loses
        nothing that anyone asked for.
    """
    stream = Stream(sys.stderr if err else sys.stdout)
    stream.write(printable(str(text)) + ("\n" if nl else ""))
    stream.flush()
    return stream.error


def nearest(name: str, names: Iterable[str], *, most: int = 5) -> str:
    """Return the tail of an error message that lists the names nearest to a wrong one.

    Examples
    --------
    >>> nearest("WMB-10", ["WMB-10X", "WHB-10Xv3"])
    '; nearest: WMB-10X, WHB-10Xv3'
    >>> nearest("Q", [])
    ''
    """
    known = list(dict.fromkeys(names))
    by_fold: dict[str, list[str]] = {}
    for candidate in known:
        by_fold.setdefault(candidate.casefold(), []).append(candidate)
    folded = name.casefold()
    best = list(by_fold.get(folded, []))
    for match in difflib.get_close_matches(folded, by_fold, n=most, cutoff=0.6):
        best += [candidate for candidate in by_fold[match] if candidate not in best]
    if not best:
        best = [candidate for candidate in known if candidate.casefold().startswith(folded)]
    if best:
        return f"; nearest: {enumerate_names(best[:most])}"
    return f"; there are: {enumerate_names(known, most=20)}" if 0 < len(known) <= 20 else ""


def enumerate_names(names: Sequence[str], *, most: int | None = None) -> str:
    """Join names by commas, the rest of a long list as a count.

    Examples
    --------
    >>> enumerate_names(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    shown = list(names) if most is None else list(names[:most])
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest:,} more" if rest else "")


def names_of(names: Iterable[str]) -> list[str]:
    """Take one name given as text for a list of one, not for its letters.

    Examples
    --------
    >>> names_of("Tac2"), names_of(("Tac2", "Slc17a7"))
    (['Tac2'], ['Tac2', 'Slc17a7'])
    """
    return [names] if isinstance(names, str) else [str(name) for name in names]


def format_bytes(size: float) -> str:
    """Return a size in decimal units, as the atlas's own pages do.

    Examples
    --------
    >>> format_bytes(150_700_000_000), format_bytes(812)
    ('150.7 GB', '812 B')
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(size) < 999.95 or unit == "TB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return ""


def plural(count: int, noun: str) -> str:
    """Return a count with its noun.

    Examples
    --------
    >>> plural(1, "cell"), plural(4042976, "cell"), plural(2, "feature matrix")
    ('1 cell', '4,042,976 cells', '2 feature matrices')
    """
    if count != 1:
        noun = noun[:-2] + "ices" if noun.endswith("matrix") else noun + "s"
    return f"{count:,} {noun}"


def text_table(header: Sequence[str], rows: Sequence[Sequence[object]], align: str) -> str:
    """Lay out a table for a terminal.

    Parameters
    ----------
    header : sequence of str
    rows : sequence of sequences
        Integers get thousands separators.
    align : str
        ``<`` or ``>`` for each column.

    Examples
    --------
    >>> print(text_table(["matrix", "cells"], [["TH", 130555]], "<>"))
    matrix    cells
    TH      130,555
    """
    cells = [[f"{v:,}" if isinstance(v, int) else str(v) for v in row] for row in rows]
    lines = [list(header), *cells]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(f"{v:{a}{w}}" for v, a, w in zip(line, align, widths, strict=True)).rstrip()
        for line in lines
    )


def html_table(rows: dict[str, str]) -> str:
    """Return a small HTML table of names and values for notebooks."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(k)}</th>"
        f"<td style='text-align:left'>{html.escape(v)}</td></tr>"
        for k, v in rows.items()
    )
    return f"<table>{cells}</table>"


def shortened(text: str) -> str:
    """Return a text as messages quote it: cut where it is long."""
    plain = " ".join(text.split())
    return repr(plain if len(plain) <= 120 else f"{plain[:117]}...")
