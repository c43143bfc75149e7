"""What a view holds as one number, whatever its format and partitioning."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from abc_dask.errors import ViewError

_MIX = ((30, np.uint64(0xBF58476D1CE4E5B9)), (27, np.uint64(0x94D049BB133111EB)))
_STEP = 0x9E3779B97F4A7C15


class ContentDigest:
    """Hash labels and values so that neither order nor partitioning of rows matters.

    Each row's label is hashed (pandas' keyed SipHash), then mixed with the bits of each
    value in the order of the genes (the finaliser of SplitMix64); rows are summed modulo
    2**64. For telling whether two views hold the same table, not against forgery.

    Parameters
    ----------
    labels : pyarrow array of string, length n_cells
    """

    def __init__(self, labels: pa.Array) -> None:
        import pandas as pd

        names = labels.to_numpy(zero_copy_only=False).astype(object)
        self.rows = len(names)
        self._state = pd.util.hash_array(names, categorize=False)
        self._shifted = np.empty_like(self._state)
        self._genes = 0

    def add(self, column: NDArray[Any]) -> None:
        """Mix in the values of the next gene, shape (n_cells,)."""
        self._genes += 1
        state, shifted = self._state, self._shifted
        # one NaN is as good as another, and so are the two zeros
        clean = column.astype(np.float64) + 0.0
        clean[np.isnan(clean)] = np.nan
        bits = clean.view(np.uint64)
        bits += np.uint64(self._genes * _STEP % 2**64)
        state ^= bits
        for shift, factor in _MIX:
            np.right_shift(state, np.uint64(shift), out=shifted)
            state ^= shifted
            state *= factor
        np.right_shift(state, np.uint64(31), out=shifted)
        state ^= shifted

    @property
    def value(self) -> int:
        """0 to 2**64 - 1; digests of parts add up, modulo 2**64."""
        return int(self._state.sum(dtype=np.uint64)) if self.rows else 0


def content_digest(labels: pa.Array, values: Iterable[NDArray[Any]]) -> int:
    """Return the digest of labels and of the columns of genes, in their order."""
    digest = ContentDigest(labels)
    for column in values:
        digest.add(column)
    return digest.value


@dataclass(frozen=True)
class Written:
    """What a writer tells of a view in its final form.

    Attributes
    ----------
    content : int
        Digest of what was written; sums of it need no modulo.
    rows : dict of str to int
        Of a Parquet view: cells by the name of the part, in the plan's order.
    order : array of int, shape (n_cells,)
        Position in cell_metadata of every row of the parts put together.
    digests : dict of str to str
        SHA-256 by the name of the part, where it is known.
    """

    content: int
    rows: dict[str, int] = field(default_factory=dict)
    order: NDArray[Any] = field(default_factory=lambda: np.empty(0, np.uint32))
    digests: dict[str, str] = field(default_factory=dict)


def require_unique(labels: pa.Array | pa.ChunkedArray, where: object) -> None:
    """Raise `ViewError` if a label stands twice in what is about to be published."""
    if pc.count_distinct(labels, mode="all").as_py() != len(labels):
        raise ViewError(
            f"{where}: a cell_label stands twice in the parts; remove the folder and run the "
            "command again"
        )
