"""Dask's scheduler and worker without their HTTP servers.

Each starts one (health, metrics, status), also where no dashboard is wanted, and by
default on all interfaces. Nobody asks these here, so they are not started: all that
listens is what the nodes speak with each other.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from typing import Any

from distributed import Nanny, Scheduler, Worker


class _WithoutHttp:
    """Leaves out the HTTP server of a Dask node."""

    def start_http_server(self, *_arguments: Any, **_options: Any) -> None:
        """Start nothing."""


class PrivateScheduler(_WithoutHttp, Scheduler):
    """A scheduler that only its workers and clients can speak to."""


class PrivateWorker(_WithoutHttp, Worker):
    """A worker that only its scheduler, clients and fellows can speak to."""


class _KeptWorker(PrivateWorker):
    """A worker in a process of its own, which its nanny ends."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        # Ctrl-C goes to all processes of a terminal; the command alone has something to say
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        super().__init__(*arguments, **options)

    async def close(self, *arguments: Any, **options: Any) -> Any:
        """Close, without a last search through all modules for what nobody refers to."""
        gc.freeze()
        return await super().close(*arguments, **options)


class PrivateNanny(Nanny):
    """Keeps a `PrivateWorker` alive in another process."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        # what it is forked from has the environment of an earlier time
        environment = dict(os.environ)
        super().__init__(*arguments, worker_class=_KeptWorker, env=environment, **options)
