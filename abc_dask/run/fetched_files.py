"""Which files were fetched for an output, so that they, and no others, are removed again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from abc_dask.base.errors import AbcDaskError, UsageError, ViewError
from abc_dask.disk.files import Fingerprint, cannot_write, write_whole
from abc_dask.release.manifest import FileEntry
from abc_dask.release.release import Release


def require_fetch(*, discard: bool, fetch: bool) -> None:
    """Raise `UsageError` where files are to be removed that are not to be fetched."""
    if discard and not fetch:
        raise UsageError("--discard removes what --fetch fetched; give both")


class FetchedFiles:
    """Which matrix files were fetched for an output, by this run or one that was stopped.

    What lay there before, or was put there by somebody else, is never discarded: a file
    counts as fetched only while it is the very one that was noted as it got its name.

    Parameters
    ----------
    release : Release
    notes : mapping of FileEntry to Path
        Where each file is noted.
    """

    def __init__(self, release: Release, notes: Mapping[FileEntry, Path]) -> None:
        self._release = release
        self._notes = dict(notes)

    def note(self, entry: FileEntry, fingerprint: Fingerprint) -> None:
        """Remember a file that is about to get its name."""
        path = self._notes[entry]
        try:
            write_whole(path, json.dumps(asdict(fingerprint)).encode())
        except OSError as error:
            raise cannot_write(path, error) from None

    def discard(self, entry: FileEntry) -> None:
        """Remove a file if it was fetched for this output."""
        path = self._release.path(entry)
        try:
            noted = Fingerprint(**json.loads(self._notes[entry].read_bytes()))
            is_it = not path.is_symlink() and Fingerprint.of(path) == noted
        except (OSError, ValueError, TypeError, AbcDaskError):
            return
        if is_it:
            try:
                path.unlink()
            except OSError as error:
                raise ViewError(f"{path} cannot be removed: {error.strerror}") from None
