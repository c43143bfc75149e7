"""How to talk to a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, urlsplit

from abc_dask.config import parse_bytes, setting
from abc_dask.errors import UsageError


@dataclass(frozen=True)
class HttpSettings:
    """How to talk to the server; see abc_dask.yaml for the meaning and the defaults."""

    base_url: str
    connect_timeout: float = 10.0
    stall_timeout: float = 60.0
    stall_bytes: int = 16 << 10
    retries: int = 6
    backoff: float = 0.5
    longest_wait: float = 120.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
            raise UsageError(
                f"abc-dask.base-url {self.base_url!r} is not the address of a server; "
                "expected https://host/ or https://host/path/"
            )
        if not self.base_url.endswith("/"):
            object.__setattr__(self, "base_url", self.base_url + "/")

    @classmethod
    def from_config(cls) -> Self:
        """Read the settings ``abc-dask.base-url`` and ``abc-dask.download``."""
        return cls(
            base_url=str(setting("base-url")),
            connect_timeout=_seconds("connect-timeout"),
            stall_timeout=_seconds("stall-timeout"),
            stall_bytes=parse_bytes(setting("download.stall-bytes"), option="stall-bytes"),
            retries=int(setting("download.retries")),
            backoff=float(setting("download.backoff")),
            longest_wait=float(setting("download.longest-wait")),
        )

    def url(self, relative_path: str) -> str:
        """Return the address of a file of the bucket."""
        return self.base_url + quote(relative_path, safe="/")


def _seconds(name: str) -> float:
    value = setting(f"download.{name}")
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = 0.0
    if not seconds > 0:
        raise UsageError(f"abc-dask.download.{name} {value!r} is not a number of seconds above 0")
    return seconds
