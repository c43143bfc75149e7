"""A file that is being fetched: ``NAME.part`` and its journal ``NAME.part.json``.

The journal says which file it is to become (address, size, hash), what the server
called that version of it (ETag or Last-Modified), and which ranges of bytes are
there. It is written after the bytes it speaks of, so it never promises too much to a
run that comes after a killed one. What it promises is hashed again before the file
gets its name, so a journal that lies costs time and nothing else; where the manifest
has no hash, bytes are flushed to the disk before the journal names them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from abc_dask.acquire.folders import Folder, cannot_write
from abc_dask.acquire.journal import Journal, Range, merged
from abc_dask.base.errors import DownloadError
from abc_dask.base.records import dumps
from abc_dask.disk.files import is_temporary
from abc_dask.net.validator import Validator
from abc_dask.release.manifest import FileEntry

SUFFIX = ".part"

_JOURNAL_LIMIT = 1 << 20

# macOS has no fdatasync
_flush_data = getattr(os, "fdatasync", os.fsync)


class Part:
    """The open, locked ``.part`` of one file.

    Threads write different ranges of it at once. Made by `Part.open`.
    """

    def __init__(
        self, folder: Folder, entry: FileEntry, url: str, *, descriptor: int, step: int
    ) -> None:
        self.folder = folder
        self.name = Path(entry.relative_path).name + SUFFIX
        self.entry = entry
        self.url = url
        self.validator = Validator()
        self._descriptor = descriptor
        self._step = step
        self._unsaved = 0
        self._written = 0
        self._lost: OSError | None = None
        self._done: list[Range] = []
        self._lock = threading.Lock()
        self._grown = threading.Condition(self._lock)

    @classmethod
    def open(
        cls,
        folder: Folder,
        entry: FileEntry,
        url: str,
        *,
        step: int,
        wait: Callable[[], None],
    ) -> Self:
        """Open the part of a file with what an earlier run left of it.

        Parameters
        ----------
        folder : Folder
            Where the file belongs.
        entry : FileEntry
            The file.
        url : str
            Where its bytes come from.
        step : int
            Write the journal after so many bytes.
        wait : callable
            Called again and again while another process holds the part; raises to
            give up.
        """
        name = Path(entry.relative_path).name + SUFFIX
        while True:
            descriptor = folder.open_file(name, os.O_RDWR | os.O_CREAT)
            try:
                while not _locked(descriptor):
                    wait()
                # the one who held it may have renamed or removed it meanwhile
                status = folder.status(name)
                if status is not None and status.st_ino == os.fstat(descriptor).st_ino:
                    break
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
        part = cls(folder, entry, url, descriptor=descriptor, step=step)
        try:
            part._load()
        except BaseException:
            os.close(descriptor)
            raise
        return part

    @property
    def path(self) -> Path:
        """Its path, for messages."""
        return self.folder.path / self.name

    @property
    def done(self) -> list[Range]:
        """Ranges that are there."""
        with self._lock:
            return list(self._done)

    @property
    def bytes_done(self) -> int:
        """How many bytes are there."""
        return sum(stop - start for start, stop in self.done)

    @staticmethod
    def clear(base: Path, entry: FileEntry) -> None:
        """Remove what killed runs left beside a file that is complete by now.

        What another process holds is left to it, as is what lies where nothing may be written.
        """
        path = base / entry.relative_path
        name = path.name + SUFFIX
        journal = name + ".json"
        with contextlib.suppress(OSError, DownloadError):
            beside = [other.name for other in path.parent.iterdir()]
            if not any(n in {name, journal} or is_temporary(n, journal) for n in beside):
                return
            with Folder.of(base, entry.relative_path) as folder:
                descriptor = folder.open_file(name, os.O_RDWR | os.O_CREAT)
                try:
                    if _locked(descriptor):
                        folder.sweep(journal, unchanged_for=0)
                        folder.unlink(journal)
                        folder.unlink(name)
                finally:
                    os.close(descriptor)

    def _load(self) -> None:
        self.folder.sweep(self.name + ".json", unchanged_for=0)
        content = self.folder.read(self.name + ".json", limit=_JOURNAL_LIMIT)
        journal = Journal.parse(content)
        status = os.fstat(self._descriptor)
        # a second name of the same bytes: writing here would change the other file
        shared = status.st_nlink != 1
        if journal and not shared and journal.usable(self.entry, self.url, status.st_size):
            self.validator = journal.validator
            self._done = list(journal.done)
        elif shared:
            raise DownloadError(f"{self.path} has a second name elsewhere; remove it")
        else:
            self.reset()

    def reset(self) -> None:
        """Forget all bytes; no other thread may be writing."""
        with self._lock:
            self._done = []
            self.validator = Validator()
            self.folder.unlink(self.name + ".json")
            try:
                os.ftruncate(self._descriptor, 0)
            except OSError as error:
                raise cannot_write(self.path, error) from None

    def write(self, offset: int, data: bytes) -> None:
        """Write bytes at their offset and note that they are there.

        Raises
        ------
        DownloadError
            If the disk does not take them.
        """
        try:
            view = memoryview(data)
            position = offset
            while view:
                written = os.pwrite(self._descriptor, view, position)
                view = view[written:]
                position += written
            with self._lock:
                self._note(offset, position)
                self._unsaved += len(data)
                self._written += len(data)
                save = self._unsaved >= self._step
                if save:
                    self._save()
                self._grown.notify_all()
        except OSError as error:
            raise cannot_write(self.path, error) from None

    def _note(self, start: int, stop: int) -> None:
        # nearly always the end of a known range grows
        for index, (first, last) in enumerate(self._done):
            if last == start:
                self._done[index] = (first, stop)
                if index + 1 < len(self._done) and self._done[index + 1][0] <= stop:
                    self._done = merged(self._done)
                return
        self._done = merged([*self._done, (start, stop)])

    def _save(self) -> None:
        if self.entry.file_hash is None:
            _flush_data(self._descriptor)
        done = tuple(self._done)
        etag, last_modified = self.validator.etag, self.validator.last_modified
        entry = self.entry
        journal = Journal(self.url, entry.size, entry.file_hash, etag, last_modified, done)
        self.folder.write_whole(self.name + ".json", dumps(journal), durable=False)
        self._unsaved = 0

    def prefix(self, beyond: int, timeout: float) -> int:
        """Return the end of the bytes that are there from 0 on; wait for it to pass `beyond`."""
        with self._grown:
            if self._prefix() <= beyond:
                self._grown.wait(timeout)
            return self._prefix()

    def written(self, beyond: int, timeout: float) -> int:
        """Return how many bytes this run wrote; wait for that to pass `beyond`."""
        with self._grown:
            if self._written <= beyond:
                self._grown.wait(timeout)
            return self._written

    def wake(self) -> None:
        """Wake the threads that wait for bytes."""
        with self._grown:
            self._grown.notify_all()

    def _prefix(self) -> int:
        return self._done[0][1] if self._done and self._done[0][0] == 0 else 0

    def read_into(self, buffer: bytearray, offset: int) -> int:
        """Read bytes back."""
        return os.preadv(self._descriptor, [buffer], offset)

    def flush(self) -> None:
        """Flush what was written so far to the disk; `finish` reports a failure."""
        try:
            _flush_data(self._descriptor)
        except OSError as error:
            # the kernel tells of lost pages once: the next call would succeed
            self._lost = error

    def finish(self) -> os.stat_result:
        """Flush all bytes to the disk and return the file's status.

        The time of its last change becomes now: no other run can have finished the same file.
        """
        with contextlib.suppress(OSError):
            os.utime(self._descriptor)
        self.flush()
        if self._lost is not None:
            # nothing is known of the bytes: fetch them anew
            self.reset()
            raise cannot_write(self.path, self._lost) from None
        return os.fstat(self._descriptor)

    def rename(self, name: str) -> None:
        """Rename the part to its final name; it is no longer a part then."""
        self.folder.rename(self.name, name)
        self.folder.unlink(self.name + ".json")
        self.folder.flush()

    def remove(self) -> None:
        """Remove the part and its journal."""
        self.folder.unlink(self.name)
        self.folder.unlink(self.name + ".json")

    def close(self, *, keep: bool = True) -> None:
        """Close the part; with `keep`, its journal records what is there."""
        if self._descriptor < 0:
            return
        with self._lock:
            # a disk that takes no journal costs a later run time; it harms no byte
            with contextlib.suppress(DownloadError, OSError):
                if keep and self._done:
                    self._save()
                elif keep:
                    self.remove()
            os.close(self._descriptor)
            self._descriptor = -1
        self.folder.close()


def _locked(descriptor: int) -> bool:
    """Try to lock an open file against other processes; True where locks are not known."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in {errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN}
    return True
