"""Whose a file or folder is, and who else may write to it."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import tempfile
from pathlib import Path


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
