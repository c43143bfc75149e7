"""Where tasks run: an active client, a scheduler's address, or a LocalCluster.

Any process that reaches an unprotected scheduler can run code as its user. So a cluster
that is started here is one process without any port, or, with several processes, speaks
TLS on loopback (see `abc_dask.localcluster`). No dashboard is opened.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from abc_dask.config import setting
from abc_dask.errors import ClusterError, UsageError

if TYPE_CHECKING:
    from distributed import Client


@contextlib.contextmanager
def connected(
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    threads_per_worker: int | None = None,
    memory_limit: str | None = None,
) -> Iterator[Client]:
    """Give a client: of the named scheduler, else the active one, else of a new LocalCluster.

    Parameters
    ----------
    scheduler : str, optional
        Address of a running scheduler, such as ``tls://host:8786``.
    workers : int, optional
        Processes of a LocalCluster; one process with threads where not given.
    threads_per_worker : int, optional
        Threads of each; all cores shared out where not given.
    memory_limit : str, optional
        Bytes a process may have before Dask restarts it, such as ``2 GB``.

    Raises
    ------
    ClusterError
        If the scheduler cannot be reached.
    """
    if scheduler is not None:
        with _joined(scheduler) as client:
            yield client
        return
    active = _active_client()
    if active is not None:
        yield active
        return
    with _local(workers, threads_per_worker, memory_limit) as client:
        yield client


def runs_here(*, scheduler: str | None, workers: int | None, memory_limit: str | None) -> bool:
    """Tell whether `connected` would run tasks in threads of this very process."""
    elsewhere = (scheduler, memory_limit, setting("workers") if workers is None else workers)
    return all(one is None for one in elsewhere) and _active_client() is None


def _active_client() -> Client | None:
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None


@contextlib.contextmanager
def _joined(scheduler: str) -> Iterator[Client]:
    from distributed import Client

    timeout = float(setting("connect-timeout"))
    try:
        client = Client(scheduler, timeout=timeout, set_as_default=False)
    except (OSError, TimeoutError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ClusterError(
            f"no scheduler answers at {scheduler!r} within {timeout:g} s ({reason})"
        ) from None
    with client:
        yield client


@contextlib.contextmanager
def _local(
    workers: int | None, threads_per_worker: int | None, memory_limit: str | None
) -> Iterator[Client]:
    from dask.system import CPU_COUNT
    from distributed import Client

    from abc_dask.localcluster import PrivateCluster

    workers = setting("workers") if workers is None else workers
    if threads_per_worker is None:
        threads_per_worker = setting("threads-per-worker")
    limit = setting("memory-limit") if memory_limit is None else memory_limit
    for option, value in (("--workers", workers), ("--threads-per-worker", threads_per_worker)):
        if value is not None and int(value) < 1:
            raise UsageError(f"{option} {value} is not a positive number")
    count = int(workers or 1)
    threads = int(threads_per_worker or max(1, CPU_COUNT // count))
    in_process = workers is None and memory_limit is None
    with (
        PrivateCluster(
            n_workers=count,
            threads_per_worker=threads,
            memory_limit=None if in_process else str(limit),
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client
