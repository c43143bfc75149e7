"""The making of a store on a cluster: blocks are packed, then put together gene by gene.

The protocol is that of views (`abc_dask.views.staging`): work in ``OUT.partial``, a receipt for
each block and each shard, one rename at the end. A run that was stopped goes on with the
blocks and shards whose receipts are missing.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from abc_dask._version import __version__
from abc_dask.disk.files import Fingerprint, cannot_write, remove, replacing, sha256, write_whole
from abc_dask.errors import StoreError, ViewError
from abc_dask.progress import Progress
from abc_dask.records import dumps, loads
from abc_dask.run.blocks import run_tasks
from abc_dask.run.part import Receipt, receipt_path
from abc_dask.run.store_plan import StorePlan
from abc_dask.store.assemble import Shard, ShardTask, assemble_shard, gather
from abc_dask.store.build import absent_genes, described, segments_of, shard_tasks, values_of
from abc_dask.store.folder import is_store
from abc_dask.store.layout import Cells, create_values, write_metadata
from abc_dask.store.packing import WideCountsError, pack_block
from abc_dask.store.tasks import PackTask, Values, blocks_of
from abc_dask.views.publish import refuse_existing
from abc_dask.views.staging import FINISHED, PARTS, RECEIPTS, Staging

if TYPE_CHECKING:
    from distributed import Client

# What a task of each kind leaves in the folder of parts.
_SUFFIX = {"pack": ".block", "shard": ".shard.json"}


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
    def part(self) -> str:
        """Name of the file that it leaves."""
        return f"{self.number:05d}{_SUFFIX[self.kind]}"

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


def require_place(output: Path, *, overwrite: bool) -> None:
    """Raise `ViewError` if something is there that may not be replaced by a store."""
    if not (overwrite and is_store(output)):
        refuse_existing(output, overwrite=overwrite)


def run_store(
    plan: StorePlan,
    output: Path,
    client: Client,
    *,
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Make the store of a plan, or complete an unfinished one.

    Parameters
    ----------
    plan : StorePlan
    output : Path
        Where the store will be.
    client : distributed.Client
        Where tasks run; output and inputs must lie where its workers see them.
    overwrite : bool
        Replace a finished store at `output`, or another request's unfinished one.
    progress : bool
        Show progress on stderr.

    Returns
    -------
    Path
        `output`.

    Raises
    ------
    DamagedFileError, StoreError, ViewError, ClusterError
        If a block cannot be read or written; what is done is kept, and the same call
        completes the work.
    """
    began = time.perf_counter()
    staging = Staging.beside(output)
    with staging.locked():
        require_place(output, overwrite=overwrite)
        staging.begin(plan.identity, plan.digest, overwrite=overwrite)
        staging.begin_parts(plan.provenance)
        values = _values(plan, staging)
        try:
            kept = _Making(plan, values, staging, client, progress).run()
        except WideCountsError:
            # counts beyond 65,535: everything once more, with four bytes a count
            values = Values("counts", "uint32", values.normalization, values.source_dtype)
            _start_again(staging, values)
            kept = _Making(plan, values, staging, client, progress).run()
        _finish(plan, values, staging, kept=kept, seconds=time.perf_counter() - began)
    return output


def _values(plan: StorePlan, staging: Staging) -> Values:
    """Return what the store holds: as an earlier run found, or as some rows show."""
    path = staging.folder / PARTS / "values.json"
    try:
        return loads(Values, path.read_bytes())
    except (OSError, ValueError):
        values = values_of(plan.inputs, plan.normalization)
        write_whole(path, dumps(values))
        return values


def _start_again(staging: Staging, values: Values) -> None:
    for name in (PARTS, RECEIPTS, FINISHED):
        remove(staging.folder / name)
        if name != FINISHED:
            (staging.folder / name).mkdir()
    write_whole(staging.folder / PARTS / "values.json", dumps(values))


