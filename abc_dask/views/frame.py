"""A view as a lazy Dask DataFrame, a partition a block, whatever its format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from abc_dask.release.annotation import Annotation, read_values
from abc_dask.views.reader import MATRIX_COLUMNS, Reader, ViewBlock, label_index

if TYPE_CHECKING:
    import dask.dataframe as dd
    import pandas as pd


@dataclass(frozen=True)
class Attached:
    """A view's rows with columns of annotations that lie beside it.

    Attributes
    ----------
    block : ViewBlock
        Rows of the view.
    beside : tuple of Annotation
        Columns in the order of the view's rows.
    """

    block: ViewBlock
    beside: tuple[Annotation, ...]

    def frame(self, columns: Sequence[str]) -> pd.DataFrame:
        """Read columns of these rows, index cell_label."""
        beside = {annotation.name: annotation for annotation in self.beside}
        frame = self.block.frame([name for name in columns if name not in beside])
        for name in columns:
            if name in beside:
                values = read_values(beside[name].table, self.block.start, self.block.stop)
                frame[name] = beside[name].cells(values).array
        return frame[list(columns)]


def lazy_frame(
    reader: Reader, columns: Sequence[str], beside: tuple[Annotation, ...] = ()
) -> dd.DataFrame:
    """Return columns of a view as a lazy Dask DataFrame.

    Parameters
    ----------
    reader : Reader
        Of the view.
    columns : sequence of str
        Genes, annotations, and the columns that name each cell's matrix.
    beside : tuple of Annotation
        Columns that the view lacks, as `abc_dask.views.attach.attach` returns them.

    Returns
    -------
    dask.dataframe.DataFrame
        Index cell_label; rows in the order on disk. Choosing columns reads only those.
    """
    import dask.dataframe as dd

    blocks = reader.blocks()
    meta = _no_rows(reader, blocks, columns, beside)
    if not blocks:
        return dd.from_pandas(meta, npartitions=1)
    attached = [Attached(block, beside) for block in blocks]
    return dd.from_map(read_rows, attached if beside else blocks, meta=meta, label="abc-view")


def read_rows(block: ViewBlock | Attached, columns: Sequence[str]) -> pd.DataFrame:
    """Read one partition of a view."""
    return block.frame(columns)


def _no_rows(
    reader: Reader,
    blocks: Sequence[ViewBlock],
    columns: Sequence[str],
    beside: tuple[Annotation, ...],
) -> pd.DataFrame:
    """Return no rows of columns, with their types."""
    import pandas as pd

    empty: dict[str, Any] = {name: np.empty(0, reader.dtype) for name in reader.columns}
    for a in (*reader.annotations, *beside):
        empty[a.name] = pd.Series([], dtype=a.pandas_dtype()).array
    named = [name for name in MATRIX_COLUMNS if name in columns and name not in empty]
    if named:  # their categories are those of every block
        names = blocks[0].frame(named) if blocks else pd.DataFrame(columns=named, dtype="category")
        empty |= {name: names[name].iloc[:0].array for name in named}
    index = label_index(pa.array([], pa.string()))
    return pd.DataFrame({name: empty[name] for name in columns}, index=index)
