"""Faults at the n-th step that a process takes with files: counted, killed, or failing.

A step is a call by which files under a folder come to be, change, or go: opening for writing,
flushing, renaming, exchanging, removing, making folders, writing a Parquet file. Nothing in
the package knows of this: Python's audit events and a few wrapped calls of the standard
library tell of each step just before it is taken.

``FAULT_STEP=kill:12 FAULT_UNDER=FOLDER python -m tests.faults.injection extract ...`` runs the
command with one fault; ``FAULT_LOG=FILE`` lists its steps, ``FAULT_ONLY=receipts/`` counts some.
"""

from __future__ import annotations

import errno
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_SIGNALS = {"kill": signal.SIGKILL, "int": signal.SIGINT, "term": signal.SIGTERM}
_ERRORS = {"ENOSPC", "EIO", "EROFS", "EDQUOT"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Steps:
    """Counts steps, and does at one of them what was asked for."""

    def __init__(self, under: str, act: str, at: int, log: str, only: str, stays: bool) -> None:
        self._under = under
        self._act = act
        self._at = at
        self._only = only
        self._stays = stays
        self._count = 0
        self._lock = threading.Lock()
        self._log = log
        self._steps = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        self._own = threading.local()

    def take(self, name: str, path: str) -> None:
        """Tell of a step; it may end the process, or raise."""
        if not path.startswith(self._under) or getattr(self._own, "busy", False):
            return
        if self._only and self._only not in f"{name} {path}":
            return
        self._own.busy = True
        try:
            with self._lock:
                self._count += 1
                number = self._count
                os.write(self._steps, f"{number} {name} {path}\n".encode())
            if number == self._at or (self._stays and number > self._at > 0):
                self._strike(path)
        finally:
            self._own.busy = False

    def _strike(self, path: str) -> None:
        if self._act in _ERRORS:
            code = getattr(errno, self._act)
            raise OSError(code, os.strerror(code), path)
        if self._act == "int twice":
            _later(0.02, signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        elif self._act == "hold":
            held = Path(f"{self._log}.held")
            held.touch()
            while held.exists():
                time.sleep(0.01)
        elif self._act in _SIGNALS:
            os.kill(os.getpid(), _SIGNALS[self._act])


def _later(seconds: float, number: int) -> None:
    timer = threading.Timer(seconds, os.kill, (os.getpid(), number))
    timer.daemon = True
    timer.start()


def install(
    *, under: str, act: str = "count", at: int = 0, log: str, only: str = "", stays: bool = False
) -> None:
    """Watch the steps of this process under a folder.

    `act` at step number `at`: ``count`` nothing, ``kill``, ``int``, ``term``, ``int twice``, or an
    error's name; ``hold`` makes a file LOG.held and goes on when that is gone. `only`: steps whose
    name, a blank and path contain this. `stays`: the same at all later steps.
    """
    steps = Steps(under, act, at, log, only, stays)

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes | os.PathLike) and flags & _WRITES:
                steps.take("open", os.fspath(os.fsdecode(path)))
        elif event == "os.rename":
            steps.take("rename", _full(arguments[0], arguments[2]))
        elif event in {"os.remove", "os.rmdir"}:
            steps.take(event[3:], _full(arguments[0], arguments[1]))
        elif event == "os.mkdir":
            steps.take("mkdir", _full(arguments[0], arguments[2]))
        elif event == "os.truncate":
            steps.take("truncate", _full(arguments[0], -1))

    sys.addaudithook(heard)
    _wrap(os, "fsync", lambda arguments, _: ("fsync", _full(arguments[0], -1)), steps)
    _wrap(os, "pwrite", lambda arguments, _: ("pwrite", _full(arguments[0], -1)), steps)

    import pyarrow.parquet

    import abc_dask.acquire.part
    import abc_dask.disk.files

    # the audit event does not tell which folder a name is in
    _wrap(os, "open", _opened, steps)
    _wrap(
        abc_dask.acquire.part,
        "_flush_data",
        lambda arguments, _: ("fdatasync", _full(arguments[0], -1)),
        steps,
    )
    _wrap(
        abc_dask.disk.files,
        "_exchange",
        lambda arguments, _: ("exchange", str(arguments[0])),
        steps,
    )
    pyarrow.parquet.write_table = _half_written(pyarrow.parquet.write_table, steps)


def _opened(arguments: tuple[Any, ...], folder: int) -> tuple[str, str]:
    path, flags, *_ = arguments
    return "open", _full(path, folder) if folder >= 0 and flags & _WRITES else ""


def _full(path: Any, folder: int) -> str:
    """Give a path that may be a descriptor, or relative to one."""
    try:
        if isinstance(path, int):
            return str(Path(f"/proc/self/fd/{path}").readlink())
        name = os.fsdecode(path)
        if folder >= 0:
            return str(Path(f"/proc/self/fd/{folder}").readlink() / name)
    except OSError:
        return ""
    return name


def _wrap(
    module: Any, name: str, told: Callable[[Any, int], tuple[str, str]], steps: Steps
) -> None:
    call = getattr(module, name)

    @functools.wraps(call)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        folder = options.get("dir_fd")
        steps.take(*told(arguments, -1 if folder is None else folder))
        return call(*arguments, **options)

    setattr(module, name, wrapped)


def _half_written(call: Callable[..., Any], steps: Steps) -> Callable[..., Any]:
    """Two steps: before anything of a Parquet file is written, and when half of it is."""

    @functools.wraps(call)
    def wrapped(table: Any, where: Any, **options: Any) -> None:
        steps.take("write", str(where))
        call(table, where, **options)
        whole = Path(where).read_bytes()
        Path(where).write_bytes(whole[: len(whole) // 2])
        steps.take("half written", str(where))
        Path(where).write_bytes(whole)

    return wrapped


def main() -> None:
    """Run the command with the fault that the environment names."""
    act, _, at = os.environ.get("FAULT_STEP", "count:0").partition(":")
    log = os.environ.get("FAULT_LOG", os.devnull)
    only = os.environ.get("FAULT_ONLY", "")
    install(under=os.environ["FAULT_UNDER"], act=act, at=int(at), log=log, only=only)
    from abc_dask.cli import main as run

    run()


if __name__ == "__main__":
    main()
