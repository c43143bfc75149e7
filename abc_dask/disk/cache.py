"""Where derived tables are kept between runs: Parquet files named by their inputs' state.

A cached file's name holds a digest of everything that it depends on (the inputs'
fingerprints and this package's layout version), so a changed input is a new name and
nothing is ever invalidated in place. Files appear whole, by rename.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from abc_dask.base.errors import ReleaseError
from abc_dask.disk.checked_parquet import is_sealed
from abc_dask.disk.files import cannot_write, replacing, sweep
from abc_dask.disk.ownership import is_trusted
from abc_dask.disk.retry import patiently

FOLDER = ".abc_dask"

# Part of every key: raise it when the content of a cached file changes its meaning.
_LAYOUT = 6

_ADVICE = "set abc-dask.cache-directory (or DASK_ABC_DASK__CACHE_DIRECTORY)"


@dataclass(frozen=True)
class Cache:
    """Folders of cached files, the first writable one taking new ones.

    Attributes
    ----------
    folders : tuple of Path
        Looked up in this order.
    """

    folders: tuple[Path, ...]

    @classmethod
    def beside(cls, download_base: Path, directory: str | Path | None = None) -> Cache:
        """Return the cache of an atlas.

        Parameters
        ----------
        download_base : Path
            Its folder; the cache lies under ``.abc_dask`` there, or in the user's
            cache folder where that cannot be written.
        directory : path, optional
            Use this folder and no other (setting ``abc-dask.cache-directory``).
        """
        if directory is not None:
            return cls((Path(directory).expanduser(),))
        import platformdirs

        name = hashlib.sha256(os.fsencode(download_base)).hexdigest()[:16]
        return cls((download_base / FOLDER, platformdirs.user_cache_path("abc_dask") / name))

    def get(self, kind: str, depends_on: object, make: Callable[[Path], None]) -> Path:
        """Return the path of a cached Parquet file, made first where it is not there.

        Parameters
        ----------
        kind : str
            First part of its name, for people who look into the folder.
        depends_on : object
            JSON-serialisable state of all inputs.
        make : callable
            Called with a temporary path to write a sealed table to (`disk.checked_parquet`).

        Raises
        ------
        ReleaseError
            If it cannot be written.
        """
        key = json.dumps([_LAYOUT, kind, depends_on], sort_keys=True)
        name = f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:24]}.parquet"
        for folder in self.folders:
            # one that is damaged, or that a stranger may have made, is made anew
            path = folder / name
            if _is_ours(folder) and is_trusted(path, folder.parent) and is_sealed(path):
                return path
        path = self._writable_folder() / name
        try:
            with replacing(path) as temporary:
                patiently(lambda: make(temporary))
            sweep(path.parent)
        except OSError as error:
            advice = f"make room, or {_ADVICE}"
            raise cannot_write(path, error, ReleaseError, advice=advice) from error
        return path

    def _writable_folder(self) -> Path:
        for folder in self.folders:
            try:
                _make(folder)
            except OSError:
                continue
            if os.access(folder, os.W_OK | os.X_OK) and _is_ours(folder):
                return folder
        tried = " and ".join(repr(str(folder)) for folder in self.folders)
        strangers = [folder for folder in self.folders if folder.is_dir() and not _is_ours(folder)]
        if strangers:
            raise ReleaseError(
                f"no folder to keep tables in: {str(strangers[0])!r} is somebody else's, or others "
                f"may write to it: make it yours (chown, chmod go-w), or {_ADVICE}"
            )
        raise ReleaseError(f"no folder to keep tables in: {tried} cannot be written; {_ADVICE}")


def _make(folder: Path) -> None:
    """Make a folder to which nobody may write who may not write to the one above it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        with contextlib.suppress(OSError):
            folder.chmod(folder.stat().st_mode & ~(0o022 & ~folder.parent.stat().st_mode))


def _is_ours(folder: Path) -> bool:
    return is_trusted(folder, folder.parent)
