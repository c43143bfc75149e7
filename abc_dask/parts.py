"""One row block as one Parquet file: written whole, read back, with a receipt.

A part is written under a name that no other attempt can have, closed, read back, flushed
and renamed; then its receipt is written the same way. So a part without a receipt, or
with one that does not fit, is a part that was not made.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from abc_dask.errors import ViewError
from abc_dask.expression import BlockTask, Partition, read_block
from abc_dask.files import Fingerprint, replacing, sha256, write_whole
from abc_dask.sealed import SealError, opened_sealed, seal
from abc_dask.tables import CELL_LABEL, DATASET_LABEL, FEATURE_MATRIX_LABEL

PARTS = "parts"
RECEIPTS = "receipts"
PROVENANCE = "provenance.json"
SCHEMA_KEY = b"abc_dask"

# DuckDB's row group; others are content with anything near 10^5.
ROW_GROUP = 122_880
_DICTIONARY_BYTES = 64 << 20

# Bytes of provenance in each part. That of thousands of matrices stands in _view.json alone.
_CARRIED = 64 << 10


@dataclass(frozen=True)
class Receipt:
    """What a finished block is known by.

    Attributes
    ----------
    plan : str
        Digest of the plan.
    block : int
        Number of the block.
    name : str
        Part file.
    size : int
        Its bytes.
    sha256 : str
        Their digest.
    rows : int
        Cells in it.
    content : str
        Digest of labels and values that does not depend on how rows are partitioned:
        a sum over rows, modulo 2**64, in hexadecimal digits.
    fingerprint : Fingerprint
        State of the matrix file that it was read from.
    bytes_read : int
        Decoded bytes of values and indices.
    seconds : float
        Time of the task.
    """

    plan: str
    block: int
    name: str
    size: int
    sha256: str
    rows: int
    content: str
    fingerprint: Fingerprint
    bytes_read: int
    seconds: float

    @classmethod
    def load(cls, path: Path) -> Receipt | None:
        """Read a receipt; None if it is not there or not readable as one."""
        try:
            values = json.loads(path.read_bytes())
            return cls(**values | {"fingerprint": Fingerprint(**values["fingerprint"])})
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None

    def save(self, path: Path) -> None:
        """Write the receipt, whole or not at all."""
        write_whole(path, json.dumps(asdict(self)).encode())


def part_file_name(number: int, label: str | None, rows: str = "") -> str:
    """Name a part file after its number, matrix and rows; names sort in the plan's order."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in label or "cells")
    return ".".join(filter(None, [f"{number:05d}", safe[:150], rows, "parquet"]))


def receipt_path(staging: Path, number: int) -> Path:
    """Give the place of a block's receipt."""
    return staging / RECEIPTS / f"{number:05d}.json"


def make_part(task: BlockTask, staging: str, plan: str) -> Receipt:
    """Read one row block and write it as a part; this is the delayed task of `extract`.

    Parameters
    ----------
    task : BlockTask
    staging : str
        Folder of the unfinished view.
    plan : str
        Digest of the plan.

    Returns
    -------
    Receipt
        Some hundred bytes; the data stays on disk.

    Raises
    ------
    DamagedFileError
        If the matrix file cannot be read or changed.
    ViewError
        If the part cannot be written.
    """
    began = time.perf_counter()
    folder = Path(staging)
    partition = read_block(task)
    rows = f"{task.block.start}-{task.block.stop}"
    name = part_file_name(task.block.number, task.feature_matrix_label, rows)
    path = folder / PARTS / name
    try:
        table = part_table(task, partition, folder)
        with replacing(path) as temporary:
            write_table(table, temporary)
            size, digest = temporary.stat().st_size, sha256(temporary)
        receipt = Receipt(
            plan=plan,
            block=task.block.number,
            name=path.name,
            size=size,
            sha256=digest,
            rows=len(partition.labels),
            content=f"{content_digest(partition.labels, partition.values):016x}",
            fingerprint=task.matrix.fingerprint,
            bytes_read=partition.bytes_read,
            seconds=time.perf_counter() - began,
        )
        receipt.save(receipt_path(folder, task.block.number))
    except OSError as error:
        raise ViewError(
            f"{path} cannot be written: {error.strerror or error}; "
            "run the command again when that is mended"
        ) from error
    return receipt


def write_table(table: pa.Table, path: Path) -> None:
    """Write a part and read it back, checksums verified, before anyone counts on it."""
    pq.write_table(
        table,
        path,
        compression="zstd",
        row_group_size=ROW_GROUP,
        use_dictionary=[f.name for f in table.schema if pa.types.is_dictionary(f.type)],
        # every part has all terms, also those of columns with tens of thousands
        dictionary_pagesize_limit=_DICTIONARY_BYTES,
        write_page_checksum=True,
    )
    try:
        seal(path)
        with opened_sealed(path, page_checksum_verification=True) as file:
            rows = sum(len(batch) for batch in file.iter_batches(batch_size=ROW_GROUP))
    except (SealError, pa.ArrowException) as error:
        raise OSError(f"what was written cannot be read back ({error})") from error
    if rows != len(table):
        raise OSError(f"{rows:,} of {len(table):,} rows read back")


