"""Parts of messages: nearest names, sizes, counts, tables."""

from __future__ import annotations

import difflib
import html
from collections.abc import Iterable, Sequence


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
