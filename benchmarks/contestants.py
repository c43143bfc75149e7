"""Ways to get genes out of an atlas, each a process: ``python -m benchmarks.contestants``.

Reads a job as JSON from its argument, prints the seconds that it took behind imports and the
start of a cluster, and writes labels and values of all cells, sorted by label.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

PIECE = 16 << 20


def cells_of(job: dict[str, Any]) -> pd.DataFrame:
    names = ["cell_label", "feature_matrix_label"]
    dtype = {"cell_label": str}
    return pd.read_csv(job["cells"], dtype=dtype, usecols=names, index_col="cell_label")


def reference(job: dict[str, Any]) -> Callable[[], pd.DataFrame]:
    """The reference workflow: a backed slice of each matrix."""
    import anndata  # noqa: F401 - not part of what is timed

    from abc_dask.testing import reference_table

    return lambda: reference_table(job["cells"], job["matrices"], job["genes"])


def chunked(job: dict[str, Any]) -> Callable[[], pd.DataFrame]:
    """The incumbent's way: one process walks through chunks of rows, dense, placed by label."""
    import anndata

    def run() -> pd.DataFrame:
        cells = cells_of(job)
        table = np.full((len(cells), len(job["genes"])), np.nan, np.float32)
        for label, path in job["matrices"].items():
            members = pd.Index(cells.index[cells["feature_matrix_label"] == label])
            if members.empty:
                continue
            adata = anndata.read_h5ad(path, backed="r")
            columns = adata.var_names.get_indexer(job["genes"])
            wanted = adata.obs_names.isin(members)
            for part, start, stop in adata.chunked_X(8192):
                dense = part.toarray()[:, columns][wanted[start:stop]]
                rows = cells.index.get_indexer(adata.obs_names[start:stop][wanted[start:stop]])
                table[rows] = dense
            adata.file.close()
        return pd.DataFrame(table, cells.index, job["genes"])

    return run


def _few(block: Any, columns: Any) -> Any:
    return block[:, columns].toarray()


def lazy(job: dict[str, Any]) -> Callable[[], pd.DataFrame]:
    """anndata's lazy reading on a LocalCluster of processes."""
    import h5py
    from anndata.experimental import read_elem_lazy
    from anndata.io import read_elem
    from distributed import Client, LocalCluster

    cluster = LocalCluster(n_workers=job["threads"], threads_per_worker=1, dashboard_address=None)
    client = Client(cluster)
    client.wait_for_workers(job["threads"])

    def run() -> pd.DataFrame:
        import dask

        cells = cells_of(job)
        table = np.full((len(cells), len(job["genes"])), np.nan, np.float32)
        places, arrays, files = [], [], []
        for path in job["matrices"].values():
            file = h5py.File(path)
            files.append(file)
            columns = pd.Index(read_elem(file["var"]).index).get_indexer(job["genes"])
            n_columns = int(file["X"].attrs["shape"][1])
            x = read_elem_lazy(file["X"], chunks=(job["rows"], n_columns))
            chunks = (x.chunks[0], (len(columns),))
            meta = np.zeros((0, 0), np.float32)
            arrays.append(x.map_blocks(_few, columns, chunks=chunks, meta=meta, dtype="f4"))
            places.append(cells.index.get_indexer(read_elem(file["obs"]).index))
        for rows, values in zip(places, dask.compute(*arrays), strict=True):
            table[rows[rows >= 0]] = values[rows >= 0]
        return pd.DataFrame(table, cells.index, job["genes"])

    return run


def package(job: dict[str, Any]) -> Callable[[], pd.DataFrame]:
    """This package, in one process with threads."""
    import dask.dataframe  # noqa: F401 - not part of what is timed

    from abc_dask import Atlas
    from abc_dask.matrix.kernels import load_loops
    from abc_dask.run.cluster.connect import connected

    load_loops()
    atlas = Atlas(job["base"])
    stack = contextlib.ExitStack()  # lives as long as `run`
    client = stack.enter_context(connected(threads_per_worker=job["threads"]))

    def run(_held: object = stack) -> pd.DataFrame:
        frame = atlas.expression(job["genes"], columns="gene_identifier")
        return client.compute(frame).result()

    return run


def sequential(job: dict[str, Any]) -> Callable[[], None]:
    """All bytes, one file after the other."""
    return lambda: _read([(p, 0, Path(p).stat().st_size) for p in job["matrices"].values()], 1)


def parallel(job: dict[str, Any]) -> Callable[[], None]:
    """All bytes, in threads."""
    ranges = [(p, 0, Path(p).stat().st_size) for p in job["matrices"].values()]
    return lambda: _read(ranges, job["threads"])


def indices(job: dict[str, Any]) -> Callable[[], None]:
    """The stored bytes of the indices alone, in threads."""
    import h5py

    ranges: list[tuple[str, int, int]] = []
    for path in job["matrices"].values():
        with h5py.File(path) as file:
            found: list[Any] = []
            file["X/indices"].id.chunk_iter(found.append)
        for chunk in sorted(found, key=lambda c: c.byte_offset):
            last = ranges[-1] if ranges else ("", 0, 0)
            if last[0] == path and last[1] + last[2] == chunk.byte_offset:
                ranges[-1] = (path, last[1], last[2] + chunk.size)
            else:
                ranges.append((path, chunk.byte_offset, chunk.size))
    return lambda: _read(ranges, job["threads"])


def _read(ranges: list[tuple[str, int, int]], threads: int) -> None:
    def one(piece: tuple[str, int, int]) -> None:
        path, start, size = piece
        descriptor = os.open(path, os.O_RDONLY)
        os.preadv(descriptor, [bytearray(size)], start)
        os.close(descriptor)

    pieces = [
        (path, at, min(PIECE, start + size - at))
        for path, start, size in ranges
        for at in range(start, start + size, PIECE)
    ]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, pieces))


WAYS = {
    way.__name__: way for way in (reference, chunked, lazy, package, sequential, parallel, indices)
}


def main() -> None:
    job = json.loads(sys.argv[1])
    run = WAYS[job["way"]](job)
    began = time.perf_counter()
    table = run()
    seconds = time.perf_counter() - began
    if table is not None:
        table = table.dropna(how="all").sort_index()
        np.savez(job["output"], labels=table.index.to_numpy().astype(str), values=table.to_numpy())
    print(json.dumps({"seconds": seconds}), flush=True)
    os._exit(0)  # what a cluster has to say when it is closed does not belong here


if __name__ == "__main__":
    main()
