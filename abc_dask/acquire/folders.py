"""Folders under download_base that are written to, never through a symbolic link.

A path is walked one name at a time from the open base folder (``openat``), so that a
link put into it, even while a fetch runs, is refused and not followed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path, PurePosixPath
from typing import Self

from abc_dask.base.errors import AbcDaskError, DownloadError
from abc_dask.disk.files import ABANDONED, sweep, temporary_name
from abc_dask.disk.files import cannot_write as disk_cannot_write

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Folder:
    """An open folder; names in it are plain names, without slashes.

    Attributes
    ----------
    path : Path
        How errors name it.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self.path = path

    @classmethod
    def of(cls, base: Path, relative_path: str) -> Self:
        """Open the folder of a file under `base`; create it where it is missing.

        Parameters
        ----------
        base : Path
            download_base, links resolved.
        relative_path : str
            A file's checked path under it.

        Raises
        ------
        DownloadError
            If a name on the way is a link or no folder, or cannot be made.
        """
        path = base
        try:
            base.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(base, _FOLDER)
        except OSError as error:
            raise cannot_write(path, error) from None
        for part in PurePosixPath(relative_path).parent.parts:
            path = path / part
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=descriptor)
                inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
            except OSError as error:
                if error.errno in {errno.ELOOP, errno.ENOTDIR}:
                    kind = "a symbolic link" if path.is_symlink() else "not a folder"
                    raise DownloadError(
                        f"{path} is {kind}; files are written into plain folders only: "
                        "give its real path as download_base, or move it out of the way"
                    ) from None
                raise cannot_write(path, error) from None
            finally:
                os.close(descriptor)
            descriptor = inner
        return cls(descriptor, path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the folder."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def open_file(self, name: str, flags: int) -> int:
        """Open a regular file for reading or writing; a link or a pipe is refused."""
        try:
            descriptor = os.open(
                name,
                flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK,
                0o666,
                dir_fd=self._descriptor,
            )
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.EISDIR, errno.ENXIO}:
                raise DownloadError(
                    f"{self.path / name} is not a regular file; move it out of the way"
                ) from None
            raise cannot_write(self.path / name, error) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise DownloadError(f"{self.path / name} is not a regular file; move it out of the way")
        return descriptor

    def status(self, name: str) -> os.stat_result | None:
        """Return the status of a name, links not followed; None where there is nothing."""
        try:
            return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def read(self, name: str, *, limit: int) -> bytes | None:
        """Read a small file; None if there is none, or if it is longer than `limit`."""
        if self.status(name) is None:
            return None
        descriptor = self.open_file(name, os.O_RDONLY)
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(limit + 1)
        return content if len(content) <= limit else None

    def write_whole(self, name: str, content: bytes, *, durable: bool = True) -> None:
        """Write a small file so that it is there with all its bytes or not at all."""
        temporary = temporary_name(Path(name)).name
        try:
            descriptor = self.open_file(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    if durable:
                        os.fsync(file.fileno())
                self.rename(temporary, name)
            except BaseException:
                with contextlib.suppress(DownloadError):
                    self.unlink(temporary)
                raise
        except OSError as error:
            raise cannot_write(self.path / name, error) from None
        if durable:
            self.flush()

    def sweep(self, name: str, unchanged_for: float = ABANDONED) -> None:
        """Remove what killed attempts to write a file left (`abc_dask.disk.files.sweep`)."""
        sweep(self._descriptor, name, unchanged_for)

    def rename(self, old: str, new: str) -> None:
        """Rename a file within this folder; what had that name is replaced."""
        try:
            os.rename(old, new, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        except OSError as error:
            raise cannot_write(self.path / new, error) from None

    def unlink(self, name: str) -> None:
        """Remove a file; nothing there is fine."""
        try:
            os.unlink(name, dir_fd=self._descriptor)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise cannot_write(self.path / name, error) from None

    def flush(self) -> None:
        """Flush the folder's entries to the disk, where the file system knows of that."""
        with contextlib.suppress(OSError):
            os.fsync(self._descriptor)


def cannot_write(path: Path, error: OSError) -> AbcDaskError:
    """Return what to raise where a file under download_base cannot be written."""
    return disk_cannot_write(path, error, DownloadError)
