"""CSV views: written and read."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from abc_dask.base.columns import CELL_LABEL
from abc_dask.base.errors import ViewError
from abc_dask.disk.files import Fingerprint
from abc_dask.release.annotation import Annotation
from abc_dask.views.content import Written, content_digest
from abc_dask.views.description import naming
from abc_dask.views.reader import Reader, ViewBlock, codes_of, label_index, ordered_columns

if TYPE_CHECKING:
    import pandas as pd

# Cells, and values, that are formatted at a time.
_CSV_CELLS = 1 << 16
_CSV_VALUES = 1 << 22

# Bytes of a block of rows, and of what is looked through for the ends of lines at a time.
_CSV_BYTES = 64_000_000
_LOOK = 1 << 24


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

    def read(self, names: Sequence[str], span: tuple[int, int] | None = None) -> pa.Table:
        """Read columns of all rows, or of those between two bytes."""
        value = pa.from_numpy_dtype(self.dtype)
        types = dict.fromkeys(self.columns, value) | {CELL_LABEL: pa.string()}
        convert = pyarrow.csv.ConvertOptions(
            column_types=types,
            include_columns=list(names),
            null_values=[""],
            strings_can_be_null=True,
        )
        options: dict[str, Any] = {
            "convert_options": convert,
            "parse_options": pyarrow.csv.ParseOptions(newlines_in_values=True),
        }
        with naming(self.path):
            if span is None:
                return pyarrow.csv.read_csv(self.path, **options)
            header = [CELL_LABEL, *self.columns, *(a.name for a in self.annotations)]
            options["read_options"] = pyarrow.csv.ReadOptions(column_names=header)
            with self.path.open("rb") as file:
                file.seek(span[0])
                text = file.read(span[1] - span[0])
            return pyarrow.csv.read_csv(pa.BufferReader(text), **options)

    def labels(self) -> pa.Array:
        """Read the cell labels, in order."""
        return self.read([CELL_LABEL])[CELL_LABEL].combine_chunks()

    def matrices(self) -> dict[str, pd.Categorical]:
        """Return nothing: the reference workflow's file has no such columns."""
        return {}

    def annotation(self, annotation: Annotation) -> NDArray[Any]:
        """Read the codes or numbers of a column of annotations."""
        return codes_of(self.read([annotation.name])[annotation.name], annotation)

    def blocks(self) -> list[ViewBlock]:
        """Return rows of some 64 MB of text."""
        with naming(self.path):
            cuts = _cuts(self.path, _CSV_BYTES, Fingerprint.of(self.path))
        pairs = pairwise([*cuts, (self.path.stat().st_size, self.n_cells)])
        return [CsvBlock(self, row, next_row, (at, end)) for (at, row), (end, next_row) in pairs]

    def values(self, columns: Sequence[str]) -> NDArray[Any]:
        """Read some columns as an array of n_cells x columns."""
        table = self.read(columns)
        out = np.empty((self.n_cells, len(columns)), dtype=self.dtype, order="F")
        for k, name in enumerate(columns):
            out[:, k] = table[name].to_numpy()
        return out


@dataclass(frozen=True)
class CsvBlock:
    """Some rows of a CSV view, which lie between two bytes."""

    reader: CsvReader
    start: int
    stop: int
    span: tuple[int, int]

    def frame(self, columns: Sequence[str]) -> pd.DataFrame:
        """Read columns of these rows, index cell_label."""
        import pandas as pd

        table = self.reader.read([CELL_LABEL, *columns], self.span)
        if len(table) != self.stop - self.start:
            raise ViewError(
                f"{self.reader.path} is damaged: rows {self.start:,} to {self.stop:,} are "
                f"{len(table):,} rows; run the extraction again"
            )
        genes = {name: table[name].to_numpy() for name in columns if name in self.reader.columns}
        frame = pd.DataFrame(genes, index=label_index(table[CELL_LABEL]))
        for annotation in self.reader.annotations:
            if annotation.name in columns:
                codes = codes_of(table[annotation.name], annotation)
                frame[annotation.name] = annotation.cells(codes).array
        return frame[list(columns)]


@lru_cache(maxsize=16)
def _cuts(path: Path, size: int, _state: Fingerprint) -> list[tuple[int, int]]:
    """Return first byte and number of the first row of blocks of at least `size` bytes."""
    cuts: list[tuple[int, int]] = []
    at = n_lines = quotes = 0
    with path.open("rb") as file:
        while piece := file.read(_LOOK):
            content = np.frombuffer(piece, np.uint8)
            ends = np.flatnonzero(content == ord("\n"))
            if quotes % 2 or b'"' in piece:  # a line does not end within quotes
                before = quotes + np.cumsum(content == ord('"'))
                ends = ends[before[ends] % 2 == 0]
                quotes = int(before[-1])
            starts = ends + at + 1  # of the lines that follow
            while True:
                k = int(np.searchsorted(starts, cuts[-1][0] + size if cuts else 0))
                if k == len(starts):
                    break
                cuts.append((int(starts[k]), n_lines + k))
            at, n_lines = at + len(piece), n_lines + len(ends)
    # the last line has an end, and no row begins behind it
    return [cut for cut in cuts if cut[0] < at]


def write_csv(target: Path, reader: Reader, info: dict[str, Any]) -> Written:  # noqa: ARG001 - one shape
    """Write the reference workflow's table: cell_label, one column a gene, then annotations.

    Numbers are the shortest decimals that parse back to the same float; a missing value
    is empty.
    """
    labels = reader.labels()
    beside = [a.arrow(reader.annotation(a)) for a in reader.annotations]
    # text that needs quotes is rare, and the reference workflow writes none otherwise
    texts = [labels, *(pa.array(a.terms, pa.string()) for a in reader.annotations if a.terms)]
    content = 0
    special = any(pc.any(pc.match_substring_regex(t, r'[",\r\n]')).as_py() for t in texts)
    style = "needed" if special else "none"
    names = (CELL_LABEL, *reader.columns, *(a.name for a in reader.annotations))
    with ordered_columns(reader, target) as values, target.open("wb") as file:
        csv.writer(text := _Lines(), lineterminator="\n").writerow(names)
        file.write(text.content)
        schema = pa.schema([(name, pa.string()) for name in names])
        options = pyarrow.csv.WriteOptions(include_header=False, quoting_style=style)
        with pyarrow.csv.CSVWriter(file, schema, write_options=options) as writer:
            step = max(1, min(_CSV_CELLS, _CSV_VALUES // len(names)))
            for first in range(0, reader.n_cells, step):
                rows = slice(first, first + step)
                content += content_digest(labels[rows], (column[rows] for column in values))
                columns = [_decimals(column[rows]) for column in values]
                others = [
                    column[rows].dictionary_decode()
                    if pa.types.is_dictionary(column.type)
                    else _decimals(column[rows].to_numpy(zero_copy_only=False))
                    for column in beside
                ]
                writer.write_table(pa.table([labels[rows], *columns, *others], schema=schema))
    return Written(content)


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
