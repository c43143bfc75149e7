"""Views as arrays: the one way in which statistics, exports and conversions read them.

A reader gives cells in the order of cell_metadata, whatever the order on disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from abc_dask.tables import CELL_LABEL, DATASET_LABEL, FEATURE_MATRIX_LABEL

if TYPE_CHECKING:
    import dask.dataframe as dd
    import pandas as pd

CELL_ORDER = "_cell_order.npy"
MATRIX_COLUMNS = (DATASET_LABEL, FEATURE_MATRIX_LABEL)

# Memory for columns that are brought into order at once.
_BATCH_BYTES = 256 << 20


def save_order(folder: Path, order: NDArray[Any]) -> None:
    """Keep where in cell_metadata each row of a view's parts stands."""
    with (folder / CELL_ORDER).open("wb") as file:
        np.save(file, order.astype(np.uint32), allow_pickle=False)


def load_order(folder: Path) -> NDArray[Any]:
    """Read what `save_order` kept."""
    with (folder / CELL_ORDER).open("rb") as file:
        order: NDArray[Any] = np.load(file, allow_pickle=False)
    return order


class Reader(Protocol):
    """Columns of a table of cells."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the gene columns."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        ...

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        ...

    def labels(self) -> pa.Array:
        """Read the cell labels, in order."""
        ...

    def matrices(self) -> dict[str, pd.Categorical]:
        """Read dataset_label and feature_matrix_label of every cell; empty if not kept."""
        ...

    def values(self, columns: Sequence[str]) -> NDArray[Any]:
        """Read some columns as an array of n_cells x columns, in order."""
        ...

    def frame(self, columns: Sequence[str]) -> dd.DataFrame:
        """Give the lazy Dask DataFrame; its rows are in the order on disk."""
        ...


def column_batches(reader: Reader) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the first column's position and the values of as many as memory allows."""
    width = max(1, _BATCH_BYTES // max(1, reader.n_cells * reader.dtype.itemsize))
    for first in range(0, len(reader.columns), width):
        yield first, reader.values(reader.columns[first : first + width])


@dataclass(frozen=True)
class PartsReader:
    """Parquet part files of a view, finished or not.

    Attributes
    ----------
    paths : tuple of Path
        Part files in the plan's order.
    order : array of int, shape (n_cells,)
        Position in cell_metadata of every row of the parts put together.
    columns : tuple of str
    dtype : numpy.dtype
    """

    paths: tuple[Path, ...]
    order: NDArray[Any]
    columns: tuple[str, ...]
    dtype: np.dtype[Any]

    @property
    def n_cells(self) -> int:
        """Cells in all parts."""
        return len(self.order)

    @cached_property
    def _rank(self) -> NDArray[np.int64]:
        return np.argsort(self.order, kind="stable")

    def _column(self, name: str) -> pa.ChunkedArray:
        chunks = []
        for path in self.paths:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                chunks += file.read(columns=[name])[name].chunks
        return pa.chunked_array(chunks)

    def labels(self) -> pa.Array:
        """Read the cell labels, in order."""
        return self._column(CELL_LABEL).combine_chunks().take(pa.array(self._rank))

    def matrices(self) -> dict[str, pd.Categorical]:
        """Read dataset_label and feature_matrix_label of every cell."""
        import pandas as pd

        found = {}
        for name in MATRIX_COLUMNS:
            column = self._column(name)
            missing = -1  # cells of a view that was exported from CSV
            indices = [chunk.indices.fill_null(missing).to_numpy() for chunk in column.chunks]
            codes: Any = np.concatenate(indices)[self._rank]
            categories = column.chunk(0).dictionary.to_pandas()
            found[name] = pd.Categorical.from_codes(codes, categories)
        return found

    def values(self, columns: Sequence[str]) -> NDArray[Any]:
        """Read some columns as an array of n_cells x columns, in order."""
        rank_of_row = np.empty(self.n_cells, dtype=np.int64)
        rank_of_row[self._rank] = np.arange(self.n_cells)
        out = np.empty((self.n_cells, len(columns)), dtype=self.dtype, order="F")
        row = 0
        for path in self.paths:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                part = file.read(columns=list(columns))
            places = rank_of_row[row : row + len(part)]
            for k, name in enumerate(columns):
                out[places, k] = part[name].to_numpy()
            row += len(part)
        return out

    def frame(self, columns: Sequence[str]) -> dd.DataFrame:
        """Give the lazy Dask DataFrame, one partition a part."""
        import dask.dataframe as dd
        import pandas as pd

        index = pd.Index(pa.array([], pa.string()).to_pandas(), name=CELL_LABEL)
        empty: dict[str, Any] = {name: np.empty(0, self.dtype) for name in self.columns}
        categories = self.matrices_meta()
        empty |= {n: pd.Categorical([], categories=c) for n, c in categories.items()}
        meta = pd.DataFrame(empty, index=index)
        return dd.from_map(_read_part, [str(p) for p in self.paths], meta=meta, label="abc-view")[
            list(columns)
        ]

    def matrices_meta(self) -> dict[str, Any]:
        """Give the categories of the label columns, the same in every part."""
        with pq.ParquetFile(self.paths[0]) as file:
            part = file.read_row_group(0, columns=list(MATRIX_COLUMNS))
        return {n: part[n].chunk(0).dictionary.to_pandas() for n in MATRIX_COLUMNS}


def _read_part(path: str, columns: Sequence[str]) -> pd.DataFrame:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        table = file.read(columns=[CELL_LABEL, *columns])
    frame: pd.DataFrame = table.replace_schema_metadata(None).to_pandas()
    return frame.set_index(CELL_LABEL)[list(columns)]


@dataclass(frozen=True)
class ZarrReader:
    """A Zarr view, in AnnData's layout.

    Attributes
    ----------
    path : Path
    columns : tuple of str
    dtype : numpy.dtype
    n_cells : int
    """

    path: Path
    columns: tuple[str, ...]
    dtype: np.dtype[Any]
    n_cells: int

    def _obs(self) -> pd.DataFrame:
        import anndata.io
        import zarr

        obs: pd.DataFrame = anndata.io.read_elem(zarr.open_group(self.path, mode="r")["obs"])
        return obs

    def labels(self) -> pa.Array:
        """Read the cell labels, in order."""
        return pa.array(self._obs().index.to_numpy(dtype=object), pa.string())

    def matrices(self) -> dict[str, pd.Categorical]:
        """Read dataset_label and feature_matrix_label of every cell."""
        import pandas as pd

        obs = self._obs()
        return {name: pd.Categorical(obs[name]) for name in MATRIX_COLUMNS}

    def values(self, columns: Sequence[str]) -> NDArray[Any]:
        """Read some columns as an array of n_cells x columns."""
        return _read_zarr(self.path, 0, self.n_cells, [self.columns.index(c) for c in columns])

    def frame(self, columns: Sequence[str]) -> dd.DataFrame:
        """Give the lazy Dask DataFrame, a partition a row of shards."""
        import dask.dataframe as dd
        import pandas as pd
        import zarr

        array = zarr.open_array(self.path / "X", mode="r")
        step = (array.shards or array.chunks)[0]
        index = pd.Index(pa.array([], pa.string()).to_pandas(), name=CELL_LABEL)
        empty: dict[str, Any] = {name: np.empty(0, self.dtype) for name in self.columns}
        for name, values in self.matrices().items():
            empty[name] = pd.Categorical([], categories=values.categories)
        starts = list(range(0, self.n_cells, step))
        stops = [min(start + step, self.n_cells) for start in starts]
        return dd.from_map(
            _read_zarr_rows,
            starts,
            stops,
            path=str(self.path),
            names=self.columns,
            meta=pd.DataFrame(empty, index=index),
            label="abc-view",
        )[list(columns)]


def _read_zarr(path: Path, start: int, stop: int, positions: Sequence[int]) -> NDArray[Any]:
    import zarr

    array = zarr.open_array(path / "X", mode="r")
    out = np.empty((stop - start, len(positions)), dtype=array.dtype, order="F")
    for k, position in enumerate(positions):
        out[:, k] = array[start:stop, position]
    return out


def _read_zarr_rows(
    start: int, stop: int, *, path: str, names: Sequence[str], columns: Sequence[str]
) -> pd.DataFrame:
    import anndata.io
    import pandas as pd
    import zarr

    obs = zarr.open_group(path, mode="r")["obs"]
    labels = anndata.io.read_elem(obs[obs.attrs["_index"]])[start:stop]
    plain = pa.array(np.asarray(labels, dtype=object), pa.string())
    index = pd.Index(plain.to_pandas(), name=CELL_LABEL)
    genes = [name for name in columns if name in names]
    values = _read_zarr(Path(path), start, stop, [list(names).index(g) for g in genes])
    frame = pd.DataFrame(values, index=index, columns=genes)
    for name in columns:
        if name not in genes:
            frame[name] = anndata.io.read_elem(obs[name])[start:stop]
    return frame[list(columns)]


@dataclass(frozen=True)
class CsvReader:
    """A CSV view: cell_label and one column a gene, in cell_metadata's order.

    Attributes
    ----------
    path : Path
    columns : tuple of str
    dtype : numpy.dtype
    n_cells : int
    """

    path: Path
    columns: tuple[str, ...]
    dtype: np.dtype[Any]
    n_cells: int

    def _read(self, names: Sequence[str]) -> pa.Table:
        value = pa.from_numpy_dtype(self.dtype)
        types = dict.fromkeys(self.columns, value) | {CELL_LABEL: pa.string()}
        return pyarrow.csv.read_csv(
            self.path,
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=types, include_columns=list(names), null_values=[""]
            ),
        )

    def labels(self) -> pa.Array:
        """Read the cell labels, in order."""
        return self._read([CELL_LABEL])[CELL_LABEL].combine_chunks()

    def matrices(self) -> dict[str, pd.Categorical]:
        """Give nothing: the reference workflow's file has no such columns."""
        return {}

    def values(self, columns: Sequence[str]) -> NDArray[Any]:
        """Read some columns as an array of n_cells x columns."""
        table = self._read(columns)
        out = np.empty((self.n_cells, len(columns)), dtype=self.dtype, order="F")
        for k, name in enumerate(columns):
            out[:, k] = table[name].to_numpy()
        return out

    def frame(self, columns: Sequence[str]) -> dd.DataFrame:
        """Give the lazy Dask DataFrame, partitions of some 64 MB of text."""
        import dask.dataframe as dd

        frame = dd.read_csv(
            self.path,
            usecols=[CELL_LABEL, *columns],
            dtype={CELL_LABEL: "str"} | dict.fromkeys(columns, self.dtype),
            keep_default_na=False,
            na_values={name: [""] for name in columns},
            **exact_decimals(),
            blocksize=64_000_000,
        )
        return frame.map_partitions(_index_by_label, list(columns))


def exact_decimals() -> dict[str, str]:
    """Give what `pandas.read_csv` needs to read decimals to the last bit: nothing from 3.1 on."""
    import pandas as pd

    old = tuple(int(part) for part in pd.__version__.split(".")[:2]) < (3, 1)
    return {"float_precision": "round_trip"} if old else {}


def _index_by_label(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    return frame.set_index(CELL_LABEL)[columns]
