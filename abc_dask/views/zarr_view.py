"""Zarr views, in AnnData's layout: written and read."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.release.annotation import Annotation
from abc_dask.views.as_anndata import CHUNK_CELLS, obs_frame, uns_dict, var_frame
from abc_dask.views.places import obsm
from abc_dask.views.reader import (
    MATRIX_COLUMNS,
    Reader,
    ViewBlock,
    column_batches,
    empty_rows,
    label_index,
    naming,
    read_rows,
    require_digest,
)

if TYPE_CHECKING:
    import dask.dataframe as dd
    import pandas as pd

# What the names of the files of a Zarr view's values begin with: X/c/SHARD/GENE.
VALUES = "X/c/"

_SHARD_CHUNKS = 16


@dataclass(frozen=True)
class ZarrReader:
    """A Zarr view, in AnnData's layout.

    Attributes
    ----------
    path : Path
    columns : tuple of str
    dtype : numpy.dtype
    n_cells : int
    annotations : tuple of Annotation
    digests : dict of str to str
        SHA-256 of the files of X, as the description says.
    """

    path: Path
    columns: tuple[str, ...]
    dtype: np.dtype[Any]
    n_cells: int
    annotations: tuple[Annotation, ...]
    digests: dict[str, str] = field(repr=False)

    def _obs(self) -> pd.DataFrame:
        import anndata.io
        import zarr

        with naming(self.path):
            obs: pd.DataFrame = anndata.io.read_elem(zarr.open_group(self.path, mode="r")["obs"])
        return obs

    def labels(self) -> pa.Array:
        """Read the cell labels, in order."""
        return pa.array(self._obs().index.to_numpy(dtype=object), pa.string())

    def matrices(self) -> dict[str, pd.Categorical]:
        """Read dataset_label and feature_matrix_label of every cell."""
        import pandas as pd

        obs = self._obs()
        return {name: pd.Categorical(obs[name]) for name in MATRIX_COLUMNS if name in obs}

    def annotation(self, annotation: Annotation) -> NDArray[Any]:
        """Read the codes or numbers of a column of annotations."""
        return _zarr_codes(self._obs()[annotation.name], annotation)

    def values(self, columns: Sequence[str]) -> NDArray[Any]:
        """Read some columns as an array of n_cells x columns."""
        positions = [self.columns.index(c) for c in columns]
        return _read_zarr(self.path, 0, self.n_cells, positions, self.digests)

    def blocks(self) -> list[ViewBlock]:
        """Give rows of shards."""
        import zarr

        with naming(self.path):
            array = zarr.open_array(self.path / "X", mode="r")
        step = (array.shards or array.chunks)[0]
        rows: dict[str, list[str]] = {}
        for name in self.digests:
            rows.setdefault(name.split("/")[2], []).append(name)
        return [
            ZarrBlock(
                str(self.path),
                start,
                min(start + step, self.n_cells),
                self.columns,
                self.annotations,
                {name: self.digests[name] for name in rows.get(str(start // step), [])},
            )
            for start in range(0, self.n_cells, step)
        ]

    def frame(self, columns: Sequence[str]) -> dd.DataFrame:
        """Give the lazy Dask DataFrame, a partition a row of shards."""
        import dask.dataframe as dd

        matrices = {name: values.categories for name, values in self.matrices().items()}
        meta = empty_rows(label_index(pa.array([], pa.string())), self, matrices)
        return dd.from_map(read_rows, self.blocks(), meta=meta, label="abc-view")[list(columns)]


def _zarr_codes(column: Any, annotation: Annotation) -> NDArray[Any]:
    import pandas as pd

    if annotation.terms is None:
        numbers: NDArray[Any] = np.asarray(column).astype(annotation.dtype, copy=False)
        return numbers
    coded = pd.Categorical(column)
    places = pd.Index(list(annotation.terms)).get_indexer(coded.categories)
    codes: NDArray[Any] = np.append(places, -1).astype(np.int32)[coded.codes]
    return codes


def _read_zarr(
    path: Path, start: int, stop: int, positions: Sequence[int], digests: dict[str, str]
) -> NDArray[Any]:
    """Read columns of rows, the files of which are those with these digests."""
    import zarr

    files: dict[str, list[str]] = {}
    for name in digests:
        files.setdefault(name.split("/")[3], []).append(name)
    with naming(path):
        array = zarr.open_array(path / "X", mode="r")
        out = np.empty((stop - start, len(positions)), dtype=array.dtype, order="F")
        for k, position in enumerate(positions):
            for name in files.get(str(position), []):
                require_digest(path / name, digests[name])
            out[:, k] = array[start:stop, position]
    return out


@dataclass(frozen=True)
class ZarrBlock:
    """Some rows of a Zarr view."""

    path: str
    start: int
    stop: int
    names: tuple[str, ...]
    annotations: tuple[Annotation, ...]
    digests: dict[str, str]

    def frame(self, columns: Sequence[str]) -> pd.DataFrame:
        """Read columns of these rows, index cell_label."""
        import anndata.io
        import pandas as pd
        import zarr

        rows = slice(self.start, self.stop)
        with naming(self.path):
            obs = zarr.open_group(self.path, mode="r")["obs"]
            beside = {
                name: anndata.io.read_elem(obs[name])[rows]
                for name in (obs.attrs["_index"], *columns)
                if name not in self.names
            }
        labels = np.asarray(beside[obs.attrs["_index"]], dtype=object)
        genes = [name for name in columns if name in self.names]
        positions = [self.names.index(name) for name in genes]
        values = _read_zarr(Path(self.path), self.start, self.stop, positions, self.digests)
        index = label_index(pa.array(labels, pa.string()))
        frame = pd.DataFrame(values, index=index, columns=genes)
        coded = {annotation.name: annotation for annotation in self.annotations}
        for name in columns:
            if name in coded:
                codes = _zarr_codes(beside[name], coded[name])
                frame[name] = coded[name].cells(codes).array
            elif name not in genes:
                frame[name] = beside[name]
        return frame[list(columns)]


def write_zarr(target: Path, reader: Reader, info: dict[str, Any]) -> None:
    """Write a Zarr v3 store that `anndata.read_zarr` opens.

    X is dense, cells x genes, in chunks of one gene, sharded, zstd-compressed, each
    chunk with a CRC-32C. Its fill value is NaN: a lost chunk must not read as zero.
    """
    import anndata
    import zarr
    from anndata.io import write_elem
    from zarr.codecs import Crc32cCodec, ZstdCodec

    packed = [ZstdCodec(level=3), Crc32cCodec()]
    group = zarr.open_group(target, mode="w", zarr_format=3)
    group.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    chunk = max(1, min(CHUNK_CELLS, reader.n_cells))
    shard = chunk * min(_SHARD_CHUNKS, max(1, -(-reader.n_cells // chunk)))
    array = group.create_array(
        "X",
        shape=(reader.n_cells, len(reader.columns)),
        dtype=reader.dtype,
        chunks=(chunk, 1),
        shards=(shard, 1),
        compressors=packed,
        fill_value=np.nan,
    )
    array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    for first, values in column_batches(reader):
        array[:, first : first + values.shape[1]] = values
    options = {"compressors": packed}
    # elements follow the format of the group that they are written to
    settings: dict[str, Any] = {}
    if "auto_shard_zarr_v3" in dir(anndata.settings):
        settings["auto_shard_zarr_v3"] = False  # later versions ask to decide
    with anndata.settings.override(**settings):
        write_elem(group, "obs", obs_frame(reader), dataset_kwargs=options)
        write_elem(group, "var", var_frame(info), dataset_kwargs=options)
        write_elem(group, "uns", uns_dict(info, reader))
        write_elem(group, "obsm", obsm(reader, info), dataset_kwargs=options)
        for name in ("layers", "obsp", "varm", "varp"):
            write_elem(group, name, {})
    # one file for all metadata, as AnnData's own writer leaves it: readers need not list
    # folders, and do not stumble over _view.json
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(target)
