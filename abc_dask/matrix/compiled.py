"""How loops are compiled, and where compiled code is kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import numba

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Compile on first call, the machine code kept on disk where a folder can be written."""
    try:
        quick: Any = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no such folder: every process compiles for itself
        quick = numba.njit(nogil=True)(function)
    else:
        files = quick._cache  # noqa: SLF001 - Numba has no setting for this
        files.save_overload = _if_there_is_room(files.save_overload)
    kept: _Function = quick
    return kept


def _if_there_is_room(save: Callable[..., None]) -> Callable[..., None]:
    """Do without the copy on disk where it cannot be written: the code itself is good."""

    def try_to_save(*arguments: Any) -> None:
        with contextlib.suppress(OSError):
            save(*arguments)

    return try_to_save
