"""Whether every byte of a store is what was written."""

from __future__ import annotations

import hashlib

import numpy as np

from abc_dask.base.errors import StoreError
from abc_dask.base.messages import plural
from abc_dask.store.arrays import Folder
from abc_dask.store.axes import Axes
from abc_dask.store.description import DESCRIPTION, StoreInfo
from abc_dask.store.reading import read_column


def require_whole(folder: Folder, axes: Axes, info: StoreInfo) -> None:
    """Read every byte again and compare with what was written.

    Raises
    ------
    StoreError
        Naming the first file that is missing, cut or changed.
    """
    axes.arrays.require_metadata(DESCRIPTION)
    for name in axes.arrays.digests:
        axes.arrays.file(name)
    for number, expected in enumerate(info.shards):
        path = f"X/c/0/{number}"
        if hashlib.sha256(folder.read(path)).hexdigest() != expected:
            raise StoreError(
                f"{folder.name}: {path} is not what was written (its SHA-256 differs); "
                "make the store anew, or copy it again"
            )
    column = np.empty(info.n_cells, info.dtype)
    for at, n_expected in enumerate(axes.genes["n_cells"].tolist()):
        read_column(folder, axes.chunk(at), column)
        n = int(np.count_nonzero(column) + np.count_nonzero(axes.patches(at)[1]))
        if info.kind == "floats":
            n -= sum(m.stop - m.first for m in axes.lacking(at))
        if n != n_expected:
            raise StoreError(
                f"{folder.name}: {axes.genes.index[at]} has values in {plural(n, 'cell')}, "
                f"its table of genes says {n_expected:,}; make the store anew"
            )
