"""One row block as one Parquet file: written whole, read back, with a receipt.

A part is written under a name that no other attempt can have, closed, read back, flushed
and renamed; then its receipt is written the same way. So a part without a receipt, or
with one that does not fit, is a part that was not made.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from abc_dask._version import build
from abc_dask.columns import DATASET_LABEL, FEATURE_MATRIX_LABEL
from abc_dask.disk.files import Fingerprint, cannot_write, sha256, write_by, write_whole
from abc_dask.plan.plan import Plan, RowBlock
from abc_dask.run.read_block import BlockTask, Partition, read_block
from abc_dask.views.parquet_view import PartContent, content_digest, part_file_name, write_part
from abc_dask.views.staging import PARTS, PROVENANCE, READERS, RECEIPTS, Staging

# Bytes of provenance in each part. That of thousands of matrices stands in _view.json alone.
_CARRIED = 64 << 10


@dataclass(frozen=True)
class Receipt:
    """What a finished block is known by.

    Attributes
    ----------
    build : str
        Build of the package that made it (`abc_dask._version.build`).
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

    build: str
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


def receipt_path(staging: Path, number: int) -> Path:
    """Return the place of a block's receipt."""
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

    def write(path: Path) -> tuple[int, int, int]:
        partition = read_block(task)
        write_part(part_content(task, partition, Path(staging)), path)
        content = content_digest(partition.labels, partition.values)
        return len(partition.labels), content, partition.bytes_read

    return with_receipt(task, staging, plan, "parquet", write)


def with_receipt(
    task: BlockTask,
    staging: str,
    plan: str,
    suffix: str,
    write: Callable[[Path], tuple[int, int, int]],
) -> Receipt:
    """Write the part of one row block, whole or not at all, then its receipt.

    Parameters
    ----------
    task, staging, plan
        As for `make_part`.
    suffix : str
        Of the part file.
    write : callable
        Called with a temporary path; returns rows, content digest and bytes read.
    """
    began = time.perf_counter()
    folder, block, matrix = Path(staging), task.block, task.matrix
    rows_of = f"{block.start}-{block.stop}"
    name = part_file_name(block.number, matrix.feature_matrix_label, rows_of, suffix)
    try:
        (rows, content, bytes_read), size, digest = write_by(write, folder / PARTS / name)
        receipt = Receipt(
            build=build(),
            plan=plan,
            block=block.number,
            name=name,
            size=size,
            sha256=digest,
            rows=rows,
            content=f"{content:016x}",
            fingerprint=matrix.matrix.fingerprint,
            bytes_read=bytes_read,
            seconds=time.perf_counter() - began,
        )
        receipt.save(receipt_path(folder, block.number))
    except OSError as error:
        raise cannot_write(folder / PARTS / name, error) from error
    return receipt


def part_content(task: BlockTask, partition: Partition, staging: Path) -> PartContent:
    """Return what a part holds: cell_label, genes, annotations, and whose rows they are."""
    path = staging / PROVENANCE
    matrices, provenance = _carried(path, path.stat().st_mtime_ns)
    columns: dict[str, Any] = dict(zip(task.columns, partition.values, strict=True))
    columns |= {a.name: a.arrow(values) for a, values in partition.annotations}
    of_matrix = {
        DATASET_LABEL: task.matrix.dataset_label,
        FEATURE_MATRIX_LABEL: task.matrix.feature_matrix_label,
    }
    return PartContent(partition.labels, columns, of_matrix, matrices, provenance)


@lru_cache(maxsize=1)
def _carried(path: Path, _mtime_ns: int) -> tuple[list[dict[str, Any]], bytes]:
    """Return the matrices, and the provenance that a part carries: without a long list of them."""
    content = path.read_bytes()
    provenance = json.loads(content)
    matrices = provenance["matrices"]
    if len(content) > _CARRIED:
        content = json.dumps(provenance | {"matrices": len(matrices)}).encode()
    return matrices, content


def trusted_receipts(
    staging: Staging, plan: Plan, blocks: Sequence[RowBlock] | None = None
) -> dict[int, Receipt]:
    """Return the receipts that can be trusted: part there, size and digest as written.

    Parameters
    ----------
    staging : Staging
    plan : Plan
    blocks : sequence of RowBlock, optional
        Look for these only.

    Returns
    -------
    dict of int to Receipt
        By the number of the block.
    """

    def look(block: RowBlock) -> Receipt | None:
        receipt = Receipt.load(receipt_path(staging.folder, block.number))
        return receipt if receipt and _is_good(receipt, staging, plan, block) else None

    # many small files, perhaps on a slow file system: several at a time
    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(look, plan.blocks if blocks is None else blocks))
    return {receipt.block: receipt for receipt in found if receipt is not None}


def _is_good(receipt: Receipt, staging: Staging, plan: Plan, block: RowBlock) -> bool:
    expected = (build(), plan.digest, block.number, block.n_cells)
    if (
        (receipt.build, receipt.plan, receipt.block, receipt.rows) != expected
        or receipt.fingerprint != plan.matrices[block.matrix].matrix.fingerprint
        or Path(receipt.name).name != receipt.name
    ):
        return False
    part = staging.folder / PARTS / receipt.name
    try:
        return part.stat().st_size == receipt.size and sha256(part) == receipt.sha256
    except OSError:
        return False
