"""Tables of groups x genes, a layer a statistic, and their files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from numpy.typing import NDArray

from abc_dask.analysis.cell_groups import CellGroups, group_names
from abc_dask.analysis.gene_tasks import GeneResults
from abc_dask.base.errors import UsageError
from abc_dask.base.messages import enumerate_names
from abc_dask.views.anndata_store import DENSE, AnnDataStore, new_store
from abc_dask.views.description import CELLS as MARK
from abc_dask.views.parquet_view import SCHEMA_KEY

if TYPE_CHECKING:
    import anndata

CELLS = "cells"

# Formats that are tables of rows, and those that are AnnData.
TABLES = ("csv", "parquet")

FORMATS = ("h5ad", "zarr", *TABLES)

# Groups and genes of a chunk.
_CHUNK = (1024, 128)


@dataclass(frozen=True)
class GroupTable:
    """Groups x genes; layers lie in memory, or where tasks left them.

    Attributes
    ----------
    layers : mapping of str to array or GeneResults
        Statistics, shape (n_groups, n_genes); the first is X as well. Of results, that of this
        name.
    obs : pandas.DataFrame
        Groups.
    var : pandas.DataFrame
        Genes.
    info : mapping
        Provenance, JSON-serialisable.
    """

    layers: Mapping[str, NDArray[Any] | GeneResults] = field(repr=False)
    obs: pd.DataFrame
    var: pd.DataFrame
    info: Mapping[str, Any]

    def array(self, name: str) -> NDArray[Any]:
        """Return a layer."""
        layer = self.layers[name]
        return layer.table(name) if isinstance(layer, GeneResults) else layer

    def to_anndata(self) -> anndata.AnnData:
        """Return all of it in memory."""
        import anndata

        first, *_ = self.layers
        data = anndata.AnnData(
            X=self.array(first),
            obs=self.obs,
            var=_named(self.var),
            uns={"abc_dask": self.text, "statistic": first},
        )
        for name in self._named_layers:
            data.layers[name] = data.X if name == first else self.array(name)
        return data

    @property
    def _named_layers(self) -> list[str]:
        """Those that stand in layers: all, unless X is the only one."""
        return list(self.layers) if len(self.layers) > 1 else []

    @property
    def text(self) -> str:
        """Provenance as the text that stands in uns."""
        return json.dumps(dict(self.info), ensure_ascii=False)

    def write(self, target: Path, format: str) -> None:
        """Write an AnnData, some genes at a time.

        Parameters
        ----------
        target : Path
            File (h5ad) or folder (zarr) that does not exist yet.
        format : str
            ``h5ad`` or ``zarr``.
        """
        first, *_ = self.layers
        with new_store(target, format, level=1) as store:
            texts = {"abc_dask": self.text, "statistic": first}
            store.write(obs=self.obs, var=_named(self.var), uns={}, texts=texts)
            for name in self.layers:
                if name == first:
                    self._fill(store, store.root, "X", name)
                if name in self._named_layers:
                    self._fill(store, store.root["layers"], name, name)
        if format == "zarr":
            (target / MARK).write_text(self.text, encoding="utf-8")

    def _fill(self, store: AnnDataStore, group: Any, key: str, name: str) -> None:
        shape = (len(self.obs), len(self.var))
        chunks = (min(_CHUNK[0], shape[0]), min(_CHUNK[1], shape[1]))
        dtype = next(block.dtype for _, block in self._blocks(name))
        array = store.array(group, key, shape, dtype, chunks=chunks, shards=chunks, marks=DENSE)
        for genes, block in self._blocks(name):
            array[:, genes] = block

    def _blocks(self, name: str) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Yield stretches of genes of a layer."""
        layer = self.layers[name]
        if isinstance(layer, GeneResults) and layer.is_rising:
            for ranks, block in layer.blocks(name):
                yield slice(int(ranks[0]), int(ranks[-1]) + 1), block.T
        else:
            yield slice(0, len(self.var)), self.array(name)


def _named(var: pd.DataFrame) -> pd.DataFrame:
    return var.set_axis(var.index.astype(object))


def obs_of(groups: CellGroups) -> pd.DataFrame:
    """Return groups as obs: terms, colours where there are, number of cells."""
    index = groups.index
    obs = index.to_frame(index=False)
    for annotation in groups.columns:
        if annotation.colors:
            colors = obs[annotation.name].astype(object).map(dict(annotation.colors))
            obs[f"{annotation.name}_color"] = colors.fillna("").astype(object)
    obs[CELLS] = groups.cells
    obs.index = pd.Index(group_names(index), dtype=object)
    return obs


def write_frames(frames: Iterable[pd.DataFrame], target: Path, format: str) -> None:
    """Write tables of the same columns one below the other.

    Parameters
    ----------
    frames : iterable of pandas.DataFrame
    target : Path
        New file.
    format : str
        ``csv`` or ``parquet``.
    """
    if format == "csv":
        for number, frame in enumerate(frames):
            frame.to_csv(target, index=False, mode="a", header=number == 0)
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer: Any = None
    try:
        for frame in frames:
            table = pa.Table.from_pandas(frame, preserve_index=False)
            if writer is None:
                marked = {**table.schema.metadata, SCHEMA_KEY: b"table"}
                schema = table.schema.with_metadata(marked)
                writer = pq.ParquetWriter(target, schema, write_page_checksum=True)
            writer.write_table(table.cast(schema))
    finally:
        if writer is not None:
            writer.close()


def format_of_table(place: Path, known: Sequence[str] = FORMATS) -> str:
    """Return the format that a path's suffix names.

    Raises
    ------
    UsageError
        If it is none.
    """
    format = place.suffix.lower().removeprefix(".")
    if format not in known:
        said = enumerate_names([f".{name}" for name in known])
        raise UsageError(f"unknown format of table {str(place)!r}; its suffix may be: {said}")
    return format
