"""Where bytes come from: a file on this machine; ranges over HTTP can take its place."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NoReturn, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from abc_dask.base.errors import DamagedFileError, UnavailableFileError
from abc_dask.disk.failures import cannot_read
from abc_dask.disk.files import Fingerprint

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
    def size(self) -> int:
        """Bytes that it has."""

    def read(
        self, starts: NDArray[np.int64], sizes: NDArray[np.int64], room: Bytes | None = None
    ) -> Bytes:
        """Return the bytes of some ranges, one after the other; in `room`, where that is given."""

    def expect(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> None:
        """Prepare for the reading of some ranges, which comes soon."""


class FileSource:
    """A file.

    Parameters
    ----------
    path : path
    fingerprint : Fingerprint
        What the file must be.

    Attributes
    ----------
    descriptor : int
        For loops that read by themselves.

    Raises
    ------
    MissingFileError, DamagedFileError, UnavailableFileError
        If it is another file, or cannot be opened.
    """

    def __init__(self, path: str | Path, fingerprint: Fingerprint) -> None:
        fingerprint.require(path)
        self._path = path
        self.size = fingerprint.size
        try:
            self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise cannot_read(path, error) from None
        try:
            self._require(fingerprint)
        except BaseException:
            os.close(self.descriptor)
            raise

    def _require(self, fingerprint: Fingerprint) -> None:
        """Refuse a file that took the name between the look at it and its opening."""
        status = os.fstat(self.descriptor)
        if Fingerprint(status.st_size, status.st_mtime_ns) != fingerprint:
            raise DamagedFileError(
                f"{self._path} changed while it was opened; run the command again "
                "when it is at rest"
            )

    @property
    def name(self) -> str:
        """Path of the file."""
        return str(self._path)

    def read(
        self, starts: NDArray[np.int64], sizes: NDArray[np.int64], room: Bytes | None = None
    ) -> Bytes:
        """Copy ranges; neighbours are read at once.

        Parameters
        ----------
        starts, sizes : arrays of int64, shape (n,)
        room : array of uint8, optional
            Memory for all of it; new memory where not given.

        Raises
        ------
        DamagedFileError
            If the file ends before.
        UnavailableFileError
            If the disk does not answer.
        """
        n_bytes = int(sizes.sum())
        out = np.empty(n_bytes, np.uint8) if room is None else room[:n_bytes]
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
                n = os.preadv(self.descriptor, [target[done : done + _LONGEST_READ]], start + done)
            except OSError as error:
                raise cannot_read(self._path, error) from None
            if n == 0:
                raise DamagedFileError(f"{self._path} ends at {start + done:,}; fetch it again")
            done += n

    def expect(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> None:
        """Have the kernel read ranges ahead, unless they are in memory already.

        Raises
        ------
        DamagedFileError
            If the file was cut short in the meantime.
        """
        if os.fstat(self.descriptor).st_size < self.size:
            raise DamagedFileError(
                f"{self._path} was cut short while it was read; run the command again "
                "when it is at rest"
            )
        some = slice(None, None, -(-len(starts) // _PROBES) or 1)
        if not len(starts) or self.is_warm(np.append(starts[some], stops[-1] - 1)):
            return
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(self.descriptor, start, stop - start, os.POSIX_FADV_WILLNEED)

    def is_warm(self, offsets: NDArray[np.int64]) -> bool:
        """Look whether some bytes can be read without waiting for a disk (Linux)."""
        if not hasattr(os, "RWF_NOWAIT"):
            return False
        byte = bytearray(1)
        try:
            return all(
                os.preadv(self.descriptor, [byte], at, os.RWF_NOWAIT) for at in offsets.tolist()
            )
        except OSError:  # not in memory, or a file system that cannot say
            return False

    def fail(self, number: int) -> NoReturn:
        """Raise the error of an element that could not be read at first, and now can."""
        raise UnavailableFileError(
            f"{self._path}: element {number:,} of X could not be read at first; "
            "look at the disk and run the command again"
        )

    def close(self) -> None:
        """Let go of the file."""
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def read_at(source: Source, start: int, length: int) -> bytes:
    """Return the bytes of one range, as far as the source has them."""
    length = max(0, min(length, source.size - start))
    return source.read(np.array([start]), np.array([length])).tobytes()


@contextlib.contextmanager
def opened_source(path: str | Path, fingerprint: Fingerprint) -> Iterator[FileSource]:
    """Open a file as a source, and check at the end that it is still the same file."""
    with FileSource(path, fingerprint) as source:
        yield source
    fingerprint.require(path)
