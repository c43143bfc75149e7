"""From options to a cluster of batch jobs, by dask-jobqueue's own configuration.

What a site needs is written once in dask-jobqueue's YAML (``jobqueue.slurm.queue`` and so
on), in the user's configuration folder or in a file that is named. Defaults are added for
what survives a queue: a worker's life ends before its walltime, scheduler and workers
speak TLS, logs go to a folder of the run, no HTTP server is started.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abc_dask.base.config import setting
from abc_dask.base.errors import ClusterError, UsageError
from abc_dask.base.extras import install_line
from abc_dask.base.messages import enumerate_names, quoted
from abc_dask.disk.files import cannot_write
from abc_dask.run.cluster.credentials import read_credentials, write_credentials
from abc_dask.run.cluster.queues import (
    CLUSTERS,
    check_keys,
    check_values,
    lifetime,
    read_cluster_config,
)

if TYPE_CHECKING:
    from distributed.security import Security

LOGS = "logs"

_WORKER = "distributed.cli.dask_worker"

# A worker listens on the one address by which it reaches the scheduler, found in its job.
_ADDRESS = "abc_dask.run.cluster.address"

_ADDRESS_OPTIONS = {"--host", "--interface", "--listen-address"}

_HOST = "ABC_DASK_HOST"

_SCHEDULER = "SCHEDULER"

_WORKER_CLASS = "abc_dask.run.cluster.nodes.PrivateWorker"


@dataclass(frozen=True)
class JobRequest:
    """Which jobs are wanted.

    Attributes
    ----------
    kind : str
        Batch system, a key of `abc_dask.run.cluster.queues.CLUSTERS`.
    folder : Path
        Folder of the run, on a file system that all nodes share.
    config : str or None
        YAML file of settings beside the user's own.
    minimum, maximum : int
        Jobs at a time.
    walltime : str or None
        Of each job, as the batch system writes it; None: as configured.
    dashboard : bool
        Show Dask's dashboard on loopback.
    """

    kind: str
    folder: Path
    config: str | None = None
    minimum: int = 0
    maximum: int = 4
    walltime: str | None = None
    dashboard: bool = False


def import_jobqueue() -> Any:
    """Import dask-jobqueue without the side effects of its import.

    It would write a file into the user's home, and let Ctrl-C end the process with 0.

    Raises
    ------
    UsageError
        If it is not installed.
    """
    import dask.config

    with (
        _without(dask.config, "ensure_file"),
        _without(signal, "signal"),
    ):
        try:
            import dask_jobqueue
        except ImportError:
            raise UsageError(
                f"a cluster of batch jobs needs dask-jobqueue: {install_line('jobqueue')}"
            ) from None
    return dask_jobqueue


@contextlib.contextmanager
def _without(module: Any, name: str) -> Iterator[None]:
    """Disable a function for a while."""
    function = getattr(module, name)
    setattr(module, name, lambda *_arguments, **_options: None)
    try:
        yield
    finally:
        setattr(module, name, function)


@contextlib.contextmanager
def configured(config: str | None) -> Iterator[None]:
    """Put a file of settings over the user's own for a while.

    Raises
    ------
    UsageError
        If the file is not one, or has a setting that dask-jobqueue does not know.
    """
    import dask.config

    if config is None:
        yield
        return
    settings = read_cluster_config(config)
    check_keys(settings, _known(), config)
    with dask.config.set(settings):
        yield


def _known() -> dict[str, Any]:
    """Return dask-jobqueue's own defaults."""
    import yaml

    source = Path(import_jobqueue().__file__).with_name("jobqueue.yaml")
    known: dict[str, Any] = yaml.safe_load(source.read_text("utf-8"))["jobqueue"]
    return known


def _section(kind: str) -> dict[str, Any]:
    """Return what is configured of a batch system, each value of a type that it can have."""
    import dask.config

    section: dict[str, Any] = dask.config.get(f"jobqueue.{kind}")
    check_values(kind, section, _known()[kind])
    return section


def job_options(
    request: JobRequest, security: Security, scheduler: str = _SCHEDULER
) -> dict[str, Any]:
    """Return the arguments of dask-jobqueue's Job class; the rest is configured.

    Parameters
    ----------
    request : JobRequest
    security : Security
    scheduler : str
        Host of the scheduler.
    """
    section = _section(request.kind)
    extra = list(section.get("worker-extra-args") or [])
    prologue = list(section.get("job-script-prologue") or [])
    if section.get("worker-command", _WORKER) == _WORKER:
        extra += ["--worker-class", _WORKER_CLASS, "--no-dashboard"]
        walltime = request.walltime or section.get("walltime")
        life = lifetime(request.kind, walltime) if walltime else None
        if life and "--lifetime" not in extra:
            extra += ["--lifetime", f"{life[0]}s", "--lifetime-stagger", f"{life[1]}s"]
        if not (section.get("interface") or _ADDRESS_OPTIONS & {str(word) for word in extra}):
            python = section.get("python") or sys.executable
            prologue.append(f"{_HOST}=`{python} -m {_ADDRESS} {scheduler}` || exit 1")
            extra += ["--host", f"${_HOST}"]
    prologue.append("export HDF5_USE_FILE_LOCKING=BEST_EFFORT")
    options: dict[str, Any] = {
        "protocol": "tls://",
        "security": security,
        "interface": section.get("interface"),
        "processes": section.get("processes") or 1,
        "worker_extra_args": extra,
        "job_script_prologue": prologue,
        "log_directory": section.get("log-directory") or str(request.folder / LOGS),
    }
    if section.get("name") in {None, "dask-worker"}:
        options["job_name"] = job_name(request.folder)
    if request.walltime is not None:
        if "walltime" not in section:
            raise UsageError(f"--walltime: dask-jobqueue has none for {request.kind}")
        options["walltime"] = request.walltime
    return options


