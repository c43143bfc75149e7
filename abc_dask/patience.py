"""Again, where a disk or a file server did not answer: a few times, then the error."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from abc_dask.config import setting
from abc_dask.errors import UnavailableFileError

T = TypeVar("T")


def patiently(act: Callable[[], T]) -> T:
    """Do something that opens and reads files, from its beginning each time.

    How often and after which waits stands in the settings ``abc-dask.read``.

    Raises
    ------
    UnavailableFileError
        What was raised the last time.
    """
    for number in range(int(setting("read.retries"))):
        try:
            return act()
        except UnavailableFileError:
            time.sleep(float(setting("read.backoff")) * 2**number)
    return act()
