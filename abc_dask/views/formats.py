"""The formats of a view, each written and read in one module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from abc_dask.errors import UsageError
from abc_dask.messages import enumerate_names
from abc_dask.views.as_anndata import write_h5ad
from abc_dask.views.content import Written, content_digest
from abc_dask.views.csv_view import CsvReader, write_csv
from abc_dask.views.description import annotations_of, part_paths
from abc_dask.views.integrity import require_sound
from abc_dask.views.parquet_view import PartsReader, write_parts
from abc_dask.views.reader import Reader, column_batches, load_order
from abc_dask.views.zarr_view import VALUES, ZarrReader, write_zarr

FORMATS = ("parquet", "zarr", "csv")

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
