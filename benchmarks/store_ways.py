"""Ways to keep cells x genes on disk, each a process: ``python -m benchmarks.store_ways``.

Reads a job from the JSON file that its argument names. ``build`` makes files out of h5ad files;
``ask`` times genes in all cells, the first answer not counted, and writes the last one.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

Job = dict[str, Any]

# Genes x cells, of positions in the h5ad files.
Ask = Callable[[Sequence[int]], Any]

TIMES = 5


class Way:
    """One way; `needs` are the modules that it cannot do without."""

    needs: tuple[str, ...] = ()
    values = "log2"

    def __init__(self, job: Job) -> None:
        self.job = job
        self.path = Path(job["output"])
        self.threads = int(job["threads"])
        self.n_cells = int(job["n_cells"])

    def build(self) -> None:
        """Make the files."""

    def opened(self) -> Ask:
        """Open what was made, and return what answers."""
        raise NotImplementedError

    def by_gene(self) -> Any:
        """Read all h5ad files into one CSC matrix, columns by gene."""
        import anndata
        import scipy.sparse

        parts = [anndata.read_h5ad(path).X for path in self.job["files"]]
        matrix = scipy.sparse.vstack(parts, format="csr")
        del parts
        return matrix.tocsc()

    def zeros(self, n_genes: int, dtype: Any = np.float32) -> Any:
        return np.zeros((n_genes, self.n_cells), dtype)


class Store(Way):
    """This package's store."""

    def build(self) -> None:
        command = [sys.executable, "-m", "abc_dask", "store", "build", str(self.path), "--quiet"]
        folder = str(Path(self.job["files"][0]).parent)
        threads = ["--threads-per-worker", str(self.threads)]
        subprocess.run([*command, "--h5ad", folder, *threads], check=True)

    def opened(self) -> Ask:
        from abc_dask import open_store

        store = open_store(self.path)
        names = self.job["genes"]
        read = store.values if self.values == "log2" else store.counts
        pool = ThreadPoolExecutor(self.threads)
        dtype = store.dtype if self.values == "log2" else store.info.dtype

        def ask(genes: Sequence[int]) -> Any:
            out = np.empty((len(genes), self.n_cells), dtype)
            wanted = store.find_genes([names[gene] for gene in genes])
            list(pool.map(lambda k: read(wanted[k], out=out[k]), range(len(genes))))
            return out

        return ask


class StoreCounts(Store):
    """This package's store, its counts."""

    values = "counts"

    def build(self) -> None:
        """Find what `Store` made."""


class Anndata(Way):
    """CSC as anndata writes and reads it."""

    needs = ("anndata",)
    compression = "gzip"

    def build(self) -> None:
        import anndata

        data = anndata.AnnData(self.by_gene())
        if self.path.suffix == ".zarr":
            data.write_zarr(self.path)
        else:
            data.write_h5ad(self.path, compression=self.compression)  # type: ignore[arg-type]

    def opened(self) -> Ask:
        from anndata.io import sparse_dataset

        x: Any
        if self.path.suffix == ".zarr":
            import zarr

            x = zarr.open_group(self.path, mode="r")["X"]
        else:
            import h5py

            x = h5py.File(self.path)["X"]
        data = sparse_dataset(x)
        return lambda genes: data[:, list(genes)].T.toarray()


class AnndataLzf(Anndata):
    """The same with lzf."""

    compression = "lzf"


