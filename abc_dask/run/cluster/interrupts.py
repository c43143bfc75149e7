"""Ctrl-C that is not lost while the main thread waits.

Python raises KeyboardInterrupt wherever the main thread happens to be. Within a callback of the
garbage collector, or a ``__del__``, it is printed and dropped, and the run would go on.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_came = threading.Event()


@contextlib.contextmanager
def heeded_interrupts() -> Iterator[None]:
    """Remember an interrupt until `raise_interrupt` or the end; then the old handler is back.

    Nothing is done outside of the main thread, and where somebody else handles the signal, as the
    command line does.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    _came.clear()
    signal.signal(signal.SIGINT, _remember)
    try:
        yield
        raise_interrupt()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _came.clear()


def raise_interrupt() -> None:
    """Raise KeyboardInterrupt if one was dropped."""
    if _came.is_set() and threading.current_thread() is threading.main_thread():
        _came.clear()
        raise KeyboardInterrupt


def _remember(number: int, frame: FrameType | None) -> None:
    _came.set()
    signal.default_int_handler(number, frame)
