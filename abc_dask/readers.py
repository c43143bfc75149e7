"""Views as arrays, by format: Parquet parts, Zarr, CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from abc_dask.reading import (
    MATRIX_COLUMNS,
    ViewBlock,
    codes_of,
    empty_rows,
    label_index,
    naming,
    opened_part,
    read_rows,
    require_digest,
)
from abc_dask.tables import CELL_LABEL
from abc_dask.terms import Annotation

if TYPE_CHECKING:
    import dask.dataframe as dd
    import pandas as pd

# What the names of the files of a Zarr view's values begin with: X/c/SHARD/GENE.
VALUES = "X/c/"


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
    annotations : tuple of Annotation
    seals : tuple of int
        Of every part, as a finished view's description says (`abc_dask.sealed`).
    """

    paths: tuple[Path, ...]
    order: NDArray[Any]
    columns: tuple[str, ...]
    dtype: np.dtype[Any]
    annotations: tuple[Annotation, ...] = ()
    seals: tuple[int, ...] = ()

    @property
    def n_cells(self) -> int:
        """Cells in all parts."""
        return len(self.order)

    @cached_property
    def _rank(self) -> NDArray[np.int64]:
        return np.argsort(self.order, kind="stable")

    @property
    def _parts(self) -> list[tuple[Path, int | None]]:
        return list(zip(self.paths, self.seals or [None] * len(self.paths), strict=True))

    def _column(self, name: str) -> pa.ChunkedArray:
        chunks = []
        for path, seal in self._parts:
            with opened_part(path, [name], seal=seal) as file:
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
        for path, seal in self._parts:
            with opened_part(path, columns, seal=seal) as file:
                part = file.read(columns=list(columns)).select(list(columns))
            places = rank_of_row[row : row + len(part)]
            for k, name in enumerate(columns):
                out[places, k] = part[name].to_numpy()
            row += len(part)
        return out

    def annotation(self, annotation: Annotation) -> NDArray[Any]:
        """Read the codes or numbers of a column of annotations, in order."""
        return codes_of(self._column(annotation.name), annotation)[self._rank]

    def blocks(self) -> list[ViewBlock]:
        """Give the parts."""
        found: list[ViewBlock] = []
        start = 0
        for path, seal in self._parts:
            with opened_part(path, (), seal=seal) as file:
                stop = start + file.metadata.num_rows
            found.append(PartBlock(str(path), start, stop, self.annotations, seal))
            start = stop
        return found

    def frame(self, columns: Sequence[str]) -> dd.DataFrame:
        """Give the lazy Dask DataFrame, one partition a part."""
        import dask.dataframe as dd

        meta = empty_rows(label_index(pa.array([], pa.string())), self, self.matrices_meta())
        return dd.from_map(read_rows, self.blocks(), meta=meta, label="abc-view")[list(columns)]

    def matrices_meta(self) -> dict[str, Any]:
        """Give the categories of the label columns, the same in every part."""
        path, seal = self._parts[0]
        with opened_part(path, MATRIX_COLUMNS, seal=seal) as file:
            part = file.read_row_group(0, columns=list(MATRIX_COLUMNS))
        return {n: part[n].chunk(0).dictionary.to_pandas() for n in MATRIX_COLUMNS}


@dataclass(frozen=True)
class PartBlock:
    """One part file of a view."""

    path: str
    start: int
    stop: int
    annotations: tuple[Annotation, ...]
    seal: int | None

    def frame(self, columns: Sequence[str]) -> pd.DataFrame:
        """Read columns of the part, index cell_label."""
        wanted = list(dict.fromkeys([CELL_LABEL, *columns]))
        with opened_part(self.path, wanted, seal=self.seal) as file:
            table = file.read(columns=wanted).select(wanted)
        coded = {a.name: a for a in self.annotations if a.name in columns}
        plain = [name for name in columns if name not in coded]
        frame: pd.DataFrame = table.select(plain).replace_schema_metadata(None).to_pandas()
        frame.index = label_index(table[CELL_LABEL])
        for name, annotation in coded.items():
            frame[name] = annotation.cells(codes_of(table[name], annotation)).array
        return frame[list(columns)]


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


