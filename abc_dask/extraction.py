"""Run a plan: blocks as delayed tasks, receipts, progress, and the commit at the end."""

from __future__ import annotations

import datetime as dt
import platform
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from abc_dask import __version__
from abc_dask.errors import AbcDaskError, ClusterError, ReleaseError, ViewError
from abc_dask.expression import BlockTask, tasks_of
from abc_dask.parts import PARTS, Receipt, make_part
from abc_dask.plan import FORMAT_VERSION, Plan, PlannedMatrix, RowBlock
from abc_dask.prepare import provenance
from abc_dask.publishing import FORMATS, VIEW, commit, format_of, publish, refuse_existing
from abc_dask.readers import PartsReader
from abc_dask.reading import CELL_ORDER, save_order
from abc_dask.staging import Staging
from abc_dask.tables import read_cached
from abc_dask.terms import is_missing
from abc_dask.view import View, open_view

if TYPE_CHECKING:
    from distributed import Client

_VERSIONS = ("dask", "distributed", "numpy", "pandas", "pyarrow", "h5py")


def check_output(
    output: str | Path,
    format: str | None,  # noqa: A002 - the word of the command line
    *,
    overwrite: bool,
    known: tuple[str, ...] = FORMATS,
) -> tuple[Path, str]:
    """Check the place and format of a view before any work.

    Returns
    -------
    path : Path
        Absolute.
    format : str

    Raises
    ------
    UsageError, ViewError
        If the format is unknown, or something is there and may not be replaced.
    """
    path = Path(output).expanduser().absolute()
    chosen = format_of(path, format, known=known)
    if path.name in {"", ".", ".."}:
        raise ViewError(f"{str(output)!r} is not a name for a view")
    refuse_existing(path, overwrite=overwrite)
    return path, chosen


def run(
    plan: Plan,
    output: Path,
    chosen: str,
    client: Client,
    *,
    overwrite: bool = False,
    progress: bool = False,
) -> View:
    """Make the view of a plan, or complete an unfinished one.

    Parameters
    ----------
    plan : Plan
    output : Path
        As `check_output` gives it.
    chosen : str
        Format.
    client : distributed.Client
        Where tasks run; output and inputs must lie where its workers see them.
    overwrite : bool
        Replace a finished view at `output`, or another request's unfinished one.
    progress : bool
        Show a bar on stderr.

    Returns
    -------
    View

    Raises
    ------
    ReleaseError
        If no cell was found.
    DamagedFileError, ViewError, ClusterError
        If a block cannot be read or written; finished blocks are kept, and the same
        call completes the work.
    """
    if not plan.blocks:
        raise ReleaseError(
            f"none of the {plan.n_asked:,} cells of {plan.metadata} is in a feature matrix"
        )
    began = time.perf_counter()
    described = provenance(plan)
    staging = Staging.beside(output)
    with staging.locked():
        # what may have happened while we waited for nothing: another driver's commit
        refuse_existing(output, overwrite=overwrite)
        begin(staging, plan, described, overwrite=overwrite)
        receipts, held = make_parts(make_part, plan, staging, client, progress=progress)
        content = sum(int(receipt.content, 16) for receipt in receipts)
        seconds = time.perf_counter() - began
        info = described | run_info(measured(plan, receipts), content, held, seconds)
        _finish(plan, receipts, staging, chosen, info)
    return open_view(output)


def begin(staging: Staging, plan: Plan, described: dict[str, Any], *, overwrite: bool) -> None:
    """Write down what is being made, or find that it was begun."""
    try:
        staging.begin(plan.identity, plan.digest, overwrite=overwrite)
        staging.begin_parts(described)
    except OSError as error:
        raise ViewError(f"{staging.folder} cannot be written: {error.strerror}") from None


def make_parts(
    work: Callable[[BlockTask, str, str], Receipt],
    plan: Plan,
    staging: Staging,
    client: Client,
    *,
    progress: bool,
) -> tuple[list[Receipt], int]:
    """Make the parts of a plan that are not there yet.

    Parameters
    ----------
    work : callable
        Makes a part of a block's task in a folder, for the plan of a digest.
    plan : Plan
    staging : Staging
        Begun, and locked by the caller.
    client : distributed.Client
    progress : bool

    Returns
    -------
    receipts : list of Receipt
        One a block, in the plan's order.
    n_held : int
        How many were there from an earlier run.
    """
    held = staging.receipts(plan)
    todo = [task for task in tasks_of(plan) if task.block.number not in held]
    done = _run_tasks(work, todo, plan, staging, client, held=held, progress=progress)
    receipts = [(held | done)[block.number] for block in plan.blocks]
    _check(receipts, plan, staging)
    return receipts, len(held)


def _run_tasks(
    work: Callable[[BlockTask, str, str], Receipt],
    todo: list[BlockTask],
    plan: Plan,
    staging: Staging,
    client: Client,
    *,
    held: dict[int, Receipt],
    progress: bool,
) -> dict[int, Receipt]:
    """Run one delayed task a block; on the first error the rest is cancelled."""
    import dask
    from distributed import as_completed

    extract = dask.delayed(work, pure=False)
    futures = client.compute(
        [
            extract(task, str(staging.folder), plan.digest, dask_key_name=_key(task, plan))
            for task in todo
        ]
    )
    tasks = dict(zip(futures, todo, strict=True))
    done: dict[int, Receipt] = {}
    with _bar(plan, held, enabled=progress) as bar:
        try:
            for future in as_completed(futures, loop=client.loop):
                receipt = _result(future, tasks[future])
                done[receipt.block] = receipt
                bar.update(receipt.rows)
        except BaseException:
            client.cancel(futures)
            raise
    return done


