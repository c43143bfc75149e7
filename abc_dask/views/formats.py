"""The formats of a view, each written and read in one module, and whether its files are sound."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from abc_dask.base.errors import UsageError, ViewError
from abc_dask.base.messages import enumerate_names
from abc_dask.disk.files import sha256
from abc_dask.views.as_anndata import write_h5ad
from abc_dask.views.content import Written, content_digest
from abc_dask.views.csv_view import CsvReader, write_csv
from abc_dask.views.description import (
    ORDER,
    VIEW,
    VIEW_FILE,
    annotations_of,
    naming,
    part_paths,
    tree,
)
from abc_dask.views.parquet_view import (
    ROW_GROUP,
    PartContent,
    PartsReader,
    part_file_name,
    write_part,
)
from abc_dask.views.reader import (
    MATRIX_COLUMNS,
    Reader,
    column_batches,
    load_order,
    ordered_columns,
    require_digest,
)
from abc_dask.views.zarr_view import VALUES, ZarrReader, write_zarr

FORMATS = ("parquet", "zarr", "csv")

# Values of a part that is made of another format.
_PART_BYTES = 256 << 20

EXPORTS = (*FORMATS, "h5ad")


def format_of(path: Path, named: str | None = None, *, known: tuple[str, ...] = FORMATS) -> str:
    """Choose a format: the named one, else by suffix, else Parquet.

    Raises
    ------
    UsageError
        If it is not a known format.
    """
    found = named or path.suffix.lower().removeprefix(".") or "parquet"
    if found not in known:
        raise UsageError(
            f"unknown format {found!r} for {str(path)!r}; there are: {enumerate_names(known)}"
        )
    return found


def open_reader(path: Path, info: dict[str, Any]) -> Reader:
    """Open a finished view for reading; files that are not checked in reading are hashed here.

    Parameters
    ----------
    path : Path
        The view.
    info : dict
        Its description.

    Returns
    -------
    Reader
        Columns as arrays, in the order of cell_metadata.

    Raises
    ------
    ViewError
        If a file was changed after it was written.
    """
    require_sound(path, info)
    columns = tuple(gene["column"] for gene in info["genes"])
    dtype, n_cells = np.dtype(info["dtype"]), int(info["counts"]["cells"])
    annotations, files = annotations_of(info), info["files"]
    if info["format"] == "parquet":
        seals = tuple(file["seal"] for file in files if "rows" in file)
        order = load_order(path, info)
        return PartsReader(part_paths(path, info), order, columns, dtype, annotations, seals)
    if info["format"] == "csv":
        return CsvReader(path, columns, dtype, n_cells, annotations)
    digests = {f["name"]: f["sha256"] for f in files if f["name"].startswith(VALUES)}
    return ZarrReader(path, columns, dtype, n_cells, annotations, digests)


def write_parts(target: Path, reader: Reader, info: dict[str, Any]) -> Written:
    """Write a folder of Parquet part files from a view of another format."""
    labels, matrices = reader.labels(), reader.matrices()
    annotations = [(a, reader.annotation(a)) for a in reader.annotations]
    light = [{"name": a.name, "source": a.source} for a, _ in annotations]
    provenance = json.dumps(info | ({"annotations": light} if light else {})).encode()
    groups = _rows_of_matrices(reader.n_cells, matrices, info["matrices"])
    target.mkdir()
    a_row = max(1, len(reader.columns) * reader.dtype.itemsize)
    step = max(1, min(ROW_GROUP, _PART_BYTES // a_row))
    parts: dict[str, int] = {}
    digest = 0
    with ordered_columns(reader, target) as values:
        for name, rows in groups.items():
            for first in range(0, max(1, len(rows)), step):
                own = rows[first : first + step]
                columns = zip(reader.columns, (column[own] for column in values), strict=True)
                beside = {a.name: a.arrow(values[own]) for a, values in annotations}
                content = PartContent(
                    labels.take(pa.array(own)),
                    dict(columns) | beside,
                    dict(zip(MATRIX_COLUMNS, name, strict=True)),
                    info["matrices"],
                    provenance,
                )
                part = part_file_name(len(parts), name[1])
                digest += write_part(content, target / part, reader.columns)
                parts[part] = len(own)
    return Written(digest, parts, np.concatenate(list(groups.values())))


def _rows_of_matrices(
    n_cells: int, matrices: Mapping[str, Any], listed: Sequence[Mapping[str, Any]]
) -> dict[tuple[str | None, ...], NDArray[np.int64]]:
    """Return the rows of each matrix, in the order listed; last those of which nobody knows it."""
    import pandas as pd

    groups: dict[tuple[str | None, ...], NDArray[np.int64]] = {}
    rest = np.ones(n_cells, np.bool_)
    if matrices:
        found = pd.DataFrame(matrices).groupby(list(MATRIX_COLUMNS), observed=True).indices
        names = [tuple(matrix[name] for name in MATRIX_COLUMNS) for matrix in listed]
        groups |= {name: found[name] for name in names if name in found}
        for rows in groups.values():
            rest[rows] = False
    if rest.any() or not groups:
        groups[None, None] = np.flatnonzero(rest)
    return groups


WRITERS: dict[str, Callable[[Path, Reader, dict[str, Any]], Written]] = {
    "parquet": write_parts,
    "zarr": write_zarr,
    "csv": write_csv,
    "h5ad": write_h5ad,
}


def content_of(reader: Reader) -> str:
    """Compute the digest of all labels and values, as `content_digest` does for parts."""
    columns = (column for _, values in column_batches(reader) for column in values.T)
    return f"{content_digest(reader.labels(), columns):016x}"


def problems(path: Path, info: dict[str, Any], *, rehash: bool) -> Iterator[str]:
    """Yield what is wrong with the files of a view.

    Parameters
    ----------
    path : Path
        The view.
    info : dict
        Its description.
    rehash : bool
        Compare digests too, not only sizes.
    """
    single = info["format"] == "csv"
    root = path.parent if single else path
    listed = {file["name"]: file for file in info["files"]}
    for name, file in listed.items():
        file_path = root / name
        if not file_path.is_file():
            yield f"{name} is missing"
        elif (size := file_path.stat().st_size) != file["size"]:
            yield f"{name} has {size:,} bytes, expected {file['size']:,}"
        elif rehash and _digest(file_path) != file["sha256"]:
            yield f"{name} was changed after it was written (SHA-256 differs)"
    if rehash and ORDER in info:
        try:
            load_order(path, info)
        except ViewError:
            yield f"{VIEW_FILE} was changed after it was written (SHA-256 differs)"
    if not single:
        # hidden files are read by nobody: a worker left over may have one open
        for name in sorted(set(tree(root)) - set(listed) - {VIEW, VIEW_FILE}):
            if not Path(name).name.startswith("."):
                yield f"{name} does not belong to the view"


def require_sound(path: Path, info: dict[str, Any]) -> None:
    """Compare with their digests all files of a view that are not looked at in reading values.

    Raises
    ------
    ViewError
        If one of them was changed after it was written.
    """
    root = path.parent if info["format"] == "csv" else path
    for file in info["files"]:
        if "seal" not in file and not file["name"].startswith(VALUES):
            require_digest(root / file["name"], file["sha256"])


def _digest(path: Path) -> str:
    with naming(path):
        return sha256(path)


def require_whole(path: Path, info: dict[str, Any]) -> None:
    """Hash every file of a view and compare with what was written.

    Raises
    ------
    ViewError
        Naming the files that are missing, added, cut or changed.
    """
    found = list(problems(path, info, rehash=True))
    if found:
        raise ViewError(
            f"{path} is damaged: {enumerate_names(found, most=5)}; run the extraction again"
        )
