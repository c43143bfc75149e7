"""An AnnData of CSR rows on disk, written piece by piece: h5ad or Zarr.

Memory holds obs and var, some million values, and no more, however many cells there are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.base.columns import CELL_LABEL
from abc_dask.views.anndata_store import AnnDataStore, new_store
from abc_dask.views.as_anndata import uns_texts
from abc_dask.views.description import CELLS

if TYPE_CHECKING:
    import pandas as pd

CELL = "cell"

# Elements of a chunk (2^18 of 4 bytes are a megabyte), and of a shard of a Zarr array.
_CHUNK = 1 << 18
_SHARD = 1 << 22


def write_store(
    path: Path,
    format: str,
    parts: Sequence[Path],
    *,
    obs: pd.DataFrame,
    var: pd.DataFrame,
    info: dict[str, Any],
) -> None:
    """Write an AnnData out of parts of CSR rows.

    Parameters
    ----------
    path : Path
        File or folder that does not exist yet.
    format : str
        ``h5ad`` or ``zarr``.
    parts : sequence of Path
        Arrow files of label, size, indices and data of each row, in order.
    obs, var : pandas.DataFrame
        Columns of cells (without labels: those of the parts are taken) and of genes.
    info : dict
        Provenance.
    """
    import pandas as pd

    labels, sizes = _rows(parts)
    obs.index = pd.Index(labels, dtype=object, name=CELL_LABEL)
    with new_store(path, format, level=1) as store:
        _fill(store, parts, np.append(0, np.cumsum(sizes)), (len(obs), len(var)))
        store.write(obs=obs, var=var, uns={}, texts=uns_texts(info))
    if format == "zarr":
        (path / CELLS).write_text(json.dumps(info, indent=1), encoding="utf-8")


def _rows(parts: Sequence[Path]) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Read label and size of every row."""
    options = pa.ipc.IpcReadOptions(included_fields=[0, 1])
    labels, sizes = [np.empty(0, object)], [np.empty(0, np.int64)]
    for part in parts:
        with pa.memory_map(str(part)) as source:
            table = pa.ipc.open_file(source, options=options).read_all()
        labels.append(table[CELL].to_numpy())
        sizes.append(table["size"].to_numpy())
    return np.concatenate(labels), np.concatenate(sizes)


def _stretches(parts: Sequence[Path], name: str, most: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield first element and values of an array of all parts, in steps of equal length."""
    field = {"indices": 2, "data": 3}[name]
    options = pa.ipc.IpcReadOptions(included_fields=[field])
    held: list[NDArray[Any]] = []
    n_held = at = 0
    for part in parts:
        with pa.memory_map(str(part)) as source:
            file = pa.ipc.open_file(source, options=options)
            for number in range(file.num_record_batches):
                values = file.get_batch(number).column(0).values
                held.append(values.to_numpy(zero_copy_only=False))
                n_held += len(held[-1])
                while n_held >= most:
                    joined = np.concatenate(held)
                    yield at, joined[:most]
                    at, held, n_held = at + most, [joined[most:]], n_held - most
    if n_held:
        yield at, np.concatenate(held)


def _fill(
    store: AnnDataStore, parts: Sequence[Path], indptr: NDArray[np.int64], shape: tuple[int, int]
) -> None:
    """Write X, a CSR matrix in AnnData's encoding, `_SHARD` values at a time."""
    group = store.root.create_group("X")
    group.attrs.update(
        {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": list(shape)}
    )
    n_values = int(indptr[-1])
    small = n_values < 2**31
    _create(store, group, "indptr", indptr.astype(np.int32 if small else np.int64))
    for name in ("indices", "data"):
        array = _create(store, group, name, np.empty(0, _dtype(parts[0], name)), n_values)
        for first, values in _stretches(parts, name, _SHARD):
            array[first : first + len(values)] = values


def _create(
    store: AnnDataStore, group: Any, name: str, values: NDArray[Any], length: int | None = None
) -> Any:
    """Create a flat array that begins with some values."""
    length = len(values) if length is None else length
    chunk = max(1, min(_CHUNK, length))
    shard = chunk * max(1, min(_SHARD // chunk, -(-length // chunk)))
    shape = (length,)
    array = store.array(group, name, shape, values.dtype, chunks=(chunk,), shards=(shard,))
    if len(values):
        array[: len(values)] = values
    return array


def _dtype(part: Path, name: str) -> np.dtype[Any]:
    with pa.memory_map(str(part)) as source:
        kind = pa.ipc.open_file(source).schema.field(name).type.value_type
    dtype: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
    return dtype
