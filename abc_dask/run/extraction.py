"""From a plan to a view: what is held, what is to do, and the commit at the end."""

from __future__ import annotations

import datetime as dt
import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from abc_dask._version import FORMAT_VERSION, __version__, build
from abc_dask.base.errors import PathError, ReleaseError, ViewError
from abc_dask.base.messages import echo
from abc_dask.base.progress import Progress
from abc_dask.disk.files import cannot_write, require_utf8
from abc_dask.disk.kept_table import read_cached
from abc_dask.plan.blocks import RowBlock
from abc_dask.plan.plan import Plan, plan_to_json
from abc_dask.release.annotation import is_missing
from abc_dask.run.costs import Room
from abc_dask.run.part import Receipt, make_part, require_here, trusted_receipts
from abc_dask.run.read_block import tasks_of
from abc_dask.run.tasks import run_tasks
from abc_dask.run.work import Work
from abc_dask.views.content import Written
from abc_dask.views.formats import EXPORTS, format_of
from abc_dask.views.overwrite import held_info, is_made, refuse_existing
from abc_dask.views.parquet_view import PartsReader
from abc_dask.views.places import placed
from abc_dask.views.publish import commit, publish, require_unique
from abc_dask.views.staging import PARTS, Staging

if TYPE_CHECKING:
    from distributed import Client

_VERSIONS = ("dask", "distributed", "numpy", "pandas", "pyarrow", "h5py")


def check_output(
    output: str | Path,
    format: str | None,
    *,
    overwrite: bool,
    known: tuple[str, ...] = EXPORTS,
    may_be_made: bool = False,
) -> tuple[Path, str]:
    """Check the place and format of a view before any work.

    Parameters
    ----------
    output, format, overwrite
        As for `abc_dask.Atlas.extract`.
    known : tuple of str
        Formats that there are.
    may_be_made : bool
        Let a whole result be there: whether it is that of the same request is known once
        there is a plan (`abc_dask.views.overwrite.is_made`).

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
    require_utf8(path)
    format = format_of(path, format, known=known)
    if path.name in {"", ".", ".."}:
        raise PathError(f"{str(output)!r} is not a name for a view")
    if not may_be_made or held_info(path, format) is None:
        refuse_existing(path, overwrite=overwrite)
    return path, format


def made_before(
    path: Path, format: str, told: dict[str, Any], *, overwrite: bool, progress: bool
) -> bool:
    """Return whether an output is there, made for a request, and say so.

    Parameters
    ----------
    path, format
        As `check_output` returned them.
    told : dict
        What is known of the result before it is made, as `Plan.provenance`.
    overwrite, progress : bool
        As for `run`.

    Raises
    ------
    ViewError
        If something else is there.
    """
    if not is_made(path, format, told, overwrite=overwrite):
        return False
    tell_made(path, str(told["plan"]), held_info(path, format) or {}, progress=progress)
    return True


def tell_made(path: Path, plan: str, info: dict[str, Any], *, progress: bool) -> None:
    """Say when an output was made, and remove what a run left that was killed as it ended."""
    Staging.beside(path).forget(plan)
    if progress:
        echo(f"{path} is there, made on {info.get('created', 'an unknown date')}", err=True)


def now() -> str:
    """Return the time as results say it: UTC, ISO 8601, whole seconds."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def run(
    plan: Plan,
    output: Path,
    format: str,
    client: Client,
    *,
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Make the view of a plan, or complete an unfinished one.

    Parameters
    ----------
    plan : Plan
    output : Path
        As `check_output` gives it.
    format : str
        Format.
    client : distributed.Client
        Where tasks run; output and inputs must lie where its workers see them.
    overwrite : bool
        Replace a finished view at `output`, or another request's unfinished one.
    progress : bool
        Show a bar on stderr.

    Returns
    -------
    Path
        `output`.

    Raises
    ------
    ReleaseError
        If no cell was found.
    DamagedFileError, ViewError, ClusterError
        If a block cannot be read or written; finished blocks are kept, and the same
        call completes the work.
    """
    began = time.perf_counter()
    Room.of_view(plan, format).require(output, progress=progress)
    staging = Staging.beside(output)
    with staging.locked():
        # what may have happened while we waited for nothing: another driver's commit
        refuse_existing(output, overwrite=overwrite)
        begin(plan, staging, format, overwrite=overwrite)
        found, kept = make_parts(make_part, plan, staging, client, progress=progress)
        complete(plan, found, staging, format, kept=kept, began=began)
    return output


def begin(
    plan: Plan,
    staging: Staging,
    format: str,
    *,
    described: dict[str, Any] | None = None,
    overwrite: bool,
) -> None:
    """Write down what is being made, or find that the folder holds the same.

    Parameters
    ----------
    plan : Plan
    staging : Staging
        Locked by the caller.
    format : str
        Format.
    described : dict, optional
        Provenance; that of a view where not given.
    overwrite : bool
        Remove what was done for another request.

    Raises
    ------
    ReleaseError
        If no cell was found.
    ViewError
        If the folder holds another request, or cannot be written.
    """
    if not plan.blocks:
        raise ReleaseError(
            f"none of the {plan.n_asked:,} cells of {plan.metadata} is in a feature matrix"
        )
    try:
        staging.begin(plan.identity, plan.digest, overwrite=overwrite)
        staging.begin_parts(plan.provenance if described is None else described)
        if not plan.kind:  # job arrays make views
            staging.save_tasks({"format": format, "abc_dask": build()} | plan_to_json(plan))
    except OSError as error:
        raise cannot_write(staging.folder, error) from None


def make_parts(
    work: Work, plan: Plan, staging: Staging, client: Client, *, progress: bool
) -> tuple[dict[int, Receipt], int]:
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
    receipts : dict of int to Receipt
        One a block, by its number.
    n_held : int
        How many were there from an earlier run.
    """
    held = trusted_receipts(staging, plan)
    todo = [task for task in tasks_of(plan) if task.block.number not in held]
    made = sum(receipt.rows for receipt in held.values())
    bar = Progress(plan.n_cells, "extract", unit="cell", done=made, enabled=progress)
    try:
        done = run_tasks(work, todo, str(staging.folder), plan.digest, client, progress=bar)
    finally:
        bar.close()
    return held | done, len(held)


