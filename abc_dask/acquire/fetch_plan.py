"""What a fetch would have to do, and whether there is room for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from abc_dask.acquire.presence import Action, decide, inspect, refusal
from abc_dask.base.errors import DownloadError
from abc_dask.base.messages import format_bytes
from abc_dask.net.settings import HttpSettings
from abc_dask.release.manifest import FileEntry
from abc_dask.release.release import Memory, Release


@dataclass(frozen=True)
class PlannedFile:
    """What a fetch would do about one file.

    Attributes
    ----------
    entry : FileEntry
    action : Action
    bytes_there : int
        Bytes that need not be fetched.
    """

    entry: FileEntry
    action: Action
    bytes_there: int

    @property
    def bytes_to_fetch(self) -> int:
        """Bytes that would come over the network."""
        return self.entry.size - self.bytes_there


@dataclass(frozen=True)
class FetchPlan:
    """What a fetch would do, and whether there is room for it.

    Attributes
    ----------
    files : tuple of PlannedFile
    bytes_free : int
        On the file system of download_base.
    """

    files: tuple[PlannedFile, ...]
    bytes_free: int

    @property
    def bytes_total(self) -> int:
        """Size of all files."""
        return sum(file.entry.size for file in self.files)

    @property
    def bytes_to_fetch(self) -> int:
        """Bytes that would come over the network."""
        return sum(file.bytes_to_fetch for file in self.files)

    @property
    def unverified(self) -> tuple[FileEntry, ...]:
        """Files for which the manifest has no hash."""
        return tuple(file.entry for file in self.files if file.entry.file_hash is None)

    def bytes_needed(self, ahead: int | None = None) -> int:
        """Return the bytes that are needed on disk.

        Parameters
        ----------
        ahead : int, optional
            Files that may lie ready beside the one in use, where each is removed after
            use; None where all are kept.
        """
        wanted = [file.bytes_to_fetch for file in self.files]
        if ahead is None:
            return sum(wanted)
        windows = (sum(wanted[i : i + ahead + 1]) for i in range(len(wanted)))
        return max(windows, default=0)

    def require_room(self, download_base: Path, ahead: int | None = None) -> None:
        """Raise `DownloadError` if the disk has not enough room."""
        needed = self.bytes_needed(ahead)
        if needed > self.bytes_free:
            raise DownloadError(
                f"not enough space under {str(download_base)!r}: {format_bytes(needed)} "
                f"({needed:,} bytes) needed, {format_bytes(self.bytes_free)} "
                f"({self.bytes_free:,} bytes) free; make room, or fetch fewer files"
            )


def plan_fetch(
    release: Release, entries: Iterable[FileEntry], *, settings: HttpSettings | None = None
) -> FetchPlan:
    """Plan a fetch without starting it.

    Files with the right size count as there; their hashes are taken when they are
    fetched, or by `abc_dask.acquire.check.check`.

    Parameters
    ----------
    release : Release
        Where to, and of what.
    entries : iterable of FileEntry
        The files; one that stands twice counts once.
    settings : HttpSettings, optional
        From the configuration where not given.

    Returns
    -------
    FetchPlan

    Raises
    ------
    DownloadError
        If the name of a file is taken by something that must not be written to.
    """
    http = settings or HttpSettings.from_config()
    base = release.download_base
    memory = Memory(base)
    planned = []
    for entry in dict.fromkeys(entries):
        found = inspect(base, entry, memory)
        action = decide(entry, found, http.url(entry.relative_path))
        if action is Action.REFUSE:
            raise DownloadError(refusal(release.path(entry)))
        there = entry.size
        if action is Action.RESUME:
            assert found.journal is not None
            there = found.journal.bytes_done
        elif action in {Action.FETCH, Action.REPLACE}:
            there = 0
        planned.append(PlannedFile(entry, action, there))
    return FetchPlan(tuple(planned), bytes_free(base))


def bytes_free(folder: Path) -> int:
    """Return the free bytes of the file system that a folder lies on, or will lie on."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def require_writable(base: Path, plan: FetchPlan) -> None:
    """Raise `DownloadError` for a read-only folder before the first byte, not after a file."""
    keep = {Action.ADOPT, Action.ADOPT_UNVERIFIED, Action.VERIFY}
    for file in plan.files:
        if file.action in keep:
            continue
        folder = (base / file.entry.relative_path).parent
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if not os.access(folder, os.W_OK | os.X_OK):
            raise DownloadError(
                f"{folder} cannot be written, {file.entry.relative_path} belongs into it; "
                "give a folder that you may write to as download_base"
            )
