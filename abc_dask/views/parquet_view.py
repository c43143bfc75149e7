"""Parquet views: written and read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from abc_dask.base.columns import CELL_LABEL
from abc_dask.disk.checked_parquet import SealError, opened_sealed, seal
from abc_dask.disk.failures import unreadable
from abc_dask.release.annotation import Annotation
from abc_dask.views.description import opened_part
from abc_dask.views.reader import MATRIX_COLUMNS, ViewBlock, codes_of, label_index

if TYPE_CHECKING:
    import pandas as pd

_MIX = ((30, np.uint64(0xBF58476D1CE4E5B9)), (27, np.uint64(0x94D049BB133111EB)))
_STEP = 0x9E3779B97F4A7C15

SCHEMA_KEY = b"abc_dask"

# DuckDB's row group; others are content with anything near 10^5.
ROW_GROUP = 122_880

_DICTIONARY_BYTES = 64 << 20

# Columns that are read at once: each has buffers of its own.
_COLUMNS = 1 << 10


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
        Of every part, as a finished view's description says (`abc_dask.disk.checked_parquet`).
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
        for path, known in self._parts:
            with opened_part(path, [name], seal=known) as file:
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
        for path, known in self._parts:
            with opened_part(path, columns, seal=known) as file:
                ranks = rank_of_row[row : row + file.metadata.num_rows]
                for first in range(0, len(columns), _COLUMNS):
                    names = list(columns[first : first + _COLUMNS])
                    part = file.read(columns=names)
                    for k, name in enumerate(names):
                        out[ranks, first + k] = part[name].to_numpy()
            row += len(ranks)
        return out

    def annotation(self, annotation: Annotation) -> NDArray[Any]:
        """Read the codes or numbers of a column of annotations, in order."""
        return codes_of(self._column(annotation.name), annotation)[self._rank]

    def blocks(self) -> list[ViewBlock]:
        """Return the parts."""
        found: list[ViewBlock] = []
        start = 0
        for path, known in self._parts:
            with opened_part(path, (), seal=known) as file:
                stop = start + file.metadata.num_rows
            found.append(PartBlock(str(path), start, stop, self.annotations, known))
            start = stop
        return found


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


def part_file_name(number: int, label: str | None, rows: str = "", suffix: str = "parquet") -> str:
    """Name a part file after its number, matrix and rows; names sort in the plan's order."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in label or "cells")
    return ".".join(filter(None, [f"{number:05d}", safe[:150], rows, suffix]))


class ContentDigest:
    """Hash labels and values so that neither order nor partitioning of rows matters.

    Each row's label is hashed (pandas' keyed SipHash), then mixed with the bits of each
    value in the order of the genes (the finaliser of SplitMix64); rows are summed modulo
    2**64. For telling whether two views hold the same table, not against forgery.

    Parameters
    ----------
    labels : pyarrow array of string, length n_cells
    """

    def __init__(self, labels: pa.Array) -> None:
        import pandas as pd

        names = labels.to_numpy(zero_copy_only=False).astype(object)
        self.rows = len(names)
        self._state = pd.util.hash_array(names, categorize=False)
        self._shifted = np.empty_like(self._state)
        self._genes = 0

    def add(self, column: NDArray[Any]) -> None:
        """Mix in the values of the next gene, shape (n_cells,)."""
        self._genes += 1
        state, shifted = self._state, self._shifted
        # one NaN is as good as another, and so are the two zeros
        clean = column.astype(np.float64) + 0.0
        clean[np.isnan(clean)] = np.nan
        bits = clean.view(np.uint64)
        bits += np.uint64(self._genes * _STEP % 2**64)
        state ^= bits
        for shift, factor in _MIX:
            np.right_shift(state, np.uint64(shift), out=shifted)
            state ^= shifted
            state *= factor
        np.right_shift(state, np.uint64(31), out=shifted)
        state ^= shifted

    @property
    def value(self) -> int:
        """0 to 2**64 - 1; digests of parts add up, modulo 2**64."""
        return int(self._state.sum(dtype=np.uint64)) if self.rows else 0


@dataclass(frozen=True)
class PartContent:
    """What a part of a Parquet view holds, all from one matrix.

    Attributes
    ----------
    labels : pyarrow array of string, length n_cells
    columns : mapping of str to array
        Genes, then annotations.
    of_matrix : mapping of str to (str or None)
        dataset_label and feature_matrix_label; None where nobody knows.
    matrices : list of dict
        Provenance of all matrices of the view.
    provenance : bytes
        What the schema carries.
    """

    labels: pa.Array
    columns: Mapping[str, Any]
    of_matrix: Mapping[str, str | None]
    matrices: list[dict[str, Any]]
    provenance: bytes


