"""Where bytes come from: a file on this machine now, ranges over HTTP by the same words."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from abc_dask.errors import DamagedFileError
from abc_dask.files import Fingerprint

Bytes = NDArray[np.uint8]

# Bytes of one system call; Linux gives at most 2^31 - 4096.
_LONGEST_READ = 1 << 30

# Bytes by which a set of ranges is judged to be in memory.
_PROBES = 8


class Source(Protocol):
    """Bytes of one object, by range."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def view(self) -> Bytes | None:
        """All bytes, where they can be had without copying; None where they cannot."""

    def read(self, starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> Bytes:
        """Give the bytes of some ranges, one after the other."""

    def expect(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> None:
        """Say that some ranges will soon be read."""

    def release(self, start: int, stop: int) -> None:
        """Say that a range of `view` is no longer needed: its memory is given back."""


class FileSource:
    """A file, mapped into memory and read around the page cache's copies.

    Parameters
    ----------
    path : path
    fingerprint : Fingerprint
        What the file must be.

    Raises
    ------
    MissingFileError, DamagedFileError
        If it is another file, or cannot be opened.

    Notes
    -----
    Pages of a mapped file count as memory of the process until `release`. A file that
    is cut short under a mapping raises SIGBUS in whoever touches what is gone, so the
    size is looked at again by every `expect` and `read`.
    """

    def __init__(self, path: str | Path, fingerprint: Fingerprint) -> None:
        fingerprint.require(path)
        self._path = path
        self._size = fingerprint.size
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DamagedFileError(f"{path} cannot be read: {error.strerror}") from None
        try:
            self._require(fingerprint)
            self._map = mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)
        except BaseException as error:
            os.close(self._descriptor)
            if isinstance(error, OSError):
                raise DamagedFileError(f"{path} cannot be mapped: {error.strerror}") from None
            raise
        self._view: Bytes | None = np.frombuffer(self._map, np.uint8)

    def _require(self, fingerprint: Fingerprint) -> None:
        """Refuse a file that took the name's place between the look at it and its opening."""
        status = os.fstat(self._descriptor)
        if Fingerprint(status.st_size, status.st_mtime_ns, status.st_ino) != fingerprint:
            raise DamagedFileError(
                f"{self._path} changed while it was opened; run the command again "
                "when it is at rest"
            )

    @property
    def name(self) -> str:
        """Path of the file."""
        return str(self._path)

    @property
    def view(self) -> Bytes | None:
        """All bytes of the file, not writable."""
        return self._view

    def read(self, starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> Bytes:
        """Copy ranges into new memory; neighbours are read at once.

        Raises
        ------
        DamagedFileError
            If the file ends before, or the disk fails.
        """
        out = np.empty(int(sizes.sum()), np.uint8)
        ends = np.cumsum(sizes)
        cuts = np.flatnonzero(starts[1:] != starts[:-1] + sizes[:-1]) + 1
        ranges = [0, *cuts.tolist(), len(starts)] if len(starts) else []
        for first, last in pairwise(ranges):
            begin = int(ends[first] - sizes[first])
            self._read_into(int(starts[first]), memoryview(out.data)[begin : int(ends[last - 1])])
        return out

    def _read_into(self, start: int, target: memoryview) -> None:
        done = 0
        while done < len(target):
            try:
                n = os.preadv(self._descriptor, [target[done : done + _LONGEST_READ]], start + done)
            except OSError as error:
                raise DamagedFileError(f"{self._path} cannot be read: {error.strerror}") from None
            if n == 0:
                raise DamagedFileError(f"{self._path} ends at {start + done:,}; bring it again")
            done += n

    def expect(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> None:
        """Have the kernel read ranges ahead, unless they are in memory already.

        Raises
        ------
        DamagedFileError
            If the file was cut short in the meantime.
        """
        if os.fstat(self._descriptor).st_size < self._size:
            raise DamagedFileError(
                f"{self._path} was cut short while it was read; run the command again "
                "when it is at rest"
            )
        if not len(starts) or self._is_warm(starts, stops):
            return
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(self._descriptor, start, stop - start, os.POSIX_FADV_WILLNEED)
            else:  # macOS
                self._advise(mmap.MADV_WILLNEED, start, stop)

    def _is_warm(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> bool:
        """Look whether some of the bytes, spread out, can be read without waiting (Linux)."""
        if not hasattr(os, "RWF_NOWAIT"):
            return False
        byte = bytearray(1)
        some = slice(None, None, -(-len(starts) // _PROBES))
        places = [*starts[some].tolist(), int(stops[-1]) - 1]
        try:
            return all(os.preadv(self._descriptor, [byte], at, os.RWF_NOWAIT) for at in places)
        except OSError:  # not in memory, or a file system that cannot say
            return False

    def release(self, start: int, stop: int) -> None:
        """Give the pages of a range back; touched again, they come from the page cache."""
        self._advise(mmap.MADV_DONTNEED, start, stop)

    def _advise(self, advice: int, start: int, stop: int) -> None:
        start -= start % mmap.PAGESIZE
        if stop > start:
            with contextlib.suppress(OSError):  # advice, no more
                self._map.madvise(advice, start, min(stop, self._size) - start)

    def close(self) -> None:
        """Let go of the file; the mapping goes with the last array that looks into it."""
        self._view = None
        with contextlib.suppress(BufferError):
            self._map.close()
        os.close(self._descriptor)


@contextlib.contextmanager
def opened_source(path: str | Path, fingerprint: Fingerprint) -> Iterator[FileSource]:
    """Open a file as a source, and check at the end that it is still the same file."""
    with contextlib.closing(FileSource(path, fingerprint)) as source:
        yield source
    fingerprint.require(path)
