"""Statistics of all genes by groups of cells that a store keeps beside its values.

A group is a combination of terms of some columns, of which the last is the finest (class,
subclass, supertype, cluster), so that groups of fewer columns are sums of these. Arrays are
genes x groups, some genes a chunk.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.base.errors import StoreError
from abc_dask.store.arrays import Arrays, as_numpy
from abc_dask.store.description import DENSE, StoreInfo

# Counts of values, by the names that statistics have. The last one is what cell_type_mapper
# calls ge1.
COUNTS = ("gt0", "gt1", "ge1", "gt0.999999")

STATISTICS = ("n", "sum", "squares", *COUNTS)

GROUPS = "uns/precomputed"

# Bytes of a chunk when decoded, as far as it has more than `_LEAST` genes, and a multiple of these.
# All arrays have chunks of the same genes.
_CHUNK = 16 << 20
_LEAST = 128


@dataclass(frozen=True)
class Groups:
    """The finest groups.

    Attributes
    ----------
    by : tuple of str
        Columns of obs.
    codes : array of int32, shape (n_groups, n_columns)
        Position of a group's terms among the categories of each column, -1 for none.
    cells : array of int64, shape (n_groups, n_matrices)
        Cells of each group in each matrix.
    """

    by: tuple[str, ...]
    codes: NDArray[np.int32] = field(repr=False)
    cells: NDArray[np.int64] = field(repr=False)


# Stretches of genes of a statistic, in order: shape (genes, groups).
Blocks = Iterable[NDArray[Any]]


def array_of(statistic: str) -> str:
    """Return where a statistic lies."""
    return f"varm/precomputed_{statistic}"


class Precomputed:
    """Reads precomputed statistics.

    Parameters
    ----------
    arrays : Arrays
    info : StoreInfo
        Of a store that has them.
    """

    def __init__(self, arrays: Arrays, info: StoreInfo) -> None:
        self._arrays, self._info = arrays, info
        self.by: tuple[str, ...] = tuple(info.precomputed["by"])
        self.normalization: str = info.precomputed["normalization"]

    def groups(self) -> Groups:
        """Read what the groups are."""
        codes, cells = (as_numpy(self._arrays.read(f"{GROUPS}/{n}")) for n in ("codes", "cells"))
        shape = (len(codes), len(self.by)), (len(codes), len(self._info.matrices))
        if (codes.shape, cells.shape) != shape:
            raise StoreError(f"{GROUPS} does not fit the store; make it anew")
        return Groups(self.by, codes, cells)

    @property
    def genes_together(self) -> int:
        """Genes of a chunk."""
        return self._arrays.rows_of_chunk(array_of("n"))

    def read(self, statistic: str, first: int, stop: int) -> NDArray[Any]:
        """Read a statistic of consecutive genes, shape (genes, groups)."""
        found: NDArray[Any] = self._arrays.read(array_of(statistic), first, stop)
        return found


def add_precomputed(
    store: Path,
    info: StoreInfo,
    groups: Groups,
    normalization: str,
    blocks: Callable[[str], Blocks],
) -> StoreInfo:
    """Write statistics into a store that nobody reads yet, and describe it anew.

    Parameters
    ----------
    store : Path
    info : StoreInfo
        Its description.
    groups : Groups
    normalization : str
        Of the values that were summed up.
    blocks : callable
        Returns a statistic by its name, genes in order.

    Returns
    -------
    StoreInfo
        The new description.
    """
    import zarr
    from anndata.io import write_elem

    from abc_dask.store.layout import seal, without_shards

    root = zarr.open_group(store, mode="a", zarr_format=3, use_consolidated=False)
    n_groups = len(groups.codes)
    for name in STATISTICS:
        dtype = np.dtype(np.float64 if name in ("sum", "squares") else np.uint32)
        _write(root, array_of(name), blocks(name), (info.n_genes, n_groups), dtype)
    said = {"by": list(groups.by), "normalization": normalization, "groups": n_groups}
    with without_shards():
        by = np.array(groups.by, object)
        elements = {"by": by, "codes": groups.codes, "cells": groups.cells}
        write_elem(root["uns"], "precomputed", elements)
        return seal(store, replace(info, precomputed=said))


def copy_of_values(store: Path, target: Path) -> None:
    """Copy a store without its precomputed statistics; values are linked where that is possible.

    Parameters
    ----------
    store : Path
    target : Path
        A folder that does not exist yet.
    """
    values = store / "X" / "c"

    def place(source: str, to: str) -> None:
        if values in Path(source).parents:
            with contextlib.suppress(OSError):
                os.link(source, to)
                return
        shutil.copyfile(source, to)

    kept = {"precomputed", *(array_of(name).rpartition("/")[2] for name in STATISTICS)}
    shutil.copytree(
        store, target, copy_function=place, ignore=lambda _, names: kept.intersection(names)
    )


def _write(
    root: Any, path: str, blocks: Blocks, shape: tuple[int, int], dtype: np.dtype[Any]
) -> None:
    from zarr.codecs import BloscCodec, Crc32cCodec

    a_gene = max(1, shape[1] * 8)
    together = max(_LEAST, _CHUNK // a_gene // _LEAST * _LEAST)
    blosc = BloscCodec(typesize=dtype.itemsize, cname="zstd", clevel=1, shuffle="shuffle")
    array = root.create_array(
        path,
        shape=shape,
        dtype=dtype,
        attributes=DENSE,
        chunks=(min(together, shape[0]), shape[1]),
        compressors=[blosc, Crc32cCodec()],
        overwrite=True,
    )
    first = 0
    for block in _joined(blocks, together):
        array[first : first + len(block)] = block.astype(dtype)
        first += len(block)
    if first != shape[0]:
        raise StoreError(f"{path} has {first:,} genes, expected {shape[0]:,}")


def _joined(blocks: Blocks, together: int) -> Iterator[NDArray[Any]]:
    """Yield blocks of so many genes, the last one of fewer."""
    held: list[NDArray[Any]] = []
    n_held = 0
    for block in blocks:
        held.append(block)
        n_held += len(block)
        while n_held >= together:
            joined = np.concatenate(held)
            yield joined[:together]
            held, n_held = [joined[together:]], n_held - together
    if n_held:
        yield np.concatenate(held)
