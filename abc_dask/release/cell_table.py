"""The cells of a release: their table, and which feature matrices hold them."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from abc_dask.base.columns import (
    CELL_LABEL,
    DATASET_LABEL,
    FEATURE_MATRIX_LABEL,
    METADATA_DIRECTORY,
)
from abc_dask.base.errors import ReleaseError, TableError, UnknownNameError
from abc_dask.base.messages import enumerate_names, nearest, plural
from abc_dask.disk.checked_parquet import seal
from abc_dask.disk.files import Fingerprint
from abc_dask.disk.kept_table import ROW_GROUP, Cache, opened_cached, read_cached, read_described
from abc_dask.release.csv_table import cached_table, require_table_columns
from abc_dask.release.manifest import CELL_METADATA, FeatureMatrix, Manifest
from abc_dask.release.release import Release

if TYPE_CHECKING:
    import pandas as pd

_LABEL_FILES = b"abc_dask.label_files"

# Noted on a table whose labels were found to be unique.
_IS_CHECKED = "labels_are_checked"


def directories_of(metadata: str) -> list[str]:
    """Return the metadata directories that a name means: one, or several joined by commas."""
    return list(dict.fromkeys(name.strip() for name in metadata.split(",")))


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
    label_files : bool
        Whether labels have the name of their metadata directory in front, since several have
        the same ones.
    """

    path: Path
    source: str
    columns: tuple[str, ...]
    n_cells: int
    state: tuple[str | int, ...]
    label_files: bool = False

    @classmethod
    def of(cls, release: Release, metadata: str, cache: Cache) -> CellTable:
        """Find the table of a metadata directory, or of several, and check its columns.

        Raises
        ------
        TableError
            If it lacks cell_label or feature_matrix_label.
        """
        directories = directories_of(metadata)
        if len(directories) > 1:
            members = [cls.of(release, name, cache) for name in directories]
            state = (metadata, *(item for member in members for item in member.state))
            path = cache.get(
                "cells-together",
                list(state),
                lambda target: _together(release, directories, members, target),
            )
            schema, n_cells = read_described(path)
            source = " and ".join(member.source for member in members)
            label_files = _LABEL_FILES in (schema.metadata or {})
            return cls(path, source, tuple(schema.names), n_cells, state, label_files)
        entry = release.manifest.tables(metadata)[CELL_METADATA]
        path = cached_table(release, entry, cache)
        schema, n_cells = read_described(path)
        columns = tuple(schema.names)
        require_table_columns(columns, (CELL_LABEL, FEATURE_MATRIX_LABEL), entry.relative_path)
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
        if _IS_CHECKED in vars(self):  # of this table, which is kept: some seconds for millions
            return labels
        if labels.null_count:
            raise TableError(f"{self.source}: {plural(labels.null_count, 'cell')} without a label")
        if pc.count_distinct(labels).as_py() != len(labels):
            counts = pc.value_counts(labels)
            twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
            raise TableError(
                f"{self.source} repeats {plural(len(twice), 'cell label')}, "
                f"such as {twice[0].as_py()!r}; every cell must have a label of its own"
            )
        vars(self)[_IS_CHECKED] = True
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


def prefix_of(directory: str) -> str:
    """Return what stands before the labels of a directory's cells where several have the same."""
    return f"{directory}:"


def _share_labels(members: list[CellTable]) -> bool:
    labels = pa.chunked_array([member.labels() for member in members])
    return bool(pc.count_distinct(labels).as_py() != len(labels))


def _together(
    release: Release, directories: list[str], members: list[CellTable], target: Path
) -> None:
    """Write the tables of several directories one after the other, with a column that tells which.

    A column that has another type in one of them is text, or numbers where both are.
    """
    schemas = [read_described(member.path)[0] for member in members]
    kinds: dict[str, pa.DataType] = {}
    for field in chain.from_iterable(schemas):
        kinds[field.name] = _wider(kinds.get(field.name, field.type), field.type)
    kinds[METADATA_DIRECTORY] = pa.string()
    label_files = release.label_files and _share_labels(members)
    whole = pa.schema(kinds, {_LABEL_FILES: b"1"} if label_files else None)
    with pq.ParquetWriter(target, whole, compression="zstd") as writer:
        for name, member in zip(directories, members, strict=True):
            with opened_cached(member.path) as file:
                for number in range(file.num_row_groups):
                    part = file.read_row_group(number)
                    own = {field: part[field].cast(kinds[field]) for field in part.column_names}
                    if label_files:
                        own[CELL_LABEL] = pc.binary_join_element_wise(
                            prefix_of(name), own[CELL_LABEL], ""
                        )
                    own[METADATA_DIRECTORY] = pa.array([name] * len(part), pa.string())
                    nothing = {k: pa.nulls(len(part), kinds[k]) for k in kinds if k not in own}
                    table = pa.table({k: (own | nothing)[k] for k in kinds}, schema=whole)
                    writer.write_table(table, row_group_size=ROW_GROUP)
    seal(target)


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if one == other:
        return one
    both = {one, other}
    return pa.float64() if both <= {pa.int64(), pa.float64()} else pa.string()


_DEFAULT_METADATA = "WMB-10X"


def metadata_directory(manifest: Manifest, metadata: str | None = None) -> str:
    """Choose the metadata directory: the named one, else the only one, else WMB-10X.

    Several are named by commas between them.

    Raises
    ------
    ReleaseError
        If the named one has no cell_metadata, or none is named and there are several.
    """
    known = manifest.metadata_directories
    if metadata is not None:
        names = directories_of(metadata)
        for name in names:
            if name not in known:
                raise UnknownNameError(
                    f"release {manifest.version} has no cell_metadata in {name!r}"
                    f"{nearest(name, known)}"
                )
        return ",".join(names)
    if len(known) == 1:
        return known[0]
    if _DEFAULT_METADATA in known:
        return _DEFAULT_METADATA
    if not known:
        raise UnknownNameError(f"release {manifest.version} has no cell_metadata table")
    raise UnknownNameError(
        f"release {manifest.version} has several metadata directories; "
        f"name one with --metadata: {enumerate_names(known)}"
    )


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
        None where the table has none; then all datasets are searched.
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
        raise UnknownNameError(
            f"feature matrix {label!r} is in several datasets; name one with --dataset: "
            f"{enumerate_names([m.dataset_label for m in found])}"
        )
    if named:
        known = sorted({m.normalization for m in named})
        raise UnknownNameError(
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
        Positions in cell_metadata; None where the table does not name the matrix of
        each cell, so that cells are found by label.
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
    """Return the dictionary code of every value, -1 where it is missing."""
    codes: NDArray[np.int64] = (
        encoded.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    )
    return codes
