"""Zarr views, in AnnData's layout: written and read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.release.annotation import Annotation
from abc_dask.views.anndata_store import new_store
from abc_dask.views.as_anndata import write_view
from abc_dask.views.content import Written
from abc_dask.views.description import naming
from abc_dask.views.reader import MATRIX_COLUMNS, Reader, ViewBlock, label_index, require_digest

if TYPE_CHECKING:
    import pandas as pd

# What the names of the files of a Zarr view's values begin with: X/c/SHARD/SHARD OF GENES.
VALUES = "X/c/"


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
        """Return rows of shards."""
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
    path: Path, start: int, stop: int, indices: Sequence[int], digests: dict[str, str]
) -> NDArray[Any]:
    """Read columns of rows, the files of which are those with these digests."""
    import zarr

    with naming(path):
        array = zarr.open_array(path / "X", mode="r")
        rows, width = array.shards or array.chunks
        out = np.empty((stop - start, len(indices)), dtype=array.dtype, order="F")
        wanted: dict[int, list[int]] = {}
        for k, index in enumerate(indices):
            wanted.setdefault(index // width, []).append(k)
        for shard, slots in wanted.items():
            for row in range(start // rows, -(-stop // rows)):
                name = f"{VALUES}{row}/{shard}"
                if name in digests:  # one without a value is not stored
                    require_digest(path / name, digests[name])
            own = [indices[k] for k in slots]
            first = min(own)
            values = array[start:stop, first : max(own) + 1]
            for k, index in zip(slots, own, strict=True):
                out[:, k] = values[:, index - first]
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


def write_zarr(target: Path, reader: Reader, info: dict[str, Any]) -> Written:
    """Write a Zarr v3 store that `anndata.read_zarr` opens.

    X is dense, cells x genes, in chunks of one gene (of several, where cells are few),
    sharded, zstd-compressed, each chunk with a CRC-32C. Its fill value is NaN: a lost
    chunk must not read as zero.
    """
    with new_store(target, "zarr", level=3) as store:
        return write_view(store, reader, info)
