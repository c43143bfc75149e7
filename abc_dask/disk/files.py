"""Files that are whole or absent: fingerprints, digests, whose they are, names and renames."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import grp
import hashlib
import os
import pwd
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from abc_dask.base.errors import (
    AbcDaskError,
    DamagedFileError,
    MissingFileError,
    UsageError,
    ViewError,
)
from abc_dask.disk.failures import cannot_read

T = TypeVar("T")

_READ = 1 << 20

# A temporary file that nobody wrote to for so many seconds belongs to nobody any more.
ABANDONED = 86_400.0

# Names are cut here, so that a temporary one fits where the final one does.
_LONGEST_STEM = 120

# What to do where a file cannot be written.
_FORBIDDEN = dict.fromkeys(
    (errno.EACCES, errno.EPERM, errno.EROFS), "choose a folder that you may write to"
)
_FULL = dict.fromkeys(
    (errno.ENOSPC, errno.EDQUOT), "make room and run the same command again; what is done is kept"
)
_TOO_LONG = {errno.ENAMETOOLONG: "the file system takes no name this long; choose a shorter one"}


def cannot_write(
    path: str | Path,
    error: OSError,
    kind: type[AbcDaskError] = ViewError,
    advice: str = "",
) -> AbcDaskError:
    """Return what to raise where a file or folder cannot be written.

    Parameters
    ----------
    path : path
        What was to be written. Where the system's error names another file, such as one
        inside of this folder, the message has both.
    error : OSError
    kind : type
        Type of the error to raise.
    advice : str
        What to do; by default what the system's own error suggests.
    """
    named = error.filename if isinstance(error.filename, str | Path) else path
    where = "" if is_temporary(Path(named).name) or str(named) == str(path) else f"{named}: "
    reason = " ".join(str(error.strerror or error).split())
    known = (_FORBIDDEN | _FULL | _TOO_LONG).get(error.errno or 0)
    advice = advice or known or "run the same command again when that is mended"
    return kind(f"{path} cannot be written: {where}{reason}; {advice}")


def require_utf8(path: str | Path) -> None:
    """Raise `UsageError` for a path that Arrow, HDF5 and Zarr cannot open.

    A name on a disk is bytes; Python shows those that are no text as lone surrogates.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"{path} is not valid UTF-8, which the formats of files need; choose or make another "
            "name for it (a symbolic link serves)"
        ) from None


