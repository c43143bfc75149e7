"""One gene's chunk: known bytes, checked, decoded."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from abc_dask.errors import StoreError
from abc_dask.store.arrays import Folder
from abc_dask.store.blosc import decode_frame


@dataclass(frozen=True)
class Chunk:
    """Where the bytes of a gene lie.

    Attributes
    ----------
    path : str
        File in the store.
    gene : int
    start, size : int
        Its bytes there.
    crc32c : int
        Checksum of all but the last four of them, which hold it.
    """

    path: str
    gene: int
    start: int
    size: int
    crc32c: int


def read_column(folder: Folder, chunk: Chunk, out: NDArray[Any]) -> None:
    """Read a gene of all cells.

    Parameters
    ----------
    folder : Folder
    chunk : Chunk
    out : array, shape (n_cells,)
        Contiguous, of the type of X.

    Raises
    ------
    StoreError
        If the bytes are not those that were written.
    """
    import google_crc32c

    raw = folder.read_range(chunk.path, chunk.start, chunk.size)
    frame = bytes(raw[:-4])
    stored = struct.unpack("<I", raw[-4:])[0] if len(raw) >= 4 else -1
    if stored != chunk.crc32c or google_crc32c.value(frame) != chunk.crc32c:
        raise StoreError(
            f"{folder.name}: the bytes of gene {chunk.gene:,} in {chunk.path} are not those that "
            "were written (their CRC-32C differs); make the store anew, or copy it again"
        )
    try:
        decode_frame(frame, out)
    except ValueError as error:
        raise StoreError(
            f"{folder.name}: gene {chunk.gene:,} in {chunk.path} cannot be decoded: {error}; "
            "make the store anew"
        ) from None
