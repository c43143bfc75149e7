"""What a task that packs a block leaves behind.

::

    the blocks of gene 0, 1, ...     as they will stand in each gene's frame
    a NumPy archive                  `Packed`: where each block ends, and what else is known
    8 bytes                          length of the archive
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_TAIL = struct.Struct("<q")


@dataclass(frozen=True)
class Packed:
    """What a task found out beside the blocks.

    Attributes
    ----------
    ends : array of int64, shape (n_genes,)
        Where each gene's block ends in the file.
    sums : array of uint64, shape (n_genes,)
        `plane_loops.weigh` of each gene's bit planes.
    present : array of int64, shape (n_genes,)
        Cells with a value that is not zero.
    totals : array of uint32, shape (n_cells,)
        0 where no total was found.
    certain : array of bool, shape (n_cells,)
        Whether each cell's counts are certain.
    patch_genes, patch_cells : arrays of int64, shape (n_patches,)
        Sorted by gene, then cell of the block.
    patch_values : array, shape (n_patches,)
    """

    ends: NDArray[np.int64]
    sums: NDArray[np.uint64]
    present: NDArray[np.int64]
    totals: NDArray[np.uint32]
    certain: NDArray[np.bool_]
    patch_genes: NDArray[np.int64]
    patch_cells: NDArray[np.int64]
    patch_values: NDArray[Any]

    @classmethod
    def load(cls, path: Path) -> Packed:
        """Read it from the end of a block's file."""
        with path.open("rb") as file:
            file.seek(-_TAIL.size, io.SEEK_END)
            (length,) = _TAIL.unpack(file.read())
            file.seek(-_TAIL.size - length, io.SEEK_END)
            with np.load(io.BytesIO(file.read(length))) as arrays:
                return cls(**{name: arrays[name] for name in arrays.files})

    def save(self, file: BinaryIO) -> None:
        """Append it to a block's file."""
        archive = io.BytesIO()
        np.savez(archive, **vars(self))
        file.write(archive.getvalue())
        file.write(_TAIL.pack(archive.tell()))
