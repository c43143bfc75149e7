"""CSV views: written and read."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from abc_dask.columns import CELL_LABEL
from abc_dask.release.annotation import Annotation
from abc_dask.views.reader import Reader, ViewBlock, codes_of, label_index, naming, ordered_columns

if TYPE_CHECKING:
    import dask.dataframe as dd
    import pandas as pd

_CSV_CELLS = 1 << 16


@dataclass(frozen=True)
class CsvReader:
    """A CSV view: cell_label and one column a gene, in cell_metadata's order.

    Attributes
    ----------
    path : Path
    columns : tuple of str
    dtype : numpy.dtype
    n_cells : int
    annotations : tuple of Annotation
    """

    path: Path
    columns: tuple[str, ...]
    dtype: np.dtype[Any]
    n_cells: int
    annotations: tuple[Annotation, ...] = ()

    def _read(self, names: Sequence[str]) -> pa.Table:
        value = pa.from_numpy_dtype(self.dtype)
        types = dict.fromkeys(self.columns, value) | {CELL_LABEL: pa.string()}
        convert = pyarrow.csv.ConvertOptions(
            column_types=types,
            include_columns=list(names),
            null_values=[""],
            strings_can_be_null=True,
        )
        with naming(self.path):
            return pyarrow.csv.read_csv(self.path, convert_options=convert)

    def labels(self) -> pa.Array:
        """Read the cell labels, in order."""
        return self._read([CELL_LABEL])[CELL_LABEL].combine_chunks()

    def matrices(self) -> dict[str, pd.Categorical]:
        """Give nothing: the reference workflow's file has no such columns."""
        return {}

    def annotation(self, annotation: Annotation) -> NDArray[Any]:
        """Read the codes or numbers of a column of annotations."""
        return codes_of(self._read([annotation.name])[annotation.name], annotation)

    def blocks(self) -> list[ViewBlock]:
        """Give all rows as one block: where a row starts in a CSV is not known."""
        return [CsvBlock(self)]

    def values(self, columns: Sequence[str]) -> NDArray[Any]:
        """Read some columns as an array of n_cells x columns."""
        table = self._read(columns)
        out = np.empty((self.n_cells, len(columns)), dtype=self.dtype, order="F")
        for k, name in enumerate(columns):
            out[:, k] = table[name].to_numpy()
        return out

    def frame(self, columns: Sequence[str]) -> dd.DataFrame:
        """Give the lazy Dask DataFrame, partitions of some 64 MB of text."""
        import dask.dataframe as dd

        texts = [a.name for a in self.annotations if a.terms is not None]
        kinds = dict.fromkeys(self.columns, self.dtype) | {CELL_LABEL: "str"}
        kinds |= {a.name: "str" if a.terms is not None else a.dtype for a in self.annotations}
        frame = dd.read_csv(
            self.path,
            usecols=[CELL_LABEL, *columns],
            dtype={name: kinds[name] for name in (CELL_LABEL, *columns)},
            keep_default_na=False,
            na_values={name: [""] for name in columns},
            **exact_decimals(),
            blocksize=64_000_000,
        )
        coded = [a for a in self.annotations if a.name in columns and a.name in texts]
        return frame.map_partitions(_index_by_label, list(columns), coded)


@dataclass(frozen=True)
class CsvBlock:
    """All rows of a CSV view."""

    reader: CsvReader

    @property
    def start(self) -> int:
        """First row."""
        return 0

    @property
    def stop(self) -> int:
        """Behind the last row."""
        return self.reader.n_cells

    def frame(self, columns: Sequence[str]) -> pd.DataFrame:
        """Read columns, index cell_label."""
        import pandas as pd

        genes = [name for name in columns if name in self.reader.columns]
        index = label_index(self.reader.labels())
        frame = pd.DataFrame(self.reader.values(genes), index=index, columns=genes)
        for annotation in self.reader.annotations:
            if annotation.name in columns:
                frame[annotation.name] = annotation.cells(self.reader.annotation(annotation)).array
        return frame[list(columns)]


def exact_decimals() -> dict[str, str]:
    """Give what `pandas.read_csv` needs to read decimals to the last bit: nothing from 3.1 on."""
    import pandas as pd

    old = tuple(int(part) for part in pd.__version__.split(".")[:2]) < (3, 1)
    return {"float_precision": "round_trip"} if old else {}


def _index_by_label(
    frame: pd.DataFrame, columns: list[str], coded: Sequence[Annotation]
) -> pd.DataFrame:
    frame = frame.set_index(CELL_LABEL)[columns]
    for annotation in coded:
        values = pa.array(frame[annotation.name], pa.string(), from_pandas=True)
        codes = codes_of(pa.chunked_array([values]), annotation)
        frame[annotation.name] = annotation.cells(codes).array
    return frame


def write_csv(target: Path, reader: Reader, info: dict[str, Any]) -> None:  # noqa: ARG001 - one shape
    """Write the reference workflow's table: cell_label, one column a gene, then annotations.

    Numbers are the shortest decimals that parse back to the same float; a missing value
    is empty.
    """
    labels = reader.labels()
    beside = [a.arrow(reader.annotation(a)) for a in reader.annotations]
    # text that needs quotes is rare, and the reference workflow writes none otherwise
    texts = [labels, *(pa.array(a.terms, pa.string()) for a in reader.annotations if a.terms)]
    special = any(pc.any(pc.match_substring_regex(t, r'[",\r\n]')).as_py() for t in texts)
    style = "needed" if special else "none"
    names = (CELL_LABEL, *reader.columns, *(a.name for a in reader.annotations))
    with ordered_columns(reader, target) as values, target.open("wb") as file:
        csv.writer(text := _Lines(), lineterminator="\n").writerow(names)
        file.write(text.content)
        schema = pa.schema([(name, pa.string()) for name in names])
        options = pyarrow.csv.WriteOptions(include_header=False, quoting_style=style)
        with pyarrow.csv.CSVWriter(file, schema, write_options=options) as writer:
            for first in range(0, reader.n_cells, _CSV_CELLS):
                rows = slice(first, first + _CSV_CELLS)
                columns = [_decimals(column[rows]) for column in values]
                others = [
                    column[rows].dictionary_decode()
                    if pa.types.is_dictionary(column.type)
                    else _decimals(column[rows].to_numpy(zero_copy_only=False))
                    for column in beside
                ]
                writer.write_table(pa.table([labels[rows], *columns, *others], schema=schema))


def _decimals(values: NDArray[Any]) -> pa.Array:
    """Format numbers as pandas does: floats shortest, with a point, so that they stay floats."""
    text = pa.array(values, from_pandas=True).cast(pa.string())
    if values.dtype.kind in "iu":
        return text
    whole = pc.invert(pc.match_substring_regex(text, "[.en]"))  # neither 0.5, 1e-9 nor inf
    return pc.if_else(whole, pc.binary_join_element_wise(text, ".0", ""), text)


class _Lines:
    """Catches what csv.writer writes."""

    content = b""

    def write(self, text: str) -> int:
        self.content += text.encode()
        return len(text)