def part_table(task: BlockTask, partition: Partition, staging: Path) -> pa.Table:
    """Give the table of a part: cell_label, genes, annotations, and whose rows they are."""
    path = staging / PROVENANCE
    matrices, provenance = _carried(path, Fingerprint.of(path))
    columns: dict[str, Any] = dict(zip(task.columns, partition.values, strict=True))
    columns |= {a.name: a.arrow(values) for a, values in partition.annotations}
    return view_table(
        partition.labels,
        columns,
        {DATASET_LABEL: task.dataset_label, FEATURE_MATRIX_LABEL: task.feature_matrix_label},
        matrices,
        provenance,
    )


@lru_cache(maxsize=1)
def _carried(path: Path, _state: Fingerprint) -> tuple[list[dict[str, Any]], bytes]:
    """Give the matrices, and the provenance that a part carries: without a long list of them."""
    content = path.read_bytes()
    provenance = json.loads(content)
    matrices = provenance["matrices"]
    if len(content) > _CARRIED:
        content = json.dumps(provenance | {"matrices": len(matrices)}).encode()
    return matrices, content


def view_table(
    labels: pa.Array,
    columns: Mapping[str, Any],
    constants: Mapping[str, str | None],
    matrices: list[dict[str, Any]],
    provenance: bytes,
) -> pa.Table:
    """Give a table of a Parquet view, all from one matrix.

    The two label columns are dictionaries with the names of all matrices, the same in
    every part, so that categories agree when parts are put together.
    """
    arrays: dict[str, Any] = {CELL_LABEL: labels}
    arrays |= {
        name: values if isinstance(values, pa.Array) else pa.array(values)
        for name, values in columns.items()
    }
    for name, value in constants.items():
        names = list(dict.fromkeys(matrix[name] for matrix in matrices))
        code = None if value is None else names.index(value)
        codes = pa.array([code], pa.int16()).take(pa.array(np.zeros(len(labels), np.int64)))
        arrays[name] = pa.DictionaryArray.from_arrays(codes, pa.array(names))
    table = pa.table(arrays)
    metadata = {b"pandas": _pandas_metadata(table), SCHEMA_KEY: provenance}
    return table.replace_schema_metadata(metadata)


def _pandas_metadata(table: pa.Table) -> bytes:
    """Say to pandas and dask that cell_label is the index; others see a plain column."""
    columns = []
    kind: tuple[str, str, dict[str, Any] | None]
    for field in table.schema:
        if pa.types.is_dictionary(field.type):
            n = len(table[field.name].chunk(0).dictionary) if len(table) else 0
            codes = np.dtype(field.type.index_type.to_pandas_dtype()).name
            described = {"num_categories": n, "ordered": field.type.ordered}
            kind = ("categorical", codes, described)
        elif pa.types.is_floating(field.type) or pa.types.is_integer(field.type):
            name = np.dtype(field.type.to_pandas_dtype()).name
            kind = (name, name, None)
        else:
            kind = ("unicode", "object", None)
        columns.append(
            {
                "name": field.name,
                "field_name": field.name,
                "pandas_type": kind[0],
                "numpy_type": kind[1],
                "metadata": kind[2],
            }
        )
    text = {
        "index_columns": [CELL_LABEL],
        "column_indexes": [],
        "columns": columns,
        "creator": {"library": "abc_dask", "version": "1"},
        "pandas_version": "2.2.3",
    }
    return json.dumps(text).encode()


_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_STEP = 0x9E3779B97F4A7C15


def content_digest(labels: pa.Array, values: NDArray[Any]) -> int:
    """Hash labels and values so that neither order nor partitioning of rows matters.

    Each row's label is hashed (pandas' keyed SipHash), then mixed with the bits of each
    value in the order of the genes (the finaliser of SplitMix64); rows are summed modulo
    2**64. For telling whether two views hold the same table, not against forgery.

    Parameters
    ----------
    labels : pyarrow array of string, length n_cells
    values : float array, shape (n_genes, n_cells)

    Returns
    -------
    int
        0 to 2**64 - 1; digests of parts add up, modulo 2**64.
    """
    import pandas as pd

    names = labels.to_numpy(zero_copy_only=False).astype(object)
    state = pd.util.hash_array(names, categorize=False)
    for number, column in enumerate(values):
        # one NaN is as good as another, and so are the two zeros
        clean = np.where(np.isnan(column), np.asarray(np.nan, column.dtype), column + 0)
        bits = clean.astype(np.float64).view(np.uint64)
        state = state ^ (bits + np.uint64((number + 1) * _STEP % 2**64))
        for shift, factor in zip((30, 27), _MIX, strict=True):
            state = (state ^ (state >> np.uint64(shift))) * factor
        state = state ^ (state >> np.uint64(31))
    return int(state.sum(dtype=np.uint64)) if len(state) else 0
