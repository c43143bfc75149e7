"""Options for where tasks run."""

from __future__ import annotations

import click

from abc_dask.cli.parameters import options_of

# Options for where tasks run.
cluster_options = options_of(
    click.option(
        "--workers",
        type=int,
        metavar="N",
        help="Processes; by default one with threads.",
    ),
    click.option(
        "--threads-per-worker", type=int, metavar="N", help="Threads of each; all cores by default."
    ),
    click.option("--memory-limit", metavar="M", help="Memory of each process, such as '2 GB'."),
    click.option(
        "--scheduler",
        metavar="ADDRESS|FILE",
        help="Use a running Dask cluster: its address or scheduler file.",
    ),
    click.option(
        "--allow-tcp",
        is_flag=True,
        help="Accept a remote scheduler that does not encrypt.",
    ),
    click.option(
        "--cluster",
        metavar="KIND",
        help="local, or batch jobs: slurm, pbs, sge, lsf, htcondor, oar, moab.",
    ),
    click.option(
        "--cluster-config",
        metavar="FILE",
        help="Jobs' settings: YAML in dask-jobqueue's form, over your dask configuration.",
    ),
    click.option("--jobs", type=int, metavar="N", help="Run at most N jobs."),
    click.option("--adapt", metavar="MIN:MAX", help="Run MIN to MAX jobs; 0:4 by default."),
    click.option(
        "--walltime", metavar="T", help="Walltime of a job, as the batch system writes it."
    ),
    click.option(
        "--wait-for-workers",
        is_flag=True,
        help="Keep waiting when no worker appears; report why now and then.",
    ),
    click.option("--dashboard", is_flag=True, help="Show Dask's dashboard, on loopback."),
)

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


# With these, a command that could start workers starts none.
_WITHOUT_WORKERS = ("scheduler", "dry_run", "plan_only", "print_job_script")


def load_workers(context: click.Context) -> None:
    """Begin to load what worker processes need, where the command will surely start some."""
    given = context.params
    here = given.get("cluster", "") in {None, "local"}  # a command without clusters has none
    if not here or any(given.get(name) for name in _WITHOUT_WORKERS):
        return
    if given["workers"] or given["memory_limit"]:
        from abc_dask.run.cluster.forked import loading_workers

        context.with_resource(loading_workers())
