"""What of a release is complete, missing, damaged or unverified on disk."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from abc_dask.acquire.presence import Action, Found, decide, inspect, take_hash
from abc_dask.acquire.progress import FetchProgress
from abc_dask.base.config import setting
from abc_dask.base.errors import AbcDaskError
from abc_dask.base.messages import format_bytes
from abc_dask.base.progress import in_notebook
from abc_dask.release.manifest import FileEntry
from abc_dask.release.release import Memory, Release


class State(enum.Enum):
    """What is known of one file."""

    COMPLETE = "complete"
    """Size and hash are right; the hash was taken by us and the file is unchanged since."""
    UNVERIFIED = "unverified"
    """The size is right; the hash is not in the manifest, or was not taken yet."""
    PARTIAL = "partial"
    """A fetch was broken off and can go on."""
    MISSING = "missing"
    """Nothing is there."""
    DAMAGED = "damaged"
    """Something is there that the manifest does not describe."""


@dataclass(frozen=True)
class CheckedFile:
    """One file's state.

    Attributes
    ----------
    entry : FileEntry
    state : State
    reason : str
        Why, in a few words; empty for complete and missing files.
    """

    entry: FileEntry
    state: State
    reason: str = ""


@dataclass(frozen=True)
class CheckReport:
    """The states of a release's files, in the manifest's order."""

    files: tuple[CheckedFile, ...]

    def of(self, state: State) -> tuple[CheckedFile, ...]:
        """Return the files in one state."""
        return tuple(file for file in self.files if file.state is state)


def check(
    release: Release,
    entries: Iterable[FileEntry] | None = None,
    *,
    rehash: bool = False,
    progress: FetchProgress | None = None,
) -> CheckReport:
    """Check what is on disk of a release, without using the network.

    Parameters
    ----------
    release : Release
        What to look at.
    entries : iterable of FileEntry, optional
        Only these files; all where not given.
    rehash : bool
        Read every file that has a hash in the manifest. Otherwise the hashes that were
        taken before are trusted for files that are unchanged since, and a file whose
        hash was never taken is called unverified.
    progress : FetchProgress, optional
        Shows what is read; where not given, in notebooks only.

    Returns
    -------
    CheckReport
    """
    wanted = tuple(release.manifest.files if entries is None else dict.fromkeys(entries))
    progress = progress or FetchProgress(quiet=not in_notebook())
    memory = Memory(release.download_base)
    stopping = threading.Event()

    def one(entry: FileEntry) -> CheckedFile:
        try:
            return _check_one(release, entry, memory, _Reader(progress, stopping, rehash=rehash))
        except AbcDaskError as error:
            return CheckedFile(entry, State.DAMAGED, str(error))

    progress.begin(len(wanted), sum(e.size for e in wanted if release.is_present(e)))
    pool = ThreadPoolExecutor(setting("download.workers"), "abc_dask-check")
    try:
        return CheckReport(tuple(pool.map(one, wanted)))
    finally:
        stopping.set()
        pool.shutdown(cancel_futures=True)
        progress.end()


class _Reader:
    """Reads files, or does not, and reports what was read."""

    def __init__(self, progress: FetchProgress, stopping: threading.Event, *, rehash: bool) -> None:
        self.progress = progress
        self.rehash = rehash
        self._stopping = stopping

    def reporting(self, entry: FileEntry) -> Callable[[int], None]:
        def read(count: int) -> None:
            self.progress.advance(entry, count)
            if self._stopping.is_set():
                raise AbcDaskError("interrupted")

        return read


def _check_one(release: Release, entry: FileEntry, memory: Memory, reader: _Reader) -> CheckedFile:
    found = inspect(release.download_base, entry, memory)
    action = decide(entry, found, _part_url(found), rehash=reader.rehash)
    if action is Action.VERIFY and reader.rehash:
        reader.progress.start(entry, 0)
        take_hash(release.download_base, entry, memory, reader.reporting(entry))
        found = inspect(release.download_base, entry, memory)
        action = decide(entry, found, _part_url(found))
        reader.progress.finish(entry, "read")
    return CheckedFile(entry, *_state(entry, found, action))


def _part_url(found: Found) -> str:
    """Return where a part came from, whatever that is: it does not matter here."""
    return found.journal.url if found.journal else ""


def _state(entry: FileEntry, found: Found, action: Action) -> tuple[State, str]:
    match action:
        case Action.ADOPT:
            return State.COMPLETE, ""
        case Action.ADOPT_UNVERIFIED:
            return State.UNVERIFIED, "the manifest has no hash"
        case Action.VERIFY:
            return State.UNVERIFIED, "its hash was not taken yet; --rehash takes it"
        case Action.FETCH:
            return State.MISSING, ""
        case Action.RESUME:
            assert found.journal is not None
            there = found.journal.bytes_done
            return State.PARTIAL, f"{format_bytes(there)} of {format_bytes(entry.size)} are there"
        case _:
            return State.DAMAGED, _damage(entry, found)


def _damage(entry: FileEntry, found: Found) -> str:
    if found.fingerprint is None:
        return "not a regular file"
    if found.fingerprint.size != entry.size:
        return f"{found.fingerprint.size:,} bytes, the manifest says {entry.size:,}"
    return f"MD5 {found.md5}, the manifest says {entry.file_hash}"