@dataclass(frozen=True)
class Fingerprint:
    """What tells a file from a later one under the same name, without reading it.

    The file system's number of the file (inode) is no part of it: sshfs, exFAT and others give
    the same file another one after a while.

    Attributes
    ----------
    size : int
        Bytes.
    mtime_ns : int
        Time of the last change in nanoseconds.
    """

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: str | Path) -> Fingerprint:
        """Take the fingerprint of a regular file.

        Raises
        ------
        MissingFileError
            If there is nothing.
        DamagedFileError
            If there is something other than a regular file.
        UnavailableFileError
            If its disk does not answer.
        """
        try:
            status = Path(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            raise MissingFileError(f"{path} is missing") from None
        except OSError as error:
            raise cannot_read(path, error) from None
        if not stat.S_ISREG(status.st_mode):
            raise DamagedFileError(f"{path} is not a regular file")
        return cls(status.st_size, status.st_mtime_ns)

    def require(self, path: str | Path) -> None:
        """Raise `DamagedFileError` if the file changed since this fingerprint was taken."""
        now = Fingerprint.of(path)
        if now != self:
            raise DamagedFileError(
                f"{path} changed while it was in use (size {self.size:,} then, {now.size:,} now); "
                "run the command again when it is at rest"
            )


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while piece := file.read(_READ):
            digest.update(piece)
    return digest.hexdigest()


def temporary_name(path: Path) -> Path:
    """Return a hidden name in the same folder that no other attempt can have."""
    return path.with_name(f".{_stem(path.name)}.{os.getpid()}-{secrets.token_hex(6)}.tmp")


def is_temporary(name: str, of: str | None = None) -> bool:
    """Tell whether `temporary_name` gave this name, to an attempt on a file called `of`."""
    stem = ".+" if of is None else re.escape(_stem(of))
    return bool(re.fullmatch(rf"\.{stem}\.\d+-[0-9a-f]{{12}}\.tmp", name))


def _stem(name: str) -> str:
    """Shorten a name so that two never become one."""
    if len(name) <= _LONGEST_STEM:
        return name
    return f"{name[:100]}~{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"


def sweep(folder: Path | int, of: str | None = None, unchanged_for: float = ABANDONED) -> None:
    """Remove temporary files of attempts that were killed, as far as the system lets that be.

    Parameters
    ----------
    folder : Path or int
        Where to look: its path, or its open descriptor.
    of : str, optional
        Only of attempts on the file of this name there.
    unchanged_for : float
        Seconds since the last write; another process may be at work on what is younger.
        0 for the one who knows that there is no other.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not is_temporary(entry.name, of):
                continue
            with contextlib.suppress(OSError):
                age = time.time() - entry.stat(follow_symlinks=False).st_mtime
                if unchanged_for and age < unchanged_for:
                    continue
                os.unlink(entry.path, dir_fd=folder if isinstance(folder, int) else None)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name; on success flush it to disk and rename it to `path`.

    On any error the temporary file is removed and `path` stays as it was. After a
    failed fsync the file is given up, never synced again: the kernel may have
    dropped the pages that it could not write.
    """
    temporary = temporary_name(path)
    try:
        yield temporary
        fsync_file(temporary)
        temporary.replace(path)
        fsync_directory(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_by(write: Callable[[Path], T], path: Path) -> tuple[T, int, str]:
    """Write a file by a function of its temporary name, whole or not at all.

    Returns
    -------
    returned : object
        By the function.
    size : int
    sha256 : str
    """
    with replacing(path) as temporary:
        return write(temporary), temporary.stat().st_size, sha256(temporary)


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file so that it is there with all its bytes or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def fsync_file(path: Path) -> None:
    """Flush a file's bytes to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_directory(path: Path) -> None:
    """Flush a folder's entries to the disk, where the file system knows of that."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.EBADF}:
            raise
    finally:
        os.close(descriptor)


def replace_tree(source: Path, target: Path) -> None:
    """Rename a folder to `target`; what was there before stays until that moment.

    Where the system can, the two names are exchanged in one step (Linux
    ``renameat2(RENAME_EXCHANGE)``, macOS ``renamex_np(RENAME_SWAP)``) and the old
    tree is removed under the other name; elsewhere the old tree is moved aside first.
    """
    if not os.path.lexists(target):
        source.rename(target)
    elif _exchange(source, target):
        remove(source)
    else:
        aside = temporary_name(target)
        target.rename(aside)
        try:
            source.rename(target)
        except BaseException:
            aside.rename(target)
            raise
        remove(aside)
    fsync_directory(target.parent)


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():
        # out of the name first: a half-removed tree must not look like one
        doomed = temporary_name(path)
        path.rename(doomed)
        shutil.rmtree(doomed)
    else:
        path.unlink(missing_ok=True)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two names in one step; False where the system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    one, two = os.fsencode(first), os.fsencode(second)
    at_fdcwd, swap = -100, ctypes.c_uint(2)
    if hasattr(libc, "renameat2"):  # Linux
        return bool(libc.renameat2(at_fdcwd, one, at_fdcwd, two, swap) == 0)
    if hasattr(libc, "renamex_np"):  # macOS
        return bool(libc.renamex_np(one, two, swap) == 0)
    return False


def unsafe(folder: Path) -> str:
    """Return why what lies in a folder may be the work of others; "" where it is ours alone.

    Where the file system keeps neither owners nor modes (FAT, some mounts by FUSE), as a file
    shows that is made there now, they say nothing.
    """
    status = folder.lstat()
    if stat.S_ISLNK(status.st_mode):
        return "is a symbolic link"
    is_others = status.st_uid != os.geteuid()
    is_open = _is_open(status)
    if not is_others and not is_open:
        return ""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".tmp") as file:
            made = os.fstat(file.fileno())
    except OSError:
        made = status
    if is_others and (made is status or status.st_uid != made.st_uid):
        return f"belongs to {_name(status.st_uid)}"
    if is_open and (made is status or not made.st_mode & 0o022):
        return "may be written to by others"
    return ""


def is_trusted(path: Path, base: Path) -> bool:
    """Return whether only who could change a folder's own files could have written a path there.

    Parameters
    ----------
    path : Path
        A file or folder that is kept for `base`.
    base : Path
        What it was made of, such as the folder of an atlas.
    """
    try:
        status, of_base = path.stat(), base.stat()
    except OSError:
        return False
    # in a folder with the sticky bit nobody replaces what is others'
    shared_with = 0 if of_base.st_mode & stat.S_ISVTX else of_base.st_mode & 0o022
    loose = status.st_mode & 0o022 & ~shared_with  # who may write here, and could not there
    if loose & 0o002 or (loose & 0o020 and path.is_dir() and not _is_own_group(status.st_gid)):
        return False
    if status.st_uid in {os.geteuid(), 0, of_base.st_uid}:
        return True
    is_shared = shared_with & 0o020 and status.st_gid == of_base.st_gid
    return bool(is_shared or shared_with & 0o002)


def _is_open(status: os.stat_result) -> bool:
    """Return whether others may write there; a group of which one is the only member is no one."""
    by_group = status.st_mode & stat.S_IWGRP and not _is_own_group(status.st_gid)
    return bool(by_group or status.st_mode & stat.S_IWOTH)


def _is_own_group(gid: int) -> bool:
    """Return whether a group is the user's private one, as many systems make for each."""
    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
