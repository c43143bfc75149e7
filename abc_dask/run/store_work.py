"""What is to be done for a store, as any process can read it in ``OUT.partial``.

A matrix is taken in once: which of its rows are kept, whose they are, which gene each column is.
That is written down, so that neither its file nor the atlas's tables are needed afterwards but
by the tasks that read its rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.base.columns import CELL_LABEL
from abc_dask.base.errors import StoreError, ViewError
from abc_dask.base.records import dumps, from_json, loads, to_json
from abc_dask.disk.files import replacing, write_whole
from abc_dask.disk.kept_table import read_cached, write_cached
from abc_dask.disk.numpy_file import load_array
from abc_dask.plan.plan import PlannedMatrix
from abc_dask.plan.row_table import AlignedRows
from abc_dask.plan.subset import matrix_genes
from abc_dask.release.annotation import Annotation, is_missing
from abc_dask.store.build import row_pointers
from abc_dask.store.description import StoreMatrix
from abc_dask.store.older import Older
from abc_dask.store.tasks import Segment
from abc_dask.views.staging import Staging

# The column of obs that says where in cell_metadata each cell stands.
CELL_ROW = "cell_metadata_row"

_CELL, _GENES = "cell", "genes.parquet"


@dataclass(frozen=True)
class TakenMatrix:
    """A matrix that a store took in.

    Attributes
    ----------
    number : int
        Its position among the matrices of the store.
    planned : PlannedMatrix
        What is known of it.
    folder : str
        Where its arrays lie: ``NUMBER-slots.npy`` (gene of each column, -1 where it is left
        out), ``-kept.npy`` (which rows are kept; absent where all are), ``-pointers.npy``
        (where the values of each row begin; absent where rows are not stored one after the
        other), ``-cells.parquet`` (label and row in cell_metadata of each cell).
    has_mask, has_pointers : bool
        Which of them there are.
    """

    number: int
    planned: PlannedMatrix
    folder: str
    has_mask: bool
    has_pointers: bool

    @property
    def n_cells(self) -> int:
        """Cells that the store takes of it."""
        return self.planned.n_found

    @property
    def relative_path(self) -> str:
        """File under download_base."""
        return self.planned.relative_path

    def path(self, name: str) -> Path:
        """Return where one of its arrays lies."""
        return matrix_path(Path(self.folder), self.number, name)

    def segment(self, first: int) -> Segment:
        """Return its rows, where `first` is the store's cell that its first one becomes."""
        return Segment(
            matrix=self.planned.matrix,
            name=self.planned.feature_matrix_label,
            start=0,
            stop=self.planned.matrix.n_rows,
            first=first,
            n_cells=self.n_cells,
            kept=str(self.path("kept.npy")) if self.has_mask else "",
            pointers=str(self.path("pointers.npy")) if self.has_pointers else "",
            slots=str(self.path("slots.npy")),
        )

    def slots(self) -> NDArray[np.int32]:
        """Read which gene each column is."""
        slots: NDArray[np.int32] = load_array(self.path("slots.npy"))
        return slots

    def cells(self) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
        """Read label and row in cell_metadata of each of its cells."""
        table = read_cached(self.path("cells.parquet"))
        return table[CELL_LABEL].to_numpy(), table[_CELL].to_numpy()

    def described(self, first: int) -> StoreMatrix:
        """Return what a store says of it."""
        planned = self.planned
        source = {
            "file": planned.relative_path,
            "size": planned.matrix.fingerprint.size,
            "md5": planned.file_hash,
            "md5_verified": planned.verified,
        }
        labels = (planned.dataset_label, planned.feature_matrix_label)
        return StoreMatrix(*labels, first, first + self.n_cells, (source,))

    def save(self) -> None:
        """Write it down: what `load_matrix` reads is whole."""
        write_whole(matrix_path(Path(self.folder), self.number, "taken.json"), dumps(self))


def matrix_path(folder: Path, number: int, name: str) -> Path:
    """Return where what is kept of a matrix lies."""
    return folder / f"{number:05d}-{name}"


def take_matrix(rows: AlignedRows, genes: pd.Index[Any], folder: Path, number: int) -> TakenMatrix:
    """Write down what a store must know of a matrix.

    Parameters
    ----------
    rows : AlignedRows
        Whose rows it holds, and which are wanted.
    genes : pandas.Index
        Identifiers of the genes of the store.
    folder : Path
        Receives its arrays.
    number : int
        Its position among the matrices of the store.

    Raises
    ------
    StoreError
        If one of its genes is not among those of the store.
    """
    matrix = rows.index.matrix
    columns = matrix_genes(rows)
    slots = genes.get_indexer(columns).astype(np.int32)
    if (slots < 0).any():
        unknown = columns[int(np.flatnonzero(slots < 0)[0])]
        raise StoreError(
            f"{matrix.path}: gene {unknown!r} is not in the gene table; name another one with "
            "--gene-directory, or fetch all matrices first and build without --fetch"
        )
    has_mask, has_pointers = not rows.wanted.all(), matrix.layout == "csr"
    _save(matrix_path(folder, number, "slots.npy"), slots)
    if has_mask:
        _save(matrix_path(folder, number, "kept.npy"), rows.wanted)
    if has_pointers:
        _save(matrix_path(folder, number, "pointers.npy"), row_pointers(matrix))
    labels = read_cached(rows.table, [CELL_LABEL])[CELL_LABEL].filter(pa.array(rows.wanted))
    table = pa.table({CELL_LABEL: labels, _CELL: pa.array(rows.cells[rows.wanted])})
    with replacing(matrix_path(folder, number, "cells.parquet")) as temporary:
        write_cached(table, temporary)
    taken = TakenMatrix(number, rows.planned(()), str(folder), has_mask, has_pointers)
    taken.save()
    return taken


