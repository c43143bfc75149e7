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


def fletcher32(raw: bytes) -> int:
    """Give the checksum with integers of any size."""
    words = np.frombuffer(raw + b"\0" * (len(raw) % 2), ">u2").astype(object)
    one = two = 0
    for word in words:
        one += int(word)
        two += one
    return fold(two) << 16 | fold(one)


def fold(total: int) -> int:
    return total and (total - 1) % 65_535 + 1
