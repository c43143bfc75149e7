"""A release on disk: its manifest, its files, which were verified, and its name in results."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abc_dask.base.config import setting
from abc_dask.base.errors import (
    DamagedFileError,
    ManifestError,
    MissingFileError,
    ReleaseError,
    UnknownNameError,
)
from abc_dask.base.messages import enumerate_names, format_bytes, html_table, nearest, plural
from abc_dask.disk.failures import cannot_read
from abc_dask.disk.files import Fingerprint, require_utf8
from abc_dask.disk.kept_table import Cache
from abc_dask.release.manifest import FileEntry, Manifest
from abc_dask.release.term_order import TermOrder

SYNTHETIC = "synthetic"  # in a manifest and in provenance; real releases have no such field


def origin(release: str | None, *, synthetic: bool) -> dict[str, Any]:
    """Return the fields of provenance that name a release, and say where its data are made up."""
    return {"release": release} | ({SYNTHETIC: True} if synthetic else {})


def origin_of(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same fields of a result that is at hand."""
    return origin(provenance.get("release"), synthetic=bool(provenance.get(SYNTHETIC)))


def release_text(provenance: Mapping[str, Any]) -> str:
    """Return how texts and captions name the release of a result."""
    said = f"release {provenance['release']}"
    return f"{said} (synthetic data)" if provenance.get(SYNTHETIC) else said


MANIFEST_NAME = "manifest.json"


def list_releases(download_base: str | Path) -> list[str]:
    """List the releases whose manifest lies under a folder, oldest first.

    Parameters
    ----------
    download_base : path
        Folder that mirrors the bucket: ``releases/<version>/manifest.json`` and the rest.

    Returns
    -------
    list of str
        Versions; they are dates, so their order is that of time. Other names come first.
    """
    found = Path(download_base).glob(f"releases/*/{MANIFEST_NAME}")
    return sorted((path.parent.name for path in found), key=lambda name: (name.isdigit(), name))


@dataclass(frozen=True)
class Release:
    """One release under a `download_base`.

    Attributes
    ----------
    download_base : Path
        Folder that mirrors the bucket.
    manifest : Manifest
        What the release consists of.
    """

    download_base: Path
    manifest: Manifest

    @classmethod
    def open(cls, download_base: str | Path, release: str | None = None) -> Release:
        """Open a release by the manifest on disk.

        Parameters
        ----------
        download_base : path
            Folder that mirrors the bucket.
        release : str, optional
            Version; the newest one on disk where not given.

        Raises
        ------
        ReleaseError
            If the folder or the release is not there.
        ManifestError
            If the manifest is not one.
        """
        base = Path(download_base).expanduser()
        require_utf8(base.absolute())
        if not base.is_dir():
            raise UnknownNameError(
                f"download_base {str(base)!r} is not a folder; "
                "give the folder that holds releases/<version>/manifest.json"
            )
        known = list_releases(base)
        if not known:
            raise UnknownNameError(
                f"download_base {str(base)!r} holds no release: there is no "
                f"releases/<version>/{MANIFEST_NAME} under it"
            )
        version = known[-1] if release is None else str(release)
        if version not in known:
            raise UnknownNameError(
                f"release {version!r} is not under {str(base)!r}{nearest(version, known)}"
            )
        path = base / "releases" / version / MANIFEST_NAME
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ReleaseError(f"{path} cannot be read: {error.strerror}") from None
        manifest = Manifest.from_json(content, source=str(path))
        if manifest.version != version:
            raise ReleaseError(f"{path} says it is release {manifest.version!r}")
        return cls(base.resolve(), manifest)

    # Whether cell labels that several metadata directories have get the directory's name in front.
    label_files = False

    @property
    def provenance(self) -> dict[str, Any]:
        """By what it is found again, beside download_base and version."""
        return {}

    def stored_as(self, normalization: str) -> str:
        """Return what values are where a normalization is asked for."""
        return normalization

    def writer_of(self, entry: FileEntry) -> Callable[[Path], None] | None:  # noqa: ARG002
        """Return what writes a table as Parquet; None: it is CSV."""
        return None

    def term_order(self, metadata: str, column: str) -> TermOrder:  # noqa: ARG002
        """Return order and colours of terms that are known without a table of them."""
        return TermOrder({}, {})

    def places_of(self, metadata: str) -> str | None:  # noqa: ARG002
        """Return what x and y of the cells are, as anndata's obsm names it; None: tables tell."""
        return None

    @property
    def version(self) -> str:
        """Name of the release."""
        return self.manifest.version

    @property
    def origin(self) -> dict[str, Any]:
        """What every result says of the release: its name, and whether its data are synthetic."""
        return origin(self.version, synthetic=self.manifest.synthetic)

    def path(self, entry: FileEntry) -> Path:
        """Return the path of a file under `download_base`."""
        return self.download_base / entry.relative_path

    def is_present(self, entry: FileEntry) -> bool:
        """Return whether a regular file of the right size is at its path."""
        try:
            status = self.path(entry).stat()
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size == entry.size

    def require(self, entries: Iterable[FileEntry]) -> None:
        """Check that files are on disk with the manifest's sizes.

        Raises
        ------
        MissingFileError
            Naming all that are missing.
        DamagedFileError
            Naming the first whose size differs.
        """
        missing = []
        for entry in entries:
            path = self.path(entry)
            try:
                status = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                missing.append(entry)
                continue
            except OSError as error:
                raise cannot_read(path, error) from None
            if not stat.S_ISREG(status.st_mode):
                raise DamagedFileError(f"{path} is not a regular file")
            if status.st_size != entry.size:
                raise DamagedFileError(
                    f"{path} has {status.st_size:,} bytes, the manifest of release {self.version} "
                    f"says {entry.size:,}; fetch the file again"
                )
        if missing:
            raise MissingFileError(
                f"{plural(len(missing), 'file')} of release {self.version} missing under "
                f"{str(self.download_base)!r}: "
                f"{enumerate_names([entry.relative_path for entry in missing])}; "
                f"fetch them to these paths and run the command again{self._elsewhere(missing)}"
            )

    def __repr__(self) -> str:
        """Return one line that names the release."""
        files = plural(len(self.manifest.files), "file")
        return f"<Release {self.version} under {str(self.download_base)!r}: {files}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        files = self.manifest.files
        there = [entry for entry in files if self.is_present(entry)]
        of_all, of_these = (format_bytes(sum(e.size for e in found)) for found in (files, there))
        return html_table(
            {
                "release": self.version,
                "download_base": str(self.download_base),
                "datasets": enumerate_names(self.manifest.datasets, most=8),
                "files": f"{len(files):,}, {of_all}",
                "on disk": f"{len(there):,}, {of_these}",
            }
        )

    def _elsewhere(self, missing: list[FileEntry]) -> str:
        """Return the tail of a message that names a release on disk that has these files."""
        asked = {entry.name for entry in missing}
        for version in reversed(list_releases(self.download_base)):
            if version == self.version:
                continue
            with contextlib.suppress(ReleaseError, ManifestError):
                other = Release.open(self.download_base, version)
                found = [entry for entry in other.manifest.files if entry.name in asked]
                if len(found) == len(asked) and all(map(other.is_present, found)):
                    return f", or read release {version}, which has them all: --release={version}"
        return ""


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
