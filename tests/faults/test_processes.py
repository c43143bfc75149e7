"""Workers and drivers die, hang, come late, or are two: the real command, real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from abc_dask.views.staging import PARTS, Staging
from tests.waiting import wait_until

from .drivers import INJECTED, Job, abc_dask, ended, n_receipts, require_absent, require_equal

WORKERS = ("--workers", 2)


def faulty(act: str, block: int, once: Path | None = None, **more: str) -> dict[str, str]:
    """Environment in which a block does something to its worker."""
    INJECTED[f"{act} in a block"] += 1
    env = {"DASK_DISTRIBUTED__WORKER__PRELOAD": "tests.faults.preload", "FAULT": f"{act}:{block}"}
    if once is not None:
        env["FAULT_ONCE"] = str(once)
    return env | more


def started(job: Job, output: Path, env: dict[str, str], *more: object) -> subprocess.Popen[str]:
    return abc_dask(*job.to(output, *WORKERS, *more), env=env)


def left_over(session: int) -> list[str]:
    """Processes of a session that are still there."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except (ProcessLookupError, psutil.Error):
            continue
    return found


def require_no_orphans(session: int) -> None:
    """Within 10 seconds all processes of a command are gone; a slow machine looks more slowly."""
    for _ in range(100):
        if not left_over(session):
            return
        time.sleep(0.1)
    assert left_over(session) == []


def test_a_worker_that_dies_in_mid_block_costs_that_block_only(job, tmp_path, undisturbed):
    output = tmp_path / "out" / "v.parquet"
    output.parent.mkdir()
    process = started(job, output, faulty("die", 1, tmp_path / "once"))
    outcome = ended(process)
    assert (outcome.code, outcome.err) == (0, "")
    assert (tmp_path / "once").exists()
    require_equal(output, undisturbed.content)
    require_no_orphans(process.pid)


@pytest.mark.slow  # tests.run.cluster.test_connect has the same without the command line
def test_a_block_that_always_kills_its_worker_is_named(job, tmp_path, undisturbed):
    output = tmp_path / "v.parquet"
    env = faulty("die", 1, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="1")
    process = started(job, output, env)
    outcome = ended(process)
    assert outcome.code == 1
    assert "WMB-10Xv3-MB-log2.h5ad rows 0 to" in outcome.error
    assert "died" in outcome.error
    require_no_orphans(process.pid)
    require_absent(output)
    held = n_receipts(output)
    assert held > 0
    assert ended(abc_dask(*job.to(output))).code == 0
    view = require_equal(output, undisturbed.content)
    assert view.provenance["run"]["blocks_kept_from_earlier_run"] == held


@pytest.mark.parametrize(
    ("number", "whole_group"),
    [
        (signal.SIGINT, True),
        (signal.SIGKILL, False),
        pytest.param(signal.SIGTERM, False, marks=pytest.mark.slow),
    ],
)
def test_no_process_outlives_the_command(job, tmp_path, undisturbed, number, whole_group):
    """Signals in mid-block, to the command or, as Ctrl-C does, to all its processes."""
    output = tmp_path / "out" / "v.parquet"
    output.parent.mkdir()
    once = tmp_path / "once"
    process = started(job, output, faulty("wait", 1, once))
    wait_until(once.exists, process)
    (os.killpg if whole_group else os.kill)(process.pid, number)
    INJECTED[f"{number.name} to the command"] += 1
    outcome = ended(process)
    code = {signal.SIGTERM: 143, signal.SIGINT: 130}.get(number, -number)
    assert outcome.code == code
    if number != signal.SIGKILL:
        assert "run the same command again" in outcome.error
    require_no_orphans(process.pid)
    require_absent(output)
    assert ended(abc_dask(*job.to(output))).code == 0
    require_equal(output, undisturbed.content)


