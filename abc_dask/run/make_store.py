"""The making of a store on a cluster: blocks are packed, then put together gene by gene.

The protocol is that of views (`abc_dask.views.staging`): work in ``OUT.partial``, a receipt for
each block and each shard, one rename at the end. A run that was stopped goes on with the
blocks and shards whose receipts are missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from abc_dask._version import __version__
from abc_dask.base.errors import AbcDaskError, StoreError, ViewError
from abc_dask.base.progress import Progress
from abc_dask.base.records import loads
from abc_dask.disk.files import cannot_write, remove
from abc_dask.run.extraction import now, tell_made
from abc_dask.run.part import find_receipts
from abc_dask.run.store_plan import StorePlan
from abc_dask.run.store_tasks import (
    SUFFIX,
    StoreTask,
    is_done,
    make_piece,
    pack_task,
    tasks_of_shards,
)
from abc_dask.run.store_values import look_on, require_alone, start_again, values_held
from abc_dask.run.store_work import StoreWork
from abc_dask.run.tasks import run_tasks
from abc_dask.store.assemble import OLDER_GENES, Shard, gather
from abc_dask.store.build import described, shard_tasks
from abc_dask.store.folder import folder_of, is_store
from abc_dask.store.gene_store import GeneStore
from abc_dask.store.layout import Cells, create_values, has_values, load_writers, write_metadata
from abc_dask.store.packing import WideCountsError
from abc_dask.store.tasks import Values, blocks_of
from abc_dask.views.overwrite import refuse_existing
from abc_dask.views.staging import FINISHED, MATRICES, PARTS, PLAN, Staging

if TYPE_CHECKING:
    from distributed import Client


def require_place(output: Path, *, overwrite: bool) -> None:
    """Raise `ViewError` if something is there that may not be replaced by a store."""
    if not (overwrite and is_store(output)):
        refuse_existing(output, overwrite=overwrite)


def is_made(output: Path, plan: str, precompute: Sequence[str]) -> bool:
    """Return whether a store is there that was made by the plan of a digest."""
    return _made(output, plan, precompute) is not None


def _made(output: Path, plan: str, precompute: Sequence[str]) -> dict[str, Any] | None:
    """Return what a store says of where it is from, if it was made by a plan."""
    if is_store(output):
        with contextlib.suppress(StoreError):
            said = GeneStore(folder_of(output)).info.provenance
            if (said.get("plan"), said.get("precompute")) == (plan, list(precompute)):
                return said
    return None


def store_made(
    output: Path, plan: str, precompute: Sequence[str], *, overwrite: bool, progress: bool
) -> bool:
    """Return whether a store is there, made by the plan of a digest, and say so.

    Raises
    ------
    ViewError
        If something else is there that may not be replaced.
    """
    if not overwrite and (said := _made(output, plan, precompute)) is not None:
        tell_made(output, plan, said, progress=progress)
        return True
    require_place(output, overwrite=overwrite)
    return False


# Adds statistics by some columns to a store that nobody reads yet; a folder keeps what is done.
Precompute = Callable[[Path, Sequence[str], Path], None]

# Does the tasks of a digest, and raises what one of them raised.
Runner = Callable[[Sequence[StoreTask], str, Progress], None]


def run_store(
    plan: StorePlan,
    output: Path,
    connect: Callable[[], AbstractContextManager[Client]],
    *,
    precompute: Callable[[Client], Precompute],
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Make the store of a plan, or complete an unfinished one.

    Parameters
    ----------
    plan : StorePlan
    output : Path
        Where the store will be.
    connect : callable
        Returns a context with the `distributed.Client` where tasks run; output and inputs must
        lie where its workers see them.
    precompute : callable
        Returns what adds statistics where the plan asks for them, on a client.
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
    UsageError
        If there can be no such cluster.
    DamagedFileError, StoreError, ViewError, ClusterError
        If a block cannot be read or written; what is done is kept, and the same call
        completes the work.
    """
    began = time.perf_counter()
    staging = Staging.beside(output)
    with staging.locked():
        require_place(output, overwrite=overwrite)
        is_new = not staging.holds(plan.digest)
        work = begin_store(plan, staging, overwrite=overwrite)
        held = [matrix.planned.matrix for matrix in work.matrices]
        with contextlib.ExitStack() as stack:
            try:
                client = stack.enter_context(connect())
            except AbcDaskError:
                if is_new:  # no work is lost, and another request is not in its way
                    for name in (PLAN, MATRICES):
                        remove(staging.folder / name)
                raise
            see = look_on(client, work.digest, show=progress)
            run = on_cluster(client, staging)
            while True:
                values = values_held(held, work.normalization, staging, work.older, see=see)
                making = Making(work, values, staging)
                Thread(target=load_writers, daemon=True).start()
                try:
                    kept = making.pack(run, show=progress)
                    break
                except WideCountsError as error:
                    require_alone(work, error)
                    start_again(values, staging)
            kept += making.assemble(run, show=progress)
            seconds = time.perf_counter() - began
            making.finish(precompute(client), kept=kept, seconds=seconds)
    return output


def begin_store(plan: StorePlan, staging: Staging, *, overwrite: bool) -> StoreWork:
    """Write down what is being made, or find that the folder holds the same."""
    staging.begin(plan.identity, plan.digest, overwrite=overwrite)
    staging.begin_parts(plan.provenance)
    folder = staging.folder / MATRICES
    folder.mkdir(exist_ok=True)
    return plan.write(folder)


def on_cluster(client: Client, staging: Staging) -> Runner:
    """Return what does tasks on a cluster."""

    def run(tasks: Sequence[StoreTask], digest: str, bar: Progress) -> None:
        run_tasks(make_piece, tasks, str(staging.folder), digest, client, progress=bar)

    return run


