"""Options that say where tasks run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = [
    click.option("--workers", type=int, metavar="N", help="Processes; else one with threads."),
    click.option("--threads-per-worker", type=int, metavar="N", help="By default all cores."),
    click.option("--memory-limit", metavar="M", help="Of each process, such as '2 GB'."),
    click.option(
        "--scheduler",
        metavar="ADDRESS|FILE",
        help="Join a running Dask cluster; its scheduler file.",
    ),
    click.option(
        "--allow-tcp", is_flag=True, help="Join a scheduler elsewhere that does not encrypt."
    ),
    click.option(
        "--cluster",
        metavar="KIND",
        help="local, or batch jobs: slurm, pbs, sge, lsf, htcondor, oar, moab.",
    ),
    click.option(
        "--cluster-config",
        metavar="FILE",
        help="What a job is: YAML in dask-jobqueue's form, over that in your dask configuration.",
    ),
    click.option("--jobs", type=int, metavar="N", help="At most so many jobs."),
    click.option("--adapt", metavar="MIN:MAX", help="At least and at most; 0:4 by default."),
    click.option("--walltime", metavar="T", help="Of each job, as the batch system writes it."),
    click.option(
        "--wait-for-workers",
        is_flag=True,
        help="Go on waiting when no worker appears; say from time to time why.",
    ),
    click.option("--dashboard", is_flag=True, help="Show Dask's dashboard, on loopback."),
]

NAMES = (
    "workers",
    "threads_per_worker",
    "memory_limit",
    "scheduler",
    "allow_tcp",
    "cluster",
    "cluster_config",
    "jobs",
    "adapt",
    "walltime",
    "wait_for_workers",
    "dashboard",
)


def cluster_options(command: Command) -> Command:
    """Add the options that say where tasks run."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
