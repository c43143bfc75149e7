"""Row blocks: what one task reads, neither more bytes nor a larger result than asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from abc_dask.base.errors import UsageError
from abc_dask.base.messages import format_bytes
from abc_dask.matrix.h5ad import MatrixFile

# A block's result may take this share of the block size, so that a matrix with few
# values a row (spatial data, or thousands of genes asked for) is cut finer.
_RESULT_SHARE = 4

# A block costs the driver some 6 KB, from its task to its receipt, however small it is.
MOST_BLOCKS = 100_000

# Bytes of a cell label and what pandas or arrow add to it.
_LABEL_BYTES = 64


@dataclass(frozen=True)
class RowBlock:
    """Consecutive rows of one matrix: what one task reads.

    Attributes
    ----------
    number : int
        Position in the plan, from 0.
    matrix : int
        Position of the matrix in the plan.
    start, stop : int
        Rows of the file, half-open.
    n_cells : int
        How many of these rows are wanted, and so how many the result must have.
    """

    number: int
    matrix: int
    start: int
    stop: int
    n_cells: int


def row_costs(
    matrix: MatrixFile, row_sizes: NDArray[np.int64], n_genes: int, itemsize: int
) -> NDArray[np.int64]:
    """Estimate what each row costs a task: bytes read, and a multiple of bytes returned.

    Parameters
    ----------
    matrix : MatrixFile
        Types of values and indices.
    row_sizes : array of int64, shape (n_rows,)
        Stored values of each row.
    n_genes, itemsize : int
        Columns of the result and bytes of each value.

    Returns
    -------
    array of int64, shape (n_rows,)
    """
    result = (n_genes * itemsize + _LABEL_BYTES) * _RESULT_SHARE
    return row_sizes * matrix.value_bytes + result


def cut(costs: NDArray[np.int64], block_size: int) -> list[tuple[int, int]]:
    """Cut rows into consecutive blocks of about equal cost, none above the block size.

    A single row that costs more is a block of its own. The union of all blocks holds
    every row exactly once, in order.

    Parameters
    ----------
    costs : array of int64, shape (n_rows,)
        Not negative.
    block_size : int
        At least 1.

    Returns
    -------
    list of (start, stop)
        Half-open, none empty.

    Examples
    --------
    >>> cut(np.array([1, 1, 1, 1]), 2)
    [(0, 2), (2, 4)]
    >>> cut(np.array([9, 1, 1]), 4)
    [(0, 1), (1, 3)]
    """
    total = np.concatenate([[0], np.cumsum(costs, dtype=np.int64)])
    n_rows = len(costs)
    blocks: list[tuple[int, int]] = []
    start = 0
    while start < n_rows:
        rest = int(total[-1] - total[start])
        # the blocks that are still needed share what is left evenly
        share = -(-rest // max(1, -(-rest // block_size)))
        stop = int(np.searchsorted(total, total[start] + share, side="right")) - 1
        stop = min(max(stop, start + 1), n_rows)
        blocks.append((start, stop))
        start = stop
    return blocks


def plan_blocks(
    matrices: list[tuple[NDArray[np.int64], NDArray[np.bool_]]],
    block_size: int,
    *,
    trim: bool = False,
) -> tuple[RowBlock, ...]:
    """Plan the blocks of several matrices; blocks without a wanted row are left out.

    Parameters
    ----------
    matrices : list of (costs, wanted)
        For each matrix the cost of every row, and whether it is wanted.
    block_size : int
        Upper bound of a block's cost.
    trim : bool
        Let each block start and end with a wanted row.

    Raises
    ------
    UsageError
        If there are more than `MOST_BLOCKS`.
    """
    total = sum(int(costs.sum()) for costs, _ in matrices)
    if total > MOST_BLOCKS * block_size:
        raise UsageError(
            f"--block-size of {format_bytes(block_size)} makes more than {MOST_BLOCKS:,} blocks; "
            f"pass at least {format_bytes(2 * total // MOST_BLOCKS)}"
        )
    blocks: list[RowBlock] = []
    for position, (costs, wanted) in enumerate(matrices):
        counts = np.concatenate([[0], np.cumsum(wanted, dtype=np.int64)])
        for start, stop in cut(costs, block_size):
            n_cells = int(counts[stop] - counts[start])
            if n_cells:
                if trim:
                    inside = np.flatnonzero(wanted[start:stop])
                    start, stop = start + int(inside[0]), start + int(inside[-1]) + 1  # noqa: PLW2901
                blocks.append(RowBlock(len(blocks), position, start, stop, n_cells))
    return tuple(blocks)
