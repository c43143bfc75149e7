"""One gene's chunk: known bytes, checked, decoded."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.base.errors import StoreError
from abc_dask.store.arrays import Folder
from abc_dask.store.blosc import Blocks, decode_frame, part_of


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
    is_file : bool
        Whether they are all of the file.
    crc32c : int
        Checksum of all but the last four of them, which hold it.
    """

    path: str
    gene: int
    start: int
    size: int
    is_file: bool
    crc32c: int


def read_column(
    folder: Folder, chunk: Chunk, out: NDArray[Any], *, first: int = 0, n_cells: int | None = None
) -> None:
    """Read a gene of all cells, or of some whole blocks of them.

    Parameters
    ----------
    folder : Folder
    chunk : Chunk
    out : array, shape (n,)
        Contiguous, of the type of X.
    first : int
        First cell, of a block.
    n_cells : int, optional
        Cells of the store, where these are not all.

    Raises
    ------
    StoreError
        If the bytes are not those that were written.
    """
    frame = read_frame(folder, chunk)
    try:
        if n_cells is not None:
            frame = part_of(frame, first * out.itemsize, out.nbytes, n_cells * out.itemsize)
        decode_frame(frame, out)
    except ValueError as error:
        raise _not_decoded(folder, chunk, error) from None


class GeneBlocks:
    """A gene in memory, compressed; its blocks of cells are decoded when they are asked for.

    Parameters
    ----------
    folder : Folder
    chunk : Chunk
    n_cells, block_cells : int
        Cells of the store, and of a block.
    dtype : numpy.dtype
        Type of X.

    Raises
    ------
    StoreError
        If the bytes are not those that were written, here and below.
    """

    def __init__(
        self, folder: Folder, chunk: Chunk, n_cells: int, block_cells: int, dtype: np.dtype[Any]
    ) -> None:
        self._folder, self._chunk = folder, chunk
        frame = read_frame(folder, chunk)
        size = dtype.itemsize
        self._shape = 8 * size, block_cells // 64
        try:
            self._blocks = Blocks(frame, n_cells * size, block_cells * size, size)
        except ValueError as error:
            raise _not_decoded(folder, chunk, error) from None

    def planes(self, first: int, stop: int, rest: NDArray[Any]) -> NDArray[np.uint64]:
        """Return the bit planes of some whole blocks, shape (blocks, bits, words of 64 cells).

        Parameters
        ----------
        first, stop : int
        rest : array of the type of X
            Receives the counts of the cells behind the last whole block; empty if `stop` is
            before it.
        """
        try:
            if not len(rest) % 8:
                flat = self._blocks.planes(first, stop)
                if len(rest):
                    self._blocks.values(stop, rest)
            else:  # its bits are not shuffled
                flat = self._blocks.planes(first, stop + 1)
                rest[:] = flat[len(flat) - rest.nbytes :].view(rest.dtype)
                flat = flat[: len(flat) - rest.nbytes]
        except ValueError as error:
            raise _not_decoded(self._folder, self._chunk, error) from None
        return flat.view(np.uint64).reshape(stop - first, *self._shape)


def _not_decoded(folder: Folder, chunk: Chunk, error: ValueError) -> StoreError:
    return StoreError(
        f"{folder.name}: gene {chunk.gene:,} in {chunk.path} cannot be decoded: {error}; "
        "make the store anew"
    )


def read_frame(folder: Folder, chunk: Chunk) -> bytes:
    """Read the Blosc frame of a gene.

    Raises
    ------
    StoreError
        If the bytes are not those that were written.
    """
    import google_crc32c

    if chunk.is_file:
        raw = folder.read(chunk.path)
    else:
        raw = folder.read_range(chunk.path, chunk.start, chunk.size)
    frame: bytes = raw[:-4]
    stored = struct.unpack("<I", raw[-4:])[0] if len(raw) >= 4 else -1
    if stored != chunk.crc32c or google_crc32c.value(frame) != chunk.crc32c:
        raise StoreError(
            f"{folder.name}: the bytes of gene {chunk.gene:,} in {chunk.path} are not those that "
            "were written (their CRC-32C differs); make the store anew, or copy it again"
        )
    return frame
