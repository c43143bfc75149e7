"""Which workers there are, and whether each of them is one that can work for us.

A worker that has another version of the package would compute whatever that one computes, and one
that does not see the files nothing at all. So each is asked, before the first task and when it
joins later. Where there is no worker, or all of them are paused, that is said, and has an end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from abc_dask._version import __version__, build
from abc_dask.base.config import setting
from abc_dask.base.errors import ClusterError
from abc_dask.base.messages import enumerate_names, format_bytes, plural
from abc_dask.base.progress import Progress

if TYPE_CHECKING:
    from distributed import Client

# Seconds between two questions to the scheduler, and of silence before a word is said of it.
_INTERVAL = 1.0
_SILENT = 3.0

# What a worker is not asked for: one in this process has the same code and files.
_IN_PROCESS = "inproc://"


def look_around(folder: str, paths: Sequence[str]) -> tuple[str, str]:
    """Return the code that a worker has, and why it could not work with these files.

    Parameters
    ----------
    folder : str
        Where parts are written; "" where none are.
    paths : sequence of str
        Files that are read.
    """
    shared = "the atlas, its kept tables and the output must lie where all workers see them"
    for path in filter(None, (folder, *paths)):
        if not os.path.exists(path):  # noqa: PTH110 - a path is not more than its name here
            return build(), f"does not see {path}; {shared}"
        if not os.access(path, os.R_OK | (os.W_OK if path == folder else 0)):
            return build(), f"may not {'write to' if path == folder else 'read'} {path}"
    return build(), ""


def other_build(found: str, expected: str) -> str:
    """Return in a few words what another build of the package is; "" where it is the same."""
    version, wanted = found.partition("+")[0], expected.partition("+")[0]
    if found == expected:
        return ""
    if version != wanted:
        return f"abc_dask {version}, not {wanted}"
    return f"other code of abc_dask {version}"


class Workers:
    """The workers of a client, as seen from the thread that waits for their results.

    Parameters
    ----------
    client : distributed.Client
    folder : str
        Where tasks write their parts; "" where they do not.
    paths : sequence of str
        Files that they read.
    progress : Progress
        Where it is said that nothing goes on.
    kept : str
        What errors say of what is done, and of how to go on.
    has_jobs : bool
        Workers are batch jobs, for which somebody else waits.
    """

    def __init__(
        self,
        client: Client,
        folder: str,
        paths: Sequence[str],
        progress: Progress,
        kept: str,
        *,
        has_jobs: bool,
    ) -> None:
        self._client, self._folder, self._paths = client, folder, list(paths)
        self._progress, self.kept, self._has_jobs = progress, kept, has_jobs
        self._asked: Future[None] | None = None
        self._next = 0.0
        self._known: set[str] = set()  # workers that were asked
        self._good: set[str] = set()  # and those that can work for us
        self._fault = ""
        self._stuck = f"no answer from the scheduler at {client.scheduler.address}"
        self._well = self._told = time.monotonic()

    @property
    def is_ready(self) -> bool:
        """There is a worker that can work for us."""
        return bool(self._good)

    def look(self) -> None:
        """Ask who is there, without waiting for the answer.

        Raises
        ------
        ClusterError
            If a worker cannot work for us, or none did for too long.
        """
        now = time.monotonic()
        if now >= self._next and (self._asked is None or self._asked.done()):
            self._next = now + (_INTERVAL if self.is_ready else _INTERVAL / 20)
            loop = self._client.loop.asyncio_loop
            self._asked = asyncio.run_coroutine_threadsafe(self._ask(), loop)
        if self._fault:
            raise ClusterError(self._fault)
        if not self._stuck:
            self._well = self._told = now
            return
        limit = setting("cluster.worker-timeout")
        waits_on = setting("cluster.wait-for-workers")
        if now >= self._well + limit and not waits_on:
            raise ClusterError(f"{self._stuck}, for {limit:g} s; {self.kept}")
        if now >= self._told + _SILENT:
            self._told = now + (now - self._well)  # ever less often
            end = "" if waits_on else f", at most {limit:g} s"
            self._progress.note(f"{self._stuck}; waiting{end}")

    async def _ask(self) -> None:
        with contextlib.suppress(OSError):  # a scheduler that goes away is told of elsewhere
            info = await self._client.scheduler.identity(n_workers=-1)
            there: dict[str, Any] = info["workers"]
            self._good &= set(there)
            self._known &= set(there)  # who comes again is asked again
            self._good |= {address for address in there if address.startswith(_IN_PROCESS)}
            for address in set(there) - self._known - self._good:
                self._known.add(address)
                _keep(asyncio.ensure_future(self._ask_worker(address)))
            self._stuck = self._reason(list(there.values()))

    async def _ask_worker(self, address: str) -> None:
        try:
            found = await self._client._run(  # noqa: SLF001 - the public one waits
                look_around, self._folder, self._paths, workers=[address], on_error="return"
            )
        except Exception:  # noqa: BLE001 - of the connection: ask it again
            self._known.discard(address)
            return
        answer = found.get(address)
        if answer is None or isinstance(answer, OSError):
            self._known.discard(address)
        elif fault := _fault(answer):
            self._fault = f"the worker at {address} {fault}"
        else:
            self._good.add(address)

    def _reason(self, workers: list[dict[str, Any]]) -> str:
        """Return why no task is worked on; "" where that is not so."""
        if not workers:
            none = f"no worker at the scheduler {self._client.scheduler.address}"
            return "" if self._has_jobs else none
        if all(worker.get("status") == "paused" for worker in workers):
            limits = {format_bytes(int(w["memory_limit"])) for w in workers if w["memory_limit"]}
            n_workers = len(workers)
            all_paused = "the only worker is" if n_workers == 1 else f"all {n_workers} workers are"
            return (
                f"{all_paused} paused: they need more memory than they may have "
                f"({enumerate_names(sorted(limits), most=3)}); give them more (--memory-limit)"
            )
        return "" if self.is_ready else f"no answer from {plural(len(workers), 'worker')}"


def _fault(answer: Any) -> str:
    """Return what is wrong with a worker, by its answer to `look_around`; "" where nothing is."""
    same = "install the same one there"
    if isinstance(answer, Exception):
        reason = " ".join(str(answer).split())[:200]  # the worker's own error, as text
        if "No module named 'abc_dask'" in reason:
            return f"has no abc_dask; install {__version__} there"
        return f"has another abc_dask, not {__version__} ({reason}); {same}"
    found, fault = answer
    other = other_build(found, build())
    return f"has {other}; {same}" if other else fault


_tasks: set[asyncio.Task[None]] = set()


def _keep(task: asyncio.Task[None]) -> None:
    """Refer to a task until it is done; the loop alone does not."""
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
