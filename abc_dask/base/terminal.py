"""Text on its way to a terminal, which must do no harm there and must not fail.

Names come from tables, manifests and files that others made. A control character among them
could move the cursor, retitle a window or answer a question in the user's place. And what is
printed is never worth more than the work: a stream that is closed, full or a broken pipe
loses its text and stops nothing.
"""

from __future__ import annotations

import reprlib
import sys
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