@dataclass(frozen=True)
class Making:
    """The pieces of a store, with one type of X.

    Attributes
    ----------
    work : StoreWork
    values : Values
    staging : Staging
    """

    work: StoreWork
    values: Values
    staging: Staging

    @cached_property
    def digest(self) -> str:
        """What receipts are known by: the plan, and what is held of each value."""
        return hashlib.sha256((self.work.digest + self.values.dtype).encode()).hexdigest()

    @property
    def _folder(self) -> Path:
        return self.staging.folder / PARTS

    @property
    def _store(self) -> Path:
        return self.staging.folder / FINISHED

    def blocks(self) -> list[StoreTask]:
        """Return one task a block."""
        work = self.work
        cut = blocks_of(work.segments(), work.block_cells, work.n_genes, self.values, work.older)
        return [pack_task(task) for task in cut]

    def pack(self, run: Runner, *, show: bool, tasks: Sequence[StoreTask] | None = None) -> int:
        """Pack all blocks, or some; return how many were there before."""
        blocks = self.blocks() if tasks is None else tasks
        n_cells = sum(task.amount for task in blocks)
        return self._run(run, blocks, Progress(n_cells, "pack", unit="cell", enabled=show))

    def assemble(self, run: Runner, *, show: bool) -> int:
        """Put all shards together; return how many tasks of them were done before."""
        work, kept = self.work, self._kept
        if not has_values(self._store):
            shape = (work.n_cells, len(kept))
            create_values(
                self._store, shape, self.values, block_cells=work.block_cells, layout=work.layout
            )
        self._require_blocks()
        gather(self._block_paths, work.block_cells, self._folder, kept)
        if work.older is not None:
            np.save(self._folder / OLDER_GENES, work.older.positions()[kept])
        bar = Progress(len(kept), "put together", unit="gene", enabled=show)
        return self._run(run, self._shards, bar)

    @cached_property
    def _shards(self) -> list[StoreTask]:
        work = self.work
        shards = shard_tasks(
            self._block_paths,
            len(self._kept),
            self.values,
            block_cells=work.block_cells,
            n_cells=work.n_cells,
            layout=work.layout,
            folder=self._folder,
            store=self._store,
            older=work.older,
        )
        return tasks_of_shards(shards, -(-work.n_cells // work.block_cells))

    @cached_property
    def _kept(self) -> NDArray[np.int64]:
        """Genes that a matrix has."""
        return np.flatnonzero(~self.work.absent().all(axis=1))

    @property
    def _block_paths(self) -> list[Path]:
        work = self.work
        n_taken = 0 if work.older is None else work.older.n_whole
        numbers = range(n_taken, -(-work.n_cells // work.block_cells))
        return [self._folder / f"{number:05d}{SUFFIX['pack']}" for number in numbers]

    def _require_blocks(self) -> None:
        missing = next((path for path in self._block_paths if not path.is_file()), None)
        if missing is not None:
            raise ViewError(
                f"{missing} was written by a worker but is not here; "
                "the output must lie on a file system that all workers share"
            )

    def _run(self, run: Runner, tasks: Sequence[StoreTask], bar: Progress) -> int:
        held = self.trusted(tasks)
        todo = [task for task in tasks if task.number not in held]
        bar.add(sum(task.amount for task in tasks) - sum(task.amount for task in todo))
        with bar:
            run(todo, self.digest, bar)
        return len(held)

    def trusted(self, tasks: Sequence[StoreTask]) -> set[int]:
        """Return the numbers of the tasks whose work is there, as their receipts say."""
        folder = self.staging.folder
        return set(find_receipts(folder, self.digest, tasks, partial(is_done, staging=folder)))

    def finish(self, precompute: Precompute, *, kept: int, seconds: float) -> None:
        """Write all but the genes, and publish."""
        work, store = self.work, self._store
        self._require_blocks()
        genes = self._kept
        gathered = gather(self._block_paths, work.block_cells, self._folder, genes)
        if work.older is not None:
            gathered = work.older.joined(gathered, work.older.positions()[genes])
        labels, order = work.cells()
        if not len(gathered.totals) == work.n_cells == len(labels):
            raise StoreError(
                f"{self.staging.folder}: the blocks hold {len(gathered.totals):,} cells, "
                f"expected {work.n_cells:,}; remove the folder and run the command again"
            )
        columns, annotations = work.columns(order)
        run = {"seconds": round(seconds, 3), "pieces_kept_from_earlier_run": kept}
        info = described(
            self.values,
            work.described(),
            gathered,
            layout=work.layout,
            block_cells=work.block_cells,
            provenance={
                **work.provenance,
                "abc_dask": __version__,
                "annotations": annotations,
                "plan": work.digest,
                "precompute": list(work.precompute),
                "created": now(),
                "run": run,
            },
        )
        made = [(self._folder / task.part).read_bytes() for task in self._shards]
        shards = [shard for some in made for shard in loads(tuple[Shard, ...], some)]
        try:
            for left in store.iterdir():  # by a run that was stopped behind the genes
                if left.name != "X":
                    remove(left)
            write_metadata(
                store,
                info,
                cells=Cells(labels, info.matrices, columns),
                genes=work.genes(self.staging.folder / MATRICES).iloc[genes],
                absent=work.absent()[genes],
                gathered=gathered,
                shards=shards,
            )
            if work.precompute:
                name = hashlib.sha256(json.dumps(work.precompute).encode()).hexdigest()[:16]
                precompute(store, work.precompute, self._folder / f"precomputed-{name}")
            self.staging.publish(store)
        except OSError as error:
            raise cannot_write(self.staging.output, error) from error
