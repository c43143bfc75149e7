"""A LocalCluster that listens on nothing but what its own processes need.

One process opens no port, several open only their TLS ports on loopback, and a dashboard
is on loopback, if one is asked for.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import ctypes
import multiprocessing
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import FrameType
from typing import Any

import dask
from distributed import Client, LocalCluster, Scheduler, core
from distributed.core import Status
from distributed.security import Security
from tornado.ioloop import IOLoop

from abc_dask.base.errors import UsageError
from abc_dask.run.cluster.forked import MALLOC
from abc_dask.run.cluster.nodes import PrivateNanny, PrivateScheduler, PrivateWorker

DASHBOARD = "127.0.0.1:0"

# Seconds for which a worker process is waited for.
_STARTING = 5.0


# `MALLOC` for a process that runs: numbers of `mallopt` in malloc.h.
_MALLOPT = {-1: 64 << 20, -3: 32 << 20}


class PrivateCluster(LocalCluster):
    """A LocalCluster without HTTP servers.

    Parameters
    ----------
    n_workers, threads_per_worker : int
        Size.
    memory_limit : str or None
        Bytes of each process, as Dask reads them; None: one process, this one, with
        threads, in-process communication and no limit (it would count the driver's own
        tables). Otherwise processes that speak TLS on loopback with credentials that are
        made for this cluster and kept in memory.
    dashboard : bool
        Let the scheduler show Dask's dashboard, on loopback.
    loop : IOLoop, optional
        Where all of it runs (see `running_loop`); by default a loop of its own.
    """

    def __init__(
        self,
        *,
        n_workers: int,
        threads_per_worker: int,
        memory_limit: str | None,
        dashboard: bool = False,
        loop: IOLoop | None = None,
    ):
        options: dict[str, Any] = (
            {
                "processes": False,
                "worker_class": PrivateWorker,
                "protocol": "inproc://",
                "memory_limit": 0,
            }
            if memory_limit is None
            else {
                "processes": True,
                "worker_class": PrivateNanny,
                "host": "127.0.0.1",
                "protocol": "tls://",
                "security": Security.temporary(),
                "memory_limit": memory_limit,
            }
        )
        self._scheduler_class = Scheduler if dashboard else PrivateScheduler
        settings: dict[str, Any] = {}
        if not dashboard:  # nobody looks at it, and it stops tasks a hundred times a second
            settings["distributed.worker.profile.enabled"] = False
        for name, value in MALLOC.items():
            settings[f"distributed.nanny.pre-spawn-environ.{name}"] = value
        if memory_limit is None:
            _keep_freed_memory()
            # threads of one process do not die alone, so each may hold tasks in reserve,
            # and does not wait for the scheduler between two of them
            settings["distributed.scheduler.worker-saturation"] = float("inf")
        with dask.config.set(settings), _closed_on_error(self, Status.closed):
            super().__init__(
                loop=loop,
                n_workers=n_workers,
                threads_per_worker=threads_per_worker,
                dashboard_address=DASHBOARD if dashboard else None,
                # a task's error is reported once, by the caller
                silence_logs="CRITICAL",
                **options,
            )

    def close(self, timeout: float | None = None) -> Any:
        """Close; a worker process that is just being started again comes up first.

        Its nanny could not end it yet, and would raise in place of what is to be told.
        """
        deadline = time.monotonic() + _STARTING
        while time.monotonic() < deadline and self._is_short_of_workers():
            time.sleep(0.02)
        closed = super().close(timeout)
        _forget_handlers()
        return closed

    def _is_short_of_workers(self) -> bool:
        """Return whether a process that ended has not come back yet."""
        if self.status != Status.running:
            return False
        return len(self.scheduler.workers) < len(self.workers)

    async def _start(self) -> None:
        self.scheduler_spec["cls"] = self._scheduler_class
        await super()._start()


def _keep_freed_memory() -> None:
    """Set `_MALLOPT`; another C library than glibc has no such limits."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in _MALLOPT.items():
            mallopt(parameter, value)


def require_main_guard() -> None:
    """Raise `UsageError` where worker processes would run the user's script once more.

    A worker process imports the script that started it. One whose work stands at the top, not
    under ``if __name__ == "__main__":``, would begin from the start in each of them.
    """
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    is_import = getattr(multiprocessing.current_process(), "_inheriting", False)
    if is_import or (script and _is_at_the_top(script)):
        raise UsageError(
            f"{script or 'this script'} starts worker processes, and each of them imports it and "
            "would start it again: put what it does under if __name__ == '__main__':, "
            "or leave out workers and memory_limit, which uses threads"
        )


def _is_at_the_top(script: str) -> bool:
    """Return whether a script runs right now what its import would run."""
    try:
        tree = ast.parse(Path(script).read_bytes())
    except (OSError, ValueError, SyntaxError):
        return False
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - there is no other way
    while frame is not None and not (
        frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == "__main__"
    ):
        frame = frame.f_back
    if frame is None or Path(frame.f_code.co_filename).absolute() != Path(script).absolute():
        return False
    now = [node for node in tree.body if node.lineno <= frame.f_lineno <= (node.end_lineno or 0)]
    return bool(now) and "__name__" not in ast.dump(now[0])


class PrivateClient(Client):
    """The client of a `PrivateCluster`."""

    def __init__(self, cluster: PrivateCluster) -> None:
        with _closed_on_error(self, "closed"):
            super().__init__(cluster, set_as_default=False)


@contextlib.contextmanager
def _closed_on_error(started: Any, closed: object) -> Iterator[None]:
    """Count as closed what is broken off in its start: Dask would close it when it is lost."""
    try:
        yield
    except BaseException:
        started.status = closed
        raise


@contextlib.contextmanager
def running_loop() -> Iterator[IOLoop]:
    """Run an event loop in a thread; at the end it ends, with all that is left on it.

    A loop of Dask's own goes on when a cluster or a client is interrupted in its start.
    """
    started: Future[tuple[IOLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        end = asyncio.Event()
        # futures that nobody waits for any more, after a signal, are no news for a user
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        started.set_result((IOLoop.current(), end))
        await end.wait()
        # what is broken off may begin something else, which would be told of when it is lost
        deadline = time.monotonic() + _STARTING
        while left := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=0.1)
            if time.monotonic() > deadline:
                break

    thread = threading.Thread(target=asyncio.run, args=[serve()], name="IO loop", daemon=True)
    try:
        thread.start()
        yield started.result()[0]
    finally:
        if thread.ident is not None:
            loop, end = started.result()
            loop.add_callback(end.set)
            thread.join(_STARTING)


def _forget_handlers() -> None:
    """Let go of closed schedulers: Dask remembers of each of their methods how it is called.

    That memory has no bound (`distributed.core._expects_comm`, a `functools.cache`); it kept all
    schedulers of a process, 0.13 MB each. It is filled again by who goes on.
    """
    forget = getattr(getattr(core, "_expects_comm", None), "cache_clear", None)
    if forget is not None:
        forget()
