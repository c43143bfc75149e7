"""Settings: the ``abc-dask`` section of `dask.config`, with defaults from abc_dask.yaml."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from abc_dask.errors import UsageError

_DEFAULTS = Path(__file__).with_name("abc_dask.yaml")


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
    """
    import dask.config

    default: Any = _defaults()["abc-dask"]
    for key in name.split("."):
        default = default[key]
    # a `with dask.config.set(...)` that came before us takes the whole section with it
    return dask.config.get(f"abc-dask.{name}", default)


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
    except (ValueError, TypeError):
        size = 0
    if size < 1:
        raise UsageError(f"{option} {value!r} is not a number of bytes, such as '256 MiB'")
    return size
