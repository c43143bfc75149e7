"""Cells with annotations, without a gene: as a lazy DataFrame, a table on disk, or counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from abc_dask.base.columns import CELL_LABEL
from abc_dask.base.errors import UsageError, ViewError
from abc_dask.base.messages import enumerate_names
from abc_dask.disk.files import cannot_write, replacing
from abc_dask.disk.kept_table import read_cached, read_cached_rows, write_cached
from abc_dask.plan.inputs import Inputs
from abc_dask.plan.row_table import selection_digest
from abc_dask.release.annotation import VALUE, Annotation, read_values, write_values
from abc_dask.release.selection import CellChoice
from abc_dask.views.overwrite import refuse_existing
from abc_dask.views.parquet_view import SCHEMA_KEY

if TYPE_CHECKING:
    import dask.dataframe as dd
    import pandas as pd

# Cells of a partition.
_PARTITION = 1 << 18

_SUFFIXES = (".csv", ".parquet")

# By which a table is known as one of this package.
_MARK = {SCHEMA_KEY: b"table"}


@dataclass(frozen=True)
class CellRows:
    """Chosen cells of a cell_metadata table, with columns of annotations.

    Attributes
    ----------
    annotations : tuple of Annotation
        Their values lie in kept tables, in the order of cell_metadata.
    labels : str
        Path of the kept table of cell labels.
    chosen : str
        Path of the kept table of the chosen cells' positions; "" where all are.
    n_cells : int
    """

    annotations: tuple[Annotation, ...]
    labels: str
    chosen: str
    n_cells: int

    @classmethod
    def of(cls, inputs: Inputs, columns: Sequence[str], choice: CellChoice | None) -> CellRows:
        """Find columns and cells.

        Raises
        ------
        UsageError, MissingFileError, TableError
            If they are off, or a table is missing or does not fit.
        """
        annotations = inputs.annotations.find(columns)
        selection = inputs.choose(choice)
        state = list(inputs.cells.state)

        def write_labels(target: Path) -> None:
            write_cached(pa.table({VALUE: inputs.cells.labels()}), target)

        labels = inputs.cache.get("labels", state, write_labels)
        if selection is None:
            return cls(annotations, str(labels), "", inputs.cells.n_cells)
        positions = np.flatnonzero(selection.mask)
        chosen = inputs.cache.get(
            "chosen",
            selection_digest(inputs, selection),
            lambda target: write_values(positions, target, "positions"),
        )
        return cls(annotations, str(labels), str(chosen), len(positions))

    def ranges(self) -> list[tuple[int, int]]:
        """Return the ranges of cells, half-open, that are read at a time."""
        starts = range(0, self.n_cells, _PARTITION)
        return [(start, min(start + _PARTITION, self.n_cells)) for start in starts]

    def read(self, start: int, stop: int) -> pa.Table:
        """Read a range of the chosen cells: cell_label, then the annotations."""
        columns = {CELL_LABEL: self._values(self.labels, start, stop)}
        for annotation in self.annotations:
            values = self._values(annotation.table, start, stop).to_numpy(zero_copy_only=False)
            columns[annotation.name] = annotation.arrow(values)
        return pa.table(columns)

    def _values(self, table: str, start: int, stop: int) -> pa.Array:
        if not self.chosen:
            return _column(table, start, stop)
        positions = read_values(self.chosen, start, stop)
        if not len(positions):
            return _column(table, 0, 0)
        first = int(positions[0])
        return _column(table, first, int(positions[-1]) + 1).take(pa.array(positions - first))

    def frame(self, span: tuple[int, int]) -> pd.DataFrame:
        """Read a range of cells as a DataFrame, index cell_label."""
        import pandas as pd

        start, stop = span
        index = pd.Index(self._values(self.labels, start, stop).to_pandas(), name=CELL_LABEL)
        columns = {
            annotation.name: annotation.cells(
                self._values(annotation.table, start, stop).to_numpy(zero_copy_only=False)
            ).array
            for annotation in self.annotations
        }
        return pd.DataFrame(columns, index=index)

    def dataframe(self) -> dd.DataFrame:
        """Return the cells as a lazy Dask DataFrame."""
        import dask.dataframe as dd

        meta = self.frame((0, 0))
        if not self.n_cells:
            return dd.from_pandas(meta, npartitions=1)
        return dd.from_map(self.frame, self.ranges(), meta=meta, label="abc-cells")

    def tables(self) -> Iterator[pa.Table]:
        """Yield all chosen cells, a range at a time."""
        for start, stop in self.ranges() or [(0, 0)]:
            yield self.read(start, stop)

    def write(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the cells as CSV or Parquet, complete or absent.

        Raises
        ------
        UsageError
            If the suffix is neither.
        ViewError
            If the file exists or cannot be written.
        """
        names = [CELL_LABEL, *(annotation.name for annotation in self.annotations)]
        output = require_table(path, names, overwrite=overwrite)
        try:
            with replacing(output) as temporary:
                if output.suffix == ".parquet":
                    self._write_parquet(temporary)
                else:
                    self._write_csv(temporary)
        except OSError as error:
            raise cannot_write(output, error, ViewError) from None
        return output

    def _write_parquet(self, path: Path) -> None:
        schema = self.read(0, 0).schema.with_metadata(_MARK)
        terms = [annotation.name for annotation in self.annotations if not annotation.is_numeric]
        options: dict[str, Any] = {"compression": "zstd", "use_dictionary": terms}
        with pq.ParquetWriter(path, schema, **options) as writer:
            for table in self.tables():
                writer.write_table(table.replace_schema_metadata(_MARK))

    def _write_csv(self, path: Path) -> None:
        tables = map(_plain, self.tables())
        first = next(tables)
        with pyarrow.csv.CSVWriter(path, first.schema) as writer:
            writer.write_table(first)
            for table in tables:
                writer.write_table(table)

    def counts(self) -> pd.DataFrame:
        """Count the chosen cells by one or two columns of terms.

        Returns
        -------
        pandas.DataFrame
            Of one column: index its terms, column n_cells. Of two: rows the terms of the first,
            columns those of the second. The last row or column, NaN, are cells without.

        Raises
        ------
        UsageError
            If there are no columns, more than two, or one holds numbers.
        """
        import pandas as pd

        if not 1 <= len(self.annotations) <= 2:
            raise UsageError("cells are counted by one or two columns")
        for annotation in self.annotations:
            if annotation.terms is None:
                raise UsageError(f"column {annotation.name!r} holds numbers; count by terms")
        sizes = [len(annotation.terms or ()) + 1 for annotation in self.annotations]
        total: NDArray[np.int64] = np.zeros(int(np.prod(sizes)), np.int64)
        for start, stop in self.ranges():
            codes = [self._values(a.table, start, stop).to_numpy() for a in self.annotations]
            known = [np.where(c < 0, size - 1, c) for c, size in zip(codes, sizes, strict=True)]
            total += np.bincount(np.ravel_multi_index(known, sizes), minlength=len(total))
        axes = [pd.Index([*(a.terms or ()), np.nan], name=a.name) for a in self.annotations]
        counts = total.reshape(sizes)
        if len(axes) == 1:
            return pd.DataFrame({"n_cells": counts}, index=axes[0])
        return pd.DataFrame(counts, index=axes[0], columns=axes[1])


