"""Looks at packed chunks before HDF5 decodes them."""

from __future__ import annotations

from itertools import product

import h5py
import numpy as np

from abc_dask.base.errors import DamagedFileError
from abc_dask.matrix.codecs import DEFLATE
from abc_dask.matrix.hdf5 import chunk_bytes, stored_filters
from abc_dask.matrix.inflation import HARMLESS, KEEP, most_bytes, require_bounded

# Deflate packs at most 1032:1 (zlib's technical notes).
_RATIO = 1032

# Chunks that are remembered as looked at.
_REMEMBERED = 1 << 12


class ChunkGuard:
    """Looks at the chunks of an array before HDF5 decodes them, each once.

    Parameters
    ----------
    array : h5py.Dataset
    """

    def __init__(self, array: h5py.Dataset) -> None:
        self._array, self._filters = array, stored_filters(array) if array.chunks else ()
        self._length = chunk_bytes(array)
        self._seen: set[tuple[int, ...]] = set()
        packed = [code for code, _ in self._filters if code not in KEEP]
        # a stream of Deflate of so many bytes cannot become too much
        once = packed in ([], [DEFLATE])
        self._harmless = max(HARMLESS, most_bytes(self._length)) // _RATIO if once else -1

    def require(self, *ranges: tuple[int, int]) -> None:
        """Look at the chunks that hold some range of each axis.

        Raises
        ------
        DamagedFileError
            If one becomes more than it should hold.
        """
        if not self._filters:
            return
        axes = [
            range(low // size * size, high, size)
            for (low, high), size in zip(ranges, self._array.chunks, strict=True)
        ]
        for origin in product(*axes):
            if origin not in self._seen:
                self._look(origin)
                if len(self._seen) >= _REMEMBERED:
                    self._seen.clear()
                self._seen.add(origin)

    def _look(self, origin: tuple[int, ...]) -> None:
        array = self._array
        if array.id.get_chunk_info_by_coord(origin).size <= self._harmless:
            return
        mask, raw = array.id.read_direct_chunk(origin)
        try:
            require_bounded(np.frombuffer(raw, np.uint8), self._filters, int(mask), self._length)
        except ValueError as error:
            raise DamagedFileError(
                f"{array.file.filename}: {array.name}: the chunk at "
                f"{', '.join(map(str, origin))} is damaged: {error}; fetch the file again"
            ) from None
