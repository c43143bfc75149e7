"""The tasks of a store: a block to pack, a shard to put together; each leaves a receipt."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from abc_dask._version import build
from abc_dask.disk.files import Fingerprint, cannot_write, replacing, sha256
from abc_dask.records import dumps, loads
from abc_dask.run.part import Receipt, receipt_path
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
    began = time.perf_counter()
    folder = Path(staging)
    path = folder / PARTS / task.part
    try:
        with replacing(path) as temporary:
            if isinstance(task.work, PackTask):
                pack_block(task.work, temporary)
            else:
                temporary.write_bytes(dumps(assemble_shard(task.work)))
            size, digest = temporary.stat().st_size, sha256(temporary)
        receipt = Receipt(
            build=build(),
            plan=plan,
            block=task.number,
            name=path.name,
            size=size,
            sha256=digest,
            rows=task.amount,
            content="0",
            fingerprint=Fingerprint(size, 0),
            bytes_read=0,
            seconds=time.perf_counter() - began,
        )
        receipt.save(receipt_path(folder, task.number))
    except OSError as error:
        raise cannot_write(path, error) from error
    return receipt


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


def is_done(task: StoreTask, staging: Path, plan: str) -> bool:
    """Return whether a task's work is there, as its receipt says.

    Parameters
    ----------
    task : StoreTask
    staging : Path
        Folder of the unfinished store.
    plan : str
        Digest that the receipt must have.
    """
    receipt = Receipt.load(receipt_path(staging, task.number))
    if receipt is None or (receipt.plan, receipt.name) != (plan, task.part):
        return False
    path = staging / PARTS / receipt.name
    try:
        whole = path.stat().st_size == receipt.size and sha256(path) == receipt.sha256
        if whole and isinstance(task.work, ShardTask):
            whole = _is_there(task.work, loads(Shard, path.read_bytes()))
    except (OSError, ValueError):
        return False
    return whole
