"""A view as a lazy Dask DataFrame, a partition a block, whatever its format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa

from abc_dask.release.annotation import Annotation, read_values
from abc_dask.views.reader import MATRIX_COLUMNS, Reader, ViewBlock, label_index

if TYPE_CHECKING:
    import dask.dataframe as dd
    import pandas as pd

Piece = TypeVar("Piece")

# Rows that the first partition has at least, where there are so many: dask's `head` looks there.
_HEAD = 10


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

    @property
    def start(self) -> int:
        """First row."""
        return self.block.start

    @property
    def stop(self) -> int:
        """Behind the last row."""
        return self.block.stop

    def frame(self, columns: Sequence[str]) -> pd.DataFrame:
        """Read columns of these rows, index cell_label."""
        beside = {annotation.name: annotation for annotation in self.beside}
        frame = self.block.frame([name for name in columns if name not in beside])
        for name in columns:
            if name in beside:
                values = read_values(beside[name].table, self.start, self.stop)
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
    pieces = [Attached(block, beside) for block in blocks] if beside else blocks
    partitions = with_head(pieces, [block.stop - block.start for block in blocks])
    return dd.from_map(read_rows, partitions, meta=meta, label="abc-view")


def read_rows(pieces: Sequence[ViewBlock | Attached], columns: Sequence[str]) -> pd.DataFrame:
    """Read one partition of a view."""
    return joined([piece.frame(columns) for piece in pieces])


def with_head(pieces: Sequence[Piece], sizes: Sequence[int]) -> list[tuple[Piece, ...]]:
    """Make each piece a partition, but the first ones together until they have some rows.

    Examples
    --------
    >>> with_head(["a", "b", "c", "d"], [4, 7, 1, 90])
    [('a', 'b'), ('c',), ('d',)]
    """
    n_first = n_rows = 0
    while n_first < len(pieces) and n_rows < _HEAD:
        n_rows += sizes[n_first]
        n_first += 1
    first = [tuple(pieces[:n_first])] if n_first else []
    return [*first, *((piece,) for piece in pieces[n_first:])]


def joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Return tables of the same columns one below the other."""
    import pandas as pd

    return frames[0] if len(frames) == 1 else pd.concat(frames)


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
