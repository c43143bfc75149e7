"""Tasks on a store: one a shard of genes, whose small results come back or are kept in files."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from abc_dask.disk.files import is_temporary, sha256, sweep, write_by
from abc_dask.errors import AbcDaskError, ClusterError, ViewError
from abc_dask.progress import Progress
from abc_dask.run.blocks import safely

if TYPE_CHECKING:
    from distributed import Client

# Digits of a result's SHA-256 in its file's name.
_DIGITS = 32


class ShardTask(Protocol):
    """What a task is known by."""

    @property
    def number(self) -> int:
        """Position among the tasks, from 0."""

    @property
    def where(self) -> str:
        """What it reads, for messages."""

    @property
    def weight(self) -> int:
        """Genes that it reads."""


Work = Callable[[Any], Mapping[str, Any]]


def run_shards(
    work: Work,
    tasks: Sequence[ShardTask],
    client: Client,
    *,
    what: str,
    folder: Path | None = None,
    progress: bool = False,
) -> list[Any]:
    """Run one delayed task a shard.

    Parameters
    ----------
    work : callable
        Returns a task's results: arrays by name.
    tasks : sequence of ShardTask
    client : distributed.Client
    what : str
        Name of the work, for progress and the dashboard.
    folder : Path, optional
        Where results are kept for a later run, and found from an earlier one.
    progress : bool
        Show progress on stderr.

    Returns
    -------
    list
        For each task its results, or the file (.npz) that holds them.

    Raises
    ------
    AbcDaskError
        What a task raised; `ClusterError` if its workers died; `ViewError` if a result's file is
        not here.
    """
    held = {} if folder is None else _held(folder)
    todo = [task for task in tasks if task.number not in held]
    before = sum(task.weight for task in tasks if task.number in held)
    total = sum(task.weight for task in tasks)
    with Progress(total, what, unit="gene", done=before, enabled=progress, delay=2) as bar:
        found = _run(partial(_work_safely, work, folder), todo, client, what=what, bar=bar)
    results = [(held | found)[task.number] for task in tasks]
    for result in results:
        if isinstance(result, Path) and not result.is_file():
            raise ViewError(
                f"{result} was written by a worker but is not here; the output must lie on a file "
                "system that all workers share"
            )
    return results


def _run(
    work: Callable[[ShardTask], Any],
    todo: Sequence[ShardTask],
    client: Client,
    *,
    what: str,
    bar: Progress,
) -> dict[int, Any]:
    import dask
    from distributed import KilledWorker, as_completed

    run = secrets.token_hex(6)
    futures = client.compute(
        [
            # bound to its argument: Dask would look for collections in all its fields
            dask.delayed(partial(work, task), pure=False, traverse=False)(
                dask_key_name=f"{what}-{task.number:05d}-{run}"
            )
            for task in todo
        ]
    )
    by_future = dict(zip(futures, todo, strict=True))
    del futures
    found: dict[int, Any] = {}
    try:
        for future in as_completed(list(by_future), loop=client.loop):
            task = by_future.pop(future)
            try:
                result = future.result()
            except KilledWorker as error:
                raise ClusterError(
                    f"{task.where}: every worker that took these genes died "
                    f"({error.allowed_failures + 1} tries), perhaps for lack of memory; run again "
                    "with more memory for each worker"
                ) from None
            found[task.number] = result
            bar.add(task.weight)
    except BaseException:
        client.cancel(list(by_future))
        raise
    return found


def _work_safely(work: Work, folder: Path | None, task: ShardTask) -> Any:
    """Return a task's results, or the file that they were written to."""
    passed = (AbcDaskError, MemoryError, OSError)
    return safely(_results, work, folder, task, where=task.where, passed=passed)


def _results(work: Work, folder: Path | None, task: ShardTask) -> Any:
    results = work(task)
    return results if folder is None else _write(results, task.number, folder)


def _write(results: Mapping[str, Any], number: int, folder: Path) -> Path:
    """Write results under a name that has their digest."""

    def save(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **results)

    unnamed = folder / f"{number:05d}.npz"
    _, _, digest = write_by(save, unnamed)
    named = folder / f"{number:05d}-{digest[:_DIGITS]}.npz"
    return unnamed.rename(named)


def _held(folder: Path) -> dict[int, Path]:
    """Find the results of an earlier run that are whole, and remove all else."""
    held = {}
    sweep(folder, unchanged_for=0)
    for path in sorted(folder.iterdir()):
        number, _, digest = path.stem.partition("-")
        if digest and path.suffix == ".npz" and sha256(path)[:_DIGITS] == digest:
            held[int(number)] = path
        elif not is_temporary(path.name):
            path.unlink()
    return held
