"""Annotations of cells: a column of terms or of numbers, with order and colours.

Terms are kept as codes into one list, the same everywhere: the full list of the column in
the taxonomy's order. Missing is code -1, or NaN where values are numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.base.errors import TableError
from abc_dask.disk.kept_table import read_cached, read_cached_rows, read_note, write_cached

if TYPE_CHECKING:
    import pandas as pd

# A column with more terms than cells have types is a label of each cell, not an annotation.
MOST_TERMS = 1 << 16

VALUE = "value"

_DESCRIPTION = b"abc_dask.annotation"


@dataclass(frozen=True)
class Annotation:
    """One column of annotations: what is known of it without its values.

    Attributes
    ----------
    name : str
        Name of the column.
    source : str
        Table that it is from, as a relative path.
    terms : tuple of str or None
        All terms in their order; None for numbers.
    dtype : str
        NumPy name of the type of numbers; ``category`` for terms.
    colors : dict of str to str
        Colour of terms as ``#RRGGBB``; empty where the atlas has none.
    n_missing : int
        Cells of the table without a value.
    table : str
        Path of its cached values; "" where they lie in a view.
    joined_by : tuple of str
        Columns along which it was joined to the cells; none for a column of cell_metadata.
    """

    name: str
    source: str
    terms: tuple[str, ...] | None
    dtype: str
    colors: Mapping[str, str]
    n_missing: int
    table: str = ""
    joined_by: tuple[str, ...] = ()

    @property
    def is_numeric(self) -> bool:
        """Whether it holds numbers."""
        return self.terms is None

    def describe(self) -> dict[str, Any]:
        """Return all but the values, JSON-serialisable."""
        return {
            "name": self.name,
            "source": self.source,
            "dtype": self.dtype,
            "cells_missing": self.n_missing,
            "terms": None if self.terms is None else list(self.terms),
            "colors": dict(self.colors),
            "joined_by": list(self.joined_by),
        }

    @classmethod
    def from_description(cls, described: Mapping[str, Any], table: str = "") -> Annotation:
        """Build from what `describe` returned."""
        terms = described["terms"]
        return cls(
            name=described["name"],
            source=described["source"],
            terms=None if terms is None else tuple(terms),
            dtype=described["dtype"],
            colors=dict(described["colors"]),
            n_missing=int(described["cells_missing"]),
            table=table,
            joined_by=tuple(described.get("joined_by", ())),
        )

    @classmethod
    def load(cls, table: Path) -> Annotation:
        """Read the description of cached values."""
        described = json.loads(read_note(table, _DESCRIPTION))
        return cls.from_description(described, str(table))

    def save(self, values: NDArray[Any], target: Path) -> None:
        """Write values (codes, or numbers) with their description."""
        write_values(values, target, self.describe())

    def values(self) -> NDArray[Any]:
        """Read codes (int32, -1 where missing) or numbers, in the order of cell_metadata."""
        column: NDArray[Any] = read_cached(self.table, [VALUE])[VALUE].to_numpy()
        return column

    def cells(self, values: NDArray[Any]) -> pd.Series[Any]:
        """Return codes or numbers as a Series: ordered categorical, or numbers."""
        import pandas as pd

        if self.terms is None:
            return pd.Series(values, name=self.name, copy=False)
        found = pd.Categorical.from_codes(values, dtype=self.pandas_dtype())
        return pd.Series(found, name=self.name, copy=False)

    def pandas_dtype(self) -> Any:
        """Return the pandas type: an ordered categorical of all terms, or the type of numbers."""
        import pandas as pd

        if self.terms is None:
            return np.dtype(self.dtype)
        return pd.CategoricalDtype(list(self.terms), ordered=True)

    def arrow(self, values: NDArray[Any]) -> pa.Array:
        """Return codes or numbers as Arrow: a dictionary with all terms, or numbers."""
        if self.terms is None:
            return pa.array(values)
        codes = pa.array(values.astype(np.int32, copy=False), mask=values < 0)
        terms = pa.array(self.terms, pa.string())
        return pa.DictionaryArray.from_arrays(codes, terms, ordered=True)

    def counted(self, n_missing: int) -> Annotation:
        """Return a copy with another number of missing values."""
        return replace(self, n_missing=n_missing)


def is_missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which codes or numbers are missing."""
    missing: NDArray[np.bool_] = np.isnan(values) if values.dtype.kind == "f" else values < 0
    return missing


def write_values(values: NDArray[Any], target: Path, described: object) -> None:
    """Write one cached column."""
    table = pa.table({VALUE: pa.array(values)}, metadata={_DESCRIPTION: json.dumps(described)})
    write_cached(table, target)


def read_values(table: str | Path, start: int, stop: int) -> NDArray[Any]:
    """Read rows of a cached column; only their row groups are touched."""
    column: NDArray[Any] = read_cached_rows(table, [VALUE], (start, stop))[0][VALUE].to_numpy()
    return column


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key that orders the numbers in names by value.

    Examples
    --------
    >>> sorted(["VISp10", "VISp2", "AUD"], key=natural_key)
    ['AUD', 'VISp2', 'VISp10']
    """
    pieces = re.split(r"([0-9]+)", name)
    return tuple((0, int(p), p) if p.isdigit() and p.isascii() else (1, 0, p) for p in pieces if p)


def order_terms(found: Iterable[str], ranks: Mapping[str, float]) -> list[str]:
    """Order terms: those with a rank by it, then the others by name.

    Parameters
    ----------
    found : iterable of str
        Terms that occur.
    ranks : mapping of str to number
        Rank of terms in a taxonomy, which may have terms that do not occur.

    Examples
    --------
    >>> order_terms(["b", "z2", "z10"], {"b": 1, "a": 2})
    ['b', 'a', 'z2', 'z10']
    """
    everything = {*found, *ranks}
    last = float("inf")
    return sorted(everything, key=lambda term: (ranks.get(term, last), natural_key(term)))


def encode(
    column: pa.ChunkedArray, name: str, *, most: int | None = MOST_TERMS
) -> tuple[NDArray[np.int32], list[str]]:
    """Return codes and distinct values of a column of text; missing is -1.

    Raises
    ------
    TableError
        If it has more than `most` values.
    """
    if not pa.types.is_dictionary(column.type):
        column = column.cast(pa.string()).dictionary_encode()
    column = column.unify_dictionaries()
    names = column.chunk(0).dictionary.to_pylist() if column.num_chunks else []
    if most is not None and len(names) > most:
        raise TableError(
            f"column {name!r} has {len(names):,} different values, annotations may have "
            f"{most:,}; it names cells rather than kinds of cells"
        )
    codes = [chunk.indices.fill_null(-1).to_numpy() for chunk in column.chunks]
    joined = np.concatenate([np.empty(0, np.int32), *codes]).astype(np.int32, copy=False)
    if None in names:  # a dictionary may hold null as a value
        joined = np.where(joined == names.index(None), -1, joined).astype(np.int32)
    return joined, [str(n) if n is not None else "" for n in names]