@dataclass(frozen=True)
class _Making:
    """One try to make the pieces of a store, with one type of X."""

    plan: StorePlan
    values: Values
    staging: Staging
    client: Client
    progress: bool

    @property
    def digest(self) -> str:
        """What receipts are known by: the plan, and what is held of each value."""
        return hashlib.sha256((self.plan.digest + self.values.dtype).encode()).hexdigest()

    def run(self) -> int:
        """Pack all blocks and put all shards together; return how many were there before."""
        plan, folder, store = self.plan, self.staging.folder / PARTS, self.staging.folder / FINISHED
        segments = segments_of(plan.inputs, folder)
        packing = list(blocks_of(segments, plan.block_cells, len(plan.genes), self.values))
        blocks = [_pack_task(task) for task in packing]
        paths = [folder / task.part for task in blocks]
        todo = shard_tasks(
            paths,
            packing[0],
            n_cells=plan.n_cells,
            layout=plan.layout,
            folder=folder,
            store=store,
        )
        shards = [
            StoreTask(len(blocks) + one.number, "shard", f"{store} shard {one.number}", one)
            for one in todo
        ]
        held = self._trusted([*blocks, *shards])
        self._run(blocks, held, Progress(plan.n_cells, "pack", unit="cell", enabled=self.progress))
        if not (store / "X" / "zarr.json").exists():
            shape = (plan.n_cells, len(plan.genes))
            create_values(
                store, shape, self.values, block_cells=plan.block_cells, layout=plan.layout
            )
        gather(paths, plan.block_cells, folder)
        bar = Progress(len(plan.genes), "put together", unit="gene", enabled=self.progress)
        self._run(shards, held, bar)
        return len(held)

    def _run(self, tasks: Sequence[StoreTask], held: set[int], bar: Progress) -> None:
        todo = [task for task in tasks if task.number not in held]
        bar.add(sum(task.amount for task in tasks) - sum(task.amount for task in todo))
        folder = str(self.staging.folder)
        with bar:
            run_tasks(make_piece, todo, folder, self.digest, self.client, progress=bar)

    def _trusted(self, tasks: Sequence[StoreTask]) -> set[int]:
        """Return the numbers of the tasks whose work is there, as their receipts say."""
        found = set()
        for task in tasks:
            receipt = Receipt.load(receipt_path(self.staging.folder, task.number))
            if receipt is None or (receipt.plan, receipt.name) != (self.digest, task.part):
                continue
            path = self.staging.folder / PARTS / receipt.name
            try:
                whole = path.stat().st_size == receipt.size and sha256(path) == receipt.sha256
                if whole and isinstance(task.work, ShardTask):
                    whole = _is_there(task.work, loads(Shard, path.read_bytes()))
            except (OSError, ValueError):
                continue
            if whole:
                found.add(task.number)
        return found


def _pack_task(task: PackTask) -> StoreTask:
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


def _finish(
    plan: StorePlan, values: Values, staging: Staging, *, kept: int, seconds: float
) -> None:
    """Write all but the genes, and publish."""
    folder, store = staging.folder / PARTS, staging.folder / FINISHED
    n_blocks = -(-plan.n_cells // plan.block_cells)
    paths = [folder / f"{number:05d}{_SUFFIX['pack']}" for number in range(n_blocks)]
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        raise ViewError(
            f"{missing} was written by a worker but is not here; "
            "the output must lie on a file system that all workers share"
        )
    gathered = gather(paths, plan.block_cells, folder)
    if len(gathered.totals) != plan.n_cells:
        raise StoreError(
            f"{staging.folder}: the blocks hold {len(gathered.totals):,} cells, "
            f"expected {plan.n_cells:,}; remove the folder and run the command again"
        )
    order = plan.order()
    columns, annotations = plan.columns(order)
    provenance = plan.provenance | {
        "abc_dask": __version__,
        "annotations": annotations,
        "run": {"seconds": round(seconds, 3), "pieces_kept_from_earlier_run": kept},
    }
    info = described(
        values,
        plan.inputs,
        gathered,
        layout=plan.layout,
        block_cells=plan.block_cells,
        provenance=provenance,
    )
    names = sorted(folder.glob(f"*{_SUFFIX['shard']}"))
    shards = [loads(Shard, path.read_bytes()) for path in names]
    try:
        for left in store.iterdir():  # by a run that was stopped behind the genes
            if left.name != "X":
                remove(left)
        write_metadata(
            store,
            info,
            cells=Cells(plan.labels(), info.matrices, columns),
            genes=plan.genes,
            absent=absent_genes(plan.inputs, len(plan.genes)),
            gathered=gathered,
            shards=sorted(shards, key=lambda shard: shard.number),
        )
        staging.publish(store)
    except OSError as error:
        raise cannot_write(staging.output, error) from error
