"""What the compiled loops must equal, written once more in plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from abc_dask.matrix.kernels import check_range, exact


def add_rows(indptr: Any, indices: Any, data: Any, table: Any, out: Any) -> None:
    """Add the chosen columns of some CSR rows into genes x rows, by looking every index up."""
    check_range(indices, len(table))
    slots = table.take(indices, mode="clip")
    hits = np.flatnonzero(slots >= 0)
    rows = np.searchsorted(indptr, hits, side="right") - 1
    with np.errstate(over="ignore", invalid="ignore"):
        np.add.at(out, (slots[hits], rows), exact(data[hits], out.dtype))
