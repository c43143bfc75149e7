"""Genes of a store as a lazy Dask DataFrame: a partition a range of cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from abc_dask.base.errors import StoreError

if TYPE_CHECKING:
    import dask.dataframe as dd
    import pandas as pd

# Opens a store; a task finds it by its name, as any function.
Opener = Callable[[str], Any]

# Bytes of values of a partition, if nothing else is asked for.
PARTITION_BYTES = 64 << 20


@dataclass(frozen=True)
class Part:
    """Consecutive cells of a store, as a task reads them.

    Attributes
    ----------
    opener : callable
        Opens a store.
    path : str
        The store.
    sha256 : str
        Digest of its description: another store under this name is refused.
    genes : tuple of str
    normalization : str
    first, stop : int
        Cells, half-open.
    """

    opener: Opener
    path: str
    sha256: str
    genes: tuple[str, ...]
    normalization: str
    first: int
    stop: int


def expression(
    store: Any,
    opener: Opener,
    genes: Sequence[str],
    normalization: str = "log2",
    *,
    partition_cells: int | None = None,
) -> dd.DataFrame:
    """Return genes as a lazy Dask DataFrame.

    Parameters
    ----------
    store : GeneStore
    opener : callable
        Opens it again in a task.
    genes : sequence of str
    normalization : str
    partition_cells : int, optional
        Cells of a partition, rounded up to whole blocks.

    Returns
    -------
    dask.dataframe.DataFrame
        Index cell_label, a column a gene.
    """
    import dask.dataframe as dd

    names = tuple(genes)
    block = store.info.block_cells
    wanted = partition_cells or PARTITION_BYTES // max(1, len(names) * store.dtype.itemsize)
    step = max(1, -(-wanted // block)) * block
    parts = [
        Part(
            opener,
            store.name,
            store.digest,
            names,
            normalization,
            at,
            min(at + step, store.n_cells),
        )
        for at in range(0, store.n_cells, step)
    ]
    meta = store.read(list(names), normalization, where=slice(0, 0))
    return dd.from_map(read_part, parts, meta=meta, label="abc-store")


def read_part(part: Part) -> pd.DataFrame:
    """Read one partition.

    Raises
    ------
    StoreError
        If the store is another one now, or damaged.
    """
    store = opened(part.opener, part.path, part.sha256)
    span = slice(part.first, part.stop)
    frame: pd.DataFrame = store.read(list(part.genes), part.normalization, where=span)
    return frame


@lru_cache(maxsize=4)
def opened(opener: Opener, path: str, sha256: str) -> Any:
    """Open a store once a process: its tables serve all partitions.

    Raises
    ------
    StoreError
        If it is not the one of this digest.
    """
    store = opener(path)
    if store.digest != sha256:
        raise StoreError(f"{path} is another store than when this table was made; make it again")
    return store
