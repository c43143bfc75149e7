"""One careful way to GET: few redirects, no downgrade, no hanging, bounded retries.

`requests` and urllib3 do the talking. What they leave open is closed here:

- Their timeout is one of silence between two reads, so a server that drips a byte
  now and then holds them for ever. A watch closes the socket of any request that
  brings too little in too long a time, headers included.
- They follow redirects to anything. Here a redirect leads to https only (or back to
  the configured server, where that one speaks http), and never into a private network
  from a public server.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Self
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from urllib3.connection import HTTPConnection, HTTPSConnection

from abc_dask.base.errors import DownloadError
from abc_dask.net.redirects import checked_redirect
from abc_dask.net.retries import UNKNOWN_HOST, TransientError, retry_after
from abc_dask.net.settings import HttpSettings

_PIECE = 1 << 20

_REDIRECTS = frozenset({301, 302, 303, 307, 308})

_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})

_MAX_REDIRECTS = 3

_BROKEN = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    # http.client on a socket that the watch closed in mid-read
    ValueError,
    AttributeError,
)


class _Watch:
    """A request in flight: its socket, and what it brought in the current window."""

    def __init__(self) -> None:
        self.sock: Any = None
        self.since = self.paused = time.monotonic()
        self.count = 0
        self.reading = True
        self.expired = False

    def shut(self) -> None:
        self.expired = True
        with contextlib.suppress(OSError, AttributeError):
            self.sock.shutdown(socket.SHUT_RDWR)


_in_flight = threading.local()


def _attach(sock: Any) -> None:
    watch: _Watch | None = getattr(_in_flight, "watch", None)
    if watch is not None:
        watch.since = time.monotonic()
        watch.sock = sock


class _Connection(HTTPConnection):
    def getresponse(self) -> Any:
        _attach(self.sock)
        return super().getresponse()


class _SecureConnection(HTTPSConnection):
    def getresponse(self) -> Any:
        _attach(self.sock)
        return super().getresponse()


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Adapter(HTTPAdapter):
    """requests' own adapter with connections that show their socket to the watch."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._watch_pools(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        self._watch_pools(manager)
        return manager

    @staticmethod
    def _watch_pools(manager: Any) -> None:
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}


