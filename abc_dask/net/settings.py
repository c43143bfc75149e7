"""How to talk to a server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self
from urllib.parse import quote, unquote, urlsplit

from abc_dask.base.config import parse_bytes, setting
from abc_dask.base.errors import UsageError
from abc_dask.base.messages import quoted, without_password


@dataclass(frozen=True)
class HttpSettings:
    """How to talk to the server; see abc_dask.yaml for the meaning and the defaults.

    Attributes
    ----------
    base_url : str
        Without the name and the password that it may be given with.
    credentials : tuple of str or None
        That name and password; sent to the server of `base_url` alone, and never shown.
    """

    base_url: str
    connect_timeout: float = 10.0
    stall_timeout: float = 60.0
    stall_bytes: int = 16 << 10
    retries: int = 6
    backoff: float = 0.5
    longest_wait: float = 120.0
    credentials: tuple[str, str] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.base_url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if (
            not host
            or parts.scheme not in {"http", "https"}
            or parts.query
            or parts.fragment
            or "@" in parts.path
            or not self.base_url.isprintable()
        ):
            raise UsageError(
                f"abc-dask.base-url {quoted(without_password(self.base_url))} is not the address "
                "of a server; expected https://host/ or https://host/path/"
            )
        if "@" in parts.netloc:
            login = (unquote(parts.username or ""), unquote(parts.password or ""))
            object.__setattr__(self, "credentials", login)
        plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        object.__setattr__(self, "base_url", plain if plain.endswith("/") else plain + "/")

    @classmethod
    def from_config(cls) -> Self:
        """Read the settings ``abc-dask.base-url`` and ``abc-dask.download``."""
        return cls(
            base_url=setting("base-url"),
            connect_timeout=setting("download.connect-timeout"),
            stall_timeout=setting("download.stall-timeout"),
            stall_bytes=parse_bytes(setting("download.stall-bytes"), option="stall-bytes"),
            retries=setting("download.retries"),
            backoff=setting("download.backoff"),
            longest_wait=setting("download.longest-wait"),
        )

    def url(self, relative_path: str) -> str:
        """Return the address of a file of the bucket."""
        return self.base_url + quote(relative_path, safe="/")
