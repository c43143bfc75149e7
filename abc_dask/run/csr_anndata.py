"""An AnnData of CSR rows on disk, written piece by piece: h5ad or Zarr.

Memory holds obs and var, some million values, and no more, however many cells there are.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.columns import CELL_LABEL
from abc_dask.views.description import CELLS

if TYPE_CHECKING:
    import pandas as pd

CELL = "cell"

# Elements of a chunk (2^18 of 4 bytes are a megabyte), and of a shard of a Zarr array.
_CHUNK = 1 << 18

_SHARD = 1 << 22


def write_store(
    place: Path,
    chosen: str,
    parts: Sequence[Path],
    *,
    obs: pd.DataFrame,
    var: pd.DataFrame,
    info: dict[str, Any],
) -> None:
    """Write an AnnData out of parts of CSR rows.

    Parameters
    ----------
    place : Path
        File or folder that does not exist yet.
    chosen : str
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
    indptr = np.append(0, np.cumsum(sizes))
    uns = {"normalization": info["normalization"], "abc_dask": json.dumps(info)}
    elements = {"obs": obs, "var": var, "uns": uns}
    shape = (len(obs), len(var))
    write = _write_h5ad if chosen == "h5ad" else _write_zarr
    write(place, parts, indptr, shape, elements)
    if chosen == "zarr":
        (place / CELLS).write_text(json.dumps(info, indent=1), encoding="utf-8")


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
                held.append(file.get_batch(number).column(0).values.to_numpy())
                n_held += len(held[-1])
                while n_held >= most:
                    joined = np.concatenate(held)
                    yield at, joined[:most]
                    at, held, n_held = at + most, [joined[most:]], n_held - most
    if n_held:
        yield at, np.concatenate(held)


def _write_h5ad(
    place: Path,
    parts: Sequence[Path],
    indptr: NDArray[np.int64],
    shape: tuple[int, int],
    elements: dict[str, Any],
) -> None:
    import h5py
    from anndata.io import write_elem

    with h5py.File(place, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})

        def create(group: Any, name: str, length: int, dtype: np.dtype[Any]) -> Any:
            chunks = (max(1, min(_CHUNK, length)),)
            return group.create_dataset(
                name,
                shape=(length,),
                dtype=dtype,
                chunks=chunks,
                compression="gzip",
                compression_opts=1,
                shuffle=True,
                fletcher32=True,
            )

        _fill(file.create_group("X"), create, parts, indptr, shape, step=_CHUNK * 4)
        for name, element in elements.items():
            write_elem(file, name, element)
        for name in ("layers", "obsm", "obsp", "varm", "varp"):
            write_elem(file, name, {})


def _write_zarr(
    place: Path,
    parts: Sequence[Path],
    indptr: NDArray[np.int64],
    shape: tuple[int, int],
    elements: dict[str, Any],
) -> None:
    import anndata
    import zarr
    from anndata.io import write_elem
    from zarr.codecs import Crc32cCodec, ZstdCodec

    packed = [ZstdCodec(level=1), Crc32cCodec()]
    group = zarr.open_group(place, mode="w", zarr_format=3)
    group.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})

    def create(parent: Any, name: str, length: int, dtype: np.dtype[Any]) -> Any:
        chunk = max(1, min(_CHUNK, length))
        shard = chunk * min(_SHARD // _CHUNK, max(1, -(-length // chunk)))
        return parent.create_array(
            name,
            shape=(length,),
            dtype=dtype,
            chunks=(chunk,),
            shards=(shard,),
            compressors=packed,
            # a lost chunk must not read as values
            fill_value=np.nan if dtype.kind == "f" else 0,
        )

    _fill(group.create_group("X"), create, parts, indptr, shape, step=_SHARD)
    settings: dict[str, Any] = {}
    if "auto_shard_zarr_v3" in dir(anndata.settings):
        settings["auto_shard_zarr_v3"] = False  # later versions ask to decide
    with anndata.settings.override(**settings):
        for name, element in elements.items():
            write_elem(group, name, element, dataset_kwargs={"compressors": packed})
        for name in ("layers", "obsm", "obsp", "varm", "varp"):
            write_elem(group, name, {})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(place)


def _fill(
    group: Any,
    create: Callable[[Any, str, int, np.dtype[Any]], Any],
    parts: Sequence[Path],
    indptr: NDArray[np.int64],
    shape: tuple[int, int],
    *,
    step: int,
) -> None:
    """Write a CSR matrix in AnnData's encoding, `step` values at a time."""
    group.attrs.update(
        {
            "encoding-type": "csr_matrix",
            "encoding-version": "0.1.0",
            "shape": list(shape),
        }
    )
    n_values = int(indptr[-1])
    small = n_values < 2**31
    pointers = indptr.astype(np.int32 if small else np.int64)
    create(group, "indptr", len(pointers), pointers.dtype)[:] = pointers
    for name in ("indices", "data"):
        dtype = _dtype(parts[0], name)
        array = create(group, name, n_values, dtype)
        for first, values in _stretches(parts, name, step):
            array[first : first + len(values)] = values


def _dtype(part: Path, name: str) -> np.dtype[Any]:
    with pa.memory_map(str(part)) as source:
        kind = pa.ipc.open_file(source).schema.field(name).type.value_type
    dtype: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
    return dtype
