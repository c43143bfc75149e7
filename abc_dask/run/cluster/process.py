"""What this process takes care of around a cluster: interrupts, loggers, threads, addresses.

Python raises KeyboardInterrupt wherever the main thread happens to be. Within a callback of the
garbage collector, or a ``__del__``, it is printed and dropped, and the run would go on: while the
main thread waits, an interrupt is remembered. Loggers of distributed are kept still and left as
they were found. A scheduler or a client is asked before it is used: that it is there, and safe.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from abc_dask.base.errors import ClusterError, UsageError

if TYPE_CHECKING:
    from distributed import Client

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


@contextlib.contextmanager
def quiet(name: str) -> Iterator[None]:
    """Keep a logger of Dask's silent: what happens is reported once, by the caller.

    It and the loggers beneath it are left as they were found. Dask changes the levels of their
    handlers, and leaves handlers of closed nodes behind.
    """
    from distributed.utils import DequeHandler

    logger = logging.getLogger(name)
    before = logger.level
    levels = {handler: handler.level for one in _beneath(name) for handler in one.handlers}
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
        for one in _beneath(name):
            for handler in list(one.handlers):
                if handler in levels:
                    handler.setLevel(levels[handler])
                elif isinstance(handler, DequeHandler):
                    one.removeHandler(handler)


def _beneath(name: str) -> list[logging.Logger]:
    """Return a logger with those beneath it."""
    known = list(logging.Logger.manager.loggerDict)
    names = [name, *(other for other in known if other.startswith(f"{name}."))]
    return [logging.getLogger(one) for one in names]


# Seconds in which an event loop that runs answers, and before a host's name is asked for again.
_ANSWER = 5.0
_AGAIN = 0.5

_FORKED = (
    "a process that is forked from one that used Dask has none of its threads: start processes by "
    "multiprocessing's 'spawn' or 'forkserver', or before the first use"
)

_used_by: set[int] = set()  # processes that started something here; a fork's child inherits it


def require_own_threads() -> None:
    """Refuse a process that was forked after threads were at work: it has none of them."""
    _used_by.add(os.getpid())
    if len(_used_by) > 1:
        raise ClusterError(_FORKED)


def require_answer(client: Client) -> None:
    """Refuse a client whose event loop does not run, as in a process that was forked."""
    answered = threading.Event()
    client.loop.add_callback(answered.set)
    if not answered.wait(_ANSWER):
        raise ClusterError(f"the active distributed.Client does not answer; {_FORKED}")


def address_in(file: Path) -> str:
    """Read the address out of a scheduler file."""
    try:
        return str(json.loads(file.read_bytes())["address"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ClusterError(
            f"{file} is not a scheduler file: dask scheduler --scheduler-file writes one"
        ) from None


def require_host(address: str) -> None:
    """Refuse a host that has no address, after one more try."""
    host = urlsplit(address if "://" in address else f"tcp://{address}").hostname
    if address.startswith("inproc://") or not host:
        return
    for is_last in (False, True):
        try:
            socket.getaddrinfo(host, None)
        except OSError as error:
            if is_last:
                raise ClusterError(
                    f"no host {host!r} is known, of the scheduler {address!r} ({error.strerror})"
                ) from None
            time.sleep(_AGAIN)
        else:
            return


def refuse_open(address: str, *, allow_tcp: bool) -> None:
    """Refuse to speak in the clear with another machine."""
    if not address.startswith("tcp://") or allow_tcp:
        return
    host = urlsplit(address).hostname or ""
    try:
        on_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        on_loopback = host == "localhost"
    if not on_loopback:
        raise UsageError(
            f"{address} does not encrypt and is not on this machine: anyone who reaches it can "
            "run code as its user; use a tls:// address, or --allow-tcp in a network you trust"
        )
