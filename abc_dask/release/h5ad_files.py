"""Any h5ad files as a release: obs are the metadata, var the genes.

Each file is a metadata directory of its own name, whose one table of cells is its obs, and its one
feature matrix is the file. Several files are read as several directories are
(`abc_dask.release.several`): as one table, with a column that tells the files apart.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from abc_dask.base.columns import CELL_LABEL, DATASET_LABEL, FEATURE_MATRIX_LABEL
from abc_dask.base.errors import DamagedFileError, ReleaseError, UnknownNameError
from abc_dask.disk.checked_parquet import seal
from abc_dask.disk.files import Fingerprint
from abc_dask.matrix.frame import Frame
from abc_dask.matrix.hdf5 import check_dataset, member, opened, strings
from abc_dask.matrix.source import Source
from abc_dask.release.cell_table import directories_of
from abc_dask.release.manifest import (
    CELL_METADATA,
    EXPRESSION_MATRICES,
    METADATA,
    OBS,
    FileEntry,
    Manifest,
)
from abc_dask.release.release import Release
from abc_dask.release.term_order import TermOrder

# What a view says of its release and normalization where it is from no release.
VERSION, STORED = "h5ad", "stored"

# Where places of cells are looked for, the first that is there as x and y.
_PLACES = ("X_umap", "X_tsne", "spatial", "X_spatial")

_ROW_GROUP = 1 << 16


@dataclass(frozen=True)
class H5adFiles(Release):
    """h5ad files, read as a release is.

    Attributes
    ----------
    files : dict of str to str
        Relative path of each file by its name.
    """

    files: Mapping[str, str] = field(default_factory=dict, hash=False)

    label_files = True

    @classmethod
    def find(cls, given: Mapping[str, str | Path] | Iterable[str | Path] | str | Path) -> H5adFiles:
        """Find files.

        Parameters
        ----------
        given : path, iterable of path, or mapping of str to path
            A folder (all of its h5ad files, also in folders below), files, or files by name.

        Raises
        ------
        UnknownNameError, ReleaseError
            If there are none, or two have the same name.
        """
        paths = _named(given)
        folders = [str(path.parent) for path in paths.values()]
        base = Path(os.path.commonpath(folders))
        return cls.of(base, {n: p.relative_to(base).as_posix() for n, p in paths.items()})

    @classmethod
    def of(cls, base: Path, files: Mapping[str, str]) -> H5adFiles:
        """Take files by name, relative to a folder.

        Raises
        ------
        MissingFileError, DamagedFileError
            If one is not there.
        """
        entries = []
        for name, relative in files.items():
            size = Fingerprint.of(base / relative).size
            for kind, tag, normalization, extension in (
                (METADATA, CELL_METADATA, None, OBS),
                (EXPRESSION_MATRICES, name, STORED, "h5ad"),
            ):
                entry = FileEntry(
                    dataset_label=name,
                    kind=kind,
                    tag=tag,
                    normalization=normalization,
                    extension=extension,
                    version=VERSION,
                    relative_path=relative,
                    url="",
                    size=size,
                    file_hash=None,
                )
                entries.append(entry)
        return cls(base, Manifest(VERSION, "", tuple(entries)), dict(files))

    @property
    def metadata(self) -> str:
        """Names of all files, as one metadata directory."""
        return ",".join(self.files)

    @property
    def provenance(self) -> dict[str, Any]:
        """By what these files are found again."""
        return {"h5ad": dict(self.files)}

    def stored_as(self, normalization: str) -> str:  # noqa: ARG002 - a release's signature
        """Return what values are: as the files have them."""
        return STORED

    def writer_of(self, entry: FileEntry) -> Callable[[Path], None] | None:
        """Return what writes obs of a file as Parquet; None for a CSV file of the user's."""
        if entry.extension != OBS:
            return None
        return lambda target: self._write_obs(entry, target)

    def _write_obs(self, entry: FileEntry, target: Path) -> None:
        path = self.path(entry)
        with opened(path) as (file, source):
            frame = Frame.of(member(file, "obs"), source)
            labels = pa.array(
                frame.text(CELL_LABEL) if CELL_LABEL in frame.columns else frame.index(),
                pa.string(),
            )
            name = pa.array([entry.dataset_label]).take(pa.array(np.zeros(len(labels), np.int32)))
            columns = {CELL_LABEL: labels}
            for column in frame.columns:
                read = frame.column(column, _uns(file))
                if read is not None and column != CELL_LABEL and len(read[0]) == len(labels):
                    columns[column] = read[0]
            for key, values in _places(file, source, len(labels)).items():
                columns.setdefault(key, values)
        columns |= {FEATURE_MATRIX_LABEL: name, DATASET_LABEL: name}
        pq.write_table(pa.table(columns), target, compression="zstd", row_group_size=_ROW_GROUP)
        seal(target)

    def term_order(self, metadata: str, column: str) -> TermOrder:
        """Return the order of a category's terms in obs, and their colours in uns."""
        return self._orders.get((metadata, column)) or self._read_order(metadata, column)

    @cached_property
    def _orders(self) -> dict[tuple[str, str], TermOrder]:
        return {}

    def places_of(self, metadata: str) -> str | None:
        """Return the array of obsm that x and y are from, the same in all files; else None."""
        found = set()
        for name in directories_of(metadata):
            with opened(self.download_base / self.files[name]) as (file, _):
                obsm = file.get("obsm")
                is_old = isinstance(obsm, h5py.Dataset)
                keys = (obsm.dtype.names if is_old else obsm) or ()
                found.add(next((key for key in _PLACES if key in keys), None))
        return found.pop() if len(found) == 1 else None

    def _read_order(self, metadata: str, column: str) -> TermOrder:
        order = TermOrder({}, {})
        with opened(self.download_base / self.files[metadata]) as (file, source):
            frame, uns = Frame.of(member(file, "obs"), source), _uns(file)
            read = frame.column(column, uns) if column in frame.columns else None
            if read is not None and read[1] is not None:
                terms = read[1]
                colors = _colors(uns, column, len(terms), source)
                ranks = {term: float(rank) for rank, term in enumerate(terms)}
                order = TermOrder(ranks, dict(zip(terms, colors, strict=False)))
        self._orders[metadata, column] = order
        return order


