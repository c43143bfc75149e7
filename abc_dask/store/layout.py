"""All of a store but its genes: AnnData's elements, written where any reader finds them."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from abc_dask.base.columns import CELL_LABEL, DATASET_LABEL, FEATURE_MATRIX_LABEL, GENE_IDENTIFIER
from abc_dask.base.errors import StoreError
from abc_dask.disk.files import fsync_directory, fsync_file
from abc_dask.store.assemble import Gathered, Shard
from abc_dask.store.blosc import LEVEL, MAX_BYTES
from abc_dask.store.description import (
    DENSE,
    SHARD_GENES,
    STORE_VERSION,
    StoreInfo,
    StoreMatrix,
    metadata_digest,
)
from abc_dask.store.tasks import Values

if TYPE_CHECKING:
    import pandas as pd

# Cell labels of a chunk.
_LABELS = 1 << 18

ENCODING = {"encoding-type": "anndata", "encoding-version": "0.1.0"}


@dataclass(frozen=True)
class Cells:
    """The cells of a store, in order.

    Attributes
    ----------
    labels : array of str, shape (n_cells,)
    matrices : tuple of StoreMatrix
    annotations : mapping of str to pandas.Categorical or array
        Further columns.
    """

    labels: NDArray[np.object_]
    matrices: tuple[StoreMatrix, ...]
    annotations: Mapping[str, Any]


def load_writers() -> None:
    """Import what tables are written with: half a second that a thread may spend before."""
    import anndata  # noqa: F401
    import zarr  # noqa: F401


def create_values(
    store: Path, shape: tuple[int, int], values: Values, *, block_cells: int, layout: str
) -> None:
    """Write the metadata of X, and nothing of its values.

    Raises
    ------
    StoreError
        If there are no cells or genes, or more cells than fit one chunk.
    """
    import zarr
    from zarr.codecs import BloscCodec, Crc32cCodec

    dtype = np.dtype(values.dtype)
    n_cells, n_genes = shape
    if not n_cells or not n_genes:
        raise StoreError(f"{store}: a store needs cells and genes, there are {n_cells} x {n_genes}")
    if n_cells * dtype.itemsize > MAX_BYTES:
        most = MAX_BYTES // dtype.itemsize
        raise StoreError(f"{store}: {n_cells:,} cells do not fit one store, {most:,} do")
    blosc = BloscCodec(
        typesize=dtype.itemsize,
        cname="zstd",
        clevel=LEVEL,
        shuffle="bitshuffle",
        blocksize=block_cells * dtype.itemsize,
    )
    store.mkdir(parents=True, exist_ok=True)
    zarr.create_array(
        store / "X",
        shape=shape,
        dtype=dtype,
        attributes=DENSE,
        chunks=(n_cells, 1),
        shards=(n_cells, SHARD_GENES) if layout == "sharded" else None,
        compressors=[blosc, Crc32cCodec()],
        # a lost chunk must not read as values, where there is something else to read
        fill_value=np.nan if dtype.kind == "f" else 0,
        overwrite=True,
    )


def has_values(store: Path) -> bool:
    """Tell whether the metadata of X is there, with AnnData's marks."""
    try:
        described = json.loads((store / "X" / "zarr.json").read_bytes())
    except (OSError, ValueError):
        return False
    return bool(described.get("attributes") == DENSE)


def write_metadata(
    store: Path,
    info: StoreInfo,
    *,
    cells: Cells,
    genes: pd.DataFrame,
    absent: NDArray[np.bool_],
    gathered: Gathered,
    shards: Sequence[Shard],
) -> StoreInfo:
    """Write obs, var, patches and the description; the root's zarr.json at the very end.

    Parameters
    ----------
    store : Path
        The unfinished store, with X.
    info : StoreInfo
        Description without digests.
    cells : Cells
    genes : pandas.DataFrame
        gene_identifier, gene_symbol and what else is known of each gene.
    absent : array of bool, shape (n_genes, n_matrices)
        Whether each matrix lacks each gene.
    gathered : Gathered
    shards : sequence of Shard
        All, in order.

    Returns
    -------
    StoreInfo
        With digests.
    """
    import zarr
    from anndata.io import write_elem

    root = zarr.open_group(store, mode="a", zarr_format=3)
    with without_shards():
        _write_frame(root, "obs", CELL_LABEL, cells.labels, _obs(cells, gathered))
        identifiers = genes[GENE_IDENTIFIER].to_numpy(dtype=object)
        _write_frame(root, "var", GENE_IDENTIFIER, identifiers, _var(genes, gathered, shards))
        _write_group(root, "varm", {"absent": absent})
        layers = {"patches": _patches(info, gathered)} if info.kind == "counts" else {}
        _write_group(root, "layers", layers)
        for name in ("obsm", "obsp", "varp"):
            _write_group(root, name, {})
        digests = tuple(shard.sha256 for shard in shards if shard.sha256)
        write_elem(root, "uns", {"normalization": info.normalization})
        return seal(store, replace(info, shards=digests))


def without_shards() -> AbstractContextManager[Any]:
    """Return anndata's settings for arrays as they are asked for."""
    import anndata

    settings: dict[str, Any] = {}
    if "auto_shard_zarr_v3" in dir(anndata.settings):
        settings["auto_shard_zarr_v3"] = False  # later versions ask to decide
    found: AbstractContextManager[Any] = anndata.settings.override(**settings)
    return found


