"""The tables that are kept between runs: where they lie, and sealed Parquet as their form.

A kept table's name holds a digest of everything that it depends on (the inputs' fingerprints and
this package's layout version), so a changed input is a new name and nothing is ever invalidated
in place. Tables appear whole, by rename.

What is kept is believed: pointers and offsets of chunks go into compiled loops as they are, so
all of it has a checksum (`abc_dask.disk.checked_parquet`).

Tasks read a few thousand rows of a table of hundreds of thousands, some hundred times a
second, so row groups are short, and pages are plain and packed by the fastest codec:
dictionaries of labels that each stand once cost half of the time of reading them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from abc_dask.base.errors import CacheError, ReleaseError
from abc_dask.base.records import loads
from abc_dask.disk.checked_parquet import SealError, is_sealed, opened_sealed, seal
from abc_dask.disk.failures import patiently, unreadable
from abc_dask.disk.files import cannot_write, is_trusted, replacing, sweep

T = TypeVar("T")

ROW_GROUP = 1 << 13


def write_cached(table: pa.Table, target: Path) -> None:
    """Write a table that is kept."""
    pq.write_table(table, target, compression="lz4", row_group_size=ROW_GROUP, use_dictionary=False)
    seal(target)


def read_cached(path: Path | str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table that is kept, checksums verified.

    Raises
    ------
    CacheError
        If it is damaged, or gone.
    UnavailableFileError
        If its disk does not answer.
    """
    with opened_cached(path, columns) as file:
        return file.read(columns=None if columns is None else list(columns))


def read_cached_rows(
    path: Path | str, columns: Sequence[str], *ranges: tuple[int, int]
) -> list[pa.Table]:
    """Read ranges of rows of what `write_cached` wrote, each column in one chunk.

    Only their row groups are touched, and the file is opened once.

    Parameters
    ----------
    path : path
    columns : sequence of str
    *ranges : tuple of int
        Rows, half-open.

    Returns
    -------
    list of pyarrow.Table
        One per range, in order.

    Raises
    ------
    CacheError, UnavailableFileError
        As `read_cached`.
    """
    groups = [
        range(start // ROW_GROUP, max(start, stop - 1) // ROW_GROUP + 1) for start, stop in ranges
    ]
    found = []
    with opened_cached(path, columns, sorted(set().union(*groups))) as file:
        for (start, stop), own in zip(ranges, groups, strict=True):
            there = range(own.start, min(own.stop, file.num_row_groups))
            # small: more threads would only wait for each other
            part = file.read_row_groups(there, columns=list(columns), use_threads=False)
            found.append(part.slice(start - own.start * ROW_GROUP, stop - start).combine_chunks())
    return found


def read_described(path: Path | str) -> tuple[pa.Schema, int]:
    """Read a kept table's columns with its metadata, and its number of rows."""
    with opened_cached(path, ()) as file:
        return file.schema_arrow, file.metadata.num_rows


def read_note(path: Path | str, key: bytes) -> bytes:
    """Read what was written into a kept table's metadata under a key."""
    noted: Mapping[bytes, bytes] = read_described(path)[0].metadata or {}
    return noted[key]


def read_record(kind: type[T], path: Path | str, key: bytes) -> T:
    """Read a record (`abc_dask.base.records`) that was written into a kept table's metadata.

    Raises
    ------
    CacheError, UnavailableFileError
        As `read_cached`; also if it is not such a record, as in a table of another version.
    """
    try:
        return loads(kind, read_note(path, key))
    except (KeyError, ValueError):
        raise CacheError(_removed(Path(path))) from None


@contextlib.contextmanager
def opened_cached(
    path: Path | str,
    columns: Sequence[str] | None = None,
    groups: Iterable[int] | None = None,
    **options: Any,
) -> Iterator[pq.ParquetFile]:
    """Open a kept table of which some columns and row groups, or all, are whole.

    Raises
    ------
    CacheError, UnavailableFileError
        As `read_cached`.
    """
    try:
        with opened_sealed(path, columns, groups, **options) as file:
            yield file
    except FileNotFoundError:
        raise CacheError(  # it may just have been removed by another task that found it damaged
            f"{path} was damaged and removed, or is gone; run extract again, which makes it anew"
        ) from None
    except (SealError, pa.ArrowException, OSError) as error:
        if other := unreadable(path, error):
            raise other from None
        raise CacheError(_removed(Path(path))) from None


def _removed(path: Path) -> str:
    """Remove a damaged table, which is made anew where it is not there, and say so."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return f"{path} was damaged after it was written; remove it and run extract again"
    return (
        f"{path} was damaged after it was written and is removed; "
        "run extract again, which makes it anew"
    )


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
