"""The tasks of a store: a block to pack, a shard to put together; each leaves a receipt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abc_dask.base.records import dumps, loads
from abc_dask.disk.files import sha256
from abc_dask.run.part import Receipt, with_receipt
from abc_dask.store.assemble import Shard, ShardTask, assemble_shard
from abc_dask.store.packing import pack_block
from abc_dask.store.tasks import PackTask, Segment
from abc_dask.views.staging import PARTS

# What a task of each kind leaves in the folder of parts.
SUFFIX = {"pack": ".block", "shard": ".shard.json"}


@dataclass(frozen=True)
class StoreTask:
    """A block to pack, or a shard to put together.

    Attributes
    ----------
    number : int
        What its receipt is named after: shards come behind the blocks.
    kind : str
        ``pack`` or ``shard``.
    where : str
        What messages call it.
    work : PackTask or ShardTask
    """

    number: int
    kind: str
    where: str
    work: PackTask | ShardTask

    @property
    def label(self) -> str:
        """What dashboards and logs call it."""
        return f"store-{self.kind}"

    @property
    def unit(self) -> str:
        """What messages call one."""
        return "block" if self.kind == "pack" else "shard"

    @property
    def paths(self) -> tuple[str, ...]:
        """The matrix files of a block; a shard is made of what lies in the folder of the store."""
        if isinstance(self.work, ShardTask):
            return ()
        return tuple(dict.fromkeys(segment.matrix.path for segment in self.work.segments))

    @property
    def part(self) -> str:
        """Name of the file that it leaves."""
        return f"{self.number:05d}{SUFFIX[self.kind]}"

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Where the cells of a block come from."""
        return self.work.segments if isinstance(self.work, PackTask) else ()

    @property
    def amount(self) -> int:
        """What progress counts when it is done: cells of a block, genes of a shard."""
        return self.work.n_cells if isinstance(self.work, PackTask) else len(self.work.genes)


def make_piece(task: StoreTask, staging: str, plan: str) -> Receipt:
    """Pack one block, or put one shard together; the delayed task of `store build`.

    Parameters
    ----------
    task : StoreTask
    staging : str
        Folder of the unfinished store.
    plan : str
        Digest of the plan.

    Raises
    ------
    DamagedFileError
        If a matrix file changed, cannot be read, or holds nonsense.
    StoreError
        If its values cannot be stored, or do not read back as they were.
    ViewError
        If nothing can be written.
    """

    def write(path: Path) -> dict[str, Any]:
        if isinstance(task.work, PackTask):
            pack_block(task.work, path)
        else:
            path.write_bytes(dumps(assemble_shard(task.work)))
        return {"rows": task.amount}

    return with_receipt(task, staging, plan, task.part, write)


def pack_task(task: PackTask) -> StoreTask:
    """Return the task that packs a block."""
    first, last = task.segments[0], task.segments[-1]
    where = f"{first.matrix.path} rows {first.start:,} to {first.stop:,}"
    if last is not first:
        where += f", and so on to {last.matrix.path} row {last.stop:,}"
    return StoreTask(task.number, "pack", where, task)


def _is_there(task: ShardTask, shard: Shard) -> bool:
    """Return whether the files of a shard's genes are in the unfinished store, whole."""
    folder = Path(task.store) / "X" / "c" / "0"
    if task.layout == "sharded":
        return sha256(folder / str(shard.number)) == shard.sha256
    sizes = [(folder / str(gene)).stat().st_size for gene in task.genes]
    return sizes == list(shard.sizes)


def is_done(task: StoreTask, receipt: Receipt, staging: Path) -> bool:
    """Return whether a task's work is there, as a receipt says whose own file is whole.

    Parameters
    ----------
    task : StoreTask
    receipt : Receipt
    staging : Path
        Folder of the unfinished store.
    """
    if receipt.name != task.part or isinstance(task.work, PackTask):
        return receipt.name == task.part
    try:
        content = (staging / PARTS / receipt.name).read_bytes()
        return _is_there(task.work, loads(Shard, content))
    except (OSError, ValueError):
        return False