@dataclass(frozen=True)
class CsvReader:
    """A CSV view: cell_label and one column a gene, in cell_metadata's order.

    Attributes
    ----------
    path : Path
    columns : tuple of str
    dtype : numpy.dtype
    n_cells : int
    annotations : tuple of Annotation
    """

    path: Path
    columns: tuple[str, ...]
    dtype: np.dtype[Any]
    n_cells: int
    annotations: tuple[Annotation, ...] = ()

    def _read(self, names: Sequence[str]) -> pa.Table:
        value = pa.from_numpy_dtype(self.dtype)
        types = dict.fromkeys(self.columns, value) | {CELL_LABEL: pa.string()}
        convert = pyarrow.csv.ConvertOptions(
            column_types=types,
            include_columns=list(names),
            null_values=[""],
            strings_can_be_null=True,
        )
        with naming(self.path):
            return pyarrow.csv.read_csv(self.path, convert_options=convert)

    def labels(self) -> pa.Array:
        """Read the cell labels, in order."""
        return self._read([CELL_LABEL])[CELL_LABEL].combine_chunks()

    def matrices(self) -> dict[str, pd.Categorical]:
        """Give nothing: the reference workflow's file has no such columns."""
        return {}

    def annotation(self, annotation: Annotation) -> NDArray[Any]:
        """Read the codes or numbers of a column of annotations."""
        return codes_of(self._read([annotation.name])[annotation.name], annotation)

    def blocks(self) -> list[ViewBlock]:
        """Give all rows as one block: where a row starts in a CSV is not known."""
        return [CsvBlock(self)]

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

        texts = [a.name for a in self.annotations if a.terms is not None]
        kinds = dict.fromkeys(self.columns, self.dtype) | {CELL_LABEL: "str"}
        kinds |= {a.name: "str" if a.terms is not None else a.dtype for a in self.annotations}
        frame = dd.read_csv(
            self.path,
            usecols=[CELL_LABEL, *columns],
            dtype={name: kinds[name] for name in (CELL_LABEL, *columns)},
            keep_default_na=False,
            na_values={name: [""] for name in columns},
            **exact_decimals(),
            blocksize=64_000_000,
        )
        coded = [a for a in self.annotations if a.name in columns and a.name in texts]
        return frame.map_partitions(_index_by_label, list(columns), coded)


@dataclass(frozen=True)
class CsvBlock:
    """All rows of a CSV view."""

    reader: CsvReader

    @property
    def start(self) -> int:
        """First row."""
        return 0

    @property
    def stop(self) -> int:
        """Behind the last row."""
        return self.reader.n_cells

    def frame(self, columns: Sequence[str]) -> pd.DataFrame:
        """Read columns, index cell_label."""
        import pandas as pd

        genes = [name for name in columns if name in self.reader.columns]
        index = label_index(self.reader.labels())
        frame = pd.DataFrame(self.reader.values(genes), index=index, columns=genes)
        for annotation in self.reader.annotations:
            if annotation.name in columns:
                frame[annotation.name] = annotation.cells(self.reader.annotation(annotation)).array
        return frame[list(columns)]


def exact_decimals() -> dict[str, str]:
    """Give what `pandas.read_csv` needs to read decimals to the last bit: nothing from 3.1 on."""
    import pandas as pd

    old = tuple(int(part) for part in pd.__version__.split(".")[:2]) < (3, 1)
    return {"float_precision": "round_trip"} if old else {}


def _index_by_label(
    frame: pd.DataFrame, columns: list[str], coded: Sequence[Annotation]
) -> pd.DataFrame:
    frame = frame.set_index(CELL_LABEL)[columns]
    for annotation in coded:
        values = pa.array(frame[annotation.name], pa.string(), from_pandas=True)
        codes = codes_of(pa.chunked_array([values]), annotation)
        frame[annotation.name] = annotation.cells(codes).array
    return frame
