"""Where tasks run: batch jobs, an active client, a scheduler's address, or a LocalCluster.

Any process that reaches an unprotected scheduler can run code as its user. So a cluster
that is started here is one process without any port, or, with several processes or batch
jobs, speaks TLS with credentials of its own. No dashboard is opened unless asked for.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from abc_dask.base.config import setting
from abc_dask.base.errors import ClusterError, UsageError
from abc_dask.base.extras import install_line
from abc_dask.base.messages import echo, enumerate_names, format_bytes
from abc_dask.run.cluster.jobqueue import JobRequest, configured, job_cluster
from abc_dask.run.cluster.jobqueue import job_script as _job_script
from abc_dask.run.cluster.process import (
    address_in,
    heeded_interrupts,
    quiet,
    refuse_open,
    require_answer,
    require_host,
    require_own_threads,
)
from abc_dask.run.cluster.queues import CLUSTERS
from abc_dask.views.description import partial_path

if TYPE_CHECKING:
    from distributed import Client

    from abc_dask.run.cluster.local import PrivateCluster

LOCAL = "local"


class ClusterOptions(TypedDict, total=False):
    """Where tasks run; options that are left out are settings of ``abc-dask``.

    Attributes
    ----------
    scheduler : str
        Address of a running scheduler, such as ``tls://host:8786``, or its scheduler file.
    allow_tcp : bool
        Join a scheduler off loopback that does not encrypt.
    workers : int
        Processes of a LocalCluster; one process with threads where not given.
    threads_per_worker : int
        Threads of each; all cores shared out where not given.
    memory_limit : str
        Bytes a process may have before Dask restarts it, such as ``2 GB``.
    cluster : str
        ``local``, or a batch system: ``slurm``, ``pbs``, ``sge``, ``lsf``, ``htcondor``,
        ``oar``, ``moab``. What a job is comes from dask-jobqueue's configuration.
    cluster_config : path
        YAML file in the form of that configuration, over the user's own.
    jobs : int
        At most so many jobs, as long as there is work for them.
    adapt : str
        ``MIN:MAX``, at least and at most so many jobs.
    walltime : str
        Of each job, as the batch system writes it.
    wait_for_workers : bool
        Go on waiting when no worker appears in time.
    dashboard : bool
        Show Dask's dashboard, on loopback.
    """

    scheduler: str | None
    allow_tcp: bool
    workers: int | None
    threads_per_worker: int | None
    memory_limit: str | None
    cluster: str | None
    cluster_config: str | Path | None
    jobs: int | None
    adapt: str | None
    walltime: str | None
    wait_for_workers: bool
    dashboard: bool


# A worker process with its libraries, at work on the smallest of blocks: with a limit of 360 MB
# Dask pauses it for good, with 400 MB it gets on (measured with distributed 2026.8).
_LEAST_MEMORY = 400_000_000

_OF_JOBS = ("jobs", "adapt", "walltime", "wait_for_workers")

_OF_LOCAL = ("workers", "threads_per_worker", "memory_limit")


@contextlib.contextmanager
def connected(*, output: Path | None = None, **asked: Unpack[ClusterOptions]) -> Iterator[Client]:
    """Yield a client: of the named scheduler or cluster, else the active one, else a local one.

    Parameters
    ----------
    output : Path, optional
        Where the view will be; batch jobs log, and find their credentials, in the folder
        of the unfinished one.
    **asked : ClusterOptions

    Raises
    ------
    UsageError
        If options do not fit together.
    ClusterError
        If the scheduler cannot be reached.
    """
    config = asked.get("cluster_config")
    require_own_threads()
    settings = contextlib.nullcontext() if config is None else configured(str(config))
    with heeded_interrupts(), settings:
        kind = _kind(asked)
        if asked.get("scheduler") is not None:
            with _joined(
                str(asked["scheduler"]), allow_tcp=asked.get("allow_tcp", False)
            ) as client:
                yield client
            return
        active = _active_client() if asked.get("cluster") is None else None
        if active is not None and active.asynchronous:
            warnings.warn(
                "the active distributed.Client is asynchronous, and nothing here can wait for it: "
                "threads of this process do the work",
                stacklevel=2,
            )
        elif active is not None:
            require_answer(active)
            yield active
            return
        opened = _local(asked) if kind == LOCAL else _jobs(job_request(output, asked), asked)
        with opened as client:
            yield client


def _kind(asked: ClusterOptions) -> str:
    """Return the kind of cluster, and check that the other options are of that kind."""
    kind = str(asked.get("cluster") or setting("cluster.kind"))
    if kind != LOCAL and kind not in CLUSTERS:
        there = enumerate_names([LOCAL, *CLUSTERS])
        raise UsageError(f"--cluster {kind!r} is unknown; there are: {there}")
    if asked.get("scheduler") is not None and asked.get("cluster") is not None:
        raise UsageError("--scheduler joins a running cluster, --cluster starts one: give one")
    named: dict[str, Any] = {**asked}
    for option in _OF_JOBS if kind == LOCAL or asked.get("scheduler") else _OF_LOCAL:
        if named.get(option):
            flag = f"--{option.replace('_', '-')}"
            where = "a batch system (--cluster)" if option in _OF_JOBS else "--cluster=local"
            raise UsageError(f"{flag} is of {where}")
    return kind


def job_request(output: Path | None, asked: ClusterOptions) -> JobRequest:
    """Return the jobs that options ask for.

    Raises
    ------
    UsageError
        If numbers are not such.
    """
    kind = _kind(asked)
    if kind == LOCAL:
        raise UsageError(
            f"no batch system: name one by --cluster: {enumerate_names(list(CLUSTERS))}"
        )
    if output is None:
        raise UsageError(f"--cluster={kind} works for an output on a file system that jobs share")
    folder = partial_path(output)
    if not re.fullmatch(r"[\w./+=@,:-]+", str(folder), re.ASCII):
        raise UsageError(
            f"{output}: job scripts cannot hold this path; "
            "name an output of plain letters, digits and ./+=@,:-_"
        )
    minimum, maximum = _numbers(asked)
    config = asked.get("cluster_config")
    return JobRequest(
        kind=kind,
        folder=folder,
        config=None if config is None else str(config),
        minimum=minimum,
        maximum=maximum,
        walltime=asked.get("walltime"),
        dashboard=asked.get("dashboard", False),
    )


def _numbers(asked: ClusterOptions) -> tuple[int, int]:
    jobs, adapt = asked.get("jobs"), asked.get("adapt")
    if jobs is not None and adapt is not None:
        raise UsageError("--jobs N is short for --adapt 0:N: give one of them")
    if jobs is not None:
        if jobs < 1:
            raise UsageError(f"--jobs {jobs} is not a positive number")
        return 0, jobs
    text = setting("cluster.adapt") if adapt is None else adapt
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if match is None or int(match[2]) < max(1, int(match[1])):
        raise UsageError(f"--adapt {text!r} is not MIN:MAX, such as 0:8")
    return int(match[1]), int(match[2])


def job_script(output: Path, **asked: Unpack[ClusterOptions]) -> str:
    """Return the script that each job would be submitted as."""
    return _job_script(job_request(output, asked))


def runs_here(**asked: Unpack[ClusterOptions]) -> bool:
    """Return whether `connected` would run tasks in threads of this very process."""
    if asked.get("scheduler") is not None or _kind(asked) != LOCAL:
        return False
    given = (asked.get("memory_limit"), asked.get("workers"), setting("workers"))
    active = _active_client()
    return all(one is None for one in given) and (active is None or active.asynchronous)


def _active_client() -> Client | None:
    if "distributed" not in sys.modules:  # nobody can have made one
        return None
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None


@contextlib.contextmanager
def _joined(scheduler: str, *, allow_tcp: bool) -> Iterator[Client]:
    from distributed import Client

    from abc_dask.run.cluster.credentials import credentials_beside

    address, security = scheduler, None
    if "://" not in scheduler and Path(scheduler).expanduser().is_file():
        file = Path(scheduler).expanduser()
        address, security = address_in(file), credentials_beside(file)
    refuse_open(address, allow_tcp=allow_tcp)
    require_host(address)
    timeout = setting("connect-timeout")
    try:
        client = Client(address, timeout=timeout, set_as_default=False, security=security)
    except (OSError, TimeoutError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ClusterError(
            f"no scheduler answers at {scheduler!r} within {timeout:g} s ({reason})"
        ) from None
    with quiet("distributed.client"), client:
        yield client


@contextlib.contextmanager
def _local(asked: ClusterOptions) -> Iterator[Client]:
    from dask.system import CPU_COUNT

    from abc_dask.run.cluster.local import PrivateClient, require_main_guard, running_loop

    def option(name: str) -> Any:
        given = {**asked}.get(name)
        return setting(name.replace("_", "-")) if given is None else given

    workers, threads_per_worker = option("workers"), option("threads_per_worker")
    for flag, value in (("--workers", workers), ("--threads-per-worker", threads_per_worker)):
        if value is not None and int(value) < 1:
            raise UsageError(f"{flag} {value} is not a positive number")
    count = int(workers or 1)
    threads = int(threads_per_worker or max(1, CPU_COUNT // count))
    in_process = workers is None and asked.get("memory_limit") is None
    dashboard = asked.get("dashboard", False)
    if dashboard:
        _require_dashboard()
    if not in_process:
        require_main_guard()
    with (
        quiet("distributed"),  # also where a start is broken off
        running_loop() as loop,
        _started(
            loop=loop,
            n_workers=count,
            threads_per_worker=threads,
            memory_limit=None if in_process else _memory_limit(option("memory_limit"), threads),
            dashboard=dashboard,
        ) as cluster,
        PrivateClient(cluster) as client,
    ):
        if dashboard:
            _say_dashboard(cluster)
        yield client


def _memory_limit(asked: Any, threads: int) -> str:
    """Return what each worker process may have, as Dask reads it.

    Raises
    ------
    UsageError
        If it is less than one takes that does next to nothing.
    """
    from distributed.worker_memory import parse_memory_limit

    logger = logging.getLogger("distributed.worker")
    try:
        limit = parse_memory_limit(asked, threads, logger=logger)
    except (ValueError, TypeError, AttributeError):
        raise UsageError(f"--memory-limit {asked!r} is not a size, such as '2 GB'") from None
    if limit is not None and limit < _LEAST_MEMORY:
        raise UsageError(
            f"--memory-limit {asked} is {format_bytes(limit)} for each worker; one needs at least "
            f"{format_bytes(_LEAST_MEMORY)}: give more, or fewer --workers"
        )
    return str(asked)


def _started(**options: Any) -> PrivateCluster:
    """Start a cluster on this machine."""
    from abc_dask.run.cluster.local import PrivateCluster

    try:
        return PrivateCluster(**options)
    except (RuntimeError, OSError) as error:
        import dask

        reason = " ".join(str(error).split())
        folder = dask.config.get("temporary-directory", None) or tempfile.gettempdir()
        raise ClusterError(
            f"no cluster on this machine: {reason}; finished blocks are kept, run the command "
            f"again (workers need memory, and keep files in {folder}, Dask's temporary-directory)"
        ) from None


@contextlib.contextmanager
def _jobs(request: JobRequest, asked: ClusterOptions) -> Iterator[Client]:
    from distributed import Client

    if request.dashboard:
        _require_dashboard()
    with (
        quiet("distributed"),
        job_cluster(request) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        cluster.patient = asked.get("wait_for_workers") or setting("cluster.wait-for-workers")
        if request.dashboard:
            _say_dashboard(cluster)
        yield client


def _require_dashboard() -> None:
    from importlib.util import find_spec

    if find_spec("bokeh") is None:
        raise UsageError(f"--dashboard needs bokeh: {install_line('dashboard')}")


def _say_dashboard(cluster: Any) -> None:
    """Print where the dashboard is, and how to reach it from elsewhere."""
    import getpass
    import socket

    port = cluster.scheduler.http_server.port
    here = f"{getpass.getuser()}@{socket.getfqdn()}"
    echo(
        f"dashboard: http://127.0.0.1:{port}/status; from another machine: "
        f"ssh -N -L 8787:127.0.0.1:{port} {here}, then http://127.0.0.1:8787/status",
        err=True,
    )
