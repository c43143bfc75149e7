"""Again, where a disk or a file server did not answer: a few times, then the error."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from abc_dask.base.config import setting
from abc_dask.base.errors import UnavailableFileError

T = TypeVar("T")


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
