"""Run tasks on a cluster: blocks, shards; receipts, progress, and what is lost.

Where there is a folder for what tasks make, receipts come back, and data does not; else the
results themselves. A task whose workers die is set aside while the others go on, and then
tried once more with the cluster to itself: so it is known which one it is that kills, and all
others are kept.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abc_dask._version import build
from abc_dask.base.config import setting
from abc_dask.base.errors import AbcDaskError, ClusterError
from abc_dask.base.messages import plural
from abc_dask.base.progress import Progress
from abc_dask.run.cluster.process import raise_interrupt
from abc_dask.run.cluster.workers import Workers
from abc_dask.run.part import Receipt, receipt_path
from abc_dask.run.work import Task, Work, make_by

if TYPE_CHECKING:
    from distributed import Client


# Tasks that the scheduler knows at a time: it stays small however many there are.
_WINDOW = 4096

# Between looks at the jobs, in seconds.
_LOOK = 0.5

# Tasks known to kill workers after which no further one is tried.
_FATAL = 3

# Seconds that a worker has to hand over a result.
_FETCH = 60

# Times that a task may be lost after it was done, before there is something else wrong.
_LOST = 5


def jobs_of(client: Client) -> Any:
    """Return the cluster of batch jobs that a client belongs to; None if it is another."""
    cluster = getattr(client, "cluster", None)
    return cluster if hasattr(cluster, "jobs") and hasattr(cluster, "want") else None


@dataclass
class _Run:
    """Tasks that a client works on."""

    work: Work
    client: Client
    staging: str
    plan: str
    progress: Progress
    workers: Workers
    left: int
    unit: str
    tries: int = 0
    told_lost: int = 0
    # somebody may still refer to an earlier run's tasks of these names, such as a traceback
    token: str = field(default_factory=lambda: secrets.token_hex(4))
    done: dict[int, Any] = field(default_factory=dict)
    lost: dict[int, int] = field(default_factory=dict)

    def run(self, tasks: Iterable[Task], attempt: int = 1) -> Iterator[Task]:
        """Run tasks, and yield those whose workers died; any other error is raised."""
        from distributed import KilledWorker, as_completed

        todo = iter(tasks)
        running: dict[Any, Task] = {}
        completed = as_completed(loop=self.client.loop)
        while not self.workers.is_ready:
            self._look()
            time.sleep(_LOOK / 50)
        try:
            while True:
                few = len(running) <= _WINDOW // 2
                if few and (batch := list(islice(todo, _WINDOW - len(running)))):
                    _add(self._submit(batch, attempt), running, completed)
                if not running:
                    return
                for future in self._arrived(completed):
                    task = running.pop(future)
                    try:
                        result = self._result(future, task)
                    except KilledWorker as error:
                        self.tries = error.allowed_failures + 1
                        yield task
                        continue
                    if result is None:  # its worker went away with it
                        _add(self._submit([task], self._next_attempt(task)), running, completed)
                    else:
                        self.done[task.number] = result
                        self.left -= 1
                        self.progress.add(task.amount, self._state())
        except BaseException:
            self.client.cancel(list(running))
            raise

    def _next_attempt(self, task: Task) -> int:
        number = task.number
        self.lost[number] = self.lost.get(number, 0) + 1
        if self.lost[number] > _LOST:
            raise ClusterError(
                f"{task.where}: the cluster lost this {self.unit} {_LOST + 1} times; "
                f"{self.workers.kept}"
            )
        return self.lost[number] + 2

    def _submit(self, tasks: list[Task], attempt: int) -> dict[Any, Task]:
        """Hand delayed tasks to the scheduler."""
        import dask

        for task in tasks if self.staging else ():
            # one that was not trusted must not be taken for the new one
            receipt_path(Path(self.staging), task.number).unlink(missing_ok=True)
        # bound to its arguments: Dask would look for collections in all their fields
        make_here = partial(make_by, build(), self.work)
        bound = [partial(make_here, task, self.staging, self.plan) for task in tasks]
        futures = self.client.compute(
            [
                dask.delayed(make, pure=False, traverse=False)(
                    dask_key_name=self._key(task, attempt)
                )
                for make, task in zip(bound, tasks, strict=True)
            ]
        )
        return dict(zip(futures, tasks, strict=True))

    def _key(self, task: Task, attempt: int) -> str:
        """Name a task after what it does and its number, as dashboards and logs show it."""
        again = "" if attempt == 1 else f"-{attempt}"
        number = f"{task.number:05d}"
        return f"{task.label}-{number}-{self.plan[:12]}-{self.token}{again}"

    def _arrived(self, completed: Any) -> list[Any]:
        """Wait for finished tasks, with an eye on the jobs."""
        while True:
            self._look()
            batch: list[Any] = completed.next_batch(block=False)
            if batch:
                return batch
            with completed.thread_condition:
                if not completed.has_ready():
                    completed.thread_condition.wait(_LOOK)

    def _look(self) -> None:
        """See that scheduler and workers are there, and how batch jobs stand, if there are any."""
        raise_interrupt()
        self._require_scheduler()
        self.workers.look()
        cluster = jobs_of(self.client)
        if cluster is None:
            return
        cluster.want(self.left, finished=len(self.done))
        self.progress.state(self._state(), now=cluster.jobs.lost > self.told_lost)
        self.told_lost = cluster.jobs.lost
        cluster.jobs.check(cluster.logs)
        limit = setting("cluster.worker-timeout")
        if time.monotonic() < cluster.jobs.alone_since + limit:
            return
        said = f"no worker for {limit:g} s: {cluster.jobs.alone()}"
        if not cluster.patient:
            raise ClusterError(f"{said}; --wait-for-workers waits on; {self.workers.kept}")
        self.progress.note(said)
        cluster.jobs.alone_since = time.monotonic()

    def _state(self) -> str:
        """Return how many tasks are done, and how the batch jobs stand if there are any."""
        done = f"{len(self.done):,} of {plural(len(self.done) + self.left, self.unit)}"
        cluster = jobs_of(self.client)
        return done if cluster is None else f"{done}; {cluster.jobs.text()}"

    def _require_scheduler(self) -> None:
        """Wait a while for a scheduler that went away: tasks handed to it would wait forever."""
        timeout = setting("connect-timeout") / 2  # then Dask closes the client, and logs it
        deadline = time.monotonic() + timeout
        while self.client.status != "running":
            if self.client.status == "closed" or time.monotonic() > deadline:
                raise ClusterError(
                    f"the scheduler at {self.client.scheduler.address} went away and did not come "
                    f"back within {timeout:g} s; {self.workers.kept}"
                )
            time.sleep(_LOOK / 5)

    def _result(self, future: Any, task: Task) -> Any:
        """Return a task's receipt or result; None if it was lost on the way.

        A receipt lies in the folder as well, and is taken from there: what is in the
        memory of a worker goes away with it.
        """
        if future.status == "error":
            _raise(future, task)
        if self.staging:
            receipt = Receipt.load(receipt_path(Path(self.staging), task.number))
            if receipt is not None and receipt.plan == self.plan:
                return receipt
        if future.status != "finished":
            return None
        try:  # a shared file system may show new files late
            return self.client.sync(future._result, callback_timeout=_FETCH)  # noqa: SLF001
        except (CancelledError, OSError, TimeoutError):
            return None


def _raise(future: Any, task: Task) -> None:
    """Raise what a task raised, or its worker or the scheduler of it, as one of our errors."""
    from distributed import KilledWorker

    try:
        future.result()
    except (AbcDaskError, KilledWorker, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever a cluster says
        cause = error.__cause__ or error
        said = f"{type(cause).__name__}: {' '.join(str(cause).split())[:200]}"
    raise ClusterError(f"{task.where}: the cluster cannot run this task ({said})")


def _add(started: dict[Any, Task], running: dict[Any, Task], completed: Any) -> None:
    """Follow tasks, and leave no other reference to their futures.

    A result that somebody refers to is kept by its worker, and made again when that one goes
    away: with lives shorter than that takes, for ever.
    """
    running.update(started)
    completed.update(started)


def run_tasks(
    work: Work,
    todo: Sequence[Task],
    staging: str,
    plan: str,
    client: Client,
    *,
    progress: Progress,
) -> dict[int, Any]:
    """Run delayed tasks; on an error of the data the rest is cancelled.

    Parameters
    ----------
    work : callable
        What does a task.
    todo : sequence of Task
        All of one kind.
    staging : str
        Folder of the unfinished output, where each task leaves a receipt; "" where results come
        back instead.
    plan : str
        Digest of the plan.
    client : distributed.Client
    progress : Progress

    Returns
    -------
    dict
        Receipts or results by the number of the task.

    Raises
    ------
    AbcDaskError
        What a task raised, or a `ClusterError` that names the tasks of which every
        worker died, or says why there are no workers.
    """
    if not todo:
        return {}
    read = sorted({path for task in todo for path in task.paths})
    unit, has_jobs = todo[0].unit, jobs_of(client) is not None
    kept = f"finished {unit}s are kept, the same command completes the work"
    kept = kept if staging else "run it again"
    workers = Workers(client, staging, read, progress, kept, has_jobs=has_jobs)
    run = _Run(work, client, staging, plan, progress, workers, len(todo), unit)
    fatal = []
    try:
        suspects = list(run.run(todo))
        run.left = len(suspects)
        for task in suspects:
            fatal += list(run.run([task], attempt=2))
            if len(fatal) == _FATAL:
                break
    finally:
        cluster = jobs_of(client)
        if cluster is not None:
            cluster.want(0)  # nodes are given back before all is put together
    if fatal:
        raise ClusterError(_deaths(fatal, len(suspects), run))
    return run.done


def _deaths(fatal: list[Task], suspected: int, run: _Run) -> str:
    unit = run.unit
    others = "".join(f", {task.where}" for task in fatal[1:])
    untried = suspected - _FATAL if len(fatal) == _FATAL else 0
    stopped = f", {untried:,} more were not tried again" if untried > 0 else ""
    kept = f"the other {unit}s are kept: " if run.staging else ""
    smaller = " or a smaller --block-size" if unit == "block" else ""
    return (
        f"{fatal[0].where}{others}: every worker that took this {unit} died "
        f"(twice {run.tries} tries{stopped}), perhaps for lack of memory; {kept}"
        f"run again with more memory for each worker{smaller}"
    )
