"""Where a store lies: a folder on this machine, or elsewhere."""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from abc_dask.base.errors import NoStoreError, StoreError
from abc_dask.disk.failures import cannot_read
from abc_dask.store.arrays import Folder

# Files that are open at a time.
_OPEN = 64


def folder_of(path: str | Path) -> Folder:
    """Return where a store lies: a path, ``https://...``, or an address that fsspec knows.

    Raises
    ------
    UsageError
        If fsspec does not know it, or lacks a library for it.
    """
    if isinstance(path, str) and path.startswith(("https://", "http://")):
        from abc_dask.net.settings import HttpSettings
        from abc_dask.store.remote import RemoteFolder

        return RemoteFolder(replace(HttpSettings.from_config(), base_url=path))
    if isinstance(path, str) and path.startswith("file://"):
        return LocalFolder(Path(url2pathname(urlsplit(path).path)))
    if isinstance(path, str) and "://" in path:
        from abc_dask.store.object_folder import ObjectFolder

        return ObjectFolder(path)
    return LocalFolder(Path(path))


class LocalFolder:
    """A store's files, read by ranges; the last ones stay open.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._open: OrderedDict[str, _File] = OrderedDict()

    @property
    def name(self) -> str:
        """Path of the folder."""
        return str(self._path)

    @property
    def readers(self) -> int:
        """One thread a processor: files in memory are decoded, not waited for."""
        return processors()

    @property
    def is_remote(self) -> bool:
        """Reads cost next to nothing."""
        return False

    def close(self) -> None:
        """Close all files, when nobody reads them any more."""
        with self._lock:
            self._open.clear()

    def read(self, path: str) -> bytes:
        """Return a file's bytes.

        Raises
        ------
        StoreError
            If it is missing.
        UnavailableFileError, DamagedFileError
            If its disk does not answer, or it cannot be read.
        """
        try:
            return (self._path / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise self._missing(path) from None
        except OSError as error:
            raise cannot_read(self._path / path, error) from None

    def read_range(self, path: str, start: int, size: int) -> bytes:
        """Return some bytes of a file.

        Raises
        ------
        StoreError
            If it is missing, or ends before.
        UnavailableFileError, DamagedFileError
            If its disk does not answer, or it cannot be read.
        """
        try:
            file = self._file(path)
            found = os.pread(file.descriptor, size, start)
            while 0 < len(found) < size:
                more = os.pread(file.descriptor, size - len(found), start + len(found))
                if not more:
                    break
                found += more
        except (FileNotFoundError, NotADirectoryError):
            raise self._missing(path) from None
        except OSError as error:
            raise cannot_read(self._path / path, error) from None
        if len(found) < size:
            raise StoreError(
                f"{self._path / path} ends at {start + len(found):,}, expected {start + size:,}; "
                "make the store anew, or copy it again"
            )
        return found

    def _file(self, path: str) -> _File:
        with self._lock:
            file = self._open.get(path)
            if file is None:
                file = self._open[path] = _File(self._path / path)
                if len(self._open) > _OPEN:
                    self._open.popitem(last=False)
            else:
                self._open.move_to_end(path)
            return file

    def _missing(self, path: str) -> StoreError:
        if not self._path.exists():
            return NoStoreError(f"{self._path} is missing; `abc-dask store build` makes a store")
        if path == "zarr.json":
            return NoStoreError(
                f"{self._path} is not a store (it has no zarr.json); `abc-dask store build` "
                "makes one"
            )
        return StoreError(f"{self._path / path} is missing; make the store anew, or copy it again")


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _File:
    """An open file; closed when nobody reads it any more."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        # at the end of Python os may be gone before what is kept by a cache
        if hasattr(self, "descriptor") and os is not None:
            os.close(self.descriptor)


def is_store(path: Path) -> bool:
    """Return whether a folder says that it is a gene-major store, of whatever version."""
    try:
        root = json.loads((path / "zarr.json").read_bytes())
        return "store_version" in root["attributes"]["abc_dask"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return False
