"""A store wherever fsspec reads: object storage (``s3://``, ``gs://``) and others."""

from __future__ import annotations

import re
from typing import Any

from abc_dask.base.errors import DownloadError, NoStoreError, StoreError, UsageError

# Requests under way at a time.
CONNECTIONS = 16


class ObjectFolder:
    """A store's files at an address that fsspec knows; its own settings and credentials apply.

    Parameters
    ----------
    address : str
        Such as ``s3://bucket/STORE.zarr``.

    Raises
    ------
    UsageError
        If fsspec does not know such addresses, or lacks a library for them.
    """

    def __init__(self, address: str) -> None:
        import fsspec  # dask needs it anyway

        self._address = address.rstrip("/")
        try:
            self._files, self._root = fsspec.core.url_to_fs(self._address)
        except ImportError as error:
            raise UsageError(f"{address} needs a library for such addresses: {error}") from None
        except ValueError as error:
            raise UsageError(
                f"{address} cannot be opened ({error}); give a path, https://..., or an address "
                "that fsspec knows, such as s3://..."
            ) from None

    @property
    def name(self) -> str:
        """Its address."""
        return self._address

    @property
    def readers(self) -> int:
        """Requests are waited for together."""
        return CONNECTIONS

    @property
    def is_remote(self) -> bool:
        """Each read is a request."""
        return True

    def close(self) -> None:
        """Let go of nothing: fsspec keeps connections for the next store."""

    def read(self, path: str) -> bytes:
        """Return a file's bytes.

        Raises
        ------
        StoreError
            If it is not there.
        DownloadError
            If it may not, or cannot, be read.
        """
        return self._content(path)

    def read_range(self, path: str, start: int, size: int) -> bytes:
        """Return some bytes of a file.

        Raises
        ------
        StoreError
            If it is not there, or ends before.
        DownloadError
            If it may not, or cannot, be read.
        """
        content = self._content(path, start=start, end=start + size)
        if len(content) != size:
            raise StoreError(
                f"{self._address}/{path} ends before {start + size:,}; copy the store there again"
            )
        return content

    def _content(self, path: str, **span: int) -> bytes:
        where = f"{self._address}/{path}"
        try:
            content: bytes = self._files.cat_file(f"{self._root}/{path}", **span)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            missing: Any = NoStoreError if path == "zarr.json" else StoreError
            raise missing(f"{where} is not there; check the address") from None
        except Exception as error:  # noqa: BLE001 - each library has errors of its own
            said = re.sub(r"\s+", " ", f"{type(error).__name__}: {error}")
            raise DownloadError(
                f"{where} could not be read ({said}); check address, network and credentials"
            ) from None
        return content
