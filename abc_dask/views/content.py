"""What a view holds as one number, whatever its format and partitioning."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.views.parquet_view import ContentDigest


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
