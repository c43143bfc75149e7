"""Settings: the ``abc-dask`` section of `dask.config`, with defaults from abc_dask.yaml."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from abc_dask.base.errors import UsageError
from abc_dask.base.messages import quoted, without_password

NORMALIZATIONS = ("log2", "raw")

_DEFAULTS = Path(__file__).parents[1] / "abc_dask.yaml"


@cache
def _defaults() -> dict[str, Any]:
    """Hand our defaults to dask.config once; the user's own YAML and environment win."""
    import dask.config
    import yaml

    with _DEFAULTS.open(encoding="utf-8") as file:
        defaults: dict[str, Any] = yaml.safe_load(file)
    dask.config.update_defaults(defaults)
    return defaults


def setting(name: str) -> Any:
    """Return one setting of the ``abc-dask`` section.

    Parameters
    ----------
    name : str
        Kebab-case key, such as ``block-size``, with dots into deeper sections.

    Returns
    -------
    object
        Numbers as numbers, even where they were written as text.

    Raises
    ------
    UsageError
        If the value is of a wrong type; the message names the setting.
    """
    import dask.config

    default: Any = _defaults()["abc-dask"]
    section = "abc-dask"
    for key in name.split("."):
        if not isinstance(dask.config.get(section, {}), dict | None):
            raise UsageError(
                f"{section} {quoted(dask.config.get(section))} is not a section of settings"
            )
        default = default[key]
        section = f"{section}.{key}"
    # a `with dask.config.set(...)` that came before us takes the whole section with it
    value = dask.config.get(f"abc-dask.{name}", default)
    if value is None and default is None:
        return None
    expected, convert = _KINDS[name]
    try:
        return convert(value)
    except (TypeError, ValueError, OverflowError, AttributeError, KeyError, UsageError):
        if name in {"base-url", "store"} and not isinstance(value, str):  # it may hold a password
            value = type(value)
        shown = quoted(without_password(value) if isinstance(value, str) else value)
        raise UsageError(f"abc-dask.{name} {shown} is not {expected}") from None


def default_base() -> str | None:
    """Return where the atlas lies by the environment, else by the settings; None: nobody says."""
    base: str | None = os.environ.get("ABC_DASK_DOWNLOAD_BASE") or setting("download-base")
    return base


def _number(value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or not math.isfinite(number) or number < 0:
        raise ValueError
    return number


def _positive(value: Any) -> float:
    if not _number(value) > 0:
        raise ValueError
    return float(value)


def _whole(value: Any) -> int:
    if _number(value) != int(value):
        raise ValueError
    return int(value)


def _count(value: Any) -> int:
    if _whole(value) < 1:
        raise ValueError
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


def _release(value: Any) -> str:
    """Take a release for text: YAML and the environment make a number of 20250531."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(value)


def _names(value: Any) -> str:
    """Join names by commas; a list, or text that is so already."""
    return ",".join(map(_text, value)) if isinstance(value, list) and value else _text(value)


def _normalization(value: Any) -> str:
    if value not in NORMALIZATIONS:
        raise ValueError
    return _text(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _size(value: Any) -> int | str:
    if isinstance(value, bool):
        raise TypeError
    parse_bytes(value, option="")
    return value  # type: ignore[no-any-return]


def _memory(value: Any) -> Any:
    if value != "auto" and not isinstance(value, float):
        _size(value)
    return value


def _duration(value: Any) -> Any:
    from dask.utils import parse_timedelta

    _positive(parse_timedelta(value))
    return value


_SECONDS = ("a number of seconds above 0", _positive)

_BYTES = ("a number of bytes, such as '256 MiB'", _size)

_FROM_0 = ("a whole number from 0", _whole)

_FROM_1 = ("a whole number from 1", _count)

_NUMBER = ("a number of seconds from 0", _number)

_KINDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "download-base": ("the path of a folder", _text),
    "release": ("a release, such as '20250531'", _release),
    "metadata": ("a directory of cell_metadata, such as 'WMB-10X', or a list of them", _names),
    "normalization": ("log2 or raw", _normalization),
    "store": ("the path or address of a store", _text),
    "check-space": ("true or false", _flag),
    "cache-directory": ("the path of a folder", _text),
    "block-size": _BYTES,
    "read.retries": _FROM_0,
    "read.backoff": _NUMBER,
    "workers": _FROM_1,
    "threads-per-worker": _FROM_1,
    "memory-limit": ("a number of bytes, such as '2 GB', or 'auto'", _memory),
    "connect-timeout": _SECONDS,
    "base-url": ("the address of a server", _text),
    "download.workers": _FROM_1,
    "download.range-size": _BYTES,
    "download.connect-timeout": _SECONDS,
    "download.stall-timeout": _SECONDS,
    "download.stall-bytes": _BYTES,
    "download.retries": _FROM_0,
    "download.backoff": _NUMBER,
    "download.longest-wait": _NUMBER,
    "download.ask-above": _BYTES,
    "cluster.kind": ("the name of a kind of cluster", _text),
    "cluster.adapt": ("MIN:MAX in quotes, such as '0:8'", _text),
    "cluster.worker-timeout": _SECONDS,
    "cluster.wait-for-workers": ("true or false", _flag),
    "cluster.queue-interval": _SECONDS,
    "cluster.lost-worker-timeout": ("a time, such as '30 s'", _duration),
    "cluster.allowed-failures": _FROM_0,
}


def parse_bytes(value: int | str, *, option: str) -> int:
    """Read a number of bytes such as ``256 MiB`` or 1000000.

    Raises
    ------
    UsageError
        If it is not a positive number of bytes.
    """
    import dask.utils

    try:
        size = int(dask.utils.parse_bytes(value)) if value else 0
    except (ValueError, TypeError, AttributeError, OverflowError):
        size = 0
    if size < 1:
        raise UsageError(f"{option} {value!r} is not a number of bytes, such as '256 MiB'")
    return size