def write_part(content: PartContent, path: Path, genes: Sequence[str]) -> int:
    """Write a part and read it back, checksums verified, before anyone counts on it.

    Returns
    -------
    int
        Digest of labels and genes as they were read back (`ContentDigest`).
    """
    table = view_table(content)
    pq.write_table(
        table,
        path,
        compression="zstd",
        row_group_size=ROW_GROUP,
        use_dictionary=[f.name for f in table.schema if pa.types.is_dictionary(f.type)],
        # every part has all terms, also those of columns with tens of thousands
        dictionary_pagesize_limit=_DICTIONARY_BYTES,
        write_page_checksum=True,
    )
    seal(path)
    rows, digest = read_back(path, genes)
    if rows != len(table):
        raise OSError(f"{rows:,} of {len(table):,} rows read back")
    return digest


def read_back(path: Path, genes: Sequence[str]) -> tuple[int, int]:
    """Read all of a part, checksums verified.

    Returns
    -------
    rows : int
    digest : int
        Of labels and genes (`ContentDigest`).

    Raises
    ------
    OSError
        If it is not such a part, or damaged.
    """
    digests: list[ContentDigest] = []
    try:
        with opened_sealed(path, page_checksum_verification=True) as file:
            known = [CELL_LABEL, *genes]
            is_known = set(known)
            others = [name for name in file.schema_arrow.names if name not in is_known]
            for first in range(0, len(known), _COLUMNS):
                some = known[first : first + _COLUMNS]
                for k, batch in enumerate(file.iter_batches(ROW_GROUP, columns=some)):
                    if not first:
                        digests.append(ContentDigest(batch[CELL_LABEL]))
                    for name in some[int(not first) :]:
                        digests[k].add(batch[name].to_numpy(zero_copy_only=False))
            for first in range(0, len(others), _COLUMNS):
                for _ in file.iter_batches(ROW_GROUP, columns=others[first : first + _COLUMNS]):
                    pass
    except (SealError, pa.ArrowException, KeyError, IndexError) as error:
        if isinstance(error, pa.ArrowException) and (other := unreadable(path, error)):
            raise other from None
        raise OSError(f"what was written cannot be read back ({error})") from error
    return sum(digest.rows for digest in digests), sum(digest.value for digest in digests) % 2**64


def view_table(content: PartContent) -> pa.Table:
    """Return the table of a part.

    The two label columns are dictionaries with the names of all matrices, the same in
    every part, so that categories agree when parts are put together.
    """
    labels = content.labels
    arrays: dict[str, Any] = {CELL_LABEL: labels}
    arrays |= {
        name: values if isinstance(values, pa.Array) else pa.array(values)
        for name, values in content.columns.items()
    }
    for name, value in content.of_matrix.items():
        names = list(dict.fromkeys(matrix[name] for matrix in content.matrices))
        code = None if value is None else names.index(value)
        codes = pa.array([code], pa.int16()).take(pa.array(np.zeros(len(labels), np.int64)))
        arrays[name] = pa.DictionaryArray.from_arrays(codes, pa.array(names))
    table = pa.table(arrays)
    metadata = {b"pandas": _pandas_metadata(table), SCHEMA_KEY: content.provenance}
    return table.replace_schema_metadata(metadata)


def _pandas_metadata(table: pa.Table) -> bytes:
    """Return the metadata by which pandas and dask take cell_label for the index."""
    columns = []
    kind: tuple[str, str, dict[str, Any] | None]
    for column in table.schema:
        if pa.types.is_dictionary(column.type):
            n = len(table[column.name].chunk(0).dictionary) if len(table) else 0
            codes = np.dtype(column.type.index_type.to_pandas_dtype()).name
            described = {"num_categories": n, "ordered": column.type.ordered}
            kind = ("categorical", codes, described)
        elif pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
            name = np.dtype(column.type.to_pandas_dtype()).name
            kind = (name, name, None)
        else:
            kind = ("unicode", "object", None)
        columns.append(
            {
                "name": column.name,
                "field_name": column.name,
                "pandas_type": kind[0],
                "numpy_type": kind[1],
                "metadata": kind[2],
            }
        )
    text = {
        "index_columns": [CELL_LABEL],
        "column_indexes": [],
        "columns": columns,
        "creator": {"library": "abc_dask", "version": "1"},
        "pandas_version": "2.2.3",
    }
    return json.dumps(text).encode()
