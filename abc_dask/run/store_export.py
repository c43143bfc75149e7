"""Genes of a store as one AnnData on disk, gene by gene: memory holds some genes at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from dask.system import CPU_COUNT
from numpy.typing import NDArray

from abc_dask.base.columns import CELL_LABEL
from abc_dask.base.errors import StoreError, UsageError
from abc_dask.base.messages import plural
from abc_dask.base.progress import Progress
from abc_dask.disk.files import cannot_write
from abc_dask.store.gene_store import GeneStore
from abc_dask.views.anndata_store import AnnDataStore, new_store
from abc_dask.views.description import CELLS
from abc_dask.views.overwrite import refuse_existing
from abc_dask.views.staging import Staging

FORMATS = {".h5ad": "h5ad", ".zarr": "zarr"}

# Elements of a chunk, and of a shard of a Zarr array: what is written at a time.
_CHUNK = 1 << 18
_SHARD = 1 << 22


def export_store(
    store: GeneStore,
    target: str | Path,
    *,
    genes: Sequence[str] | None = None,
    normalization: str = "log2",
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Write genes of all cells of a store as an AnnData, complete or absent.

    Parameters
    ----------
    store : GeneStore
    target : path
        An h5ad file or a Zarr folder.
    genes : sequence of str, optional
        Symbols or identifiers, in the order of the result; all where not given.
    normalization : str
        ``log2`` or ``raw``.
    overwrite : bool
        Replace what an earlier export left there.
    progress : bool
        Show progress on stderr.

    Returns
    -------
    Path
        Of the AnnData: X is CSC, (cells, genes), with NaN where a matrix lacks the gene; obs
        and var are those of the store.

    Raises
    ------
    UsageError
        If the name says no format, or the store cannot answer for this normalization.
    GeneError
        If a gene is unknown.
    StoreError
        If the store is damaged, or raw counts are asked for that are not certain.
    ViewError
        If the target exists or cannot be written.
    """
    place = Path(target).expanduser().absolute()
    format = FORMATS.get(place.suffix)
    if format is None:
        raise UsageError(f"{place.name} is neither .h5ad nor .zarr")
    refuse_existing(place, overwrite=overwrite)
    positions = list(range(store.n_genes)) if genes is None else store.find_genes(genes)
    staging = Staging.beside(place)
    with staging.locked():
        finished = staging.finished()
        info = dict(store.info.provenance) | {
            "normalization": normalization,
            "exported_from": store.name,
            "store": store.digest,
        }
        try:
            with new_store(finished, format, level=1) as written:
                _write_values(written, store, positions, normalization, show=progress)
                cells = store.cells
                written.write(
                    obs=cells.set_axis(cells.index.astype(object).rename(CELL_LABEL)),
                    var=store.genes.iloc[positions],
                    uns={},
                    texts={"normalization": normalization, "abc_dask": json.dumps(info)},
                )
            if format == "zarr":
                (finished / CELLS).write_text(json.dumps(info, indent=1), encoding="utf-8")
            staging.publish(finished)
        except OSError as error:
            raise cannot_write(place, error) from error
    return place


def _write_values(
    written: AnnDataStore,
    store: GeneStore,
    positions: Sequence[int],
    normalization: str,
    *,
    show: bool,
) -> None:
    """Write X, a CSC matrix in AnnData's encoding."""
    n_absent = store.absent @ [m.stop - m.first for m in store.info.matrices]
    sizes = store.genes["n_cells"].to_numpy()[positions] + n_absent[positions]
    ends = np.append(0, np.cumsum(sizes, dtype=np.int64))
    shape = [store.n_cells, len(positions)]
    group = written.root.create_group("X")
    group.attrs.update({"encoding-type": "csc_matrix", "encoding-version": "0.1.0", "shape": shape})
    n_values = int(ends[-1])
    small = n_values < 2**31
    pointers = _Growing(written, group, "indptr", np.dtype("i4" if small else "i8"), len(ends))
    pointers.add(ends)
    pointers.close()
    indices = _Growing(written, group, "indices", np.dtype("i4"), n_values)
    data = _Growing(written, group, "data", store.dtype, n_values)
    with Progress(len(positions), "export", unit="gene", enabled=show) as bar:
        for number, (cells, values) in enumerate(_columns(store, positions, normalization)):
            if len(cells) != sizes[number]:
                name = store.genes.index[positions[number]]
                raise StoreError(
                    f"{store.name}: {name} has values in {plural(len(cells), 'cell')}, its table "
                    f"of genes says {sizes[number]:,}; make the store anew"
                )
            indices.add(cells)
            data.add(values)
            bar.add(1)
    indices.close()
    data.close()


def _columns(
    store: GeneStore, positions: Sequence[int], normalization: str
) -> Iterator[tuple[NDArray[np.int32], NDArray[Any]]]:
    """Yield the cells with a value of each gene, and the values; some genes are read ahead."""

    def read(at: int) -> tuple[NDArray[np.int32], NDArray[Any]]:
        values = store.values(at, normalization)
        cells = np.flatnonzero(values)
        return cells.astype(np.int32), values[cells]

    most = CPU_COUNT
    with ThreadPoolExecutor(most) as pool:
        for first in range(0, len(positions), most):
            yield from pool.map(read, positions[first : first + most])


class _Growing:
    """A flat array that is written in order, whole shards at a time."""

    def __init__(
        self, written: AnnDataStore, group: Any, name: str, dtype: np.dtype[Any], length: int
    ) -> None:
        chunk = max(1, min(_CHUNK, length))
        shard = chunk * max(1, min(_SHARD // chunk, -(-length // chunk)))
        self._array = written.array(group, name, (length,), dtype, chunks=(chunk,), shards=(shard,))
        self._dtype = dtype
        self._held: list[NDArray[Any]] = []
        self._n_held = self._at = 0

    def add(self, values: NDArray[Any]) -> None:
        """Append values."""
        self._held.append(values.astype(self._dtype, copy=False))
        self._n_held += len(values)
        if self._n_held >= _SHARD:
            self._write(self._n_held // _SHARD * _SHARD)

    def close(self) -> None:
        """Write what is left."""
        if self._n_held:
            self._write(self._n_held)

    def _write(self, n: int) -> None:
        joined = np.concatenate(self._held)
        self._array[self._at : self._at + n] = joined[:n]
        self._at += n
        self._held, self._n_held = [joined[n:]], self._n_held - n
