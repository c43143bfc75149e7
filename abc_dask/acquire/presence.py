"""What lies on disk of a release's files, and what is to be done about each.

Looking (`inspect`) and deciding (`decide`) are apart: the decision is a pure function
of what was seen.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import hashlib
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from abc_dask.acquire.journal import Journal
from abc_dask.acquire.part import SUFFIX
from abc_dask.base.errors import DownloadError
from abc_dask.disk.files import Fingerprint
from abc_dask.release.manifest import FileEntry
from abc_dask.release.release import Memory

DAMAGED_SUFFIX = ".damaged"

_READ = 1 << 20

_LONGEST_JOURNAL = 1 << 20


class Action(enum.Enum):
    """What is to be done about one file."""

    ADOPT = "adopt"
    """It is there, and its hash is known to be right."""
    ADOPT_UNVERIFIED = "adopt unverified"
    """It is there with the right size, and the manifest has no hash."""
    VERIFY = "verify"
    """It is there with the right size, and its hash has yet to be taken."""
    RESUME = "resume"
    """Part of it is there."""
    FETCH = "fetch"
    """Nothing of it is there."""
    REPLACE = "replace"
    """Something else is there: fetch it, then put that aside."""
    REFUSE = "refuse"
    """Its name is taken by something that is not a file of ours to replace."""


@dataclass(frozen=True)
class Found:
    """What lies under a file's name, and beside it.

    Attributes
    ----------
    kind : str
        ``absent``, ``file``, ``link`` (a symbolic link to a regular file) or ``other``.
    fingerprint : Fingerprint or None
        Of the file, links followed.
    md5 : str or None
        Its remembered hash.
    journal : Journal or None
        Of the ``.part`` beside it.
    part_size : int
        Bytes of that.
    """

    kind: str = "absent"
    fingerprint: Fingerprint | None = None
    md5: str | None = None
    journal: Journal | None = None
    part_size: int = 0


def decide(entry: FileEntry, found: Found, url: str, *, rehash: bool = False) -> Action:
    """Decide what to do about a file; pure.

    Parameters
    ----------
    entry : FileEntry
        What it should be.
    found : Found
        What is there.
    url : str
        Where it would be fetched from.
    rehash : bool
        Do not trust remembered hashes.
    """
    if found.kind == "other":
        return Action.REFUSE
    if found.fingerprint is None:
        journal = found.journal
        usable = journal and journal.done and journal.usable(entry, url, found.part_size)
        return Action.RESUME if usable else Action.FETCH
    if found.fingerprint.size == entry.size:
        if entry.file_hash is None:
            return Action.ADOPT_UNVERIFIED
        if found.md5 is None or rehash:
            return Action.VERIFY
        if found.md5 == entry.file_hash:
            return Action.ADOPT
    return Action.REFUSE if found.kind == "link" else Action.REPLACE


def inspect(download_base: Path, entry: FileEntry, memory: Memory) -> Found:
    """Return what lies at a file's path; nothing but a journal is read."""
    path = download_base / entry.relative_path
    part = path.with_name(path.name + SUFFIX)
    journal, part_size = None, 0
    with contextlib.suppress(OSError):
        status = part.lstat()
        if stat.S_ISREG(status.st_mode):
            part_size = status.st_size
            journal_path = part.with_name(part.name + ".json")
            if journal_path.lstat().st_size <= _LONGEST_JOURNAL and journal_path.is_file():
                journal = Journal.parse(journal_path.read_bytes())
    try:
        status = path.lstat()
        link = stat.S_ISLNK(status.st_mode)
        if link:
            status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        kind = "other" if path.is_symlink() else "absent"
        return Found(kind, journal=journal, part_size=part_size)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return Found("other")
        raise DownloadError(f"{path} cannot be looked at: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        return Found("other")
    fingerprint = Fingerprint(status.st_size, status.st_mtime_ns)
    md5 = memory.get(entry.relative_path, fingerprint)
    return Found("link" if link else "file", fingerprint, md5, journal, part_size)


def take_hash(
    download_base: Path, entry: FileEntry, memory: Memory, read: Callable[[int], None]
) -> str:
    """Compute the MD5 of a file on disk and remember it.

    Parameters
    ----------
    download_base : Path
        Where it lies.
    entry : FileEntry
        The file.
    memory : Memory
        Where to remember it.
    read : callable
        Called with the number of bytes of each read; raises to stop.

    Raises
    ------
    DownloadError
        If it cannot be read, or changes meanwhile.
    """
    path = download_base / entry.relative_path
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with path.open("rb") as file:
            before = Fingerprint.of(path)
            while piece := file.read(_READ):
                digest.update(piece)
                read(len(piece))
    except OSError as error:
        raise DownloadError(f"{path} cannot be read: {error.strerror}") from None
    before.require(path)
    memory.put(entry.relative_path, before, digest.hexdigest())
    return digest.hexdigest()


def refusal(path: Path) -> str:
    """Return the message for a name that is taken by something that is left alone."""
    kind = "a symbolic link to something else" if path.is_symlink() else "not a regular file"
    return f"{path} is {kind}, which is never written through; remove it and fetch again"
