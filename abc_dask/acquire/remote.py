"""What the server has: the list of releases, and their manifests.

The bucket is listed with S3's ListObjectsV2 over plain HTTPS, anonymously. Nothing
here is needed once a manifest is on disk.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from xml.parsers import expat

from abc_dask.acquire.folders import Folder
from abc_dask.base.errors import DownloadError, ManifestError, ReleaseError, UnknownNameError
from abc_dask.base.messages import nearest
from abc_dask.net.client import Client
from abc_dask.net.retries import Attempts, TransientError, UnreachableError
from abc_dask.net.settings import HttpSettings
from abc_dask.release.manifest import Manifest
from abc_dask.release.release import MANIFEST_NAME, Release, list_releases

_PREFIX = "releases/"

_PAGE_LIMIT = 4 << 20

_MOST_PAGES = 200

_MANIFEST_LIMIT = 64 << 20

_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")


def list_remote_releases(*, settings: HttpSettings | None = None) -> list[str]:
    """List the releases that the server has, oldest first.

    Parameters
    ----------
    settings : HttpSettings, optional
        From the configuration where not given.

    Returns
    -------
    list of str
        Versions; they are dates, so their order is that of time.

    Raises
    ------
    DownloadError
        If the server cannot be reached, or answers with something else than a listing.
    """
    settings = settings or HttpSettings.from_config()
    with Client(settings) as client:
        prefixes = list(_listing(client))
    names = {prefix.removeprefix(_PREFIX).rstrip("/") for prefix in prefixes}
    return sorted(name for name in names if _VERSION.fullmatch(name))


def _listing(client: Client) -> Iterator[str]:
    """Yield the "folders" under releases/, page after page."""
    base = client.settings.base_url
    query = {"list-type": "2", "prefix": _PREFIX, "delimiter": "/"}
    seen: set[str] = set()
    for _ in range(_MOST_PAGES):
        url = f"{base}?{urlencode(query)}"
        prefixes, token = parse_listing(read_small(client, url, limit=_PAGE_LIMIT), source=url)
        yield from prefixes
        if token is None:
            return
        if token in seen:
            break
        seen.add(token)
        query["continuation-token"] = token
    raise DownloadError(f"{base} lists its releases without end; check abc-dask.base-url")


def parse_listing(content: bytes, *, source: str) -> tuple[list[str], str | None]:
    """Read one page of an answer to ListObjectsV2.

    Parameters
    ----------
    content : bytes
        XML. A document type, and with it any entity, is refused.
    source : str
        How errors name it.

    Returns
    -------
    prefixes : list of str
        The common prefixes.
    token : str or None
        Names the next page; None on the last one.

    Raises
    ------
    DownloadError
        If it is not such an answer.
    """
    page = _Page()
    try:
        page.parser.Parse(content, True)  # noqa: FBT003
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise DownloadError(
            f"{source} does not answer with a listing ({error}); check abc-dask.base-url"
        ) from None
    if page.root != "ListBucketResult":
        raise DownloadError(
            f"{source} answers with {str(page.root)[:60]!r} instead of a listing; "
            "check abc-dask.base-url"
        )
    if page.truncated and not page.token:
        raise DownloadError(f"{source} has more releases, but not how to list them")
    return page.prefixes, page.token if page.truncated else None


class _Page:
    """Gathers the few elements that matter while expat reads."""

    def __init__(self) -> None:
        self.root: str | None = None
        self.prefixes: list[str] = []
        self.truncated = False
        self.token = ""
        self._path: list[str] = []
        self._text = ""
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._data

    def _refuse(self, *_: Any) -> None:
        msg = "a document type is not accepted"
        raise ValueError(msg)

    def _start(self, name: str, _: Any) -> None:
        name = name.rpartition(" ")[2]
        if self.root is None:
            self.root = name
        if len(self._path) > 16:
            msg = "too deep"
            raise ValueError(msg)
        self._path.append(name)
        self._text = ""

    def _data(self, text: str) -> None:
        self._text += text

    def _end(self, _: str) -> None:
        match self._path[1:]:
            case ["CommonPrefixes", "Prefix"]:
                self.prefixes.append(self._text)
            case ["IsTruncated"]:
                self.truncated = self._text.strip() == "true"
            case ["NextContinuationToken"]:
                self.token = self._text
        self._path.pop()
        self._text = ""


def read_small(client: Client, url: str, *, limit: int) -> bytes:
    """Read a small document, over as many tries as it takes.

    Raises
    ------
    DownloadError
        If it is longer than `limit`, or does not come.
    """
    return persist(client, url, lambda: _read_once(client, url, limit))


def persist(client: Client, url: str, read: Callable[[], bytes]) -> bytes:
    """Read something small, over as many tries as it takes.

    Raises
    ------
    DownloadError
        If it does not come.
    """
    attempts = Attempts(client.settings)
    while True:
        try:
            return read()
        except TransientError as error:
            wait = attempts.failed(error)
            if wait is None:
                kind = DownloadError if error.reached else UnreachableError
                raise kind(
                    f"{url} could not be read in {attempts}; "
                    "check the network and abc-dask.base-url, and try again"
                ) from None
            client.stopping.wait(wait)


def _read_once(client: Client, url: str, limit: int) -> bytes:
    content = bytearray()
    with client.get(url) as body:
        if body.status != 200:
            raise StatusError(url, body.status)
        while data := body.read():
            content += data
            if len(content) > limit:
                raise DownloadError(f"{url} is longer than {limit:,} bytes")
    return bytes(content)


class StatusError(DownloadError):
    """The server answered, but not with the document.

    Attributes
    ----------
    status : int
        HTTP status.
    """

    def __init__(self, url: str, status: int) -> None:
        super().__init__(f"{url} answers HTTP {status}, expected 200; check abc-dask.base-url")
        self.status = status


def read_manifest(version: str, *, settings: HttpSettings | None = None) -> tuple[Manifest, bytes]:
    """Read a release's manifest from the server, and check it.

    Parameters
    ----------
    version : str
        The release.
    settings : HttpSettings, optional
        From the configuration where not given.

    Returns
    -------
    manifest : Manifest
    content : bytes
        As the server sent it.

    Raises
    ------
    ReleaseError
        If the server has no such release; names those that it has.
    ManifestError
        If what it sends is not a manifest of that release.
    DownloadError
        If it cannot be read.
    """
    settings = settings or HttpSettings.from_config()
    if not _VERSION.fullmatch(version):
        raise UnknownNameError(f"{version!r} is not a release name, such as '20250531'")
    url = settings.url(f"{_PREFIX}{version}/{MANIFEST_NAME}")
    with Client(settings) as client:
        try:
            content = read_small(client, url, limit=_MANIFEST_LIMIT)
        except StatusError as error:
            # S3 says 403 for what is not there where listing is not allowed
            if error.status not in {403, 404}:
                raise
            raise UnknownNameError(
                f"{settings.base_url} has no release {version!r}{_known(version, settings)}"
            ) from None
    manifest = Manifest.from_json(content, source=url)
    if manifest.version != version:
        raise ManifestError(f"{url} says it is release {manifest.version!r}")
    return manifest, content


def _known(version: str, settings: HttpSettings) -> str:
    try:
        known = list_remote_releases(settings=settings)
    except DownloadError:
        return ""
    return nearest(version, known) or f"; the newest is {known[-1]}" if known else ""


def fetch_manifest(
    version: str | None,
    download_base: str | Path,
    *,
    settings: HttpSettings | None = None,
    refresh: bool = False,
) -> Release:
    """Open a release; fetch its manifest first where it is not on disk.

    Parameters
    ----------
    version : str or None
        The release; None for the newest on disk, or where there is none the newest
        that the server has.
    download_base : path
        Folder that mirrors the bucket; made where it is not there.
    settings : HttpSettings, optional
        From the configuration where not given.
    refresh : bool
        Fetch the manifest even if it is on disk.

    Returns
    -------
    Release

    Raises
    ------
    ReleaseError, ManifestError, DownloadError
        As in `read_manifest`. With the manifest on disk the network is not used.
    """
    base = Path(download_base).expanduser()
    if not refresh and _on_disk(base, version):
        return Release.open(base, version)
    version = version or _newest(settings)
    _, content = read_manifest(version, settings=settings)
    resolved = base.resolve()
    with Folder.of(resolved, f"{_PREFIX}{version}/{MANIFEST_NAME}") as folder:
        folder.write_whole(MANIFEST_NAME, content)
        folder.sweep(MANIFEST_NAME)
    return Release.open(resolved, version)


def load_manifest(
    version: str | None,
    download_base: str | Path | None = None,
    *,
    settings: HttpSettings | None = None,
) -> Manifest:
    """Return a release's manifest, from disk where it is there; write nothing.

    Parameters
    ----------
    version : str or None
        None for the newest on disk, or where there is none on the server.
    download_base : path, optional
        Where to look first.
    settings : HttpSettings, optional
        From the configuration where not given.
    """
    if download_base is not None:
        base = Path(download_base).expanduser()
        if _on_disk(base, version):
            return Release.open(base, version).manifest
    return read_manifest(version or _newest(settings), settings=settings)[0]


def _on_disk(base: Path, version: str | None) -> bool:
    there = list_releases(base) if base.is_dir() else []
    return version in there or (version is None and bool(there))


def _newest(settings: HttpSettings | None) -> str:
    known = list_remote_releases(settings=settings)
    if not known:
        raise ReleaseError("the server lists no release; check abc-dask.base-url")
    return known[-1]
