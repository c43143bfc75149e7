"""Words to files: which entries of a manifest are meant; and how two manifests differ."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from abc_dask.base.errors import UnknownNameError
from abc_dask.base.messages import enumerate_names, nearest
from abc_dask.release.manifest import CELL_METADATA, FileEntry, Manifest

if TYPE_CHECKING:
    from abc_dask.release.release import Release


def select(
    manifest: Manifest, patterns: Iterable[str], normalization: str | None = None
) -> tuple[FileEntry, ...]:
    """Return the files that ``DATASET[/KIND[/TAG]]`` names.

    Parameters
    ----------
    manifest : Manifest
        The release.
    patterns : iterable of str
        Each names a dataset, a kind of its files (``metadata``,
        ``expression_matrices``, ...), or one tag of a kind.
    normalization : str, optional
        Take expression matrices in this normalization only.

    Returns
    -------
    tuple of FileEntry
        Each once, in the manifest's order.

    Raises
    ------
    ReleaseError
        If a name is not in the release (names the nearest), or a matrix is not there
        in this normalization.
    """
    selected: set[FileEntry] = set()
    for pattern in patterns:
        selected.update(_of_normalization(_select_one(manifest, pattern), pattern, normalization))
    return tuple(entry for entry in manifest.files if entry in selected)


def _select_one(manifest: Manifest, pattern: str) -> list[FileEntry]:
    dataset, *rest = pattern.strip("/").split("/")
    if len(rest) > 2:
        raise UnknownNameError(f"{pattern!r} has too many parts; expected DATASET[/KIND[/TAG]]")
    manifest.require_dataset(dataset)
    found = [entry for entry in manifest.files if entry.dataset_label == dataset]
    if rest:
        kinds = list(dict.fromkeys(entry.kind for entry in found))
        if rest[0] not in kinds:
            raise UnknownNameError(
                f"dataset {dataset} of release {manifest.version} has no kind {rest[0]!r}; "
                f"there are: {enumerate_names(kinds)}"
            )
        found = [entry for entry in found if entry.kind == rest[0]]
    if rest[1:]:
        tags = [entry.tag for entry in found]
        if rest[1] not in tags:
            raise UnknownNameError(
                f"{dataset}/{rest[0]} of release {manifest.version} has no tag {rest[1]!r}"
                f"{nearest(rest[1], tags)}"
            )
        found = [entry for entry in found if entry.tag == rest[1]]
    return found


def _of_normalization(
    entries: list[FileEntry], pattern: str, normalization: str | None
) -> list[FileEntry]:
    """Leave out other normalizations; a matrix that has only others is an error, not a gap."""
    if normalization is None:
        return entries
    kept = [e for e in entries if e.normalization in {None, normalization}]
    lost = {e.tag for e in entries} - {e.tag for e in kept}
    if lost:
        known = sorted({str(e.normalization) for e in entries if e.tag in lost})
        raise UnknownNameError(
            f"{pattern}: {enumerate_names(sorted(lost), most=5)} not in normalization "
            f"{normalization!r}; there is: {enumerate_names(known)}"
        )
    return kept


def tables_for(
    manifest: Manifest, metadata: str, *, annotations: bool = True
) -> tuple[FileEntry, ...]:
    """Return the tables that an extraction on a metadata directory reads.

    Parameters
    ----------
    manifest : Manifest
        The release.
    metadata : str
        The directory, such as ``WMB-10X``.
    annotations : bool
        Also the tables that are joined to the cells: annotated cells, donors, libraries,
        regions, the taxonomy and the like.

    Returns
    -------
    tuple of FileEntry
        cell_metadata first, then the gene tables, then annotations.

    Raises
    ------
    ReleaseError
        If the directory has no cell_metadata.
    """
    from abc_dask.release.atlas_tables import tables_to_fetch
    from abc_dask.release.cell_table import metadata_directory
    from abc_dask.release.genes import gene_tables

    metadata = metadata_directory(manifest, metadata)
    tables = manifest.tables(metadata)
    needed = [tables[CELL_METADATA], *gene_tables(manifest, metadata).values()]
    if annotations:
        needed += tables_to_fetch(manifest, metadata)
    return tuple(dict.fromkeys(needed))


def matrices_for(
    release: Release, metadata: str, normalization: str = "log2"
) -> tuple[FileEntry, ...]:
    """Return the matrix files that hold the cells of a metadata directory.

    Parameters
    ----------
    release : Release
        The release; the directory's cell_metadata must be on disk.
    metadata : str
        The directory, such as ``WMB-10X``.
    normalization : str
        ``log2`` or ``raw``.

    Returns
    -------
    tuple of FileEntry
        In the order in which an extraction reads them.

    Raises
    ------
    MissingFileError
        If cell_metadata is not on disk.
    ReleaseError
        If a matrix that it names is not in the release.
    """
    from abc_dask.base.config import setting
    from abc_dask.disk.kept_table import Cache
    from abc_dask.release.cell_table import CellTable, assign_cells, metadata_directory

    metadata = metadata_directory(release.manifest, metadata)
    cache = Cache.beside(release.download_base, setting("cache-directory"))
    cells = CellTable.of(release, metadata, cache)
    assigned = assign_cells(release.manifest, cells, normalization)
    return tuple(a.feature_matrix.file for a in assigned)


@dataclass(frozen=True)
class Difference:
    """How one manifest differs from an older one.

    Attributes
    ----------
    added, removed : tuple of FileEntry
        Listed by one of the two only.
    changed : tuple of (FileEntry, FileEntry)
        Listed by both under the same names, with other content: old and new.
    moved : tuple of (FileEntry, FileEntry)
        Same size and hash at another path.
    """

    added: tuple[FileEntry, ...]
    removed: tuple[FileEntry, ...]
    changed: tuple[tuple[FileEntry, FileEntry], ...]
    moved: tuple[tuple[FileEntry, FileEntry], ...]


def diff(old: Manifest, new: Manifest) -> Difference:
    """Compare two manifests by what they list, not by where it lies.

    Files are the same entry if dataset, kind, tag, normalization and extension are.
    Where one of the two has no hash, another path or size counts as another content.
    """
    before = {entry.name: entry for entry in old.files}
    after = {entry.name: entry for entry in new.files}
    changed, moved = [], []
    for name, entry in after.items():
        if name not in before:
            continue
        was = before[name]
        same_path = was.relative_path == entry.relative_path
        hashed = bool(was.file_hash and entry.file_hash)
        same_hash = was.file_hash == entry.file_hash if hashed else same_path
        if was.size != entry.size or not same_hash:
            changed.append((was, entry))
        elif not same_path:
            moved.append((was, entry))
    return Difference(
        added=tuple(entry for name, entry in after.items() if name not in before),
        removed=tuple(entry for name, entry in before.items() if name not in after),
        changed=tuple(changed),
        moved=tuple(moved),
    )
