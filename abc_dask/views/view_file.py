"""The description of a Parquet view, as a Parquet file without rows.

Readers of the folder, such as polars and DuckDB, take every file in it for a part. So what is
not a part must be Parquet too: `_view.parquet` has the columns of the parts and no row. The
description is in its metadata under the key ``abc_dask.view``. The order of the cells (4 bytes
a cell) stands between Parquet's first name and the footer, where its readers never look::

    PAR1 | order of the cells | seal | footer | length | PAR1
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from abc_dask.base.errors import ViewError
from abc_dask.disk.checked_parquet import SealError, read_seal, seal

VIEW_FILE = "_view.parquet"
KEY = b"abc_dask.view"
ORDER = "cell_order"  # in a description

_NAME = b"PAR1"
_TYPE = np.dtype("<u4")


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
