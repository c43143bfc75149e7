"""Waiting for what another process or thread does: for the event, never for a time."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

PATIENCE = 300
"""Seconds after which a test counts as hanging; even a very slow machine is done long before."""


def wait_until(
    something: Callable[[], object], process: subprocess.Popen[str] | None = None
) -> None:
    """Look until something is there; a process that ends before will never bring it."""
    end = time.monotonic() + PATIENCE
    while True:
        ended = process is not None and process.poll() is not None
        if something():
            return
        assert not ended, f"the process ended with {process.returncode}"
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.002)
