"""NumPy's files in threads."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

_LOCK = threading.Lock()


def load_array(file: str | Path | BinaryIO, mmap_mode: Literal["r"] | None = None) -> NDArray[Any]:
    """Read an array as `numpy.load` does, from any thread.

    NumPy parses the header as Python; two threads that parse at a time make CPython 3.11 raise
    `SystemError` now and then.
    """
    with _LOCK:
        array: NDArray[Any] = np.load(file, mmap_mode=mmap_mode, allow_pickle=False)
    return array