def load_matrix(folder: Path, number: int) -> TakenMatrix | None:
    """Return a matrix that was taken in before; None where it was not, or not wholly."""
    try:
        taken = loads(TakenMatrix, matrix_path(folder, number, "taken.json").read_bytes())
    except (OSError, ValueError):
        return None
    return taken if taken.folder == str(folder) else None


def _save(path: Path, array: NDArray[Any]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, array)


@dataclass(frozen=True)
class StoreWork:
    """All that is to be done for a store.

    Attributes
    ----------
    identity : dict
        What tells this work from another.
    digest : str
        SHA-256 of it.
    matrices : tuple of TakenMatrix
        In the order of their cells.
    n_genes : int
        Genes that blocks have. Those that no matrix has are left out of the store.
    annotations : tuple of Annotation
        Columns of obs.
    normalization, layout : str
    block_cells : int
    provenance : dict
        What the store tells of where it is from.
    older : Older or None
        Store whose cells come first.
    older_rows : str
        Path of a .npy file of int64: row in cell_metadata of each of them, -1 for none.
    precompute : tuple of str
        Columns by whose groups statistics are kept.
    """

    identity: dict[str, Any] = field(repr=False)
    digest: str
    matrices: tuple[TakenMatrix, ...]
    n_genes: int
    annotations: tuple[Annotation, ...]
    normalization: str
    layout: str
    block_cells: int
    provenance: dict[str, Any] = field(repr=False)
    older: Older | None = None
    older_rows: str = ""
    precompute: tuple[str, ...] = ()

    @property
    def n_before(self) -> int:
        """Cells of an older store, which come first."""
        return 0 if self.older is None else self.older.n_cells

    @property
    def n_cells(self) -> int:
        """Cells that the store will have."""
        return self.n_before + sum(matrix.n_cells for matrix in self.matrices)

    @property
    def starts(self) -> list[int]:
        """First cell of each matrix."""
        return list(accumulate((m.n_cells for m in self.matrices[:-1]), initial=self.n_before))

    def segments(self) -> list[Segment]:
        """Return the rows of all matrices."""
        return [m.segment(first) for m, first in zip(self.matrices, self.starts, strict=True)]

    def described(self) -> tuple[StoreMatrix, ...]:
        """Return which cells of the store belong to which matrix."""
        before = () if self.older is None else self.older.store.info.matrices
        pairs = zip(self.matrices, self.starts, strict=True)
        return (*before, *(matrix.described(first) for matrix, first in pairs))

    def cells(self) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
        """Read label and row in cell_metadata of every cell."""
        found = [matrix.cells() for matrix in self.matrices]
        if self.older is not None:
            labels = self.older.store.labels.to_numpy(zero_copy_only=False)
            found.insert(0, (labels, load_array(self.older_rows)))
        labels = np.concatenate([labels for labels, _ in found]).astype(object)
        return labels, np.concatenate([rows for _, rows in found])

    def columns(self, order: NDArray[np.int64]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the columns of obs for cells in some order, and their descriptions."""
        columns: dict[str, Any] = {CELL_ROW: order}
        described = []
        for annotation in self.annotations:
            values = annotation.values()[order]
            # numbers as they are, terms as ordered categories
            columns[annotation.name] = (
                values if annotation.is_numeric else annotation.cells(values).array
            )
            described.append(annotation.counted(int(is_missing(values).sum())).describe())
        return columns, described

    def absent(self) -> NDArray[np.bool_]:
        """Return whether each matrix lacks each gene, shape (n_genes, n_matrices)."""
        absent = np.ones((self.n_genes, len(self.matrices)), bool)
        for number, matrix in enumerate(self.matrices):
            slots = matrix.slots()
            absent[slots[slots >= 0], number] = False
        if self.older is None:
            return absent
        of_older, positions = self.older.store.absent, self.older.positions()
        before = np.ones((self.n_genes, of_older.shape[1]), bool)
        before[positions >= 0] = of_older[positions[positions >= 0]]
        return np.concatenate([before, absent], axis=1)

    def genes(self, folder: Path) -> pd.DataFrame:
        """Read gene_identifier, gene_symbol and, where known, name of the genes of blocks."""
        frame: pd.DataFrame = read_cached(folder / _GENES).to_pandas()
        return frame.astype(object)


def save_genes(genes: pd.DataFrame, folder: Path) -> None:
    """Write the table of genes for `StoreWork.genes`."""
    table = pa.table({name: pa.array(genes[name], pa.string()) for name in genes.columns})
    with replacing(folder / _GENES) as temporary:
        write_cached(table, temporary)


def save_work(work: StoreWork, staging: Staging) -> None:
    """Write the work down, for processes that know nothing but the folder."""
    staging.save_tasks({"store": to_json(work)})


def load_work(staging: Staging) -> StoreWork | None:
    """Read what `save_work` wrote; None where the folder is that of a view.

    Raises
    ------
    ViewError
        If there is nothing, or it is damaged.
    """
    values = staging.load_tasks()
    if "store" not in values:
        return None
    try:
        return from_json(StoreWork, values["store"])
    except ValueError:
        raise ViewError(
            f"{staging.folder} holds a damaged plan, or that of another version; "
            "make it again by abc-dask store build ... --plan-only"
        ) from None