def _named(
    given: Mapping[str, str | Path] | Iterable[str | Path] | str | Path,
) -> dict[str, Path]:
    """Return files by name.

    Raises
    ------
    UnknownNameError, ReleaseError
        If there are none, or two have the same name.
    """
    if isinstance(given, Mapping):
        named = {str(name): Path(path) for name, path in given.items()}
    else:
        one = [Path(given)] if isinstance(given, str | Path) else [Path(p) for p in given]
        listed = [found for path in one for found in _files_of(path.expanduser())]
        stems = [path.stem for path in listed]
        whole = [path.as_posix() for path in listed]
        if len(set(stems)) < len(stems) and len(listed) > 1:
            base = os.path.commonpath([str(path.parent) for path in listed])
            stems = [path.relative_to(base).with_suffix("").as_posix() for path in listed]
        named = dict(zip(stems, listed, strict=True))
        if len(named) < len(set(whole)):
            raise ReleaseError("two of the files have the same name; give them as NAME: FILE")
    if not named:
        raise UnknownNameError("no h5ad file is given")
    return {
        name.replace(",", "_").replace("/", "_"): path.expanduser().absolute()
        for name, path in named.items()
    }


def _files_of(path: Path) -> list[Path]:
    if not path.exists():
        raise UnknownNameError(f"{path} is missing; name h5ad files, or a folder of them")
    if not path.is_dir():
        return [path]
    found = sorted(path.rglob("*.h5ad"))
    found = [file for file in found if "/." not in f"/{file.relative_to(path).as_posix()}"]
    if not found:
        raise UnknownNameError(f"{path} has no h5ad file")
    return found


def _uns(file: h5py.File) -> h5py.Group | None:
    uns = file.get("uns")
    return uns if isinstance(uns, h5py.Group) else None


def _colors(uns: h5py.Group | None, column: str, n_terms: int, source: Source) -> list[str]:
    """Return the colour of each term, as scanpy writes them; none where there are others."""
    name = f"{column}_colors"
    if uns is None or name not in uns:
        return []
    try:
        colors = strings(uns, name, source).tolist()
    except DamagedFileError:  # numbers, for example
        return []
    is_hex = all(len(color) in {7, 9} and color.startswith("#") for color in colors)
    return [color[:7] for color in colors] if is_hex and len(colors) >= n_terms else []


def _places(file: h5py.File, source: Source, n_cells: int) -> dict[str, pa.Array]:
    """Return the first two columns of every embedding, as ``KEY_1`` and ``KEY_2``; x and y."""
    obsm = file.get("obsm")
    found: dict[str, pa.Array] = {}
    if isinstance(obsm, h5py.Dataset) and obsm.dtype.names:
        check_dataset(obsm, source)
        arrays: dict[str, Any] = {name: obsm[name] for name in obsm.dtype.names}
    elif isinstance(obsm, h5py.Group):
        arrays = {}
        for key in obsm:
            node = member(obsm, key)
            if isinstance(node, h5py.Dataset) and node.ndim == 2 and node.dtype.kind in "fiu":
                check_dataset(node, source)
                if node.shape[1] >= 2:
                    arrays[key] = node[:, :2]
    else:
        return found
    for key, values in arrays.items():
        if values.ndim == 2 and len(values) == n_cells and values.shape[1] >= 2:
            for k in range(2):
                column = values[:, k].astype(np.float64)
                found[f"{key}_{k + 1}"] = pa.array(column, from_pandas=True)
    first = next((key for key in _PLACES if f"{key}_1" in found), None)
    if first is not None:
        found |= {"x": found[f"{first}_1"], "y": found[f"{first}_2"]}
    return found
