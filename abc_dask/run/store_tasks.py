"""The tasks of a store: a block to pack, shards to put together; each leaves a receipt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from abc_dask.base.records import dumps, loads
from abc_dask.disk.files import sha256
from abc_dask.run.part import Receipt, with_receipt
from abc_dask.store.assemble import Shard, assemble_shard
from abc_dask.store.packing import pack_block
from abc_dask.store.tasks import PackTask, Segment, ShardTask
from abc_dask.views.staging import PARTS

# What a task of each kind leaves in the folder of parts.
SUFFIX = {"pack": ".block", "shards": ".shards.json"}

# Bytes, when decoded, of the shards that a task puts together, and how many those are at most:
# what a task costs beside its work is as much as that of a small shard.
_SHARD_BYTES = 256 << 20
_MOST_SHARDS = 8


@dataclass(frozen=True)
class StoreTask:
    """A block to pack, or shards to put together.

    Attributes
    ----------
    number : int
        What its receipt is named after: shards come behind the blocks.
    kind : str
        ``pack`` or ``shards``.
    where : str
        What messages call it.
    work : PackTask or tuple of ShardTask
    """

    number: int
    kind: str
    where: str
    work: PackTask | tuple[ShardTask, ...]

    @property
    def label(self) -> str:
        """What dashboards and logs call it."""
        return f"store-{self.kind}"

    @property
    def unit(self) -> str:
        """What messages call one."""
        return "block" if self.kind == "pack" else "task"

    @property
    def paths(self) -> tuple[str, ...]:
        """The matrix files of a block; shards are made of what lies in the folder of the store."""
        if not isinstance(self.work, PackTask):
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
        """What progress counts when it is done: cells of a block, genes of shards."""
        if isinstance(self.work, PackTask):
            return self.work.n_cells
        return sum(len(shard.genes) for shard in self.work)


def make_piece(task: StoreTask, staging: str, plan: str) -> Receipt:
    """Pack one block, or put some shards together; the delayed task of `store build`.

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
            path.write_bytes(dumps([assemble_shard(shard) for shard in task.work]))
        return {"rows": task.amount}

    return with_receipt(task, staging, plan, task.part, write)


def pack_task(task: PackTask) -> StoreTask:
    """Return the task that packs a block."""
    first, last = task.segments[0], task.segments[-1]
    where = f"{first.matrix.path} rows {first.start:,} to {first.stop:,}"
    if last is not first:
        where += f", and so on to {last.matrix.path} row {last.stop:,}"
    return StoreTask(task.number, "pack", where, task)


def tasks_of_shards(shards: Sequence[ShardTask], n_blocks: int) -> list[StoreTask]:
    """Return the tasks that put shards together, several small ones at a time.

    Parameters
    ----------
    shards : sequence of ShardTask
        All, in order.
    n_blocks : int
        Blocks of the store, whose receipts come before.
    """
    whole = shards[0].n_cells * len(shards[0].genes) * np.dtype(shards[0].dtype).itemsize
    step = min(max(1, _SHARD_BYTES // whole), _MOST_SHARDS)
    groups = [tuple(shards[k : k + step]) for k in range(0, len(shards), step)]
    return [
        StoreTask(
            n_blocks + number,
            "shards",
            f"{group[0].store} shards {group[0].number} to {group[-1].number}",
            group,
        )
        for number, group in enumerate(groups)
    ]


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
        shards = loads(tuple[Shard, ...], content)
        return all(_is_there(*both) for both in zip(task.work, shards, strict=True))
    except (OSError, ValueError):
        return False
