"""The data model of a release's ``manifest.json``.

A manifest is untrusted input: it names paths that are read and, by downloads,
written. Everything it says is checked here, once, before anything else sees it.

Shape of the file (releases 20230630 to 20260415 of the ABC Atlas)::

    version, resource_uri, directory_listing,
    file_listing[DATASET][KIND][TAG].files[EXTENSION] = {
        version, relative_path, url, size, file_hash (MD5, not in early releases)}

and one level more for expression matrices: ``[TAG][log2|raw].files.h5ad``.
"""

from __future__ import annotations

import contextlib
import gc
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from abc_dask.base.errors import ManifestError, UnknownNameError
from abc_dask.base.messages import enumerate_names, nearest, quoted

EXPRESSION_MATRICES = "expression_matrices"

METADATA = "metadata"

CELL_METADATA = "cell_metadata"

# Extension of a table that is within an h5ad file.
OBS = "obs"

# The largest file of the atlas has some 10^11 bytes.
_LARGEST_SIZE = 2**50

_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")

_MD5 = re.compile(r"[0-9a-fA-F]{32}")

# Manifests themselves, and what this package keeps beside an atlas.
_OWN_FOLDERS = {"releases", ".abc_dask"}

# Nearly all paths; the others are looked at part by part.
_PLAIN_PATH = re.compile(r"\w[\w.+-]{0,126}(?:/\w[\w.+-]{0,126}){0,30}", re.ASCII)

_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True)
class FileEntry:
    """One file of a release.

    Attributes
    ----------
    dataset_label, kind, tag : str
        Where the manifest lists it: ``file_listing[dataset_label][kind][tag]``.
    normalization : str or None
        ``log2`` or ``raw`` for expression matrices, otherwise None.
    extension : str
        ``csv``, ``h5ad``, ``nii.gz``, ...
    version : str
        Release that the file first belonged to.
    relative_path : str
        Path under `download_base`, with forward slashes; checked to stay there.
    url : str
        Where it can be fetched.
    size : int
        Bytes.
    file_hash : str or None
        MD5 in lower-case hexadecimal digits, None where the manifest has none.
    """

    dataset_label: str
    kind: str
    tag: str
    normalization: str | None
    extension: str
    version: str
    relative_path: str
    url: str
    size: int
    file_hash: str | None

    @property
    def name(self) -> tuple[str, str, str, str | None, str]:
        """What the manifest calls the file, wherever it lies."""
        return (self.dataset_label, self.kind, self.tag, self.normalization, self.extension)


@dataclass(frozen=True)
class FeatureMatrix:
    """One feature matrix of a release in one normalization.

    Attributes
    ----------
    dataset_label, feature_matrix_label, normalization : str
        Its name; `feature_matrix_label` is the manifest's tag.
    file : FileEntry
        The h5ad file.
    """

    dataset_label: str
    feature_matrix_label: str
    normalization: str
    file: FileEntry


