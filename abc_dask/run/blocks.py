"""Run the blocks of a plan on a cluster: tasks, receipts, progress, and what is lost.

Receipts come back, data does not. A block whose workers die is set aside while the others
go on, and then tried once more with the cluster to itself: so it is known which block it
is that kills, and all others are kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from abc_dask._version import build
from abc_dask.config import setting
from abc_dask.errors import AbcDaskError, ClusterError
from abc_dask.messages import plural
from abc_dask.progress import Progress
from abc_dask.run.cluster.interrupts import raise_interrupt
from abc_dask.run.cluster.workers import Workers, other_build
from abc_dask.run.part import Receipt, receipt_path

if TYPE_CHECKING:
    from distributed import Client


class Task(Protocol):
    """What one worker does at a time: small, picklable."""

    @property
    def number(self) -> int:
        """What its receipt is named after."""
        ...

    @property
    def label(self) -> str:
        """What dashboards and logs call it."""
        ...

    @property
    def where(self) -> str:
        """What messages call it."""
        ...

    @property
    def paths(self) -> tuple[str, ...]:
        """Files that its worker must see."""
        ...


T = TypeVar("T")

# Makes what a task is for in a folder, for the plan of a digest.
Work = Callable[[Any, str, str], Receipt]

# Errors that can be pickled and say enough.
Errors = tuple[type[Exception], ...]
_PASSED: Errors = (AbcDaskError, MemoryError)

# Tasks that the scheduler knows at a time: it stays small however many blocks there are.
_WINDOW = 4096

# Between looks at the jobs, in seconds.
_LOOK = 0.5

# Blocks known to kill workers after which no further one is tried.
_FATAL = 3

# Times that a block may be lost after it was made, before there is something else wrong.
_LOST = 5


def safely(make: Callable[..., T], *given: Any, where: str, passed: Errors = _PASSED) -> T:
    """Return what is made; any error becomes one that surely finds its way back.

    Dask waits forever for a task whose exception cannot be pickled and read again.
    """
    try:
        return make(*given)
    except passed:
        raise
    except Exception as error:  # noqa: BLE001 - that is the point
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
    # not within `except`, where it would carry the other one along
    raise ClusterError(f"{where}: unexpected {said}")


def make_safely(work: Work, task: Task, staging: str, plan: str) -> Receipt:
    """Make a part, as `safely`."""
    return safely(work, task, staging, plan, where=task.where)


def make_by(driver: str, work: Work, task: Task, staging: str, plan: str) -> Receipt:
    """Make a part where this process has the driver's build of the package."""
    if other := other_build(build(), driver):
        raise ClusterError(f"{task.where}: a worker has {other}; install the same one there")
    return make_safely(work, task, staging, plan)


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
    tries: int = 0
    told_lost: int = 0
    done: dict[int, Receipt] = field(default_factory=dict)
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
                        receipt = self._receipt(future, task)
                    except KilledWorker as error:
                        self.tries = error.allowed_failures + 1
                        yield task
                        continue
                    if receipt is None:  # its worker went away with it
                        _add(self._submit([task], self._next_attempt(task)), running, completed)
                    else:
                        self.done[receipt.block] = receipt
                        self.left -= 1
                        self.progress.add(receipt.rows, self._state())
        except BaseException:
            self.client.cancel(list(running))
            raise

    def _next_attempt(self, task: Task) -> int:
        number = task.number
        self.lost[number] = self.lost.get(number, 0) + 1
        if self.lost[number] > _LOST:
            raise ClusterError(
                f"{task.where}: the cluster lost this block {_LOST + 1} times; "
                "finished blocks are kept, run the command again"
            )
        return self.lost[number] + 2

    def _submit(self, tasks: list[Task], attempt: int) -> dict[Any, Task]:
        """Hand delayed tasks to the scheduler."""
        import dask

        for task in tasks:  # one that was not trusted must not be taken for the new one
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
        """Name a task after its matrix and block, as dashboards and logs show it."""
        again = "" if attempt == 1 else f"-{attempt}"
        number = f"{task.number:05d}"
        return f"{task.label}-{number}-{self.plan[:12]}{again}"

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
            raise ClusterError(
                f"{said}; --wait-for-workers waits on; "
                "finished blocks are kept, the same command completes the work"
            )
        self.progress.note(said)
        cluster.jobs.alone_since = time.monotonic()

    def _state(self) -> str:
        """Return how many blocks are done, and how the batch jobs stand if there are any."""
        blocks = f"{len(self.done):,} of {plural(len(self.done) + self.left, 'block')}"
        cluster = jobs_of(self.client)
        return blocks if cluster is None else f"{blocks}; {cluster.jobs.text()}"

    def _require_scheduler(self) -> None:
        """Wait a while for a scheduler that went away: tasks handed to it would wait forever."""
        timeout = setting("connect-timeout") / 2  # then Dask closes the client, and logs it
        deadline = time.monotonic() + timeout
        while self.client.status != "running":
            if self.client.status == "closed" or time.monotonic() > deadline:
                raise ClusterError(
                    f"the scheduler at {self.client.scheduler.address} went away and did not come "
                    f"back within {timeout:g} s; finished blocks are kept, run the command again"
                )
            time.sleep(_LOOK / 5)

    def _receipt(self, future: Any, task: Task) -> Receipt | None:
        """Return a task's receipt; None if it was lost on the way.

        It lies in the folder of the view as well, and is taken from there: what is in the
        memory of a worker goes away with it.
        """
        if future.status == "error":
            _raise(future, task)
        receipt = Receipt.load(receipt_path(Path(self.staging), task.number))
        if receipt is not None and receipt.plan == self.plan:
            return receipt
        if future.status != "finished":
            return None
        try:  # a shared file system may show new files late
            fetched: Receipt = self.client.sync(future._result, callback_timeout=10)  # noqa: SLF001
        except (CancelledError, OSError, TimeoutError):
            return None
        return fetched


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