def write_counts(counts: pd.DataFrame, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write what `CellRows.counts` returned as CSV or Parquet, complete or absent.

    Raises
    ------
    UsageError, ViewError
        As `CellRows.write`.
    """
    names = counts.columns.astype(object).fillna("(without)")
    columns = {str(name): counts.iloc[:, k].to_numpy() for k, name in enumerate(names)}
    terms = pa.array(counts.index.astype(object), pa.string(), from_pandas=True)
    table = pa.table({str(counts.index.name): terms, **columns}, metadata=_MARK)
    output = require_table(path, table.column_names, overwrite=overwrite)
    try:
        with replacing(output) as temporary:
            if output.suffix == ".parquet":
                pq.write_table(table, temporary)
            else:
                pyarrow.csv.write_csv(table, temporary)
    except OSError as error:
        raise cannot_write(output, error, ViewError) from None
    return output


def require_table(path: str | Path, columns: Sequence[str], *, overwrite: bool) -> Path:
    """Return the path of a table that may be written.

    Parameters
    ----------
    path : path
    columns : sequence of str
        Of the table; a CSV table that has them is taken for the same one.
    overwrite : bool

    Raises
    ------
    UsageError
        If the suffix is not one of a table.
    ViewError
        If something is there that may not be replaced, or a release lists it.
    """
    output = Path(path).expanduser().absolute()
    if output.suffix not in _SUFFIXES:
        raise UsageError(f"{path} is not a name that ends in {enumerate_names(_SUFFIXES)}")
    refuse_existing(output, overwrite=overwrite, header=columns)
    return output


def _column(table: str, start: int, stop: int) -> pa.Array:
    if not stop:
        column = read_cached(table, [VALUE])[VALUE]
        return pa.array([], column.type)
    column = read_cached_rows(table, [VALUE], (start, stop))[0][VALUE]
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _plain(table: pa.Table) -> pa.Table:
    """Return a table with terms as text, which a CSV writer takes."""
    columns = [
        column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        for column in table.columns
    ]
    return pa.table(columns, names=table.column_names)
