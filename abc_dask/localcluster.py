"""A LocalCluster that listens on nothing but what its own processes need.

Dask's scheduler and workers each start an HTTP server (health, metrics, status), also
where no dashboard is wanted, and with in-process communication it listens on all
interfaces. Nobody asks these here, so they are not started: one process opens no port,
several open only their TLS ports on loopback.
"""

from __future__ import annotations

from typing import Any

from distributed import LocalCluster, Nanny, Scheduler, Worker
from distributed.security import Security


class _WithoutHttp:
    """Leaves out the HTTP server of a Dask node."""

    def start_http_server(self, *_arguments: Any, **_options: Any) -> None:
        """Start nothing."""


class _Scheduler(_WithoutHttp, Scheduler):
    pass


class _Worker(_WithoutHttp, Worker):
    pass


class _Nanny(Nanny):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, worker_class=_Worker, **options)


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
    """

    def __init__(self, *, n_workers: int, threads_per_worker: int, memory_limit: str | None):
        options: dict[str, Any] = (
            {
                "processes": False,
                "worker_class": _Worker,
                "protocol": "inproc://",
                "memory_limit": 0,
            }
            if memory_limit is None
            else {
                "processes": True,
                "worker_class": _Nanny,
                "host": "127.0.0.1",
                "protocol": "tls://",
                "security": Security.temporary(),
                "memory_limit": memory_limit,
            }
        )
        super().__init__(
            n_workers=n_workers,
            threads_per_worker=threads_per_worker,
            dashboard_address=None,
            silence_logs="ERROR",
            **options,
        )

    async def _start(self) -> None:
        self.scheduler_spec["cls"] = _Scheduler
        await super()._start()
