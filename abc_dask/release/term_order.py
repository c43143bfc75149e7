"""In which order terms stand, and their colours: what the tables of a release say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.release.annotation import Annotation, encode, order_terms

COLOR = "color_hex_triplet"

STEMS = ("_acronym", "_label", "_name")


@dataclass(frozen=True)
class TermOrder:
    """Order and colours of a column's terms.

    Attributes
    ----------
    ranks : dict of str to float
        Rank of each term; empty where there is no order.
    colors : dict of str to str
        Colour of each term; empty where there are none.
    """

    ranks: dict[str, float]
    colors: dict[str, str]

    def or_else(self, other: TermOrder) -> TermOrder:
        """Return this order, or the other one where this has none; colours of both."""
        return TermOrder(self.ranks or other.ranks, other.colors | self.colors)


def stems(name: str) -> list[str]:
    """Return what order and colour columns may be named after.

    Examples
    --------
    >>> stems("region_of_interest_acronym")
    ['region_of_interest_acronym', 'region_of_interest']
    """
    return [name, *(name.removesuffix(s) for s in STEMS if name.endswith(s))]


def columns_beside(name: str, columns: Sequence[str]) -> dict[str, str | None]:
    """Return the columns of order and colour beside a column of terms."""
    return {
        kind: next((n for s in stems(name) if (n := f"{s}_{kind}") in columns), None)
        for kind in ("order", "color")
    }


def order_beside(
    codes: NDArray[np.int32], terms: list[str], table: pa.Table, beside: dict[str, str | None]
) -> TermOrder:
    """Return order and colours as the columns beside a column of terms give them."""
    ranks = _of_terms(codes, terms, table, beside["order"])
    colors = _of_terms(codes, terms, table, beside["color"])
    return TermOrder(
        {term: float(value) for term, value in ranks.items()},
        {term: str(value) for term, value in colors.items()},
    )


def order_in_list(frame: pd.DataFrame, column: str) -> TermOrder:
    """Return order and colours of the terms that a table lists, one a row."""
    if column not in frame:
        return TermOrder({}, {})
    ranks = first_values(frame[column], frame["order"]) if "order" in frame else {}
    colors = first_values(frame[column], frame[COLOR]) if COLOR in frame else {}
    return TermOrder(ranks, colors)


def order_in_value_sets(frame: pd.DataFrame, tag: str, column: str) -> TermOrder:
    """Return order and colours of a column's terms in a table of value sets."""
    if not {"table", "field", "label"} <= set(frame):
        return TermOrder({}, {})
    rows = frame[(frame["table"] == tag) & (frame["field"] == column)]
    return order_in_list(rows, "label")


def save_terms(
    annotation: Annotation,
    codes: NDArray[np.int32],
    found: list[str],
    known: TermOrder,
    target: Path,
) -> None:
    """Bring terms into their order and write the codes."""
    counts = np.bincount(codes + 1, minlength=len(found) + 1)[1:]
    occurring = [found[k] for k in np.flatnonzero(counts)]
    terms = order_terms(occurring, known.ranks)
    rank = {term: k for k, term in enumerate(terms)}
    renumbered = np.array([rank.get(term, -1) for term in found] + [-1], np.int32)
    values = renumbered[codes]
    colors = {term: known.colors[term] for term in terms if term in known.colors}
    missing = int((values < 0).sum())
    replace(annotation, terms=tuple(terms), colors=colors, n_missing=missing).save(values, target)


def first_values(keys: pd.Series[Any], values: pd.Series[Any]) -> dict[str, Any]:
    """Return the first value of each key, where both are present."""
    frame = pd.DataFrame({"key": keys.to_numpy(), "value": values.to_numpy()}).dropna()
    frame = frame.drop_duplicates("key")
    return dict(zip(frame["key"].astype(str), frame["value"].tolist(), strict=True))


def _of_terms(
    codes: NDArray[np.int32], terms: list[str], table: pa.Table, beside: str | None
) -> dict[str, Any]:
    """Return the first value that another column has beside each term."""
    if beside is None:
        return {}
    column = table[beside]
    if pa.types.is_dictionary(column.type):
        others, values = encode(column, beside)
        held = others >= 0
    else:
        plain = column.to_numpy()
        held = ~pd.isna(plain)
        others, values = np.arange(len(plain), dtype=np.int32), plain
    held &= codes >= 0
    first = np.full(len(terms), -1, np.int64)
    # written from the end, so that the first one stays
    first[codes[held][::-1]] = others[held][::-1]
    return {term: values[k] for term, k in zip(terms, first.tolist(), strict=True) if k >= 0}