def _key(task: BlockTask, plan: Plan) -> str:
    """Name a task after its matrix and block, as dashboards and logs show it."""
    return f"extract-{task.feature_matrix_label}-{task.block.number:05d}-{plan.digest[:12]}"


def _result(future: Any, task: BlockTask) -> Receipt:
    from concurrent.futures import CancelledError

    from distributed import KilledWorker

    try:
        receipt: Receipt = future.result()
    except AbcDaskError:
        raise
    except KilledWorker as error:
        raise ClusterError(
            f"{task.where}: every worker that took this block died "
            f"({error.allowed_failures + 1} tries), perhaps for lack of memory; "
            "finished blocks are kept: run again with a larger --memory-limit or a smaller "
            "--block-size"
        ) from None
    except (CancelledError, OSError, TimeoutError) as error:
        raise ClusterError(
            f"{task.where}: the cluster lost this block ({error}); "
            "finished blocks are kept, run the command again"
        ) from error
    return receipt


def _bar(plan: Plan, held: dict[int, Receipt], *, enabled: bool) -> Any:
    from tqdm import tqdm

    return tqdm(
        desc="extract",
        total=plan.n_cells,
        initial=sum(receipt.rows for receipt in held.values()),
        unit=" cells",
        unit_scale=True,
        file=sys.stderr,
        disable=None if enabled else True,
        leave=False,
    )


def _check(receipts: Sequence[Receipt], plan: Plan, staging: Staging) -> None:
    """Believe receipts only if the parts are here: workers may see another file system."""
    for receipt, block in zip(receipts, plan.blocks, strict=True):
        part = staging.folder / PARTS / receipt.name
        if receipt.rows != block.n_cells:
            raise ViewError(f"{part} has {receipt.rows:,} rows, expected {block.n_cells:,}")
        if not part.is_file() or part.stat().st_size != receipt.size:
            raise ViewError(
                f"{part} was written by a worker but is not here; "
                "the output must lie on a file system that all workers share"
            )


def cell_order(plan: Plan) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Give the position in cell_metadata of every row of the parts, in the plan's order."""
    cells = [
        read_cached(matrix.details or matrix.rows, ["cell"])["cell"].to_numpy()
        if blocks
        else np.empty(0, np.int64)
        for matrix, blocks in _by_matrix(plan)
    ]
    pieces = [cells[block.matrix][block.start : block.stop] for block in plan.blocks]
    order = np.concatenate(pieces)
    return order[order >= 0]


def _by_matrix(plan: Plan) -> list[tuple[PlannedMatrix, list[RowBlock]]]:
    return [
        (matrix, [block for block in plan.blocks if block.matrix == number])
        for number, matrix in enumerate(plan.matrices)
    ]


def run_info(
    matrices: list[dict[str, Any]], content: int, kept: int, seconds: float
) -> dict[str, Any]:
    """Give what only the run can tell.

    Parameters
    ----------
    matrices : list of dict
        Provenance of each matrix, with task_seconds and bytes_read.
    content : int
        Sum of the blocks' content digests.
    kept : int
        Blocks that an earlier run had finished.
    seconds : float
        Wall time.
    """
    return {
        "format_version": FORMAT_VERSION,
        "abc_dask": __version__,
        "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "content": f"{content % 2**64:016x}",
        "matrices": matrices,
        "run": {
            "seconds": round(seconds, 3),
            "bytes_read": sum(matrix["bytes_read"] for matrix in matrices),
            "blocks_kept_from_earlier_run": kept,
            "python": platform.python_version(),
            "versions": {name: version(name) for name in _VERSIONS},
        },
    }


def measured(plan: Plan, receipts: Sequence[Receipt]) -> list[dict[str, Any]]:
    """Give the provenance of each matrix with the time and bytes of its tasks."""
    matrices: list[dict[str, Any]] = provenance(plan)["matrices"]
    for matrix, (_, blocks) in zip(matrices, _by_matrix(plan), strict=True):
        own = [receipts[block.number] for block in blocks]
        matrix["task_seconds"] = round(sum(receipt.seconds for receipt in own), 3)
        matrix["bytes_read"] = sum(receipt.bytes_read for receipt in own)
    return matrices


def _finish(
    plan: Plan, receipts: Sequence[Receipt], staging: Staging, chosen: str, info: dict[str, Any]
) -> None:
    parts = staging.folder / PARTS
    order = cell_order(plan)
    if len(np.unique(order)) != plan.n_cells:
        raise ViewError(f"{staging.folder}: a cell stands in two parts; remove the folder")
    annotations = tuple(
        a.counted(int(is_missing(a.values()[order]).sum())) for a in plan.annotations
    )
    if annotations:
        info = info | {"annotations": [a.describe() for a in annotations]}
    if chosen == "parquet":
        save_order(parts, order)
        staging.sweep({CELL_ORDER, VIEW} | {receipt.name for receipt in receipts})
        rows = {receipt.name: receipt.rows for receipt in receipts}
        digests = {receipt.name: receipt.sha256 for receipt in receipts}
        publish(staging, parts, chosen, info, rows=rows, digests=digests)
    else:
        paths = tuple(parts / receipt.name for receipt in receipts)
        reader = PartsReader(paths, order, plan.columns, np.dtype(plan.dtype), annotations)
        commit(staging, chosen, reader, info)
