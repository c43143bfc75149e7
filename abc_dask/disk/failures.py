"""What the system did not read: in words that say what to do, and tried again where that helps."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from abc_dask.base.config import setting
from abc_dask.base.errors import (
    AbcDaskError,
    DamagedFileError,
    ResourceError,
    UnavailableFileError,
)

T = TypeVar("T")

# What says nothing of the file itself: a disk or a server that did not answer, or lost track of it.
_NO_ANSWER = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EBUSY,
    errno.ENOTCONN,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
}

# The same of this machine.
_NO_MEANS = {errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE}

_LOCKED = {errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOLCK}


def unreadable(path: str | Path, error: Exception) -> AbcDaskError | None:
    """Return what to raise where the system, not the file, is at fault; None where it is not.

    Parameters
    ----------
    path : path
        What was to be read.
    error : Exception
        What was said of it; only the system's own errors have a number.
    """
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError) or number == errno.ENOMEM or _lacks_threads(error):
        return ResourceError(
            f"{path} cannot be read: the system refused memory or threads; run the same command "
            "again with fewer threads or workers, or more memory; no file is damaged"
        )
    if number is None:
        return None
    if number in _NO_ANSWER:
        return UnavailableFileError(
            f"{path} cannot be read: {os.strerror(number)}; "
            "run the same command again when its disk answers"
        )
    if number in _LOCKED:
        return UnavailableFileError(
            f"{path} is locked by another program, which may be writing to it; "
            "run the same command again when that has ended"
        )
    if number in _NO_MEANS:
        return DamagedFileError(f"{path} cannot be read: {os.strerror(number)}")
    return None


def _lacks_threads(error: Exception) -> bool:
    """Tell whether no thread could be started; libraries have no type of error for that."""
    text = str(error).lower()
    return "thread" in text and any(word in text for word in ("launch", "start", "create"))


def cannot_read(path: str | Path, error: OSError) -> AbcDaskError:
    """Return what to raise where the system did not open a file, or not read it."""
    said = f"{path} cannot be read: {error.strerror}"
    return unreadable(path, error) or DamagedFileError(said)


def patiently(act: Callable[[], T]) -> T:
    """Do something that opens and reads files, from its beginning each time.

    How often and after which waits stands in the settings ``abc-dask.read``. What was
    tried so often within `act` already is not tried again around it.

    Raises
    ------
    UnavailableFileError
        What was raised the last time.
    """
    try:
        return act()
    except UnavailableFileError as error:
        return again(act, error)


def again(act: Callable[[], T], error: UnavailableFileError) -> T:
    """Do as `patiently` after a first try that failed with an error."""
    for number in range(setting("read.retries")):
        if error.was_retried:
            break
        time.sleep(setting("read.backoff") * 2**number)
        try:
            return act()
        except UnavailableFileError as next_error:
            error = next_error
    error.was_retried = True
    raise error
