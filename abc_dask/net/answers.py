"""Whether a server's answer is what was asked for.

Three ways out: the version of the file that the answer speaks of; `RestartError` where
the bytes so far do not go with those that come; `DownloadError` where nothing will help.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from abc_dask.base.errors import DownloadError
from abc_dask.net.client import Body
from abc_dask.net.validator import Validator

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


class RestartError(Exception):
    """The bytes so far do not go with those that come: start again.

    Attributes
    ----------
    reason : str
        A few words.
    ranged : bool
        Whether to ask for ranges again, or for the whole file in one go.
    """

    def __init__(self, reason: str, *, ranged: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.ranged = ranged


@dataclass(frozen=True)
class Question:
    """What is asked for: bytes from `start` to `stop` of a file at an address.

    Attributes
    ----------
    path : str
        What messages call the file.
    size : int
        Bytes of the whole file.
    url : str
    start, stop : int
        Half-open; the whole file is asked for without a Range field.
    known : Validator
        What earlier answers called the version of the file.
    has_digest : bool
        Whether the bytes are hashed in the end, so that no version need vouch for them.
    """

    path: str
    size: int
    url: str
    start: int
    stop: int
    known: Validator
    has_digest: bool

    @property
    def headers(self) -> dict[str, str]:
        """The request's header fields."""
        if (self.start, self.stop) == (0, self.size):
            return {}
        return {"Range": f"bytes={self.start}-{self.stop - 1}", **self.known.if_range}

    def check(self, body: Body) -> Validator:
        """Check status and header fields of an answer; give the version it speaks of.

        Raises
        ------
        RestartError
            If it is of another version or range, or the server knows no ranges.
        DownloadError
            If it is an error, a web page, or a file of another size.
        """
        size, validator = self.size, Validator.of(body.headers)
        if body.status == 416:
            raise RestartError("the server has no such range", ranged=False)
        if body.status not in {200, 206}:
            raise DownloadError(f"{self.name} answers HTTP {body.status}{_meaning(body.status)}")
        if body.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise DownloadError(
                f"{self.name} answers with a web page, expected {size:,} bytes of data; "
                "check abc-dask.base-url, and whether a login page stands before the network"
            )
        if body.status == 206:
            self._check_range(body)
        elif body.length not in {None, size}:
            raise self.wrong_size(f"{body.length:,}")
        if self.known and self.known.contradicts(validator):
            raise RestartError("the file changed on the server", ranged=True)
        nothing_vouches = not (validator or self.known or self.has_digest)
        if body.status == 206 and nothing_vouches:
            raise RestartError("the server names no version of the file", ranged=False)
        return validator

    def _check_range(self, body: Body) -> None:
        value = body.headers.get("Content-Range", "")
        match = _CONTENT_RANGE.fullmatch(value)
        if match is None or (int(match[1]), int(match[2]) + 1) != (self.start, self.stop):
            raise RestartError(f"the server sends another range ({value[:60]!r})", ranged=False)
        if match[3] != "*" and int(match[3]) != self.size:
            raise self.wrong_size(f"{int(match[3]):,}")

    @property
    def name(self) -> str:
        """How errors name the file and its address."""
        return f"{self.path}: {self.url}"

    def wrong_size(self, got: str) -> DownloadError:
        """Return the error of a server whose file has another size."""
        return DownloadError(
            f"{self.name} has {got} bytes, the manifest says {self.size:,}; "
            "check abc-dask.base-url and fetch the release's manifest again"
        )


def _meaning(status: int) -> str:
    """Return the tail of an error message about an HTTP status."""
    words = {
        401: ": it wants a login, but the atlas is public; check abc-dask.base-url",
        403: ": not allowed, or not there; check abc-dask.base-url and the release",
        404: ": not there; check abc-dask.base-url and the release",
        410: ": no longer there; take a newer release",
    }
    return words.get(status, ", expected 200 or 206")
