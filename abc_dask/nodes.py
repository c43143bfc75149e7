"""Dask's scheduler and worker without their HTTP servers.

Each starts one (health, metrics, status), also where no dashboard is wanted, and by
default on all interfaces. Nobody asks these here, so they are not started: all that
listens is what the nodes speak with each other.
"""

from __future__ import annotations

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


class PrivateNanny(Nanny):
    """Keeps a `PrivateWorker` alive."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, worker_class=PrivateWorker, **options)