def job_name(folder: Path) -> str:
    """Name the jobs of a run: 15 characters, as old batch systems allow, the same each time."""
    return f"abc-dask-{hashlib.sha256(str(folder).encode()).hexdigest()[:6]}"


def job_script(request: JobRequest) -> str:
    """Return the script that would be submitted; address and credentials are stand-ins.

    Raises
    ------
    UsageError
        If cores or memory are not configured, or dask-jobqueue is not installed.
    """
    classes = import_jobqueue()
    made = [path for path in (request.folder / LOGS, request.folder) if not path.exists()]
    with configured(request.config):
        cluster = getattr(classes, f"{CLUSTERS[request.kind]}Cluster")
        options = job_options(request, read_credentials(request.folder / "tls"))
        with _plain_errors(request.kind):
            job = cluster.job_cls(f"tls://{_SCHEDULER}:PORT", name="abc-dask-0", **options)
    script: str = job.job_script()
    for path in made:  # dask-jobqueue makes the folder of the logs
        with contextlib.suppress(OSError):
            path.rmdir()
    return script


@contextlib.contextmanager
def _plain_errors(kind: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, AttributeError) as error:
        what = enumerate_names([f"jobqueue.{kind}.{key}" for key in ("cores", "memory")])
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"--cluster={kind}: {reason}; set {what} in a file for --cluster-config "
            "or in your dask configuration"
        ) from None


@contextlib.contextmanager
def job_cluster(request: JobRequest) -> Iterator[Any]:
    """Start a scheduler here, and submit jobs once there is work.

    Yields
    ------
    WatchedCluster
        Its `want` takes what is left to do.

    Raises
    ------
    UsageError
        If the configuration is not enough.
    ClusterError
        If the scheduler cannot be started.
    """
    import dask.config

    import_jobqueue()
    with configured(request.config):
        lost = setting("cluster.lost-worker-timeout")
        with dask.config.set(
            {
                "distributed.deploy.lost-worker-timeout": lost,
                # a worker holds no block in reserve: its end is blamed on what it ran alone
                "distributed.scheduler.worker-saturation": 1.0,
            }
        ):
            cluster = _start(request)
            try:
                yield cluster
            finally:
                cluster.close()
                _sweep(request.folder)


def _sweep(folder: Path) -> None:
    """Remove the folder of a finished run, which a job's logs brought back.

    A job that takes the place of a lost one just as the last block is done makes the folder
    of its logs after all else was removed.
    """
    with contextlib.suppress(OSError):
        if {path.name for path in folder.iterdir()} <= {LOGS}:
            shutil.rmtree(folder)


def _start(request: JobRequest) -> Any:
    from abc_dask.run.cluster.jobs import Guard, Jobs

    made, job = _classes(request.kind)
    credentials = request.folder / f"tls-{secrets.token_hex(4)}"
    scheduler = _scheduler_options(request)
    options = job_options(request, read_credentials(credentials), _host_of(scheduler))
    try:
        with _plain_errors(request.kind):
            job(f"tls://{_SCHEDULER}:PORT", name="abc-dask-0", **options)  # whether it can be made
    except OSError as error:
        raise cannot_write(request.folder, error, ClusterError) from None
    write_credentials(credentials)
    guard = Guard(credentials, job.cancel_command)
    jobs = Jobs(request.kind, guard, request.maximum)
    try:
        cluster = made(
            name="abc-dask",
            scheduler_cls=_scheduler_class(dashboard=request.dashboard),
            scheduler_options=scheduler,
            silence_logs="CRITICAL",
            **options,
        )
    except BaseException as error:
        guard.close()
        if isinstance(error, RuntimeError | OSError):
            reason = " ".join(str(error).split())[:300]
            raise ClusterError(f"no scheduler could be started here: {reason}") from None
        raise
    job.watch = cluster
    cluster.begin(jobs, request.minimum, request.folder / LOGS)
    return cluster


def _classes(kind: str) -> tuple[Any, Any]:
    """Make the classes of one cluster: dask-jobqueue's, watched."""
    from abc_dask.run.cluster.jobs import WatchedCluster, WatchedJob

    parent = getattr(import_jobqueue(), f"{CLUSTERS[kind]}Cluster")
    job = type("AbcDaskJob", (WatchedJob, parent.job_cls), {})
    return type("AbcDaskCluster", (WatchedCluster, parent), {"job_cls": job}), job


def _scheduler_class(*, dashboard: bool) -> Any:
    from distributed import Scheduler

    from abc_dask.run.cluster.nodes import PrivateScheduler

    return Scheduler if dashboard else PrivateScheduler


def _scheduler_options(request: JobRequest) -> dict[str, Any]:
    """Return the arguments of the scheduler, which listens on one address of this machine."""
    from distributed.utils import get_ip

    from abc_dask.run.cluster.local import DASHBOARD

    section = _section(request.kind)
    named = section.get("scheduler-options") or {}
    if not ({"host", "interface"} & set(named) or section.get("interface")):
        named = {**named, "host": get_ip()}
    return {
        "allowed_failures": setting("cluster.allowed-failures"),
        **named,
        "dashboard_address": DASHBOARD,
        "dashboard": request.dashboard,
    }


def _host_of(scheduler: dict[str, Any]) -> str:
    """Return the host by which workers reach a scheduler with these options."""
    from distributed.utils import get_ip, get_ip_interface

    if name := scheduler.get("interface"):
        try:
            return str(get_ip_interface(name))
        except ValueError as error:
            raise UsageError(f"scheduler-options: interface {quoted(name)}: {error}") from None
    return str(scheduler.get("host") or get_ip())
