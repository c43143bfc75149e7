"""Which feature matrices hold the cells of a metadata directory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.base.errors import ReleaseError, UnknownNameError
from abc_dask.base.messages import enumerate_names, nearest
from abc_dask.release.cell_table import CellTable, directories_of
from abc_dask.release.manifest import FeatureMatrix, Manifest

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
