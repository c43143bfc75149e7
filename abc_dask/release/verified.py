"""The memory of files whose hash was verified."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from abc_dask.base.config import setting
from abc_dask.disk.cache import Cache
from abc_dask.disk.files import Fingerprint

MEMORY_NAME = "verified.jsonl"


class Memory:
    """Hashes of files on disk, remembered with size and mtime.

    One JSON line a file in ``.abc_dask/verified.jsonl`` under download_base, or in the
    user's cache folder where that cannot be written. Lines are only ever appended, so
    several processes may do so at once; the last one of a path counts. A file that was
    changed, or copied without its time, has another fingerprint and is hashed again.
    """

    def __init__(self, download_base: Path) -> None:
        folders = Cache.beside(download_base, setting("cache-directory")).folders
        self._paths = [folder / MEMORY_NAME for folder in folders]
        self._known: dict[str, tuple[Fingerprint, str]] = {}
        self.reload()

    def reload(self) -> None:
        """Read what other processes have added."""
        for path in reversed(self._paths):
            try:
                lines = path.read_bytes().splitlines()
            except OSError:
                continue
            for line in lines:
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            raw: dict[str, Any] = json.loads(line)
            numbers = [raw["size"], raw["mtime_ns"]]
            if all(type(number) is int for number in numbers):
                self._known[str(raw["path"])] = (Fingerprint(*numbers), str(raw["md5"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            return

    def get(self, relative_path: str, fingerprint: Fingerprint) -> str | None:
        """Return the MD5 of a file if it is known and the file unchanged since."""
        known = self._known.get(relative_path)
        return known[1] if known is not None and known[0] == fingerprint else None

    def put(self, relative_path: str, fingerprint: Fingerprint, md5: str) -> None:
        """Remember a hash; where nothing can be written, for this run only."""
        if self.get(relative_path, fingerprint) == md5:
            return
        self._known[relative_path] = (fingerprint, md5)
        line = json.dumps(
            {
                "path": relative_path,
                "size": fingerprint.size,
                "mtime_ns": fingerprint.mtime_ns,
                "md5": md5,
            }
        )
        for path in self._paths:
            with contextlib.suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                descriptor = os.open(path, flags, 0o666)
                try:
                    # a newline first: a line that a full disk cut off harms no other
                    os.write(descriptor, f"\n{line}\n".encode())
                finally:
                    os.close(descriptor)
                return
