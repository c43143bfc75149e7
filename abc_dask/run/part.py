"""Parts and their receipts: what finished tasks are known by, in ``OUT.partial``.

What a task makes is written under a name that no other attempt can have, closed, flushed and
renamed; then its receipt is written the same way. So a file without a receipt, or with one that
does not fit, is one that was not made.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

from abc_dask._version import build
from abc_dask.base.columns import DATASET_LABEL, FEATURE_MATRIX_LABEL
from abc_dask.base.errors import ViewError
from abc_dask.disk.files import Fingerprint, cannot_write, sha256, write_by, write_whole
from abc_dask.plan.blocks import RowBlock
from abc_dask.plan.plan import Plan
from abc_dask.run.read_block import BlockTask, Partition, read_block
from abc_dask.views.parquet_view import PartContent, part_file_name, read_back, write_part
from abc_dask.views.staging import PARTS, PROVENANCE, READERS, RECEIPTS, Staging

# Bytes of provenance in each part. That of thousands of matrices stands in _view.json alone.
_CARRIED = 64 << 10


@dataclass(frozen=True)
class Receipt:
    """What a finished task is known by.

    Attributes
    ----------
    build : str
        Build of the package that made it (`abc_dask._version.build`).
    plan : str
        Digest of the plan.
    block : int
        Number of the task.
    name : str
        File of what it made.
    size : int
        Its bytes.
    sha256 : str
        Their digest.
    seconds : float
        Time of the task.
    rows : int
        Cells, or genes, in it.
    content : str
        Of a part of a view, read back: digest of labels and values that does not depend on how
        rows are partitioned: a sum over rows, modulo 2**64, in hexadecimal digits.
    fingerprint : Fingerprint or None
        State of the matrix file that it was read from.
    bytes_read : int
        Decoded bytes of values and indices.
    """

    build: str
    plan: str
    block: int
    name: str
    size: int
    sha256: str
    seconds: float
    rows: int
    content: str = "0"
    fingerprint: Fingerprint | None = None
    bytes_read: int = 0

    @classmethod
    def load(cls, path: Path) -> Receipt | None:
        """Read a receipt; None if it is not there or not readable as one."""
        try:
            values = json.loads(path.read_bytes())
            if values["fingerprint"] is not None:
                values["fingerprint"] = Fingerprint(**values["fingerprint"])
            return cls(**values)
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None

    def save(self, path: Path) -> None:
        """Write the receipt, whole or not at all."""
        write_whole(path, json.dumps(asdict(self)).encode())


class Numbered(Protocol):
    """What there is one receipt of."""

    @property
    def number(self) -> int:
        """What its receipt is named after."""
        ...


T = TypeVar("T", bound=Numbered)


def receipt_path(staging: Path, number: int) -> Path:
    """Return the place of a task's receipt."""
    return staging / RECEIPTS / f"{number:05d}.json"


def with_receipt(
    task: Numbered,
    staging: str,
    plan: str,
    name: str,
    write: Callable[[Path], Mapping[str, Any]],
) -> Receipt:
    """Write what a task makes, whole or not at all, then its receipt.

    Parameters
    ----------
    task : Numbered
    staging : str
        Folder of the unfinished output.
    plan : str
        Digest of the plan.
    name : str
        Of the file.
    write : callable
        Called with a temporary path; returns what else the receipt says, `rows` at least.

    Raises
    ------
    ViewError
        If nothing can be written.
    """
    began, number = time.perf_counter(), task.number
    folder = Path(staging)
    path = folder / PARTS / name
    try:
        more, size, digest = write_by(write, path)
        seconds = time.perf_counter() - began
        receipt = Receipt(build(), plan, number, name, size, digest, seconds, **more)
        receipt.save(receipt_path(folder, number))
    except OSError as error:
        raise cannot_write(path, error) from error
    return receipt


def find_receipts(
    folder: Path, plan: str, tasks: Sequence[T], fits: Callable[[T, Receipt], bool]
) -> dict[int, Receipt]:
    """Return the receipts that can be trusted: file there, size and digest as written.

    Parameters
    ----------
    folder : Path
        Of the unfinished output.
    plan : str
        Digest of the plan.
    tasks : sequence
        Whose receipts are looked for.
    fits : callable
        Whether a receipt, and the file that it tells of, is that of a task; what goes wrong in
        reading it (OSError, ValueError, `AbcDaskError` of damage) is to be answered by False.

    Returns
    -------
    dict of int to Receipt
        By number.
    """

    def look(task: T) -> Receipt | None:
        receipt = Receipt.load(receipt_path(folder, task.number))
        if receipt is None or Path(receipt.name).name != receipt.name:
            return None
        if (receipt.build, receipt.plan, receipt.block) != (build(), plan, task.number):
            return None
        path = folder / PARTS / receipt.name
        try:
            whole = path.stat().st_size == receipt.size and sha256(path) == receipt.sha256
        except OSError:
            return None
        return receipt if whole and fits(task, receipt) else None

    # many small files, perhaps on a slow file system: several at a time
    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(look, tasks))
    return {receipt.block: receipt for receipt in found if receipt is not None}


def require_here(folder: Path, receipt: Receipt) -> Path:
    """Return the file that a receipt tells of: workers may see another file system.

    Raises
    ------
    ViewError
        If it is not here.
    """
    path = folder / PARTS / receipt.name
    if not path.is_file() or path.stat().st_size != receipt.size:
        raise ViewError(
            f"{path} was written by a worker but is not here; "
            "the output must lie on a file system that all workers share"
        )
    return path


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
