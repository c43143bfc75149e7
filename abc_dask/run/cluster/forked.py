"""The process that worker processes of this machine are forked from.

A command that will start some begins with it, and what they need is loaded once for all of them,
while the command still plans. It is the fork server of `multiprocessing`: nothing else ever
happens in it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

# Dask has worker processes return each freed piece of memory at once, and then a task that uses
# much of it again and again spends half of its time on new pages. They may keep so many bytes,
# those to which glibc raises both limits by itself, sooner or later.
MALLOC = {"MALLOC_TRIM_THRESHOLD_": 64 << 20, "MALLOC_MMAP_THRESHOLD_": 32 << 20}

# What a process must have when it starts: a worker's threads are those of its tasks, and a
# process that others are forked from must have one alone, also of libraries (Arrow's jemalloc).
_ENVIRONMENT = {name: str(value) for name, value in MALLOC.items()} | {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}

# Is imported there.
_LOADED = "abc_dask.run.loaded"


@contextlib.contextmanager
def loading_workers() -> Iterator[None]:
    """Begin to load what worker processes need; those that start in this context are forked.

    Where that cannot be, they start as Dask starts them: on macOS, whose libraries may not survive
    a fork, and where no socket can be made for it.
    """
    try:
        is_there = sys.platform == "linux" and _start_server()
    except OSError:  # such as a TMPDIR too long for a socket
        is_there = False
    if not is_there:
        yield
        return
    import dask
    import distributed  # noqa: F401 - whose own settings must be there, or this one ends with all

    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        yield


def _start_server() -> bool:
    """Start the fork server, unless it runs; Ctrl-C is for the command alone."""
    from multiprocessing.forkserver import ensure_running, set_forkserver_preload
    from multiprocessing.resource_tracker import ensure_running as ensure_tracker

    ensure_tracker()  # it would let interrupts through again
    set_forkserver_preload([_LOADED])
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    added = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    try:
        os.environ.update(added)
        ensure_running()
    finally:
        for name in added:
            del os.environ[name]
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return True