@dataclass(frozen=True)
class Manifest:
    """A release's list of files, checked.

    Attributes
    ----------
    version : str
        Name of the release, such as ``20250531``.
    resource_uri : str
        Bucket that the release comes from.
    files : tuple of FileEntry
        Every file, in the manifest's order.
    synthetic : bool
        Whether the data are made up, as the manifest of `abc_dask.testing.write_atlas` says.
    """

    version: str
    resource_uri: str
    files: tuple[FileEntry, ...]
    synthetic: bool = False

    @classmethod
    def from_json(cls, content: bytes | str, *, source: str = "manifest") -> Manifest:
        """Parse and check a manifest.

        Parameters
        ----------
        content : bytes or str
            The file's content.
        source : str
            How errors name it.

        Returns
        -------
        Manifest

        Raises
        ------
        ManifestError
            For anything that is not a manifest, or that names a path outside of
            `download_base`, a file twice, or an impossible size.
        """
        with _without_collection():
            return cls._read(content, source)

    @classmethod
    def _read(cls, content: bytes | str, source: str) -> Manifest:
        try:
            raw = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"{source} is not JSON: {_one_line(error)}") from None
        top = _mapping(raw, source, "the manifest")
        version = top.get("version")
        if not isinstance(version, str) or not _VERSION.fullmatch(version):
            raise ManifestError(f"{source}: version {quoted(version)} is not a release name")
        listing = _mapping(top.get("file_listing"), source, "file_listing")
        files = tuple(_entries(listing, source))
        _require_apart(files, source)
        synthetic = top.get("synthetic", False)
        if not isinstance(synthetic, bool):
            raise ManifestError(f"{source}: synthetic {quoted(synthetic)} is not true or false")
        uri = str(top.get("resource_uri", ""))
        return cls(version=version, resource_uri=uri, files=files, synthetic=synthetic)

    @cached_property
    def datasets(self) -> tuple[str, ...]:
        """Labels of all datasets (directories) of the release, sorted."""
        return tuple(sorted({entry.dataset_label for entry in self.files}))

    @cached_property
    def feature_matrices(self) -> tuple[FeatureMatrix, ...]:
        """All feature matrices in all normalizations, sorted by name."""
        found = [
            FeatureMatrix(entry.dataset_label, entry.tag, entry.normalization, entry)
            for entry in self.files
            if entry.kind == EXPRESSION_MATRICES
            and entry.extension == "h5ad"
            and entry.normalization is not None
        ]
        found.sort(key=lambda m: (m.dataset_label, m.feature_matrix_label, m.normalization))
        return tuple(found)

    @cached_property
    def metadata_directories(self) -> tuple[str, ...]:
        """Datasets that have a ``cell_metadata`` table, sorted."""
        return tuple(sorted({e.dataset_label for e in self._tables if e.tag == CELL_METADATA}))

    @property
    def _tables(self) -> Iterator[FileEntry]:
        return (e for e in self.files if e.kind == METADATA and e.extension in {"csv", OBS})

    def tables(self, dataset_label: str) -> dict[str, FileEntry]:
        """Return the metadata tables of one dataset.

        Parameters
        ----------
        dataset_label : str
            A metadata directory, such as ``WMB-10X``.

        Returns
        -------
        dict of str to FileEntry
            CSV files by their tag (the file's stem); empty for a dataset without.

        Raises
        ------
        ReleaseError
            If the release has no such dataset; names the nearest ones.
        """
        self.require_dataset(dataset_label)
        return {e.tag: e for e in self._tables if e.dataset_label == dataset_label}

    def require_dataset(self, dataset_label: str) -> None:
        """Raise `ReleaseError` with the nearest names unless the release has this dataset."""
        if dataset_label not in self.datasets:
            raise UnknownNameError(
                f"release {self.version} has no dataset {dataset_label!r}"
                f"{nearest(dataset_label, self.datasets)}"
            )


def find_file(manifest: Manifest, name: str) -> FileEntry:
    """Return the one file that ``DATASET/TAG`` or a relative path names.

    Parameters
    ----------
    manifest : Manifest
    name : str
        ``DATASET/TAG``, ``DATASET/KIND/TAG``, each perhaps with ``/EXTENSION`` or the
        normalization of a matrix, or a relative path.

    Raises
    ------
    ReleaseError
        If the release has none (names the nearest) or several (names them).
    """
    names: dict[str, list[FileEntry]] = {}
    for entry in manifest.files:
        last = entry.normalization or entry.extension
        short, long = f"{entry.dataset_label}/{entry.tag}", f"{entry.kind}/{entry.tag}"
        for known in (
            short,
            f"{short}/{last}",
            f"{entry.dataset_label}/{long}",
            f"{entry.dataset_label}/{long}/{last}",
            entry.relative_path,
        ):
            names.setdefault(known, []).append(entry)
    found = names.get(name, [])
    if len(found) == 1:
        return found[0]
    if found:
        several = enumerate_names([f"{name}/{e.normalization or e.extension}" for e in found])
        raise UnknownNameError(f"{name} is {len(found)} files of the release; name one: {several}")
    raise UnknownNameError(f"release {manifest.version} has no file {name!r}{nearest(name, names)}")


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Let Python not look for garbage meanwhile: a long manifest makes millions of objects."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _require_apart(files: tuple[FileEntry, ...], source: str) -> None:
    """Raise `ManifestError` if two files are one, or one is a folder of another."""
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for entry in files:
        path = entry.relative_path
        folded = path.casefold()  # two such names are one file on macOS
        if folded in seen:
            raise ManifestError(f"{source} lists {quoted(path)} twice")
        seen[folded] = path
        folder = folded.rpartition("/")[0]
        while folder and folder not in folders:  # those above a known one are known
            folders[folder] = path
            folder = folder.rpartition("/")[0]
    for folder in folders.keys() & seen.keys():
        raise ManifestError(
            f"{source}: {quoted(seen[folder])} cannot hold {quoted(folders[folder])}"
        )


