"""A view together with annotations that it does not carry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.release.annotation import Annotation
from abc_dask.views.parquet_view import PartsReader
from abc_dask.views.places import placed
from abc_dask.views.reader import Reader, View, label_index

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class JoinedReader:
    """A view's reader with columns of annotations that lie beside the view.

    Attributes
    ----------
    reader : Reader
        Of the view.
    beside : tuple of Annotation
        Columns in the order of the view's rows on disk, as `abc_dask.views.attach` gives them.
    rows : array of int64 or None
        For each cell in cell_metadata's order its row on disk; None where they agree.
    """

    reader: Reader
    beside: tuple[Annotation, ...]
    rows: NDArray[np.int64] | None

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the gene columns."""
        return self.reader.columns

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """Columns of annotations: the view's own, then those beside it."""
        return (*self.reader.annotations, *self.beside)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.reader.dtype

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.reader.n_cells

    def labels(self) -> pa.Array:
        """Read the cell labels, in order."""
        return self.reader.labels()

    def matrices(self) -> dict[str, Any]:
        """Read dataset_label and feature_matrix_label of every cell; empty if not kept."""
        return self.reader.matrices()

    def annotation(self, annotation: Annotation) -> NDArray[Any]:
        """Read the codes or numbers of a column of annotations, in order."""
        if annotation not in self.beside:
            return self.reader.annotation(annotation)
        values = annotation.values()
        return values if self.rows is None else values[self.rows]

    def values(self, columns: Sequence[str]) -> NDArray[Any]:
        """Read some columns as an array of n_cells x columns, in order."""
        return self.reader.values(columns)

    def blocks(self) -> Any:
        """Return the blocks of the view, without what lies beside it."""
        return self.reader.blocks()


def joined_reader(
    view: View, columns: Iterable[str], download_base: Any = None, *, on_disk: bool = False
) -> Reader:
    """Return a view's reader with columns of annotations that the view does not carry.

    Parameters are those of `View.annotate`, and `on_disk`: cells as they lie on disk, for
    whom their order does not matter; nothing has to be brought into another.
    """
    own = view.open_reader()
    if on_disk and isinstance(own, PartsReader):
        own = replace(own, order=np.arange(own.n_cells))
    names = [columns] if isinstance(columns, str) else list(columns)
    found = view.find_annotations(names, download_base=download_base)
    beside = tuple(annotation for annotation in found if annotation.table)
    if not beside:
        return own
    rows = None
    if isinstance(own, PartsReader) and not on_disk:
        rows = np.argsort(own.order, kind="stable")
    return JoinedReader(own, beside, rows)


def handed_over(
    view: View, columns: Iterable[str], download_base: Any = None
) -> tuple[Reader, dict[str, Any]]:
    """Return what to write of a view with more annotations, and its description.

    Parameters are those of `View.annotate`.
    """
    reader = joined_reader(view, columns, download_base)
    info = view.provenance
    if reader.annotations:
        info["annotations"] = [annotation.describe() for annotation in reader.annotations]
    if download_base is not None:
        info["atlas"] = info.get("atlas", {}) | {"download_base": str(download_base)}
    return reader, placed(reader, info)


def genes_table(reader: Reader) -> pd.DataFrame:
    """Read the genes of all cells: index cell_label, one column a gene."""
    import pandas as pd

    index = label_index(reader.labels())
    values, columns = reader.values(reader.columns), list(reader.columns)
    return pd.DataFrame(values, index=index, columns=columns, copy=False)


def cells_table(reader: Reader, columns: Sequence[str]) -> pd.DataFrame:
    """Read genes and annotations of all cells, without their labels.

    Parameters
    ----------
    reader : Reader
    columns : sequence of str
        Genes, and annotations of the reader.

    Returns
    -------
    pandas.DataFrame
        A row a cell in the reader's order; terms as ordered categoricals.
    """
    import pandas as pd

    coded = {a.name: a for a in reader.annotations}
    found: dict[str, Any] = {}
    for name in columns:
        if name in coded:
            found[name] = coded[name].cells(reader.annotation(coded[name]))
        else:
            found[name] = reader.values([name])[:, 0]
    return pd.DataFrame(found, columns=list(columns), copy=False)