def seal(store: Path, info: StoreInfo) -> StoreInfo:
    """Write the description of what is there, then the root's zarr.json; return it."""
    import zarr
    from anndata.io import write_elem

    uns = zarr.open_group(store, path="uns", mode="a", zarr_format=3)
    if "abc_dask" in uns:
        del uns["abc_dask"]
    nodes = _consolidated(store)
    found = replace(info, files=_digests(store), metadata=metadata_digest(nodes))
    write_elem(uns, "abc_dask", found.to_json())
    _write_root(store, found)
    return found


def _obs(cells: Cells, gathered: Gathered) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "total": gathered.totals,
        "counts_are_certain": gathered.certain,
        DATASET_LABEL: _of_matrices(cells.matrices, DATASET_LABEL),
        FEATURE_MATRIX_LABEL: _of_matrices(cells.matrices, FEATURE_MATRIX_LABEL),
    }
    if twice := set(columns) & set(cells.annotations):
        raise StoreError(f"annotation {min(twice)!r} is a column of every store already")
    return columns | dict(cells.annotations)


def _of_matrices(matrices: Sequence[StoreMatrix], column: str) -> pd.Categorical[Any]:
    import pandas as pd

    names = [getattr(matrix, column) for matrix in matrices]
    categories = list(dict.fromkeys(names))
    codes = np.repeat([categories.index(n) for n in names], [m.stop - m.first for m in matrices])
    return pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(categories))


def _var(genes: pd.DataFrame, gathered: Gathered, shards: Sequence[Shard]) -> dict[str, Any]:
    columns: dict[str, Any] = {
        name: genes[name].fillna("").to_numpy(dtype=object)
        for name in genes.columns
        if name != GENE_IDENTIFIER
    }
    columns["n_cells"] = gathered.present
    columns["chunk_offset"] = np.array([n for s in shards for n in s.offsets], np.int64)
    columns["chunk_size"] = np.array([n for s in shards for n in s.sizes], np.int64)
    columns["chunk_crc32c"] = np.array([n for s in shards for n in s.checksums], np.uint32)
    return columns


def _patches(info: StoreInfo, gathered: Gathered) -> Any:
    """Return the patches as a sparse matrix, cells x genes, gene by gene."""
    import scipy.sparse

    counts = np.bincount(gathered.patch_genes, minlength=info.n_genes)
    indptr = np.append(0, np.cumsum(counts))
    parts = (gathered.patch_values, gathered.patch_cells, indptr)
    return scipy.sparse.csc_matrix(parts, shape=(info.n_cells, info.n_genes))


def _write_frame(
    root: Any, name: str, index: str, labels: NDArray[np.object_], columns: dict[str, Any]
) -> None:
    """Write a table in AnnData's encoding, each column in few chunks."""
    group = root.require_group(name)
    group.attrs.update(
        {
            "encoding-type": "dataframe",
            "encoding-version": "0.2.0",
            "_index": index,
            "column-order": list(columns),
        }
    )
    for column, values in {index: labels, **columns}.items():
        _write_array(group, column, values)


def _write_group(root: Any, name: str, elements: dict[str, Any]) -> None:
    group = root.require_group(name)
    group.attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
    for key, values in elements.items():
        _write_array(group, key, values)


def _write_array(group: Any, name: str, values: Any) -> None:
    from anndata.io import write_elem
    from zarr.codecs import Crc32cCodec, ZstdCodec

    options: dict[str, Any] = {"compressors": [ZstdCodec(level=1), Crc32cCodec()]}
    if isinstance(values, np.ndarray):
        length = _LABELS if values.dtype == object else max(1, len(values))
        options["chunks"] = (max(1, min(length, len(values))), *values.shape[1:])
    write_elem(group, name, values, dataset_kwargs=options)


def _digests(store: Path) -> dict[str, str]:
    """Hash all files but X's values."""
    found = {}
    for path in sorted(store.rglob("*")):
        name = path.relative_to(store).as_posix()
        if path.is_file() and not name.startswith("X/c/") and name != "zarr.json":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
            fsync_file(path)
    return found


def _write_root(store: Path, info: StoreInfo) -> None:
    """Write the root's metadata, with that of all elements: what has it is a whole store."""
    import zarr

    fsync_file(store / "uns" / "abc_dask" / "zarr.json")
    (store / "zarr.json").unlink(missing_ok=True)
    digest = hashlib.sha256(info.to_json().encode()).hexdigest()
    root = zarr.open_group(store, mode="a", zarr_format=3)
    root.attrs.update(ENCODING | {"abc_dask": {"store_version": STORE_VERSION, "sha256": digest}})
    _consolidated(store)
    fsync_file(store / "zarr.json")
    fsync_directory(store)


def _consolidated(store: Path) -> dict[str, Any]:
    """Write the metadata of all elements into the root's, and return them."""
    import zarr

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(store)
    root = json.loads((store / "zarr.json").read_text("utf-8"))
    nodes: dict[str, Any] = root["consolidated_metadata"]["metadata"]
    return nodes