def _entries(listing: dict[str, Any], source: str) -> Iterator[FileEntry]:
    known: set[str | None] = {None}  # names that were found to be usable
    for dataset, kinds in listing.items():
        for kind, tags in _mapping(kinds, source, dataset).items():
            for tag, node in _mapping(tags, source, dataset, kind).items():
                node_map = _mapping(node, source, dataset, kind, tag)
                variants = node_map if "files" not in node_map else {None: node_map}
                for normalization, variant in variants.items():
                    record_of = _mapping(variant, source, dataset, kind, tag).get("files")
                    files = _mapping(record_of, source, dataset, kind, tag, "files")
                    for extension, record in files.items():
                        names = (dataset, kind, tag, normalization, extension)
                        for name in names:
                            if name not in known:
                                _check_name(name, source)
                                known.add(name)
                        yield _entry(names, _mapping(record, source, dataset, kind, tag), source)


def _check_name(name: str | None, source: str) -> None:
    if name is not None and (not name or not name.isprintable() or len(name) > 255):
        raise ManifestError(f"{source}: {quoted(name)} is not a usable name")


def _entry(
    names: tuple[str, str, str, str | None, str], record: dict[str, Any], source: str
) -> FileEntry:
    dataset, kind, tag, normalization, extension = names
    path = _safe_path(record.get("relative_path"), source)
    size = record.get("size")
    if type(size) is not int or not 0 <= size <= _LARGEST_SIZE:  # a bool is none
        raise ManifestError(
            f"{source}: size {quoted(size)} of {quoted(path)} is not a number of bytes"
        )
    file_hash = record.get("file_hash") or None
    if file_hash is not None and not (isinstance(file_hash, str) and _MD5.fullmatch(file_hash)):
        raise ManifestError(
            f"{source}: file_hash {quoted(file_hash)} of {quoted(path)} is not an MD5"
        )
    url = record.get("url", "")
    version = record.get("version", "")
    if not isinstance(url, str) or not isinstance(version, str):
        raise ManifestError(f"{source}: url and version of {quoted(path)} must be text")
    md5 = file_hash.lower() if file_hash else None
    return FileEntry(dataset, kind, tag, normalization, extension, version, path, url, size, md5)


def _safe_path(path: object, source: str) -> str:
    """Accept only a plain relative path of printable names joined by '/'."""
    if not isinstance(path, str) or not path or len(path) > 4096:
        raise ManifestError(f"{source}: relative_path {quoted(path)} is not a path")
    if path.partition("/")[0].casefold() in _OWN_FOLDERS:
        raise ManifestError(f"{source}: relative_path {quoted(path)} is not a place for data")
    if _PLAIN_PATH.fullmatch(path):
        return path
    unsafe = (
        "\\" in path
        or not path.isprintable()
        or _DRIVE.match(path)
        or any(len(part.encode("utf-8", "replace")) > 255 for part in path.split("/"))
        or any(part in {"", ".", ".."} for part in path.split("/"))
    )
    if unsafe:
        raise ManifestError(
            f"{source}: relative_path {quoted(path)} does not stay under download_base"
        )
    return path


def _mapping(value: object, source: str, *names: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ManifestError(f"{source}: {quoted('/'.join(names))} is not a JSON object")
    return value


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
