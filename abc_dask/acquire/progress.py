"""What people see of a fetch: the bytes of all files, and of each file on its way."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from abc_dask.base.messages import Stream, plural
from abc_dask.base.progress import INTERVAL, Progress
from abc_dask.release.manifest import FileEntry

_ORDINARY = frozenset({"fetched", "there already", "read"})


class FetchProgress:
    """Bars of bytes; where there is no terminal a line for each file, and one now and then.

    All methods may be called from any thread.

    Parameters
    ----------
    what : str
        ``fetch`` or ``check``.
    quiet : bool
        Show nothing.
    stream : text file, optional
        Standard error where not given.
    interval : float
        Seconds between two lines on the way.
    clock : callable
        Returns seconds.
    """

    def __init__(
        self,
        what: str = "fetch",
        *,
        quiet: bool = False,
        stream: Any = None,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self.quiet = quiet
        self._enabled = not quiet
        self._options: dict[str, Any] = {
            "stream": Stream(stream or sys.stderr),
            "interval": interval,
            "clock": clock,
        }
        self._lock = threading.Lock()
        self._files = self._ready = 0
        self._bars: dict[str, Progress] = {}
        self._all = Progress(0, what, unit="B", enabled=False)

    def _bar(self, size: int, what: str, *, leave: bool = False) -> Progress:
        return Progress(size, what, unit="B", leave=leave, enabled=self._enabled, **self._options)

    def begin(self, files: int, size: int) -> None:
        """Begin a fetch of so many files and bytes."""
        with self._lock:
            self._files, self._ready = files, 0
            self._all = self._bar(size, self._what, leave=True)
            self._all.state(self._counts())

    def start(self, entry: FileEntry, there: int) -> None:
        """Begin a file, `there` bytes of which are there."""
        with self._lock:
            if self._all.has_bar:
                name = entry.relative_path.rpartition("/")[2]
                self._bars[entry.relative_path] = self._bar(entry.size, name)
        self.advance(entry, there)

    def advance(self, entry: FileEntry, count: int) -> None:
        """Count bytes of a file; negative where some were given up."""
        with self._lock:
            bar = self._bars.get(entry.relative_path)
            if bar is not None:
                bar.add(count)
            self._all.add(count, f"{self._counts()}: {entry.relative_path}")

    def finish(self, entry: FileEntry, words: str) -> None:
        """Close a file; `words` tell how it went."""
        with self._lock:
            self._ready += 1
            bar = self._bars.pop(entry.relative_path, None)
            if bar is not None:
                bar.close()
                self._all.state(self._counts())
                if words not in _ORDINARY:
                    self._all.note(f"{entry.relative_path} {words}")
            else:
                self._all.state(f"{self._counts()}: {entry.relative_path} {words}", now=True)

    def note(self, text: str) -> None:
        """Pass on what a person should know."""
        with self._lock:
            self._all.note(text)

    def end(self) -> None:
        """Close all bars; the one over everything stays visible."""
        with self._lock:
            for bar in [*self._bars.values(), self._all]:
                bar.close()
            self._bars.clear()

    def _counts(self) -> str:
        return f"{self._ready:,} of {plural(self._files, 'file')}"
