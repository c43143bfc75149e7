"""What a reader of a view is, and what all readers share.

Readers are the one way in which statistics, exports and conversions see views. A reader
gives cells in the order of cell_metadata, whatever the order on disk.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from abc_dask.base.columns import CELL_LABEL, DATASET_LABEL, FEATURE_MATRIX_LABEL
from abc_dask.base.errors import ViewError
from abc_dask.disk.files import Fingerprint, sha256, temporary_name
from abc_dask.release.annotation import Annotation
from abc_dask.views.description import ORDER, VIEW_FILE, naming, read_order

if TYPE_CHECKING:
    import pandas as pd

_CELL_ORDER = "_cell_order.npy"

MATRIX_COLUMNS = (DATASET_LABEL, FEATURE_MATRIX_LABEL)

# Memory for columns that are brought into order at once.
_BATCH_BYTES = 256 << 20


def require_digest(path: Path, expected: str) -> None:
    """Compare a file of a view with the SHA-256 in its description.

    Raises
    ------
    ViewError
        If it was changed after it was written.
    """
    with naming(path):
        found = _known_digest(path, Fingerprint.of(path))
    if found != expected:
        raise ViewError(
            f"{path} was changed after it was written (SHA-256 differs); run the extraction again"
        )


@lru_cache(maxsize=1 << 14)
def _known_digest(path: Path, _state: Fingerprint) -> str:
    return sha256(path)


def load_order(folder: Path, info: dict[str, Any]) -> NDArray[Any]:
    """Read where in cell_metadata each row of a Parquet view's parts stands."""
    if ORDER in info:
        with naming(folder / VIEW_FILE):
            return read_order(folder / VIEW_FILE, info[ORDER])
    # views of earlier versions
    with naming(folder / _CELL_ORDER), (folder / _CELL_ORDER).open("rb") as file:
        order: NDArray[Any] = np.load(file, allow_pickle=False)
    return order


class ViewBlock(Protocol):
    """Consecutive rows of a view as they are on disk: what one task reads; small, picklable."""

    @property
    def start(self) -> int:
        """First row."""
        ...

    @property
    def stop(self) -> int:
        """Behind the last row."""
        ...

    def frame(self, columns: Sequence[str]) -> pd.DataFrame:
        """Read columns of these rows, index cell_label."""
        ...


class Reader(Protocol):
    """Columns of a table of cells."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the gene columns."""
        ...

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """Columns of annotations."""
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

    def annotation(self, annotation: Annotation) -> NDArray[Any]:
        """Read the codes or numbers of a column of annotations, in order."""
        ...

    def values(self, columns: Sequence[str]) -> NDArray[Any]:
        """Read some columns as an array of n_cells x columns, in order."""
        ...

    def blocks(self) -> list[ViewBlock]:
        """Return all rows, in the order on disk, in blocks."""
        ...


def annotation_columns(reader: Reader) -> dict[str, Any]:
    """Read all columns of annotations as categoricals or arrays, in order."""
    return {a.name: a.cells(reader.annotation(a)).array for a in reader.annotations}


def codes_of(column: pa.ChunkedArray, annotation: Annotation) -> NDArray[Any]:
    """Return the codes of a column of terms as the annotation numbers them, or numbers."""
    if annotation.terms is None:
        numbers: NDArray[Any] = column.to_numpy()
        return numbers.astype(annotation.dtype, copy=False)
    terms = pa.array(annotation.terms, pa.string())
    found = [np.empty(0, np.int32)]
    for chunk in column.chunks:
        coded = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
        codes = coded.indices.fill_null(-1).to_numpy()
        if not coded.dictionary.equals(terms):
            places = pc.index_in(coded.dictionary.cast(pa.string()), terms).fill_null(-1)
            codes = np.append(places.to_numpy(), -1)[codes]
        found.append(codes.astype(np.int32, copy=False))
    return np.concatenate(found)


def label_index(labels: pa.Array) -> pd.Index[Any]:
    """Return the index of a table of cells."""
    import pandas as pd

    index: pd.Index[Any] = pd.Index(labels.to_pandas(), name=CELL_LABEL)
    return index


def column_batches(reader: Reader, *, multiple: int = 1) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the first column's index and the values of as many columns as memory allows.

    All but the last are a multiple of so many columns.
    """
    width = _BATCH_BYTES // max(1, reader.n_cells * reader.dtype.itemsize)
    width = max(multiple, width - width % multiple)
    for first in range(0, len(reader.columns), width):
        yield first, reader.values(reader.columns[first : first + width])


class View(Protocol):
    """What is used here of an `abc_dask.View`."""

    @property
    def path(self) -> Path:
        """Folder or file."""
        ...

    @property
    def format(self) -> str:
        """``parquet``, ``zarr`` or ``csv``."""
        ...

    @property
    def info(self) -> dict[str, Any]:
        """Its description."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the gene columns."""
        ...

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """Columns of annotations that it carries."""
        ...

    @property
    def n_cells(self) -> int:
        """Cells in the view."""
        ...

    @property
    def provenance(self) -> dict[str, Any]:
        """A copy of its description."""
        ...

    def open_reader(self) -> Reader:
        """Open its columns as arrays."""
        ...

    def find_annotations(
        self, columns: Iterable[str], *, download_base: Any = None
    ) -> tuple[Annotation, ...]:
        """Find columns of annotations."""
        ...


@contextlib.contextmanager
def ordered_columns(reader: Reader, beside: Path) -> Iterator[NDArray[Any]]:
    """Yield all values as genes x cells; from a scratch file where they are too many."""
    shape = (len(reader.columns), reader.n_cells)
    if shape[0] * shape[1] * reader.dtype.itemsize <= _BATCH_BYTES:
        yield reader.values(reader.columns).T
        return
    scratch = temporary_name(beside)
    try:
        ordered = np.memmap(scratch, dtype=reader.dtype, mode="w+", shape=shape)
        for first, values in column_batches(reader):
            ordered[first : first + values.shape[1]] = values.T
        yield ordered
    finally:
        scratch.unlink(missing_ok=True)
