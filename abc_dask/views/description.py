"""The description of a view, its digests, and the names beside it.

It is `_view.json` in a Zarr view, `_view.parquet` in a Parquet view, and beside a CSV view.

Readers of a folder of Parquet, such as polars and DuckDB, take every file in it for a part. So what
is not a part must be Parquet too: `_view.parquet` has the columns of the parts and no row. The
description is in its metadata under the key ``abc_dask.view``. The order of the cells (4 bytes
a cell) stands between Parquet's first name and the footer, where its readers never look::

    PAR1 | order of the cells | seal | footer | length | PAR1
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from abc_dask._version import FORMAT_VERSION
from abc_dask.base.errors import AbcDaskError, PathError, ViewError
from abc_dask.base.messages import enumerate_names, format_bytes, html_table, plural, shortened
from abc_dask.disk.checked_parquet import SealError, opened_sealed, read_seal, seal
from abc_dask.disk.failures import unreadable
from abc_dask.release.annotation import Annotation
from abc_dask.release.release import release_text

VIEW_FILE = "_view.parquet"
KEY = b"abc_dask.view"
ORDER = "cell_order"  # in a description

_NAME = b"PAR1"
_TYPE = np.dtype("<u4")

# What libraries raise of files that they cannot read.
_UNREADABLE = (
    MemoryError,
    OSError,
    pa.ArrowException,
    ValueError,
    LookupError,
    RuntimeError,
    TypeError,
)


def order_entry(order: NDArray[Any]) -> dict[str, Any]:
    """Return what a description says of the order of the cells."""
    content = _bytes_of(order)
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def write_view_file(path: Path, schema: pa.Schema, description: bytes, order: NDArray[Any]) -> None:
    """Write the description of a Parquet view.

    Parameters
    ----------
    path : Path
    schema : pyarrow.Schema
        Of the parts.
    description : bytes
    order : array of int, shape (n_cells,)
        Position in cell_metadata of every row of the parts put together.
    """
    with pq.ParquetWriter(path, schema) as writer:
        writer.add_key_value_metadata({KEY: description})
    content = path.read_bytes()
    with path.open("wb") as file:
        file.write(_NAME)
        file.write(_bytes_of(order))
        file.write(content[len(_NAME) :])
    seal(path)


def read_description(path: Path) -> bytes:
    """Read the description of a Parquet view.

    Raises
    ------
    ValueError
        If the file is damaged.
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        if file.read(len(_NAME)) != _NAME:
            raise SealError
    read_seal(path)
    try:
        metadata: dict[bytes, bytes] = pq.read_metadata(path).metadata or {}
    except pa.ArrowInvalid as error:
        raise ValueError(str(error)) from None
    if KEY not in metadata:
        raise ValueError(f"there is no {KEY.decode()} in its metadata")
    return metadata[KEY]


def read_order(path: Path, entry: dict[str, Any]) -> NDArray[np.uint32]:
    """Read the order of the cells.

    Raises
    ------
    ViewError
        If it was changed after it was written.
    """
    with path.open("rb") as file:
        file.seek(len(_NAME))
        content = file.read(entry["size"])
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise ViewError(
            f"{path} was changed after it was written (SHA-256 differs); run the extraction again"
        )
    return np.frombuffer(content, _TYPE)


