"""Loaded by Dask workers (``distributed.worker.preload``): what a block does to its worker.

``FAULT=die:3`` ends the process that reads block 3, with ``FAULT_ONCE=FILE`` only the first time;
``wait:3`` reads it when ``FILE.over`` is there, ``hold:3`` holds the GIL for some seconds,
``eat:3`` takes memory meanwhile.
"""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path
from typing import Any

SECONDS = float(os.environ.get("FAULT_SECONDS", "8"))


def dask_setup(_worker: Any) -> None:
    from abc_dask.run import part as parts

    act, _, number = os.environ.get("FAULT", "none:-1").partition(":")
    read = parts.read_block

    def faulty(task: Any) -> Any:
        if task.block.number == int(number) and _first_time():
            _do(act)
        return read(task)

    parts.read_block = faulty


def _first_time() -> bool:
    once = os.environ.get("FAULT_ONCE")
    if once is None:
        return True
    try:
        Path(once).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _do(act: str) -> None:
    if act == "die":
        os._exit(9)
    if act == "wait":
        over = Path(os.environ["FAULT_ONCE"] + ".over")
        while not over.exists():
            time.sleep(0.01)
    if act == "hold":
        ctypes.PyDLL(None).sleep(int(SECONDS))
    if act == "eat":
        held = []
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            held.append(bytearray(os.urandom(1 << 16) * 256))
            time.sleep(0.01)
