"""Genes that lie side by side in a file, read by one request."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from abc_dask.store.arrays import Folder
from abc_dask.store.reading import Chunk

# Bytes of one request, unless one gene has more.
RUN_BYTES = 16 << 20

# Bytes between two genes that are read along: less than a request costs.
_GAP = 64 << 10


@dataclass(frozen=True)
class Run:
    """Neighbouring chunks of a file.

    Attributes
    ----------
    path : str
    start, stop : int
        Bytes, half-open.
    """

    path: str
    start: int
    stop: int


def runs_of(chunks: Iterable[Chunk]) -> list[Run]:
    """Put chunks that lie side by side together, each run of a bounded number of bytes.

    Parameters
    ----------
    chunks : iterable of Chunk
        In the order in which they will be read.
    """
    runs: list[Run] = []
    for chunk in chunks:
        first, stop = chunk.start, chunk.start + chunk.size
        if runs and runs[-1].path == chunk.path:
            last = runs[-1]
            if 0 <= first - last.stop <= _GAP and stop - last.start <= RUN_BYTES:
                runs[-1] = Run(last.path, last.start, stop)
                continue
        runs.append(Run(chunk.path, first, stop))
    return runs


class RunFolder:
    """A store's files, of which one thread reads known chunks in a known order.

    Parameters
    ----------
    folder : Folder
    chunks : iterable of Chunk
        In that order. Anything else is read as ever.
    """

    def __init__(self, folder: Folder, chunks: Iterable[Chunk]) -> None:
        self._folder = folder
        self._runs = sorted(runs_of(chunks), key=lambda run: (run.path, run.start))
        self._starts = [(run.path, run.start) for run in self._runs]
        self._kept: tuple[Run, bytes] | None = None

    @property
    def name(self) -> str:
        """Path or address."""
        return self._folder.name

    @property
    def readers(self) -> int:
        """How many threads should read at a time."""
        return self._folder.readers

    @property
    def is_remote(self) -> bool:
        """Whether each read is a request."""
        return self._folder.is_remote

    def read(self, path: str) -> bytes:
        """Return a file's bytes; errors are those of the folder."""
        return self._folder.read(path)

    def read_range(self, path: str, start: int, size: int) -> bytes:
        """Return some bytes of a file, out of the run that they are in."""
        at = bisect_right(self._starts, (path, start)) - 1
        run = self._runs[at] if at >= 0 else None
        if run is None or run.path != path or start + size > run.stop:
            return self._folder.read_range(path, start, size)
        if self._kept is None or self._kept[0] != run:
            self._kept = None  # two runs are never in memory
            self._kept = run, self._folder.read_range(path, run.start, run.stop - run.start)
        first = start - run.start
        return self._kept[1][first : first + size]

    def close(self) -> None:
        """Let go of files or connections."""
        self._folder.close()
