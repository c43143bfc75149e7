"""Tasks on a store: one a shard of genes, whose small results come back or are kept in files."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from abc_dask.base.progress import Progress
from abc_dask.run.part import Receipt, find_receipts, require_here, with_receipt
from abc_dask.run.tasks import run_tasks
from abc_dask.run.work import Task
from abc_dask.views.staging import PARTS, RECEIPTS

if TYPE_CHECKING:
    from distributed import Client

# Returns a task's results: arrays by name.
Compute = Callable[[Any], Mapping[str, Any]]


def run_shards(
    compute: Compute,
    tasks: Sequence[Task],
    client: Client,
    *,
    what: str,
    kept: tuple[Path, str] | None = None,
    progress: bool = False,
) -> list[Any]:
    """Run one delayed task a shard.

    Parameters
    ----------
    compute : callable
        Returns a task's results: arrays by name.
    tasks : sequence of Task
    client : distributed.Client
    what : str
        Name of the work, for progress.
    kept : (Path, str), optional
        Folder of the unfinished output, and the digest of its plan: results are kept there for
        a later run, and found from an earlier one.
    progress : bool
        Show progress on stderr.

    Returns
    -------
    list
        For each task its results, or the file (.npz) that holds them.

    Raises
    ------
    AbcDaskError
        As `abc_dask.run.tasks.run_tasks`; `ViewError` if a result's file is not here.
    """
    staging, plan = "", secrets.token_hex(6)
    held: dict[int, Receipt] = {}
    if kept is not None:
        folder, plan = kept
        staging = str(folder)
        for name in (PARTS, RECEIPTS):
            (folder / name).mkdir(parents=True, exist_ok=True)
        held = find_receipts(folder, plan, tasks, _fits)
    todo = [task for task in tasks if task.number not in held]
    total, left = (sum(task.amount for task in some) for some in (tasks, todo))
    with Progress(total, what, unit="gene", done=total - left, enabled=progress, delay=2) as bar:
        found = run_tasks(ShardWork(compute), todo, staging, plan, client, progress=bar)
    results = [(held | found)[task.number] for task in tasks]
    return results if kept is None else [require_here(kept[0], receipt) for receipt in results]


@dataclass(frozen=True)
class ShardWork:
    """Computes results of a shard, and writes them where there is a folder."""

    compute: Compute

    def __call__(self, task: Task, staging: str, plan: str) -> Mapping[str, Any] | Receipt:
        """Return the results, or the receipt of the file that holds them."""
        results = self.compute(task)
        if not staging:
            return results

        def save(path: Path) -> dict[str, Any]:
            with path.open("wb") as file:
                np.savez(file, allow_pickle=False, **results)
            return {"rows": task.amount}

        return with_receipt(task, staging, plan, f"{task.number:05d}.npz", save)


def _fits(task: Task, receipt: Receipt) -> bool:
    return receipt.rows == task.amount
