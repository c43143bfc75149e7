"""What a task is, and how one is done wherever it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from abc_dask._version import build
from abc_dask.base.errors import AbcDaskError, ClusterError
from abc_dask.base.messages import plural
from abc_dask.run.cluster.workers import other_build


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
    def unit(self) -> str:
        """What messages call one of its kind: block, shard."""
        ...

    @property
    def paths(self) -> tuple[str, ...]:
        """Files that its worker must see."""
        ...

    @property
    def amount(self) -> int:
        """What progress counts when it is done: cells, genes."""
        ...


T = TypeVar("T")

# Does a task, and leaves what it makes in a folder (none: "") for the plan of a digest.
Work = Callable[[Any, str, str], Any]

# Errors that can be pickled and say enough.
_PASSED = (AbcDaskError, MemoryError)


def safely(make: Callable[..., T], *given: Any, where: str) -> T:
    """Return what is made; any error becomes one that surely finds its way back.

    Dask waits forever for a task whose exception cannot be pickled and read again.
    """
    try:
        return make(*given)
    except _PASSED:
        raise
    except Exception as error:  # noqa: BLE001 - that is the point
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
    # not within `except`, where it would carry the other one along
    raise ClusterError(f"{where}: unexpected {said}")


def make_by(driver: str, work: Work, task: Task, staging: str, plan: str) -> Any:
    """Do a task, as `safely`, where this process has the driver's build of the package."""
    if other := other_build(build(), driver):
        raise ClusterError(f"{task.where}: a worker has {other}; install the same one there")
    return safely(work, task, staging, plan, where=task.where)


def run_here(
    work: Work,
    tasks: Sequence[Task],
    staging: str,
    plan: str,
    *,
    threads: int | None = None,
    of: int,
) -> None:
    """Do tasks in threads of this process; all are tried before an error is raised.

    Parameters
    ----------
    work, tasks, staging, plan
        As for `abc_dask.run.tasks.run_tasks`.
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

    def fault(task: Task) -> AbcDaskError | None:
        try:
            safely(work, task, staging, plan, where=task.where)
        except AbcDaskError as error:
            return error
        return None

    with ThreadPoolExecutor(threads or CPU_COUNT) as pool:
        errors = [error for error in pool.map(fault, tasks) if error is not None]
    if errors:
        error = errors[0]
        if len(errors) == 1:
            raise error
        raise type(error)(f"{error} ({len(errors):,} of {plural(of, tasks[0].unit)} failed)")
