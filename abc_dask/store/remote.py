"""A store on a web server: whole files, or ranges of them, by the careful client."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

from abc_dask.base.errors import DownloadError, StoreError
from abc_dask.net.client import Body, Client
from abc_dask.net.retries import Attempts, TransientError
from abc_dask.net.settings import HttpSettings
from abc_dask.net.validator import Validator

# Requests under way at a time.
CONNECTIONS = 16

# Bytes of a whole file: the labels and totals of many million cells.
_LARGEST = 1 << 30

_Take = Callable[[Body], bytes]

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(?:\d{1,18}|\*)")


class RemoteFolder:
    """A store's files at an address.

    Parameters
    ----------
    settings : HttpSettings
        Whose `base_url` is the store's address.
    """

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self._client = Client(settings, connections=CONNECTIONS)
        self._lock = threading.Lock()
        # the version of each file that was read from: its ranges must all be of one
        self._versions: dict[str, Validator] = {}

    @property
    def name(self) -> str:
        """Its address."""
        return self._settings.base_url.rstrip("/")

    @property
    def readers(self) -> int:
        """Requests are waited for together."""
        return CONNECTIONS

    @property
    def is_remote(self) -> bool:
        """Each read is a request."""
        return True

    def read(self, path: str) -> bytes:
        """Return a file's bytes, in one request.

        Raises
        ------
        StoreError
            If it is not there.
        DownloadError
            If the server does not send it.
        """
        return self._patiently(path, {}, lambda body: self._whole(path, body))

    def read_range(self, path: str, start: int, size: int) -> bytes:
        """Return some bytes of a file, in one request.

        Raises
        ------
        StoreError
            If it is not there, or another version of it than before.
        DownloadError
            If the server does not send it, or not this range of it.
        """
        known = self._versions.get(path, Validator())
        headers = {"Range": f"bytes={start}-{start + size - 1}", **known.if_range}
        return self._patiently(path, headers, lambda body: self._part(path, body, start, size))

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _patiently(self, path: str, headers: dict[str, str], take: _Take) -> bytes:
        attempts = Attempts(self._settings)
        url = self._settings.url(path)
        while True:
            try:
                with self._client.get(url, headers) as body:
                    return take(body)
            except TransientError as error:
                wait = attempts.failed(error)
                if wait is None:
                    raise DownloadError(
                        f"{url} could not be read in {attempts}; check the network, and try again"
                    ) from None
                self._client.stopping.wait(wait)

    def _whole(self, path: str, body: Body) -> bytes:
        self._require(path, body, {200})
        if body.length is not None and body.length > _LARGEST:
            raise DownloadError(f"{self.name}/{path} has {body.length:,} bytes, too many")
        return self._content(path, body, None)

    def _part(self, path: str, body: Body, start: int, size: int) -> bytes:
        where = f"{self.name}/{path}"
        self._require(path, body, {200, 206, 416})
        found = Validator.of(body.headers)
        with self._lock:
            known = self._versions.setdefault(path, found)
        if known.contradicts(found):
            raise StoreError(f"{where} changed on the server; open the store again")
        if body.status == 416:
            raise StoreError(f"{where} ends before {start + size:,}; copy the store there again")
        if body.status == 200:
            raise DownloadError(
                f"{where}: the server sends no ranges; make the store with --layout=objects"
            )
        said = body.headers.get("Content-Range", "")
        match = _CONTENT_RANGE.fullmatch(said)
        if match is None or (int(match[1]), int(match[2]) + 1) != (start, start + size):
            raise DownloadError(
                f"{where}: the server sends another range ({said[:60]!r}), "
                f"expected bytes {start}-{start + size - 1}"
            )
        return self._content(path, body, size)

    def _content(self, path: str, body: Body, size: int | None) -> bytes:
        """Read a body to its end."""
        expected = body.length if size is None else size
        most = _LARGEST if expected is None else expected
        pieces, n = [], 0
        while piece := body.read():
            pieces.append(piece)
            n += len(piece)
            if n > most:
                raise DownloadError(f"{self.name}/{path} sends more than {most:,} bytes")
        if expected is not None and n < expected:
            raise TransientError(f"{n:,} of {expected:,} bytes")
        return b"".join(pieces)

    def _require(self, path: str, body: Body, expected: set[int]) -> None:
        where = f"{self.name}/{path}"
        if body.status in {403, 404, 410}:
            raise StoreError(f"{where} is not there (HTTP {body.status}); check the address")
        if body.status not in expected:
            raise DownloadError(f"{where} answers HTTP {body.status}")
        if body.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise DownloadError(f"{where} answers with a web page; check the address")
