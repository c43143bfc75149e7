"""Test processes that need the same compiled loop wait for the one that is compiling it."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# Seconds after which a process compiles for itself: the other one may have been stopped.
_PATIENCE = 60


def compile_once(folder: Path) -> None:
    """Let the processes that share a folder compile each loop one after the other.

    All but the first load what the first one kept beside the module. The lock of Numba is taken
    first, as it is within: two threads never hold one lock and wait for the other.
    """
    compile_now = Dispatcher.compile

    def compile_in_turn(self: Any, signature: Any) -> Any:
        function = self.py_func
        name = hashlib.sha256(f"{function.__module__}.{function.__qualname__}".encode()).hexdigest()
        with global_compiler_lock, _alone(folder / f"{name[:16]}.lock"):
            return compile_now(self, signature)

    Dispatcher.compile = compile_in_turn


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    with path.open("w") as file:
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.05)
            else:
                break
        yield
