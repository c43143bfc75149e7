"""One row block as one Parquet file: written whole, read back, with a receipt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from abc_dask.columns import DATASET_LABEL, FEATURE_MATRIX_LABEL
from abc_dask.plan.plan import Plan, RowBlock
from abc_dask.run.read_block import BlockTask, Partition, read_block
from abc_dask.run.receipts import Receipt, find_receipts, with_receipt
from abc_dask.views.parquet_view import PartContent, part_file_name, read_back, write_part
from abc_dask.views.staging import PARTS, PROVENANCE, Staging

# Bytes of provenance in each part. That of thousands of matrices stands in _view.json alone.
_CARRIED = 64 << 10


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

    def write(path: Path) -> dict[str, Any]:
        partition = read_block(task)
        content = part_content(task, partition, Path(staging))
        digest = write_part(content, path, task.columns)
        return told(task, len(partition.labels), partition.bytes_read, digest)

    return with_receipt(task, staging, plan, part_name(task, "parquet"), write)


def part_name(task: BlockTask, suffix: str) -> str:
    """Return the name of the part of a block."""
    block, label = task.block, task.matrix.feature_matrix_label
    return part_file_name(block.number, label, f"{block.start}-{block.stop}", suffix)


def told(task: BlockTask, rows: int, bytes_read: int, content: int = 0) -> dict[str, Any]:
    """Return what a receipt says of a part, but for its file."""
    return {
        "rows": rows,
        "content": f"{content:016x}",
        "fingerprint": task.matrix.matrix.fingerprint,
        "bytes_read": bytes_read,
    }


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
    """Return the receipts that can be trusted: part there, as written, with the content told.

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

    def fits(block: RowBlock, receipt: Receipt) -> bool:
        fingerprint = plan.matrices[block.matrix].matrix.fingerprint
        if (receipt.rows, receipt.fingerprint) != (block.n_cells, fingerprint):
            return False
        if plan.kind:  # not a part of a view
            return True
        try:
            _, content = read_back(staging.folder / PARTS / receipt.name, plan.columns)
        except OSError:
            return False
        return f"{content:016x}" == receipt.content

    wanted = plan.blocks if blocks is None else blocks
    return find_receipts(staging.folder, plan.digest, wanted, fits)
