"""Threads that follow a part while it grows: one takes its hash, one flushes it to the disk.

So neither is left to be done when the last byte has come.
"""

from __future__ import annotations

import errno
import hashlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

from abc_dask.acquire.part import Part
from abc_dask.base.errors import DownloadError

# Fits into a core's cache: the hash reads what was just copied there.
_READ = 1 << 18

_FLUSH = 32 << 20

_LOOK_UP = 0.2


class _Follower(ABC):
    """A thread on a part that can be told to give up."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="abc_dask-follow", daemon=True)
        self._thread.start()

    @abstractmethod
    def _run(self) -> None:
        """Follow the part until it is whole or given up."""

    def stop(self) -> None:
        """Stop, and wait for the thread to end."""
        self._given_up.set()
        self._part.wake()
        self._thread.join()


class Flusher(_Follower):
    """Flushes a part to the disk now and then."""

    def _run(self) -> None:
        flushed = 0
        while not self._given_up.is_set():
            written = self._part.written(flushed + _FLUSH, _LOOK_UP)
            if written > flushed + _FLUSH:
                self._part.flush()
                flushed = written


class Hasher(_Follower):
    """Computes the MD5 of a part's bytes, in order, as they arrive."""

    def __init__(self, part: Part) -> None:
        self._digest = hashlib.md5(usedforsecurity=False)
        self._error: OSError | None = None
        super().__init__(part)

    def _run(self) -> None:
        position, buffer = 0, bytearray(_READ)
        try:
            while position < self._part.entry.size and not self._given_up.is_set():
                end = self._part.prefix(position, _LOOK_UP)
                while position < end and not self._given_up.is_set():
                    count = self._part.read_into(buffer, position)
                    count = min(count, end - position)
                    if count == 0:
                        self._error = OSError(errno.EIO, "it lost bytes while it was written")
                        return
                    self._digest.update(memoryview(buffer)[:count])
                    position += count
        except OSError as error:
            self._error = error

    def result(self, keep_on: Callable[[], None]) -> str:
        """Wait until every byte is hashed; `keep_on` raises to give up."""
        while self._thread.is_alive():
            self._thread.join(0.1)
            keep_on()
        if self._error is not None:
            raise DownloadError(f"{self._part.path} cannot be read back: {self._error.strerror}")
        return self._digest.hexdigest()
