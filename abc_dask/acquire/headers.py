"""The first line of tables on the server."""

from __future__ import annotations

from collections.abc import Sequence

from abc_dask.acquire.remote import persist
from abc_dask.base.errors import DownloadError, TableError
from abc_dask.net.answers import Question, RestartError
from abc_dask.net.client import Client
from abc_dask.net.settings import HttpSettings
from abc_dask.net.validator import Validator
from abc_dask.release.csv_table import header_of
from abc_dask.release.manifest import FileEntry

# Lines of comment and a header are shorter.
HEADER_BYTES = 1 << 16


def read_headers(
    entries: Sequence[FileEntry], *, settings: HttpSettings | None = None
) -> dict[FileEntry, tuple[str, ...]]:
    """Read the names of the columns of CSV tables that are not on disk.

    Parameters
    ----------
    entries : sequence of FileEntry
    settings : HttpSettings, optional
        From the configuration where not given.

    Raises
    ------
    DownloadError
        If one cannot be read.
    TableError
        If the first 64 kB hold no header.
    """
    settings = settings or HttpSettings.from_config()
    with Client(settings) as client:
        return {entry: _header(client, entry) for entry in entries}


def _header(client: Client, entry: FileEntry) -> tuple[str, ...]:
    url = client.settings.url(entry.relative_path)
    content = persist(client, url, lambda: _start(client, url, entry))
    whole, newline, rest = content.rpartition(b"\n")
    lines = whole + newline if len(content) < entry.size else whole + newline + rest
    return tuple(header_of(lines.decode("utf-8-sig", "replace").splitlines(), url))


def _start(client: Client, url: str, entry: FileEntry) -> bytes:
    """Read the first bytes of a table; of an answer with the whole file, no more than these."""
    stop = min(HEADER_BYTES, entry.size)
    question = Question(entry.relative_path, entry.size, url, 0, stop, Validator(), has_digest=True)
    content = bytearray()
    with client.get(url, question.headers) as body:
        try:
            question.check(body)
        except RestartError as error:
            raise DownloadError(f"{url}: {error.reason}") from None
        while len(content) < stop and (data := body.read()):
            content += data
    if len(content) < stop:
        raise TableError(f"{url} ends after {len(content):,} bytes")
    return bytes(content[:stop])
