"""What people see of a fetch: bars on a terminal, else a line now and then, or nothing."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from abc_dask.messages import format_bytes, plural
from abc_dask.release.manifest import FileEntry

if TYPE_CHECKING:
    from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 15.0


class Progress(Protocol):
    """Told what happens; every method may be called from any thread."""

    def begin(self, files: int, size: int) -> None:
        """Take up a fetch of so many files and bytes."""

    def start(self, entry: FileEntry, there: int) -> None:
        """Take up a file, `there` bytes of which are there."""

    def advance(self, entry: FileEntry, count: int) -> None:
        """Count bytes of it; negative where some were given up."""

    def finish(self, entry: FileEntry, words: str) -> None:
        """Close a file; `words` say how it went."""

    def note(self, text: str) -> None:
        """Pass on what a person should know."""

    def end(self) -> None:
        """Close the fetch."""


class Quiet:
    """Shows nothing."""

    def begin(self, files: int, size: int) -> None:
        """Show nothing."""

    def start(self, entry: FileEntry, there: int) -> None:
        """Show nothing."""

    def advance(self, entry: FileEntry, count: int) -> None:
        """Show nothing."""

    def finish(self, entry: FileEntry, words: str) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def end(self) -> None:
        """Show nothing."""


class Lines(Quiet):
    """A line when a file is done, and one now and then in between.

    Parameters
    ----------
    stream : text file, optional
        Standard error where not given.
    interval : float
        Seconds between two lines on the way.
    clock : callable
        Gives seconds.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        interval: float = _SECONDS_BETWEEN_LINES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream or sys.stderr
        self._interval = interval
        self._clock = clock
        self._lock = threading.Lock()
        self._files = self._ready = self._size = self._there = 0
        self._last = clock()

    def begin(self, files: int, size: int) -> None:
        """Take the totals."""
        self._files, self._size = files, size
        self._ready = self._there = 0

    def start(self, entry: FileEntry, there: int) -> None:  # noqa: ARG002
        """Count what is there already."""
        with self._lock:
            self._there += there

    def advance(self, entry: FileEntry, count: int) -> None:
        """Count, and write a line if it is time."""
        with self._lock:
            self._there += count
            now = self._clock()
            if now - self._last >= self._interval:
                self._last = now
                self._write(f"{self._state()}: {entry.relative_path}")

    def finish(self, entry: FileEntry, words: str) -> None:
        """Write a line."""
        with self._lock:
            self._ready += 1
            self._write(f"{self._state()}: {entry.relative_path} {words}")

    def note(self, text: str) -> None:
        """Write it."""
        with self._lock:
            self._write(text)

    def _state(self) -> str:
        return (
            f"{self._ready:,} of {plural(self._files, 'file')}, "
            f"{format_bytes(self._there)} of {format_bytes(self._size)}"
        )

    def _write(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class Bars:
    """A bar over everything and one for each file on its way."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()
        self._all: tqdm[Any] | None = None
        self._bars: dict[str, tqdm[Any]] = {}
        self._rows: set[int] = set()

    def _bar(self, size: int, words: str, row: int, *, leave: bool) -> tqdm[Any]:
        from tqdm import tqdm

        return tqdm(
            total=size,
            desc=words,
            position=row,
            leave=leave,
            file=self._stream,
            unit="B",
            unit_scale=True,
            dynamic_ncols=True,
        )

    def begin(self, files: int, size: int) -> None:
        """Show the bar over everything."""
        with self._lock:
            self._all = self._bar(size, plural(files, "file"), 0, leave=True)

    def start(self, entry: FileEntry, there: int) -> None:
        """Show a bar for the file."""
        with self._lock:
            row = min(set(range(1, len(self._rows) + 2)) - self._rows)
            bar = self._bar(entry.size, entry.relative_path.rpartition("/")[2], row, leave=False)
            bar.pos = -row
            self._rows.add(row)
            self._bars[entry.relative_path] = bar
            self._add(bar, there)

    def advance(self, entry: FileEntry, count: int) -> None:
        """Move both bars."""
        with self._lock:
            bar = self._bars.get(entry.relative_path)
            if bar is not None:
                self._add(bar, count)

    def _add(self, bar: tqdm[Any], count: int) -> None:
        bar.update(count)
        if self._all is not None:
            self._all.update(count)

    def finish(self, entry: FileEntry, words: str) -> None:
        """Take the file's bar away; what was not ordinary stays as a line."""
        with self._lock:
            bar = self._bars.pop(entry.relative_path, None)
            if bar is not None:
                self._rows.discard(-bar.pos)
                bar.close()
        if words not in {"fetched", "there already"}:
            self.note(f"{entry.relative_path} {words}")

    def note(self, text: str) -> None:
        """Write a line above the bars."""
        from tqdm import tqdm

        with self._lock:
            tqdm.write(text, file=self._stream)

    def end(self) -> None:
        """Take all bars away but the one over everything."""
        with self._lock:
            for bar in [*self._bars.values(), *([self._all] if self._all is not None else [])]:
                bar.close()
            self._bars.clear()
            self._rows.clear()
            self._all = None


def progress_on(stream: TextIO | None = None, *, quiet: bool = False) -> Progress:
    """Choose: nothing, bars on a terminal, lines elsewhere."""
    stream = stream or sys.stderr
    if quiet:
        return Quiet()
    return Bars(stream) if stream.isatty() else Lines(stream)
