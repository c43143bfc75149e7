"""Write the files of one feature matrix, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from abc_dask.testing.cells import Cells, MatrixPlan, draw_cells, library_label
from abc_dask.testing.genes import ExpressionModel, gene_table, matrix_columns
from abc_dask.testing.h5ad import Categories, H5adWriter
from abc_dask.testing.quirks import Quirks
from abc_dask.testing.tables import file_entry

Progress = Callable[[str, int, int], None]

_BLOCK_ROWS = 64


@dataclass(frozen=True)
class Job:
    """One feature matrix to write, in whichever process."""

    plan: MatrixPlan
    seed: int
    n_genes: int
    quirks: Quirks
    paths: dict[str, Path]
    chunk_values: int
    compression: str | None


class Written(NamedTuple):
    """Stored values of one normalization, and the entry in the manifest by normalization."""

    n_values: int
    files: dict[str, dict[str, Any]]


class _Block(NamedTuple):
    lengths: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int32]
    counts: npt.NDArray[np.uint16]
    log2: npt.NDArray[np.floating[Any]]


class _Row(NamedTuple):
    columns: npt.NDArray[np.int64]
    counts: npt.NDArray[np.uint16]
    log2: npt.NDArray[np.floating[Any]]


def _log2_cpm(counts: npt.NDArray[np.uint16], steps: npt.NDArray[np.float64], dtype: str) -> Any:
    """Return log2(CPM + 1), computed once per count that occurs."""
    if not len(counts):
        return np.zeros(0, dtype=dtype)
    per_count = 1e6 / max(1, int(counts.sum()))
    table = np.log2(steps[: int(counts.max()) + 1] * per_count + 1)
    return table.astype(dtype).take(counts, mode="clip")


class _Disturbance:
    """Applies the quirks that concern the entries of one row."""

    def __init__(self, quirks: Quirks, reference: npt.NDArray[np.int64], seed: Any) -> None:
        self._quirks = quirks
        self._reference = reference
        self._rng = np.random.Generator(np.random.SFC64(seed))
        self.wanted = bool(
            quirks.duplicate_entries
            or quirks.nan_values
            or quirks.inf_values
            or quirks.unsorted_indices
        )

    def zero(self, counts: npt.NDArray[np.uint16]) -> None:
        """Set a share of the counts to zero."""
        counts[self._rng.random(len(counts)) < self._quirks.explicit_zeros] = 0

    def apply(self, row: _Row, number: int, n_rows: int) -> _Row:
        """Return the row with its oddities."""
        quirks = self._quirks
        columns, counts, log2 = row
        if not len(columns):
            return row
        if number < quirks.nan_values or number >= n_rows - quirks.inf_values:
            is_reference = np.isin(columns, self._reference)
            log2[is_reference.argmax()] = np.nan if number < quirks.nan_values else np.inf
        if quirks.duplicate_entries and number % 3 == 0:
            split = int(self._rng.integers(len(columns)))
            half = counts[split] // 2
            columns = np.insert(columns, split, columns[split])
            counts = np.insert(counts, split, half)
            counts[split + 1] -= half
            log2 = np.insert(log2, split, log2[split] / 2)
            log2[split + 1] /= 2
        if quirks.unsorted_indices:
            order = self._rng.permutation(len(columns))
            columns, counts, log2 = columns[order], counts[order], log2[order]
        return _Row(columns, counts, log2)


def _blocks(job: Job, cells: Cells, columns: npt.NDArray[np.int64], dtype: str) -> Iterator[_Block]:
    """Draw the rows of the matrix and yield them in blocks, in buffers used again and again."""
    quirks = job.quirks
    n_rows = len(cells.rows)
    if job.plan.name in quirks.empty_matrices:
        nothing = np.zeros(0, dtype=np.int32)
        none = np.zeros(n_rows, dtype=np.int64)
        yield _Block(none, nothing, nothing.astype(np.uint16), nothing.astype(dtype))
        return
    seeds = job.plan.seeds(job.seed)
    model = ExpressionModel(job.n_genes, columns)
    disturbance = _Disturbance(quirks, model.reference_columns, seeds[3])
    capacity = _BLOCK_ROWS * (len(columns) + 1)
    indices = np.empty(capacity, dtype=np.int32)
    values = np.empty(capacity, dtype=np.uint16)
    logs = np.empty(capacity, dtype=dtype)
    steps = np.arange(65536, dtype=np.float64)
    subclass, level = cells.subclass()[cells.rows], cells.level[cells.rows]
    lengths: list[int] = []
    filled = 0
    for number, (present, counts) in enumerate(model.rows(subclass, level, seeds[2])):
        if quirks.explicit_zeros:
            disturbance.zero(counts)
        row = _Row(present, counts, _log2_cpm(counts, steps, dtype))
        if disturbance.wanted:
            row = disturbance.apply(row, number, n_rows)
        stop = filled + len(row.columns)
        indices[filled:stop], values[filled:stop], logs[filled:stop] = row
        lengths.append(stop - filled)
        filled = stop
        if len(lengths) == _BLOCK_ROWS or number == n_rows - 1:
            counted = np.array(lengths, dtype=np.int64)
            yield _Block(counted, indices[:filled], values[:filled], logs[:filled])
            lengths = []
            filled = 0


def write_matrix(job: Job, progress: Progress | None = None) -> Written:
    """Write the files of one feature matrix."""
    quirks, plan = job.quirks, job.plan
    seeds = plan.seeds(job.seed)
    cells = draw_cells(plan, job.seed, job.n_genes, quirks)
    order = np.random.Generator(np.random.SFC64(seeds[1])) if quirks.shuffled_genes else None
    columns = matrix_columns(job.n_genes, quirks.missing_genes.get(plan.name, ()), order)
    n_rows = len(cells.rows)
    log2_dtype = "float64" if plan.name in quirks.float64_matrices else quirks.log2_dtype
    dtypes = {"log2": log2_dtype, "raw": quirks.raw_dtype}
    n_values = 0
    with ExitStack() as stack:
        writers = {
            normalization: stack.enter_context(
                H5adWriter(
                    path,
                    (n_rows, len(columns)),
                    layout=quirks.layout,
                    data_dtype=dtypes[normalization],
                    index_dtype=quirks.index_dtype,
                    indptr_dtype=quirks.indptr_dtype,
                    chunk_values=job.chunk_values,
                    compression=job.compression,
                    shuffle=quirks.shuffle,
                )
            )
            for normalization, path in job.paths.items()
        }
        n_done = 0
        for block in _blocks(job, cells, columns, log2_dtype):
            for normalization, writer in writers.items():
                data = block.log2 if normalization == "log2" else block.counts
                writer.append(block.lengths, block.indices, data)
            n_values += len(block.indices)
            n_done += len(block.lengths)
            if progress is not None:
                progress(plan.name, n_done, n_rows)
        for normalization, writer in writers.items():
            _write_labels(writer, cells, columns, job, normalization)
    files = {name: file_entry(path, quirks) for name, path in job.paths.items()}
    if plan.name in quirks.missing_files:
        for path in job.paths.values():
            path.unlink()
    return Written(n_values, files)


@cache
def _gene_objects(n_genes: int) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.object_]]:
    genes = gene_table(n_genes)
    return np.array(genes.identifiers, dtype=object), np.array(genes.symbols, dtype=object)


def _write_labels(
    writer: H5adWriter,
    cells: Cells,
    columns: npt.NDArray[np.int64],
    job: Job,
    normalization: str,
) -> None:
    identifiers, symbols = _gene_objects(job.n_genes)
    rows = cells.rows
    libraries = [library_label(key) for key in cells.library_keys()]
    nowhere = np.zeros(len(rows), dtype=np.int8)
    writer.finish(
        cells.labels(rows).astype(str),
        identifiers[columns],
        None if job.quirks.no_gene_symbol else symbols[columns],
        obs={
            "cell_barcode": cells.barcodes(rows).astype(str),
            "library_label": Categories(cells.library[rows].astype(np.int8), libraries),
            "anatomical_division_label": Categories(nowhere, [job.plan.matrix.division]),
        },
        uns={
            "normalization": normalization,
            "parent": job.plan.matrix.dataset_label,
            "parent_layer": normalization,
            "parent_rows": rows,
        },
        string_encoding=job.quirks.string_encoding,
    )