def complete(
    plan: Plan,
    found: dict[int, Receipt],
    staging: Staging,
    format: str,
    *,
    kept: int,
    began: float,
) -> None:
    """Put the parts of all blocks together, and publish them.

    Parameters
    ----------
    plan : Plan
    found : dict of Receipt
        One a block.
    staging : Staging
        Locked by the caller.
    format : str
        Format.
    kept : int
        Blocks that were there before.
    began : float
        When this run began, by `time.perf_counter`.
    """
    receipts = in_order(plan, found, staging)
    content = sum(int(receipt.content, 16) for receipt in receipts)
    seconds = time.perf_counter() - began
    info = plan.provenance | run_info(measured(plan, receipts), content, kept, seconds)
    _finish(plan, receipts, staging, format, info)


def in_order(plan: Plan, found: dict[int, Receipt], staging: Staging) -> list[Receipt]:
    """Return one receipt a block, in the plan's order.

    They are believed only if the parts are here: workers may see another file system.
    """
    receipts = [found[block.number] for block in plan.blocks]
    for receipt, block in zip(receipts, plan.blocks, strict=True):
        part = require_here(staging.folder, receipt)
        if receipt.rows != block.n_cells:
            raise ViewError(f"{part} has {receipt.rows:,} rows, expected {block.n_cells:,}")
    return receipts


def cell_order(plan: Plan, staging: Staging) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """Return the position in cell_metadata of every row of the parts, in the plan's order.

    Raises
    ------
    ViewError
        If a cell stands in two parts, or not as many cells in them as the plan has.
    """
    pieces = [np.empty(0, np.uint32)]
    for matrix, blocks in zip(plan.matrices, _by_matrix(plan.blocks, plan), strict=True):
        if blocks:  # 10**9 cells take 4 GB; one matrix at a time is read
            cells = read_cached(matrix.details or matrix.rows, ["cell"])["cell"].to_numpy()
            found = (cells[block.start : block.stop] for block in blocks)
            pieces += [rows[rows >= 0].astype(np.uint32) for rows in found]
    order = np.concatenate(pieces)
    seen = np.zeros(int(order.max(initial=0)) + 1, dtype=bool)
    seen[order] = True
    if not np.count_nonzero(seen) == len(order) == plan.n_cells:
        raise ViewError(f"{staging.folder}: a cell stands in two parts; remove the folder")
    return order


_Of = TypeVar("_Of", RowBlock, Receipt)


def _by_matrix(each: Sequence[_Of], plan: Plan) -> list[list[_Of]]:
    """Group what there is one of a block by the block's matrix."""
    groups: list[list[_Of]] = [[] for _ in plan.matrices]
    for one, block in zip(each, plan.blocks, strict=True):
        groups[block.matrix].append(one)
    return groups


def run_info(
    matrices: list[dict[str, Any]], content: int, kept: int, seconds: float
) -> dict[str, Any]:
    """Return what only the run can tell.

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
        "created": now(),
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
    """Return the provenance of each matrix with the time and bytes of its tasks."""
    return [
        matrix
        | {
            "task_seconds": round(sum(receipt.seconds for receipt in own), 3),
            "bytes_read": sum(receipt.bytes_read for receipt in own),
        }
        for matrix, own in zip(plan.provenance["matrices"], _by_matrix(receipts, plan), strict=True)
    ]


def _finish(
    plan: Plan, receipts: Sequence[Receipt], staging: Staging, format: str, info: dict[str, Any]
) -> None:
    parts = staging.folder / PARTS
    order = cell_order(plan, staging)
    annotations = tuple(
        a.counted(int(is_missing(a.values()[order]).sum())) for a in plan.annotations
    )
    if annotations:
        info = info | {"annotations": [a.describe() for a in annotations]}
    paths = tuple(parts / receipt.name for receipt in receipts)
    reader = PartsReader(paths, order, plan.columns, np.dtype(plan.dtype), annotations)
    if format != "parquet":
        commit(staging, format, reader, placed(reader, info))
        return
    require_unique(reader.labels(), staging.folder)
    rows = {receipt.name: receipt.rows for receipt in receipts}
    staging.sweep(set(rows))
    digests = {receipt.name: receipt.sha256 for receipt in receipts}
    content = sum(int(receipt.content, 16) for receipt in receipts)
    publish(staging, parts, format, info, Written(content, rows, order, digests))