def test_two_drivers_on_one_view(job, tmp_path, undisturbed):
    """The second is refused and harms nothing; the first goes on to its end."""
    output = tmp_path / "out" / "v.parquet"
    output.parent.mkdir()
    once = tmp_path / "once"
    env = faulty("wait", 1, once)
    first = abc_dask(*job.to(output), env=env)
    wait_until(once.exists, first)
    for more in ((), ("--overwrite",)):
        second = ended(abc_dask(*job.to(output, *more)))
        INJECTED["second driver"] += 1
        assert f"in use by another extraction (process {first.pid} on" in second.error
    (tmp_path / "once.over").touch()
    assert ended(first).code == 0
    require_equal(output, undisturbed.content)


def test_a_late_worker_of_a_killed_run_writes_into_nothing_that_is_read(job, tmp_path, undisturbed):
    """A worker that hangs in a block is left over; it wakes up when the view is complete."""
    output = tmp_path / "out" / "v.parquet"
    output.parent.mkdir()
    once = tmp_path / "once"
    process = started(job, output, faulty("wait", 1, once))
    wait_until(once.exists, process)
    workers = [p for p in psutil.Process(process.pid).children(recursive=True) if p.is_running()]
    for one in workers:
        one.suspend()
    process.kill()
    INJECTED["late worker"] += 1
    process.wait()  # its workers, which are stopped, hold its pipes
    process.stdout.close()
    process.stderr.close()
    assert ended(abc_dask(*job.to(output))).code == 0
    before = require_equal(output, undisturbed.content).info["files"]
    (tmp_path / "once.over").touch()
    for one in workers:
        if one.is_running():
            one.resume()
    require_no_orphans(process.pid)
    assert require_equal(output, undisturbed.content).info["files"] == before


@pytest.mark.slow
def test_a_worker_over_its_memory_limit(job, tmp_path, undisturbed):
    output = tmp_path / "out" / "v.parquet"
    output.parent.mkdir()
    env = faulty("eat", 1, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0", FAULT_SECONDS="60")
    process = started(job, output, env, "--memory-limit", "600 MB")
    outcome = ended(process)
    assert "more memory for each worker" in outcome.error
    require_no_orphans(process.pid)
    once = tmp_path / "once"
    process = started(job, output, faulty("eat", 1, once, FAULT_SECONDS="20"))
    assert ended(process).code == 0
    require_equal(output, undisturbed.content)


@pytest.mark.slow
def test_the_gil_held_past_the_heartbeat(job, tmp_path, undisturbed):
    """The scheduler takes the worker for dead; its block is read elsewhere, and counted once."""
    output = tmp_path / "out" / "v.parquet"
    output.parent.mkdir()
    env = faulty("hold", 1, tmp_path / "once", FAULT_SECONDS="15")
    env["DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL"] = "4s"
    process = started(job, output, env)
    assert ended(process).code == 0
    require_equal(output, undisturbed.content)
    require_no_orphans(process.pid)


SCHEDULER = """
import sys, time
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=True, host="127.0.0.1",
                      protocol="tcp", dashboard_address=None) as cluster:
        print(cluster.scheduler_address, flush=True)
        time.sleep(600)
"""


@pytest.mark.slow
def test_a_scheduler_that_dies(job, tmp_path, undisturbed):
    import sys

    output = tmp_path / "out" / "v.parquet"
    output.parent.mkdir()
    once = tmp_path / "once"
    script = tmp_path / "scheduler.py"
    script.write_text(SCHEDULER)
    env = {**os.environ, **faulty("wait", 1, once)}
    with subprocess.Popen(
        [sys.executable, str(script)],
        env={**env, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2])])},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as scheduler:
        address = scheduler.stdout.readline().strip()
        process = abc_dask(*job.to(output, "--scheduler", address))
        wait_until(once.exists, process)
        os.killpg(scheduler.pid, signal.SIGKILL)
        INJECTED["scheduler killed"] += 1
        outcome = ended(process)
    assert outcome.code == 1
    assert "the same command completes the work" in outcome.error
    assert (Staging.beside(output).folder / PARTS).is_dir()
    assert ended(abc_dask(*job.to(output))).code == 0
    require_equal(output, undisturbed.content)
