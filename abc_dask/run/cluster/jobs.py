"""Workers as batch jobs: submitted, counted, replaced, and gone at the end.

dask-jobqueue writes the job scripts and calls the batch system. Added here is what a run
of hours in a queue needs: as many jobs as the blocks that are left can use; lost, refused
and vanished jobs noticed and replaced, within bounds; and a guard process that cancels
what is left when this process is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask
from dask.utils import parse_timedelta
from distributed.core import Status
from distributed.deploy import Cluster
from distributed.deploy.adaptive import Adaptive

from abc_dask.base.config import setting
from abc_dask.base.errors import ClusterError
from abc_dask.base.messages import enumerate_names, plural
from abc_dask.run.cluster import guard as guard_module
from abc_dask.run.cluster.queues import JobState, read_status, status_command

# A refused submission is tried again this often, once a second.
_SUBMISSIONS = 3

# While some jobs live, more are asked for again after this many seconds.
_REFUSED_WAIT = 30.0

# Jobs that one command cancels.
_BATCH = 500


class Guard:
    """The other end of `abc_dask.run.cluster.guard`.

    Parameters
    ----------
    folder : Path
        Removed at the end.
    cancel : str
        Command that takes jobs' numbers.
    """

    def __init__(self, folder: Path, cancel: str) -> None:
        script = str(guard_module.__file__)
        self._process = subprocess.Popen(  # noqa: S603 - our own script and the job's command
            [sys.executable, "-I", "-S", script, str(folder), *shlex.split(cancel)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C goes to this process's group alone
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()  # from here on it ignores signals

    def tell(self, line: str) -> None:
        """Pass on what was submitted or cancelled."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()

    def close(self) -> None:
        """Let it cancel what is left, and wait for that."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._process.communicate(timeout=30)


@dataclass
class Jobs:
    """What is known of the jobs of a cluster.

    Attributes
    ----------
    kind : str
        Batch system.
    guard : Guard
    maximum : int
        Most jobs at a time.
    connected : set of str
        Jobs that have a worker now.
    waiting : set of str
        Jobs that have none.
    lost : int
        Jobs that ended though they were wanted.
    in_vain : int
        Of these, those since a block was finished.
    refusals : int
        Submissions refused one after another.
    refusal : str
        What the batch system said to the last one.
    states : list of JobState
        What the batch system last said about waiting jobs.
    alone_since : float
        When the last worker left, or the cluster started; monotonic seconds.
    """

    kind: str
    guard: Guard
    maximum: int
    connected: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    lost: int = 0
    in_vain: int = 0
    refusals: int = 0
    refusal: str = ""
    refused_at: float = 0.0
    states: list[JobState] = field(default_factory=list)
    alone_since: float = field(default_factory=time.monotonic)

    def was_refused(self, error: Exception) -> None:
        """Count a submission that failed."""
        self.refusals += 1
        self.refused_at = time.monotonic()
        text = str(error)
        _, _, errors = text.partition("stderr:")  # dask-jobqueue's report of a command
        lines = [line.strip() for line in (errors or text).splitlines() if line.strip()]
        self.refusal = "; ".join(lines[:3])[:500] or type(error).__name__

    def was_submitted(self, job: str) -> None:
        """Count a job that the batch system took."""
        self.refusals = 0
        self.guard.tell(f"+{job}")

    def was_lost(self) -> None:
        """Count a job that ended though it was wanted."""
        self.lost += 1
        self.in_vain += 1

    def text(self) -> str:
        """Return how many jobs run, wait and are lost, for a line of progress."""
        counts = f"{len(self.connected)} running, {len(self.waiting)} pending, {self.lost} lost"
        reasons = "" if self.connected else self._reasons()
        return f"jobs: {counts}{reasons}"

    def _reasons(self) -> str:
        texts = list(dict.fromkeys(state.text for state in self.states))
        return f" ({enumerate_names(texts, most=3)})" if texts else ""

    def check(self, logs: Path) -> None:
        """Raise `ClusterError` if there is no hope that jobs get the work done."""
        if self.refusals >= _SUBMISSIONS and not (self.connected or self.waiting):
            raise ClusterError(
                f"{self.kind} takes no job: {self.refusal}; see --print-job-script for what was "
                "asked; finished blocks are kept, the same command completes the work"
            )
        if self.in_vain > max(5, 2 * self.maximum):
            raise ClusterError(
                f"{self.in_vain} jobs ended one after another and no block was finished; "
                f"{last_words(logs)}; finished blocks are kept, the same command completes the work"
            )

    def alone(self) -> str:
        """Return what the batch system says about jobs of which none has a worker."""
        n = plural(len(self.waiting), "job")
        if not self.states:
            refused = f" and last said: {self.refusal}" if self.refusal else ""
            return f"{n} submitted, of which {self.kind} says nothing{refused}"
        said = "; ".join(f"{state.job}: {state.text}" for state in self.states[:3])
        return f"{n} submitted, {self.kind} says {said}"


def last_words(logs: Path) -> str:
    """Return the last line that a job wrote to its log."""
    with contextlib.suppress(OSError):
        files = sorted(logs.iterdir(), key=lambda path: path.stat().st_mtime)
        for path in reversed(files):
            lines = path.read_text("utf-8", "replace").strip().splitlines()
            if lines:
                return f"the last line of {path} is {lines[-1].strip()[:300]!r}"
    return f"their logs in {logs} are empty"


class WatchedJob:
    """Goes before a dask-jobqueue Job: no failure is lost, and the guard knows of it.

    Attributes
    ----------
    watch : JobClusterMixin
        Its cluster; set on the class that is made for one cluster.
    """

    watch: Any
    refused = False

    async def start(self: Any) -> None:
        """Submit the job; what the batch system does not take is remembered, not raised."""
        jobs = self.watch.jobs
        try:
            await super().start()  # type: ignore[misc]
        except (RuntimeError, ValueError, OSError) as error:
            jobs.was_refused(error)
            self.refused = True
            self.status = Status.running  # as Dask expects it; forgotten at the next look
        else:
            jobs.was_submitted(self.job_id)

    async def close(self: Any) -> None:
        """Cancel the job."""
        self.status = Status.closed
        if not self.job_id:
            return
        if self.name in self.watch.worker_spec:
            self.watch.jobs.was_lost()
        # if this fails, the guard tries once more at the end
        with contextlib.suppress(RuntimeError, OSError):
            await self._call([*shlex.split(self.cancel_command), self.job_id])
            self.watch.jobs.guard.tell(f"-{self.job_id}")


class WatchedCluster:
    """Goes before a dask-jobqueue cluster: knows its jobs, and how many it wants.

    Attributes
    ----------
    jobs : Jobs
    blocks : int
        Blocks that are left, and so how much work there is.
    logs : Path
        Folder of the jobs' logs.
    """

    jobs: Any = None
    logs: Path
    blocks = 0
    _finished = 0
    _interval = 0.0
    _asked = 0.0
    _minimum = 0
    _unknown: frozenset[str] = frozenset()
    _sample: Any = None

    @property
    def _dummy_job(self: Any) -> Any:
        """Return a job to ask for its size: one, since each makes the folder of the logs."""
        if self._sample is None:
            self._sample = super()._dummy_job  # type: ignore[misc]
        return self._sample

    def begin(self: Any, jobs: Jobs, minimum: int, logs: Path) -> None:
        """Start to adapt the number of jobs to the work."""
        self.jobs, self._minimum, self.logs = jobs, minimum, logs
        self._interval = setting("cluster.queue-interval")
        self.adapt(Adaptive=_Adaptive, minimum=0, interval="1s", wait_count=3)

    def want(self, blocks: int, *, finished: int = 0) -> None:
        """Set how many blocks are left, and how many are finished.

        Parameters
        ----------
        blocks : int
        finished : int
            Where this number changes, jobs were not in vain.
        """
        if self.blocks == 0:
            self.jobs.alone_since = time.monotonic()
        self.blocks = blocks
        if finished != self._finished:
            self._finished = finished
            self.jobs.in_vain = 0

    def target(self: Any) -> int:
        """Return the number of workers that the blocks can use, in whole jobs."""
        job = self._dummy_job
        if not self.blocks:
            return 0
        useful = -(-self.blocks // max(1, int(job.worker_cores)))
        wanted = min(self.jobs.maximum, max(self._minimum, useful))
        if self.jobs.refusals:
            alive = len(self.jobs.connected | self.jobs.waiting)
            if alive and time.monotonic() < self.jobs.refused_at + _REFUSED_WAIT:
                wanted = min(wanted, alive)
        return int(wanted * job.worker_processes)

    def _update_worker_status(self: Any, op: str, msg: Any) -> None:
        """Follow workers; the job of one that went away and stays away is replaced.

        Instead of `SpecCluster`'s, which after its time closes whatever job has that name by
        then: one that has just been submitted instead, and the next one after that, for as
        long as starting takes no less than that time.
        """
        if op == "remove":
            name = self.scheduler_info["workers"][msg]["name"]
            delay = parse_timedelta(dask.config.get("distributed.deploy.lost-worker-timeout"))
            asyncio.get_running_loop().call_later(
                delay, self._replace, name, self.workers.get(name)
            )
        Cluster._update_worker_status(self, op, msg)  # noqa: SLF001 - see above

    def _replace(self: Any, name: str, job: Any) -> None:
        """Close a job that has no worker; another one follows."""
        workers = self.scheduler_info["workers"].values()
        is_current = job is not None and self.workers.get(name) is job
        if is_current and not any(worker["name"] == name for worker in workers):
            del self.workers[name]
            self._futures.add(asyncio.ensure_future(job.close()))

    async def look(self: Any) -> None:
        """See how the jobs stand; forget those that will never have a worker."""
        names = {str(worker.name) for worker in self.scheduler.workers.values()}
        connected, waiting = set(), {}
        for name, job in list(self.workers.items()):
            if job.refused:
                self.workers.pop(name, None)
                self.worker_spec.pop(name, None)
            elif any(n == name or n.startswith(f"{name}-") for n in names):
                connected.add(job.job_id)
            elif job.job_id:
                waiting[job.job_id] = name
        if connected or not self.blocks:
            self.jobs.alone_since = time.monotonic()
        self.jobs.connected, self.jobs.waiting = connected, set(waiting)
        if waiting and time.monotonic() >= self._asked + self._interval:
            self._asked = time.monotonic()
            await self._ask(waiting)

    async def _ask(self: Any, waiting: dict[str, str]) -> None:
        """Ask the batch system about jobs without a worker; replace those it forgot."""
        kind = self.jobs.kind
        command = status_command(kind, getpass.getuser(), next(iter(waiting)))
        try:
            answer = await asyncio.wait_for(self.job_cls._call(list(command)), 30)  # noqa: SLF001
        except (RuntimeError, OSError, TimeoutError):
            self.jobs.states = []
            return
        states = read_status(kind, next(iter(waiting)), answer)
        self.jobs.states = [state for state in states if state.job in waiting]
        if kind != "slurm":
            return
        # one that is missing twice has ended: a job just submitted may be missing once
        missing = frozenset(waiting) - {state.job for state in states}
        for number in missing & self._unknown:
            job = self.workers.get(waiting[number])
            if job is not None and job.job_id == number:
                del self.workers[waiting[number]]
                await job.close()
        self._unknown = missing

    async def cancel_all(self: Any) -> None:
        """Cancel all jobs at once, before Dask takes leave of its workers one by one."""
        self.worker_spec.clear()
        jobs = [job for job in self.workers.values() if job.job_id]
        for first in range(0, len(jobs), _BATCH):
            numbers = [job.job_id for job in jobs[first : first + _BATCH]]
            # if this fails, each is cancelled on its own as Dask closes it
            with contextlib.suppress(RuntimeError, OSError):
                await self.job_cls._call([*shlex.split(jobs[0].cancel_command), *numbers])  # noqa: SLF001
                for job in jobs[first : first + _BATCH]:
                    self.jobs.guard.tell(f"-{job.job_id}")
                    job.job_id = None

    def close(self: Any, timeout: float | None = None) -> Any:
        """Cancel the jobs, close the scheduler, and see to what is left."""
        if self.jobs is None:  # it never came to be
            return super().close(timeout)  # type: ignore[misc]
        if self.status not in {Status.closed, Status.closing}:
            with contextlib.suppress(AttributeError):
                self._adaptive.stop()
            with contextlib.suppress(TimeoutError):
                self.sync(self.cancel_all, callback_timeout=20)
        closed = super().close(timeout)  # type: ignore[misc]
        self.jobs.guard.close()
        return closed


class _Adaptive(Adaptive):
    """Asks for what the blocks that are left can use, whatever Dask guesses."""

    async def target(self) -> int:
        await self.cluster.look()
        return int(self.cluster.target())
