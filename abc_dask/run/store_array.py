"""A store without any Dask scheduler: shares of its blocks, then the rest by one process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from abc_dask.base.errors import StoreError, ViewError
from abc_dask.base.messages import enumerate_names, plural
from abc_dask.base.progress import Progress
from abc_dask.run.make_store import (
    Making,
    Precompute,
    Runner,
    begin_store,
    require_place,
)
from abc_dask.run.store_plan import StorePlan
from abc_dask.run.store_tasks import StoreTask, make_piece
from abc_dask.run.store_values import require_alone, values_held, widen
from abc_dask.run.store_work import StoreWork, save_work
from abc_dask.run.work import run_here
from abc_dask.store.packing import WideCountsError
from abc_dask.views.staging import Staging


def write_store_plan(plan: StorePlan, output: Path, *, overwrite: bool = False) -> tuple[int, int]:
    """Write the plan of a store beside its place; only some rows are read yet.

    Parameters
    ----------
    plan : StorePlan
    output : Path
        Where the store will be.
    overwrite : bool
        Remove what was done for another request.

    Returns
    -------
    (blocks, left) : int
        Blocks in all, and those that are not packed yet.

    Raises
    ------
    ViewError, DamagedFileError
        As `abc_dask.run.make_store.run_store`.
    """
    staging = Staging.beside(output)
    with staging.locked():
        require_place(output, overwrite=overwrite)
        work = begin_store(plan, staging, overwrite=overwrite)
        making = _making(work, staging)
        save_work(work, staging)
        blocks = making.blocks()
        return len(blocks), len(blocks) - len(making.trusted(blocks))


def pack_share(
    work: StoreWork, staging: Staging, index: int, of: int, threads: int | None
) -> tuple[int, int]:
    """Pack every `of`-th block; return how many were packed now, and were there already.

    Raises
    ------
    StoreError
        If a count needs four bytes: that is known from then on, and all shares are to be made
        again.
    """
    making = _making(work, staging)
    share = making.blocks()[index::of]
    held = making.trusted(share)
    todo = [task for task in share if task.number not in held]
    folder = str(staging.folder)
    try:
        run_here(make_piece, todo, folder, making.digest, threads=threads, of=len(share))
    except WideCountsError as error:
        require_alone(work, error)
        widen(making.values, staging)
        raise StoreError(
            f"{error}; counts take four bytes from now on: "
            "run abc-dask extract-part again for all indices"
        ) from None
    return len(todo), len(held)


def finish_store(
    work: StoreWork, staging: Staging, precompute: Precompute, *, overwrite: bool
) -> None:
    """Put the genes of a store together, several at a time, and publish it.

    Raises
    ------
    ViewError
        If blocks are missing, naming them.
    DamagedFileError
        If an input file changed since the plan was made.
    """
    began = time.perf_counter()
    require_place(staging.output, overwrite=overwrite)
    for matrix in work.matrices:
        matrix.planned.matrix.fingerprint.require(matrix.planned.matrix.path)
    making = _making(work, staging)
    blocks = making.blocks()
    held = making.trusted(blocks)
    missing = [_named(task) for task in blocks if task.number not in held]
    if missing:
        raise ViewError(
            f"{staging.output} is not complete: {plural(len(missing), 'block')} of "
            f"{len(blocks):,} missing: {enumerate_names(missing, most=5)}; "
            "run abc-dask extract-part again for their indices"
        )
    kept = len(held) + making.assemble(_in_threads(staging), show=False)
    making.finish(precompute, kept=kept, seconds=time.perf_counter() - began)


def _named(task: StoreTask) -> str:
    first = task.segments[0]
    return f"{task.number} ({first.name} rows {first.start:,} to {first.stop:,})"


def _making(work: StoreWork, staging: Staging) -> Making:
    held = [matrix.planned.matrix for matrix in work.matrices]
    values = values_held(held, work.normalization, staging, work.older)
    return Making(work, values, staging)


def _in_threads(staging: Staging) -> Runner:
    def run(tasks: Sequence[StoreTask], digest: str, bar: Progress) -> None:
        run_here(make_piece, tasks, str(staging.folder), digest, of=len(tasks))
        bar.add(sum(task.amount for task in tasks))

    return run
