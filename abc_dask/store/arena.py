"""Memory in which the values of a block wait, gene by gene, until the block is complete.

One arena a thread, used again by the next task: memory that is new costs more time than the
work that is done in it.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Bytes of an arena: room for the values of 32,768 cells of a whole transcriptome.
BYTES = 384 << 20

_threads = threading.local()


class Arena:
    """Bits and pages as `abc_dask.store.packing_loops` describes them.

    Parameters
    ----------
    n_cells : int
        Cells of a block.
    genes : range
        Genes that are held.
    dtype : numpy.dtype
        Type of a page's elements: uint8 for counts.
    memory : array of uint8
        What all of it lies in.
    """

    def __init__(
        self, n_cells: int, genes: range, dtype: np.dtype[Any], memory: NDArray[np.uint8]
    ) -> None:
        from abc_dask.store.packing_loops import PAGE, reset

        self.low, self.high, n_genes = genes.start, genes.stop, len(genes)
        words = -(-n_cells // 64)
        n_bits = words * n_genes * 16
        self.bits = memory[:n_bits].view(np.uint64).reshape(words, n_genes, 2)
        n_pages = (len(memory) - n_bits) // (PAGE * dtype.itemsize)
        pages = memory[n_bits : n_bits + n_pages * PAGE * dtype.itemsize]
        self.pages: NDArray[Any] = pages.view(dtype)
        self.links = np.zeros(n_pages, np.int32)
        self.heads = np.zeros(n_genes, np.int32)
        self.tails = np.zeros(n_genes, np.int64)
        self.state = np.array([n_genes], np.int64)
        reset(self.bits, self.heads, self.tails)


def most_genes(n_cells: int, itemsize: int) -> int:
    """Return how many genes an arena holds at most, with a page and a half for each."""
    from abc_dask.store.packing_loops import PAGE

    a_gene = -(-n_cells // 64) * 16 + PAGE * itemsize * 3 // 2
    return max(1, BYTES // a_gene)


def arena_bytes(n_cells: int, n_genes: int) -> int:
    """Return about how many bytes of an arena some genes of a block take."""
    from abc_dask.store.packing_loops import PAGE

    return min(BYTES, n_genes * (-(-n_cells // 64) * 16 + 2 * PAGE))


def memory() -> NDArray[np.uint8]:
    """Return this thread's memory; what was in it is gone."""
    found: NDArray[np.uint8] | None = getattr(_threads, "memory", None)
    if found is None:
        found = _threads.memory = np.empty(BYTES, np.uint8)
    return found
