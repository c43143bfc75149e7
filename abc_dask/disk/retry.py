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

    How often and after which waits stands in the settings ``abc-dask.read``. What was
    tried so often within `act` already is not tried again around it.

    Raises
    ------
    UnavailableFileError
        What was raised the last time.
    """
    retries = int(setting("read.retries"))
    number = 0
    while True:
        try:
            return act()
        except UnavailableFileError as error:
            if error.was_retried or number >= retries:
                error.was_retried = True
                raise
            time.sleep(float(setting("read.backoff")) * 2**number)
            number += 1
