"""The same work without any Dask scheduler: a plan, shares of its blocks, a commit.

The plan is that of a view, or of a store (`abc_dask.run.store_array`): the folder says which.

The plan is written once. Each index of a job array makes the parts of its share, with the
receipts that a Dask task would leave. At the end one process commits. So either way goes
on where the other was stopped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from abc_dask._version import build
from abc_dask.base.errors import UsageError, ViewError
from abc_dask.base.messages import enumerate_names, plural
from abc_dask.plan.plan import Plan, plan_from_json
from abc_dask.run.cluster.workers import other_build
from abc_dask.run.extraction import begin, complete
from abc_dask.run.make_store import Precompute
from abc_dask.run.part import Receipt, make_part, trusted_receipts
from abc_dask.run.read_block import tasks_of
from abc_dask.run.store_array import finish_store, pack_share
from abc_dask.run.store_work import StoreWork, load_work
from abc_dask.run.work import run_here
from abc_dask.views.overwrite import refuse_existing
from abc_dask.views.staging import TASKS, Staging


def write_plan(plan: Plan, output: Path, format: str, *, overwrite: bool = False) -> int:
    """Write a plan into the folder of the unfinished view; nothing is read yet.

    Parameters
    ----------
    plan : Plan
    output : Path
        As `abc_dask.run.extraction.check_output` gives it.
    format : str
        Format.
    overwrite : bool
        Remove what was done for another request.

    Returns
    -------
    int
        Blocks that are not made yet.

    Raises
    ------
    ReleaseError, ViewError
        As `abc_dask.run.extraction.run`.
    """
    staging = Staging.beside(output)
    with staging.locked():
        refuse_existing(output, overwrite=overwrite)
        begin(plan, staging, format, overwrite=overwrite)
        return len(plan.blocks) - len(trusted_receipts(staging, plan))


def read_plan(staging: Staging) -> tuple[Plan, str]:
    """Read the plan and the format that `write_plan` or a run left.

    Raises
    ------
    ViewError
        If there is none, or it is damaged.
    """
    values = staging.load_tasks()
    try:
        format, made_by = str(values.pop("format")), str(values.pop("abc_dask"))
        if other := other_build(build(), made_by):
            raise ViewError(
                f"{staging.folder} is the work of another version (here is {other}); "
                "use that one, or begin again by abc-dask extract ... --plan-only"
            )
        return plan_from_json(values), format
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ViewError(
            f"{staging.folder} holds a damaged plan, or that of another version; "
            "make it again by abc-dask extract ... --plan-only"
        ) from None


def extract_part(
    output: str | Path, index: int, of: int, *, threads: int | None = None
) -> tuple[int, int]:
    """Make the parts of one share of a plan's blocks.

    Parameters
    ----------
    output : path
        Of the view or store.
    index, of : int
        This share, from 0, of so many: every `of`-th block.
    threads : int, optional
        Blocks at a time; the cores that this process may use where not given.

    Returns
    -------
    (made, kept) : int
        Blocks made now, and those that were there already.

    Raises
    ------
    UsageError
        If the index is not one of the shares.
    AbcDaskError
        If a block cannot be made; the share's other blocks are made nevertheless.
    """
    if of < 1 or not 0 <= index < of:
        raise UsageError(f"--index {index}, --of {of}: indices go from 0 to {max(of, 1) - 1}")
    if threads is not None and threads < 1:
        raise UsageError(f"--threads {threads} is not a positive number")
    staging = Staging.beside(Path(output).expanduser().absolute())
    store = _opened_store(staging)
    if store is not None:
        with staging.locked(shared=True):
            return pack_share(store, staging, index, of, threads)
    plan, _ = _opened(staging)
    with staging.locked(shared=True):
        share = tasks_of(plan)[index::of]
        held = trusted_receipts(staging, plan, [task.block for task in share])
        todo = [task for task in share if task.block.number not in held]
        folder = str(staging.folder)
        run_here(make_part, todo, folder, plan.digest, threads=threads, of=len(share))
    return len(todo), len(held)


def finalize(
    output: str | Path, *, overwrite: bool = False, precompute: Precompute | None = None
) -> Path:
    """Commit the parts that a job array made.

    Parameters
    ----------
    output : path
        Of the view or store.
    overwrite : bool
        Replace a finished one at `output`.
    precompute : callable, optional
        Adds statistics to a store, where its plan asks for them.

    Returns
    -------
    Path
        `output`.

    Raises
    ------
    ViewError
        If blocks are missing, naming them; or as `abc_dask.run.extraction.run`.
    DamagedFileError
        If an input file changed since the plan was made.
    """
    began = time.perf_counter()
    path = Path(output).expanduser().absolute()
    staging = Staging.beside(path)
    store = _opened_store(staging)
    if store is not None:
        with staging.locked():
            finish_store(store, staging, precompute or _no_statistics, overwrite=overwrite)
        return path
    refuse_existing(path, overwrite=overwrite)
    plan, format = _opened(staging)
    with staging.locked():
        for matrix in plan.matrices:
            matrix.matrix.fingerprint.require(matrix.matrix.path)
        found = trusted_receipts(staging, plan)
        missing = list(_missing(plan, found))
        if missing:
            raise ViewError(
                f"{path} is not complete: {plural(len(missing), 'block')} of "
                f"{len(plan.blocks):,} missing: {enumerate_names(missing, most=5)}; "
                "run abc-dask extract-part again for their indices"
            )
        complete(plan, found, staging, format, kept=len(found), began=began)
    return path


def _no_statistics(*_: object) -> None:
    raise UsageError("this store is to keep statistics: run `abc-dask finalize`")


def _opened_store(staging: Staging) -> StoreWork | None:
    """Return the plan of a store; None where there is that of a view, or none."""
    if not (staging.folder / TASKS).exists():
        return None
    work = load_work(staging)
    if work is not None:
        staging.begin(work.identity, work.digest, overwrite=False)
    return work


def _opened(staging: Staging) -> tuple[Plan, str]:
    plan, format = read_plan(staging)
    staging.begin(plan.identity, plan.digest, overwrite=False)
    return plan, format


def _missing(plan: Plan, found: dict[int, Receipt]) -> Iterator[str]:
    for block in plan.blocks:
        if block.number not in found:
            label = plan.matrices[block.matrix].feature_matrix_label
            yield f"{block.number} ({label} rows {block.start:,} to {block.stop:,})"