class Parquet(Way):
    """A row a value, sorted by gene and cell; asked by DuckDB."""

    needs = ("pyarrow", "duckdb")

    def build(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        matrix = self.by_gene()
        matrix.sort_indices()
        genes, step = matrix.shape[1], 512
        schema = pa.schema({"gene": pa.uint16(), "cell": pa.uint32(), "value": pa.float32()})
        encodings = {"cell": "DELTA_BINARY_PACKED", "value": "BYTE_STREAM_SPLIT"}
        with pq.ParquetWriter(
            self.path,
            schema,
            compression="zstd",
            use_dictionary=["gene"],
            column_encoding=encodings,
        ) as writer:
            for start in range(0, genes, step):
                ends = matrix.indptr[start : start + step + 1]
                of = np.repeat(np.arange(start, start + len(ends) - 1), np.diff(ends))
                part = slice(ends[0], ends[-1])
                columns = [of.astype("u2"), matrix.indices[part].astype("u4"), matrix.data[part]]
                table = pa.table([pa.array(c) for c in columns], schema=schema)
                writer.write_table(table, row_group_size=1 << 17)

    def opened(self) -> Ask:
        import duckdb

        connection = duckdb.connect(config={"threads": self.threads})

        def ask(genes: Sequence[int]) -> Any:
            asked = ", ".join(map(str, genes))
            query = f"SELECT gene, cell, value FROM '{self.path}' WHERE gene IN ({asked})"
            return self.placed(genes, connection.execute(query).fetchnumpy())

        return ask

    def placed(self, genes: Sequence[int], found: Any) -> Any:
        out = self.zeros(len(genes))
        slots = np.zeros(max(genes) + 1, np.intp)
        slots[list(genes)] = np.arange(len(genes))
        out[slots[np.asarray(found["gene"])], np.asarray(found["cell"])] = found["value"]
        return out


class Polars(Parquet):
    """The same file, asked by polars."""

    needs = ("polars",)

    def build(self) -> None:
        """Find what `Parquet` made."""

    def opened(self) -> Ask:
        import polars as pl

        def ask(genes: Sequence[int]) -> Any:
            rows = pl.scan_parquet(self.path).filter(pl.col("gene").is_in(list(genes))).collect()
            return self.placed(genes, {name: rows[name].to_numpy() for name in rows.columns})

        return ask


class Soma(Way):
    """TileDB-SOMA as `tiledbsoma.io.from_anndata` writes X: cells first."""

    needs = ("tiledbsoma",)

    def context(self) -> Any:
        import tiledbsoma

        threads = {"sm.compute_concurrency_level": self.threads, "sm.io_concurrency_level": 2}
        return tiledbsoma.SOMATileDBContext(tiledb_config=threads)

    def build(self) -> None:
        import anndata
        import pandas as pd
        import scipy.sparse
        import tiledbsoma.io

        parts = [anndata.read_h5ad(path).X for path in self.job["files"]]
        matrix = scipy.sparse.vstack(parts, format="csr")
        del parts
        obs = pd.DataFrame(index=[str(k) for k in range(matrix.shape[0])])
        data = anndata.AnnData(matrix, obs=obs, var=pd.DataFrame(index=self.job["genes"]))
        tiledbsoma.io.from_anndata(str(self.path), data, "RNA", context=self.context())

    def opened(self) -> Ask:
        import tiledbsoma

        at = self.path / "ms" / "RNA" / "X" / "data"
        array = tiledbsoma.open(str(at), context=self.context())

        def ask(genes: Sequence[int]) -> Any:
            return self.placed(genes, array, first="soma_dim_1", second="soma_dim_0")

        return ask

    def placed(self, genes: Sequence[int], array: Any, first: str, second: str) -> Any:
        asked = list(map(int, genes))
        whole = slice(None)
        coordinates = (asked, whole) if first == "soma_dim_0" else (whole, asked)
        out = self.zeros(len(asked))
        slots = np.zeros(max(asked) + 1, np.intp)
        slots[asked] = np.arange(len(asked))
        for table in array.read(coords=coordinates).tables():
            gene, cell = table[first].to_numpy(), table[second].to_numpy()
            out[slots[gene], cell] = table["soma_data"].to_numpy()
        return out


class SomaGenes(Soma):
    """TileDB-SOMA with genes first, written gene by gene: the layout that suits the question."""

    def build(self) -> None:
        import pyarrow as pa
        import tiledbsoma

        matrix = self.by_gene()
        matrix.sort_indices()
        n_cells, n_genes = matrix.shape
        tiles = {"soma_dim_0": {"tile": 1}, "soma_dim_1": {"tile": n_cells}}
        with tiledbsoma.SparseNDArray.create(
            str(self.path),
            type=pa.float32(),
            shape=(n_genes, n_cells),
            context=self.context(),
            platform_config={"tiledb": {"create": {"dims": tiles}}},
        ) as array:
            for start in range(0, n_genes, 2048):
                part = matrix[:, start : start + 2048].T.tocoo()
                columns = [part.row.astype("i8") + start, part.col.astype("i8"), part.data]
                names = ["soma_dim_0", "soma_dim_1", "soma_data"]
                array.write(pa.table([pa.array(c) for c in columns], names=names))

    def opened(self) -> Ask:
        import tiledbsoma

        array = tiledbsoma.open(str(self.path), context=self.context())

        def ask(genes: Sequence[int]) -> Any:
            return self.placed(genes, array, first="soma_dim_0", second="soma_dim_1")

        return ask


class BPCells(Way):
    """BPCells' packed counts, genes as columns.

    It holds counts alone, which the h5ad files lack: they are taken from this package's store.
    """

    needs = ("bpcells.experimental",)
    values = "counts"

    def build(self) -> None:
        import scipy.sparse
        from bpcells.experimental import DirMatrix

        from abc_dask import open_store

        store, columns = open_store(self.job["store"]), []
        for gene in store.find_genes(self.job["genes"]):
            counts = store.counts(gene)
            cells = np.flatnonzero(counts)
            columns.append((counts[cells].astype(np.uint32), cells.astype(np.int32)))
        ends = np.append(0, np.cumsum([len(cells) for _, cells in columns]))
        data, cells = (np.concatenate([one[k] for one in columns]) for k in (0, 1))
        del columns
        shape = (self.n_cells, store.n_genes)
        DirMatrix.from_scipy_sparse(
            scipy.sparse.csc_matrix((data, cells, ends), shape), str(self.path)
        )

    def opened(self) -> Ask:
        from bpcells.experimental import DirMatrix

        matrix = DirMatrix(str(self.path))
        matrix.threads = self.threads
        return lambda genes: matrix[:, list(genes)].T.toarray()


# name: way, and its files
WAYS: dict[str, tuple[type[Way], str]] = {
    "store": (Store, "store.zarr"),
    "h5ad-gzip": (Anndata, "gzip.h5ad"),
    "h5ad-lzf": (AnndataLzf, "lzf.h5ad"),
    "zarr": (Anndata, "csc.zarr"),
    "duckdb": (Parquet, "by_gene.parquet"),
    "polars": (Polars, "by_gene.parquet"),
    "soma": (Soma, "soma"),
    "soma-genes": (SomaGenes, "soma_genes"),
    "store-counts": (StoreCounts, "store.zarr"),
    "bpcells": (BPCells, "bpcells"),
}


def missing(way: type[Way]) -> str:
    """Return why a way cannot be tried; "" where it can."""
    for name in way.needs:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - whatever keeps a library from loading
            return " ".join(f"{type(error).__name__}: {error}".split())
    return ""


def timed(ask: Ask, genes: Sequence[int]) -> tuple[list[list[float]], Any]:
    """Return wall and CPU seconds of each time but the first, and the answer."""
    times = []
    for _ in range(TIMES + 1):
        began, cpu = time.perf_counter(), time.process_time()
        answer = ask(genes)
        times.append([time.perf_counter() - began, time.process_time() - cpu])
    return times[1:], answer


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    os.environ["POLARS_MAX_THREADS"] = str(job["threads"])
    kind, _ = WAYS[job["way"]]
    if job["do"] == "missing":
        print(missing(kind))
        return
    way = kind(job)
    if job["do"] == "build":
        way.build()
        return
    ask = way.opened()
    found: dict[str, Any] = {}
    for name, genes in job["asked"].items():
        found[name], answer = timed(ask, genes)
    np.save(job["answer"], answer)
    with open("/proc/self/status") as file:  # noqa: PTH123 - of this process alone
        (peak,) = (line.split()[1] for line in file if line.startswith("VmHWM"))
    print(json.dumps(found | {"peak_mb": int(peak) / 1000}))


if __name__ == "__main__":
    main()
