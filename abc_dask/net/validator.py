"""What tells one version of a remote file from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Validator:
    """What a server calls one version of a file.

    Attributes
    ----------
    etag : str or None
        A strong ETag; weak ones do not vouch for bytes.
    last_modified : str or None
        Used where there is no such ETag.
    """

    etag: str | None = None
    last_modified: str | None = None

    @classmethod
    def of(cls, headers: Any) -> Self:
        """Return the validator in an answer's header fields."""
        etag = headers.get("ETag", "")
        strong = len(etag) > 2 and etag.startswith('"') and etag.endswith('"') and len(etag) < 1024
        return cls(etag if strong else None, headers.get("Last-Modified"))

    def __bool__(self) -> bool:
        return bool(self.etag or self.last_modified)

    @property
    def if_range(self) -> dict[str, str]:
        """The header field that keeps two versions from being mixed."""
        value = self.etag or self.last_modified
        return {"If-Range": value} if value else {}

    def contradicts(self, other: Validator) -> bool:
        """Return whether another answer speaks of another version."""
        if self.etag and other.etag:
            return self.etag != other.etag
        if self.last_modified and other.last_modified:
            return self.last_modified != other.last_modified
        return False