def run_here(
    work: Work,
    tasks: Sequence[Task],
    staging: str,
    plan: str,
    *,
    threads: int | None = None,
    of: int,
) -> None:
    """Run tasks in threads of this process; all are tried before an error is raised.

    Parameters
    ----------
    work, tasks, staging, plan
        As for `run_tasks`.
    threads : int, optional
        Tasks at a time; the cores that this process may use where not given.
    of : int
        What an error says that there are in all.

    Raises
    ------
    AbcDaskError
        The first one that a task raised.
    """
    from dask.system import CPU_COUNT

    def make(task: Task) -> Receipt | AbcDaskError:
        try:
            return make_safely(work, task, staging, plan)
        except AbcDaskError as error:
            return error

    with ThreadPoolExecutor(threads or CPU_COUNT) as pool:
        made = list(pool.map(make, tasks))
    errors = [error for error in made if isinstance(error, AbcDaskError)]
    if errors:
        error = errors[0]
        if len(errors) == 1:
            raise error
        raise type(error)(f"{error} ({len(errors):,} of {of:,} blocks failed)")


def run_tasks(
    work: Work,
    todo: Sequence[Task],
    staging: str,
    plan: str,
    client: Client,
    *,
    progress: Progress,
) -> dict[int, Receipt]:
    """Run one delayed task a block; on an error of the data the rest is cancelled.

    Parameters
    ----------
    work : callable
        What makes a part.
    todo : sequence of Task
    staging : str
        Folder of the unfinished view.
    plan : str
        Digest of the plan.
    client : distributed.Client
    progress : Progress

    Returns
    -------
    dict
        Receipts by block.

    Raises
    ------
    AbcDaskError
        What a task raised, or a `ClusterError` that names the blocks of which every
        worker died, or says why there are no workers.
    """
    read = sorted({path for task in todo for path in task.paths})
    has_jobs = jobs_of(client) is not None
    workers = Workers(client, staging, read, progress, has_jobs=has_jobs)
    run = _Run(work, client, staging, plan, progress, workers, left=len(todo))
    fatal = []
    try:
        suspects = list(run.run(todo)) if todo else []
        run.left = len(suspects)
        for task in suspects:
            fatal += list(run.run([task], attempt=2))
            if len(fatal) == _FATAL:
                break
    finally:
        cluster = jobs_of(client)
        if cluster is not None:
            cluster.want(0)  # nodes are given back before the view is put together
    if fatal:
        raise ClusterError(_deaths(fatal, len(suspects), run.tries))
    return run.done


def _deaths(fatal: list[Task], suspected: int, tries: int) -> str:
    others = "".join(f", {task.where}" for task in fatal[1:])
    untried = suspected - _FATAL if len(fatal) == _FATAL else 0
    stopped = f", {untried:,} more were not tried again" if untried > 0 else ""
    return (
        f"{fatal[0].where}{others}: every worker that took this block died "
        f"(twice {tries} tries{stopped}), perhaps for lack of memory; the other blocks are kept: "
        "run again with more memory for each worker or a smaller --block-size"
    )