def _anonymous(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep requests from looking up passwords in ~/.netrc."""
    return request


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


class Client:
    """A session with the configured server; any thread may use it.

    Parameters
    ----------
    settings : HttpSettings
        Address, patience, retries.
    connections : int
        How many threads will use it at once.
    """

    def __init__(self, settings: HttpSettings, *, connections: int = 1) -> None:
        self.settings = settings
        self.stopping = threading.Event()
        self._session = requests.Session()
        self._session.headers["Accept-Encoding"] = "identity"
        self._session.headers["User-Agent"] = "abc_dask"
        adapter = _Adapter(pool_connections=4, pool_maxsize=connections, max_retries=0)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self._watches: set[_Watch] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._monitor = threading.Thread(target=self._guard, name="abc_dask-watch", daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self.stop()
        self._closed.set()
        if self._monitor.ident is not None:
            self._monitor.join()
        self._session.close()

    def stop(self) -> None:
        """Break off all requests, from any thread; new ones fail."""
        self.stopping.set()
        with self._lock:
            for watch in self._watches:
                watch.shut()

    def _guard(self) -> None:
        """Close the socket of every request that brings too little."""
        patience = self.settings.stall_timeout
        while not self._closed.wait(min(patience / 4, 1.0)):
            now = time.monotonic()
            with self._lock:
                watches = list(self._watches)
            for watch in watches:
                if watch.reading and watch.sock is not None and now - watch.since > patience:
                    if watch.count < self.settings.stall_bytes:
                        watch.shut()
                    watch.count, watch.since = 0, now

    @contextlib.contextmanager
    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Iterator[Body]:
        """Open an answer, following the redirects that may be followed.

        Parameters
        ----------
        url : str
            Under the configured base address.
        headers : mapping, optional
            Such as Range.

        Yields
        ------
        Body
            With any status that is neither a redirect nor one that may pass.

        Raises
        ------
        TransientError
            Where another try may help.
        DownloadError
            Where it would not.
        """
        watch = _Watch()
        with self._lock:
            self._watches.add(watch)
            if self._monitor.ident is None:
                self._monitor.start()
        try:
            response = self._follow(url, dict(headers or {}), watch)
            try:
                yield Body(response, watch, self.settings)
            finally:
                response.close()
        finally:
            with self._lock:
                self._watches.discard(watch)

    def _follow(self, url: str, headers: dict[str, str], watch: _Watch) -> requests.Response:
        here = url
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._once(here, headers, watch)
            status = response.status_code
            if status in _REDIRECTS:
                location = response.headers.get("Location")
                response.close()
                if location is None:
                    raise DownloadError(f"{here} answers HTTP {status} without an address")
                here = checked_redirect(self.settings.base_url, here, location)
                continue
            encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
            if status in _TRY_AGAIN:
                wait = retry_after(response.headers.get("Retry-After"), self.settings.longest_wait)
                response.close()
                raise TransientError(f"HTTP {status}", wait)
            if encoding not in {"", "identity"}:
                response.close()
                raise DownloadError(
                    f"{here} answers in encoding {encoding!r}, expected plain bytes"
                )
            return response
        raise DownloadError(f"{url} redirects more than {_MAX_REDIRECTS} times")

    def _auth(self, url: str) -> Any:
        """Return how a request identifies itself: by a password to the configured server alone."""
        credentials = self.settings.credentials
        known = credentials and _origin(url) == _origin(self.settings.base_url)
        return HTTPBasicAuth(*credentials) if credentials and known else _anonymous

    def _once(self, url: str, headers: dict[str, str], watch: _Watch) -> requests.Response:
        watch.since, watch.count, watch.sock, watch.reading = time.monotonic(), 0, None, True
        _in_flight.watch = watch
        try:
            if self.stopping.is_set():
                raise TransientError("stopped")
            response = self._session.get(
                url,
                headers=headers,
                stream=True,
                allow_redirects=False,
                auth=self._auth(url),
                timeout=(self.settings.connect_timeout, self.settings.stall_timeout),
            )
        except _BROKEN as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise DownloadError(f"{url}: the server's certificate is not valid") from None
            reason = _reason(error, watch, self.settings)
            raise TransientError(reason, reached=watch.sock is not None) from None
        finally:
            _in_flight.watch = None
        if watch.expired:
            # http.client takes headers that were cut off for complete ones
            response.close()
            raise TransientError(_stalled(self.settings))
        return response


class Body:
    """An answer: status, headers, and a body that is read in pieces.

    Attributes
    ----------
    status : int
        HTTP status.
    headers : mapping
        Its header fields, names in any case.
    """

    def __init__(self, response: requests.Response, watch: _Watch, settings: HttpSettings) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self._raw = response.raw
        self._watch = watch
        self._settings = settings
        watch.reading, watch.paused = False, time.monotonic()

    @property
    def length(self) -> int | None:
        """Content-Length, None where there is none."""
        value = self.headers.get("Content-Length", "")
        return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else None

    def read(self) -> bytes:
        """Read what has come in, at most 1 MiB; empty at the end.

        Raises
        ------
        TransientError
            If the connection breaks, or brings too little in too long a time.
        """
        watch = self._watch
        # time that the caller spent on the last piece is not the server's
        watch.since += time.monotonic() - watch.paused
        watch.reading = True
        try:
            data: bytes = self._raw.read1(_PIECE, decode_content=False)
        except _BROKEN as error:
            raise TransientError(_reason(error, watch, self._settings)) from None
        finally:
            watch.reading, watch.paused = False, time.monotonic()
        if watch.expired:
            raise TransientError(_stalled(self._settings))
        watch.count += len(data)
        return data


def _stalled(settings: HttpSettings) -> str:
    return f"less than {settings.stall_bytes:,} bytes in {settings.stall_timeout:g} s"


def _reason(error: BaseException, watch: _Watch, settings: HttpSettings) -> str:
    """Return in a few words why a request broke."""
    text = str(error)
    if watch.expired or isinstance(error, TimeoutError | urllib3.exceptions.ReadTimeoutError):
        return _stalled(settings)
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection in {settings.connect_timeout:g} s"
    if isinstance(error, requests.Timeout):
        return _stalled(settings)
    for sign, words in _SIGNS.items():
        if sign in text:
            return words
    return type(error).__name__


_SIGNS = {
    "NameResolutionError": UNKNOWN_HOST,
    "Failed to resolve": UNKNOWN_HOST,
    "Connection refused": "connection refused",
    "unreachable": "network unreachable",
    "IncompleteRead": "connection dropped",
    "RemoteDisconnected": "connection dropped",
    "Connection broken": "connection dropped",
    "Connection aborted": "connection dropped",
    "reset by peer": "connection dropped",
}
