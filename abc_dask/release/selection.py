"""Which cells are wanted: by a condition on their metadata, by a list of labels, or both."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from abc_dask.columns import CELL_LABEL
from abc_dask.errors import MissingFileError, TableError, UsageError
from abc_dask.messages import enumerate_names, plural
from abc_dask.release.annotations import Annotations
from abc_dask.release.condition import Condition
from abc_dask.release.csv_table import csv_header

ABC_SAMPLE_ID = "abc_sample_id"


@dataclass(frozen=True)
class CellChoice:
    """A choice of cells.

    Attributes
    ----------
    where : str or None
        Condition on columns of the metadata.
    file : Path or None
        CSV file with a column cell_label or abc_sample_id.
    labels : tuple of str or None
        Cell labels.
    """

    where: str | None = None
    file: Path | None = None
    labels: tuple[str, ...] | None = None

    @classmethod
    def of(
        cls, where: str | None = None, cells: Iterable[str] | str | Path | None = None
    ) -> CellChoice | None:
        """Build from what users give: None if they want all cells."""
        if where is None and cells is None:
            return None
        if cells is None:
            return cls(where=where)
        if isinstance(cells, str | Path):
            return cls(where=where, file=Path(cells).expanduser())
        return cls(where=where, labels=tuple(str(label) for label in cells))

    @property
    def condition(self) -> Condition | None:
        """The parsed condition.

        Raises
        ------
        UsageError
            If it is not one.
        """
        return None if self.where is None else Condition.parse(self.where)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the metadata that must be known."""
        condition = self.condition
        named = () if condition is None else condition.columns
        listed = () if self.file is None else (_label_column(self.file),)
        return tuple(name for name in (*named, *listed) if name != CELL_LABEL)

    def choose(self, tables: Annotations) -> Selection:
        """Choose among the cells of a cell_metadata table.

        Raises
        ------
        UsageError
            If the condition is none, or no cell is chosen.
        MissingFileError, TableError
            If a table or file is missing or does not fit.
        """
        n_cells = tables.cells.n_cells
        mask = np.ones(n_cells, np.bool_)
        counts: dict[str, int] = {"cells_in_metadata": n_cells}
        if self.where is not None:
            condition = Condition.parse(self.where)
            named = {name: _column(tables, name) for name in condition.columns}
            mask &= condition.mask(pa.table(named))
            counts["cells_where"] = int(mask.sum())
            if not mask.any():
                raise UsageError(f"no cell of {tables.cells.source} fits --where {self.where!r}")
        if self.file is not None or self.labels is not None:
            listed, of_labels = self._listed(tables)
            counts |= of_labels
            mask &= listed
            if not mask.any():
                raise UsageError("no cell that fits --where is among those listed")
        counts["cells_chosen"] = int(mask.sum())
        report: dict[str, Any] = {
            "where": self.where,
            "cells_from": None if self.file is None else str(self.file),
            **counts,
        }
        return Selection(mask, report)

    def _listed(self, tables: Annotations) -> tuple[NDArray[np.bool_], dict[str, int]]:
        name, asked = CELL_LABEL, pa.array(self.labels or (), pa.string())
        if self.file is not None:
            name = _label_column(self.file)
            asked = _read_labels(self.file, name)
        import pandas as pd

        index = pd.Index(asked.drop_null().to_pandas())
        distinct = index.unique()
        if not len(distinct):
            raise UsageError("the list of cells is empty")
        known = _column(tables, name).cast(pa.string())
        mask = pd.Index(known.to_pandas()).isin(distinct)
        n_found = int(mask.sum())
        if not n_found:
            raise UsageError(
                f"none of the {plural(len(distinct), 'cell')} listed"
                f"{'' if self.file is None else f' in {self.file}'} is in {tables.cells.source} "
                f"(by {name}, such as {distinct[0]!r})"
            )
        return mask, {
            "labels_asked": len(asked),
            "labels_duplicate": len(index) - len(distinct),
            "labels_unknown": len(distinct) - n_found + asked.null_count,
        }


@dataclass(frozen=True)
class Selection:
    """Chosen cells of a cell_metadata table.

    Attributes
    ----------
    mask : array of bool, shape (n_cells,)
        Whether each cell of the table is wanted.
    report : dict
        What was asked, and counts, JSON-serialisable.
    """

    mask: NDArray[np.bool_] = field(repr=False)
    report: dict[str, Any]

    @property
    def n_chosen(self) -> int:
        """Number of wanted cells."""
        return int(self.report["cells_chosen"])

    @property
    def digest(self) -> str:
        """SHA-256 of which cells are wanted, however they were asked for."""
        return hashlib.sha256(np.packbits(self.mask).tobytes()).hexdigest()


def _column(tables: Annotations, name: str) -> pa.ChunkedArray:
    if name == CELL_LABEL:
        return pa.chunked_array([tables.cells.labels()])
    return tables.column(name)


def _label_column(file: Path) -> str:
    """Find the column of a file that names cells."""
    try:
        columns = csv_header(file)
    except FileNotFoundError:
        raise MissingFileError(f"--cells-from {file} is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise TableError(f"--cells-from {file} cannot be read: {reason}") from None
    for name in (CELL_LABEL, ABC_SAMPLE_ID):
        if name in columns:
            return name
    raise TableError(
        f"--cells-from {file} has no column {CELL_LABEL} or {ABC_SAMPLE_ID}; "
        f"it has: {enumerate_names(columns, most=10)}"
    )


def _read_labels(file: Path, name: str) -> pa.Array:
    try:
        table = pyarrow.csv.read_csv(
            file,
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=[name],
                column_types={name: pa.string()},
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid as error:
        reason = " ".join(str(error).split())
        raise TableError(f"--cells-from {file} is not a CSV table: {reason}") from None
    return table[name].combine_chunks()