def _bytes_of(order: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(order, _TYPE).tobytes()


CELLS = "_cells.json"
VIEW = "_view.json"

# Of a description: what only the files of this view have, not a copy in another format.
_OF_FILES = ("files", "digest", ORDER)


def load_info(path: Path) -> dict[str, Any]:
    """Read the description of a view.

    Raises
    ------
    ViewError
        If there is none, it was changed, or another format version wrote it.
    """
    source = description_path(path)
    partial = partial_path(path)
    hint = (
        f"an unfinished one lies in {partial}: run the extraction again to complete it"
        if partial.exists()
        else "name the folder or file that extract made"
    )
    try:
        of_parquet = source.name == VIEW_FILE
        info: Any = json.loads(read_description(source) if of_parquet else source.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        kind = ViewError if partial.exists() else PathError
        raise kind(f"{path} is not a finished view (there is no {source}); {hint}") from None
    except (OSError, ValueError, RecursionError) as error:
        if other := unreadable(source, error):
            raise other from None
        raise ViewError(f"{source} cannot be read: {shortened(str(error))}") from None
    version = info.get("format_version") if isinstance(info, dict) else None
    if version != FORMAT_VERSION:
        raise ViewError(
            f"{source} has format version {version!r}, this abc_dask reads {FORMAT_VERSION}; "
            "run the extraction again"
        )
    seal = info.pop("digest", None)
    if seal != info_digest(info):
        raise ViewError(f"{source} was changed after it was written; run the extraction again")
    for name in _names_of_files(info):
        if not _stays_below(name) or (path.is_file() and len(PurePosixPath(name).parts) > 1):
            raise ViewError(
                f"{source} lists the file {shortened(str(name))}, which is no path below "
                f"{path if path.is_dir() else path.parent}; run the extraction again"
            )
    described: dict[str, Any] = info
    return described


def _names_of_files(info: dict[str, Any]) -> list[Any]:
    files = info.get("files")
    if not isinstance(files, list):
        return [None]
    return [file.get("name") if isinstance(file, dict) else None for file in files]


def _stays_below(name: object) -> bool:
    """Tell whether a name is a relative path that does not climb."""
    if not isinstance(name, str) or not name or "\0" in name or "\\" in name:
        return False
    return not name.startswith("/") and not {"", ".", ".."} & set(name.split("/"))


def description_path(path: Path) -> Path:
    """Return where the description of a view lies."""
    if not path.is_dir():
        return sidecar_path(path)
    found = path / VIEW_FILE
    return found if os.path.lexists(found) else path / VIEW


def is_view(path: Path) -> bool:
    """Tell whether a folder is a finished view, by its description."""
    return any((path / name).is_file() for name in (VIEW_FILE, VIEW))


def provenance_of(info: dict[str, Any]) -> dict[str, Any]:
    """Return a description without what is true of these files alone."""
    return {key: value for key, value in info.items() if key not in _OF_FILES}


def tree(root: Path) -> list[str]:
    """List all files under a folder, relative, with forward slashes."""
    return [p.relative_to(root).as_posix() for p in root.rglob("*") if not p.is_dir()]


def sealed_info(info: dict[str, Any]) -> bytes:
    """Return the content of a description with a digest over itself."""
    return json.dumps(info | {"digest": info_digest(info)}, indent=1).encode()


def info_digest(info: dict[str, Any]) -> str:
    """Return the digest that a description carries over the rest of itself."""
    text = json.dumps(info, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def sidecar_path(output: Path) -> Path:
    """Return the path of the description of a view that is one file."""
    return output.with_name(output.name + ".view.json")


def partial_path(output: Path) -> Path:
    """Return where the unfinished view of an output lies."""
    return output.with_name(output.name + ".partial")


def part_paths(path: Path, info: dict[str, Any]) -> tuple[Path, ...]:
    """Return the part files of a Parquet view, in the plan's order; none in other formats."""
    return tuple(path / file["name"] for file in info["files"] if "rows" in file)


def annotations_of(info: dict[str, Any]) -> tuple[Annotation, ...]:
    """Return the columns of annotations that a view carries, in the order asked."""
    return tuple(Annotation.from_description(d) for d in info.get("annotations", []))


@dataclass(frozen=True)
class DescribedView:
    """What the description of a view tells, without a look at its files.

    Attributes
    ----------
    path : Path
        Folder or file.
    info : dict
        Its description.
    """

    path: Path
    info: dict[str, Any] = field(repr=False)

    @property
    def format(self) -> str:
        """``parquet``, ``zarr`` or ``csv``."""
        return str(self.info["format"])

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the gene columns, in the order asked."""
        return tuple(gene["column"] for gene in self.info["genes"])

    @property
    def n_cells(self) -> int:
        """Cells in the view."""
        return int(self.info["counts"]["cells"])

    @property
    def provenance(self) -> dict[str, Any]:
        """Release, genes, inputs, counts, versions and run of this view (a copy)."""
        copy: dict[str, Any] = json.loads(json.dumps(provenance_of(self.info)))
        return copy

    @property
    def parts(self) -> tuple[Path, ...]:
        """Part files of a Parquet view, in the plan's order; none in other formats."""
        return part_paths(self.path, self.info)

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """Columns of annotations that the view carries, in the order asked."""
        return annotations_of(self.info)

    def __repr__(self) -> str:
        """Return one line that tells what it is."""
        return (
            f"<View {str(self.path)!r}: {plural(self.n_cells, 'cell')}, "
            f"{plural(len(self.columns), 'gene')}, {self.format}>"
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        info = self.info
        size = format_bytes(sum(file["size"] for file in info["files"]))
        return html_table(
            {
                "view": str(self.path),
                "format": f"{self.format}, {size}",
                "source": f"{release_text(info)}, {info['metadata']}, {info['normalization']}",
                "genes": enumerate_names(self.columns, most=20),
                "cells": f"{self.n_cells:,} of {info['counts']['cells_asked']:,} asked",
                "matrices": f"{len(info['matrices']):,}",
            }
        )


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Name the file of a view that cannot be read: a library says what is wrong, not where.

    Raises
    ------
    UnavailableFileError
        If its disk does not answer.
    ResourceError
        If the system refuses memory or threads.
    ViewError
        If it cannot be decoded.
    """
    try:
        yield
    except AbcDaskError:
        raise
    except _UNREADABLE as error:
        if other := unreadable(path, error):
            raise other from None
        reason = " ".join(str(error).split())[:300]
        raise ViewError(
            f"{path} is damaged ({reason}); see abc-dask view verify, or run the extraction again"
        ) from error


@contextlib.contextmanager
def opened_part(
    path: str | Path, columns: Sequence[str] | None = None, *, seal: int | None = None
) -> Iterator[pq.ParquetFile]:
    """Open a Parquet part of which some columns, or all, are whole; errors name it.

    With `seal`, that of the view's description, no other part may lie in its place.
    """
    with naming(path), opened_sealed(path, columns, known=seal) as file:
        yield file
