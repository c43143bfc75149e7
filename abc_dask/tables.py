"""The tables of a release as Parquet, and which cells are in which matrix.

CSV files are read once and kept as Parquet (see `abc_dask.cache`). Labels are always
text, also where they look like numbers, as those of MERFISH cells do.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from abc_dask.cache import Cache
from abc_dask.cached import read_cached, read_described
from abc_dask.errors import ReleaseError, TableError
from abc_dask.files import Fingerprint, unreadable
from abc_dask.manifest import CELL_METADATA, FeatureMatrix, FileEntry, Manifest
from abc_dask.release import Release
from abc_dask.sealed import seal
from abc_dask.words import enumerate_names, nearest, plural

if TYPE_CHECKING:
    import pandas as pd

CELL_LABEL = "cell_label"
DATASET_LABEL = "dataset_label"
FEATURE_MATRIX_LABEL = "feature_matrix_label"
GENE_IDENTIFIER = "gene_identifier"

_DEFAULT_METADATA = "WMB-10X"
_TEXT_COLUMN = re.compile(
    r"(_label|_identifier|_symbol|_id|_acronym|_barcode|_genotype|_sex|_color|_method)$"
    r"|^(name|comment|entity|neurotransmitter|class|subclass|supertype|cluster)$"
)
_MISTYPED = re.compile(r"CSV column #(\d+): CSV conversion error to (\w+)")
_MISSING = ["", "NA", "N/A", "NaN", "nan", "null", "NULL"]
_CSV_BLOCK = 1 << 24
_ROW_GROUP = 1 << 16


def metadata_directory(manifest: Manifest, metadata: str | None = None) -> str:
    """Choose the metadata directory: the named one, else the only one, else WMB-10X.

    Raises
    ------
    ReleaseError
        If the named one has no cell_metadata, or none is named and there are several.
    """
    known = manifest.metadata_directories
    if metadata is not None:
        if metadata not in known:
            raise ReleaseError(
                f"release {manifest.version} has no cell_metadata in {metadata!r}"
                f"{nearest(metadata, known)}"
            )
        return metadata
    if len(known) == 1:
        return known[0]
    if _DEFAULT_METADATA in known:
        return _DEFAULT_METADATA
    if not known:
        raise ReleaseError(f"release {manifest.version} has no cell_metadata table")
    raise ReleaseError(
        f"release {manifest.version} has several metadata directories; "
        f"name one with --metadata: {enumerate_names(known)}"
    )


def cached_table(release: Release, entry: FileEntry, cache: Cache) -> Path:
    """Give the Parquet twin of a release's CSV table, made on first use.

    Raises
    ------
    MissingFileError, DamagedFileError
        If the CSV is not on disk, or not of the manifest's size.
    TableError
        If it is not CSV.
    """
    release.require([entry])
    path = release.path(entry)
    state = [entry.relative_path, *astuple(Fingerprint.of(path))]
    return cache.get(entry.tag, state, lambda target: _csv_to_parquet(path, target))


def _csv_to_parquet(source: Path, target: Path) -> None:
    """Convert a CSV table; a column is typed by its first block, and widened where that fails."""
    try:
        columns = csv_header(source)
        missing = [""] if GENE_IDENTIFIER in columns else _MISSING
        types = {name: pa.string() for name in columns if _TEXT_COLUMN.search(name)}
        while True:
            try:
                _stream_csv(source, target, types, missing)
            except pa.ArrowInvalid as error:
                wrong = _MISTYPED.search(str(error))
                if wrong is None or types.get(name := columns[int(wrong[1])]) == pa.string():
                    raise
                whole_number = wrong[2] == "int64"
                types[name] = pa.float64() if whole_number else pa.string()
            else:
                return
    except (pa.ArrowInvalid, UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{source} is not a CSV table: {' '.join(str(error).split())}") from None


def csv_header(source: Path) -> list[str]:
    """Read the names of a CSV table's columns.

    Raises
    ------
    TableError
        If there is none, or one stands twice.
    """
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            columns = next(csv.reader(file), [])
    except OSError as error:
        raise unreadable(source, error) or error from None
    if not columns:
        raise TableError(f"{source} is empty, expected a CSV table")
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise TableError(f"{source} has the column {twice[0]!r} more than once")
    return columns


def _stream_csv(
    source: Path, target: Path, types: dict[str, pa.DataType], missing: list[str]
) -> None:
    """Convert in blocks, so that memory does not grow with the table."""
    convert = pyarrow.csv.ConvertOptions(
        column_types=types, null_values=missing, strings_can_be_null=True
    )
    with _open_csv(source, convert) as reader:
        # a column without any value in the first block is text, not of the null type
        fields = [
            pa.field(field.name, pa.string() if pa.types.is_null(field.type) else field.type)
            for field in reader.schema
        ]
        schema = pa.schema(fields)
        if schema != reader.schema:
            types = types | {f.name: f.type for f in fields}
    if schema != reader.schema:
        _stream_csv(source, target, types, missing)
        return
    with (
        _open_csv(source, convert) as reader,
        pq.ParquetWriter(target, schema, compression="zstd") as writer,
    ):
        for batch in _batches(reader, source):
            writer.write_table(pa.Table.from_batches([batch]), row_group_size=_ROW_GROUP)
    seal(target)


def _open_csv(source: Path, convert: pyarrow.csv.ConvertOptions) -> pyarrow.csv.CSVStreamingReader:
    try:
        return pyarrow.csv.open_csv(
            source,
            read_options=pyarrow.csv.ReadOptions(block_size=_CSV_BLOCK),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=convert,
        )
    except OSError as error:
        raise unreadable(source, error) or error from None


def _batches(reader: pyarrow.csv.CSVStreamingReader, source: Path) -> Iterator[pa.RecordBatch]:
    """Read batches; an error of the disk is told from those of the file that is written."""
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except OSError as error:
            raise unreadable(source, error) or error from None
        yield batch


@dataclass(frozen=True)
class CellTable:
    """The cell_metadata table of a release.

    Attributes
    ----------
    path : Path
        Its Parquet twin.
    source : str
        The CSV's relative path, for messages.
    columns : tuple of str
        Names of all columns.
    n_cells : int
        Rows.
    state : tuple
        The CSV's relative path and fingerprint, JSON-serialisable: what tells this
        table from a later one.
    """

    path: Path
    source: str
    columns: tuple[str, ...]
    n_cells: int
    state: tuple[str | int, ...]

    @classmethod
    def of(cls, release: Release, metadata: str, cache: Cache) -> CellTable:
        """Find the table of a metadata directory and check its columns.

        Raises
        ------
        TableError
            If it lacks cell_label or feature_matrix_label.
        """
        entry = release.manifest.tables(metadata)[CELL_METADATA]
        path = cached_table(release, entry, cache)
        schema, n_cells = read_described(path)
        columns = tuple(schema.names)
        absent = [name for name in (CELL_LABEL, FEATURE_MATRIX_LABEL) if name not in columns]
        if absent:
            raise TableError(
                f"{entry.relative_path} has no column {enumerate_names(absent)}; "
                f"it has: {enumerate_names(columns)}"
            )
        state = (entry.relative_path, *astuple(Fingerprint.of(release.path(entry))))
        return cls(path, entry.relative_path, columns, n_cells, state)

    def labels(self) -> pa.Array:
        """Read the cell labels, in the table's order.

        Raises
        ------
        TableError
            If a label is missing or stands twice.
        """
        labels = read_cached(self.path, [CELL_LABEL])[CELL_LABEL].combine_chunks()
        if labels.null_count:
            raise TableError(f"{self.source}: {plural(labels.null_count, 'cell')} without a label")
        if pc.count_distinct(labels).as_py() != len(labels):
            counts = pc.value_counts(labels)
            twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
            raise TableError(
                f"{self.source}: {plural(len(twice), 'cell label')} stand more than once, "
                f"such as {twice[0].as_py()!r}; every cell must have a label of its own"
            )
        return labels

    def matrix_names(self) -> tuple[pa.DictionaryArray, pa.DictionaryArray | None]:
        """Read feature_matrix_label and, where there is one, dataset_label of every cell."""
        wanted = [FEATURE_MATRIX_LABEL, *({DATASET_LABEL} & set(self.columns))]
        table = read_cached(self.path, wanted)
        encoded = [
            table[name].cast(pa.string()).combine_chunks().dictionary_encode() for name in wanted
        ]
        return encoded[0], encoded[1] if len(encoded) > 1 else None

    def to_pandas(self) -> pd.DataFrame:
        """Read the whole table, index cell_label."""
        frame: pd.DataFrame = read_cached(self.path).to_pandas()
        return frame.set_index(CELL_LABEL)


def resolve_matrix(
    manifest: Manifest, normalization: str, dataset_label: str | None, label: str
) -> FeatureMatrix:
    """Find the feature matrix that cell_metadata means.

    Parameters
    ----------
    manifest : Manifest
        The release.
    normalization : str
        ``log2`` or ``raw``.
    dataset_label : str or None
        None where the table does not say; then all datasets are searched.
    label : str
        The feature_matrix_label.

    Raises
    ------
    ReleaseError
        If there is none, or several in different datasets.
    """
    named = [
        m
        for m in manifest.feature_matrices
        if m.feature_matrix_label == label and dataset_label in {None, m.dataset_label}
    ]
    found = [m for m in named if m.normalization == normalization]
    name = label if dataset_label is None else f"{dataset_label}/{label}"
    if len(found) == 1:
        return found[0]
    if found:
        raise ReleaseError(
            f"feature matrix {label!r} is in several datasets; name one with --dataset: "
            f"{enumerate_names([m.dataset_label for m in found])}"
        )
    if named:
        known = sorted({m.normalization for m in named})
        raise ReleaseError(
            f"feature matrix {name} has no normalization {normalization!r}; "
            f"there is: {enumerate_names(known)}"
        )
    labels = [m.feature_matrix_label for m in manifest.feature_matrices]
    raise ReleaseError(
        f"release {manifest.version} has no feature matrix {name}{nearest(label, labels)}"
    )


@dataclass(frozen=True)
class Assignment:
    """A feature matrix with the cells that may be in it.

    Attributes
    ----------
    feature_matrix : FeatureMatrix
    cells : array of int64 or None
        Positions in cell_metadata; None where the table does not say which of its
        cells this matrix holds, so that labels must tell.
    """

    feature_matrix: FeatureMatrix
    cells: NDArray[np.int64] | None


def assign_cells(
    manifest: Manifest, cells: CellTable, normalization: str, dataset: str | None = None
) -> list[Assignment]:
    """Group the cells of a table by feature matrix.

    Parameters
    ----------
    manifest : Manifest
        The release, where matrices are looked up.
    cells : CellTable
        cell_metadata.
    normalization : str
        ``log2`` or ``raw``.
    dataset : str, optional
        Take the matrices of this dataset in place of the table's dataset_label. Where
        it has none of the table's labels (imputed values, sections), all its matrices
        are taken, and cells are found in them by label.

    Returns
    -------
    list of Assignment
        Sorted by dataset_label and feature_matrix_label. Cells without a
        feature_matrix_label are in none.

    Raises
    ------
    ReleaseError
        If a matrix is not in the release.
    """
    if dataset is not None:
        manifest.require_dataset(dataset)
        of_dataset = [
            m
            for m in manifest.feature_matrices
            if m.dataset_label == dataset and m.normalization == normalization
        ]
        if not of_dataset:
            raise ReleaseError(f"dataset {dataset!r} has no {normalization} feature matrix")
    matrix, dataset_of = cells.matrix_names()
    named = set(matrix.dictionary.to_pylist())
    if dataset is not None and not named & {m.feature_matrix_label for m in of_dataset}:
        return [Assignment(m, None) for m in of_dataset]
    codes = _codes(matrix)
    if dataset is not None or dataset_of is None:
        datasets: list[str | None] = [dataset]
        pairs = codes
    else:
        # a dataset_label that is missing in some rows is looked up like a missing column
        datasets = [None, *dataset_of.dictionary.to_pylist()]
        pairs = np.where(codes < 0, -1, codes * len(datasets) + _codes(dataset_of) + 1)
    order = np.argsort(pairs, kind="stable")
    present, starts = np.unique(pairs[order], return_index=True)
    groups: dict[FeatureMatrix, list[NDArray[np.int64]]] = {}
    # the parts of an empty array are one, not none
    for pair, members in zip(present, np.split(order, starts[1:]), strict=False):
        if pair < 0:
            continue
        label = matrix.dictionary[int(pair) // len(datasets)].as_py()
        dataset_label = datasets[int(pair) % len(datasets)]
        found = resolve_matrix(manifest, normalization, dataset_label, label)
        groups.setdefault(found, []).append(members)
    assigned = [Assignment(m, np.sort(np.concatenate(parts))) for m, parts in groups.items()]
    assigned.sort(
        key=lambda a: (a.feature_matrix.dataset_label, a.feature_matrix.feature_matrix_label)
    )
    return assigned


def _codes(encoded: pa.DictionaryArray) -> NDArray[np.int64]:
    """Give the dictionary code of every value, -1 where it is missing."""
    codes: NDArray[np.int64] = (
        encoded.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    )
    return codes
