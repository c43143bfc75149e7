"""The description of a view as text, read and replaced by tests, whatever its format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from abc_dask.views.description import (
    VIEW_FILE,
    description_path,
    info_digest,
    load_info,
    read_description,
    write_view_file,
)

NAMES = {"_view.json", VIEW_FILE}


def described(view: Path) -> bytes:
    """What the description of a view says."""
    path = description_path(view)
    return read_description(path) if path.name == VIEW_FILE else path.read_bytes()


def describe(view: Path, content: bytes) -> None:
    """Put another text in its place, with nothing else changed."""
    path = description_path(view)
    if path.name != VIEW_FILE:
        path.write_bytes(content)
        return
    whole = path.read_bytes()
    footer = int.from_bytes(whole[-8:-4], "little")
    order = np.frombuffer(whole[4 : -8 - footer - 8], "<u4")
    write_view_file(path, pq.read_schema(path), content, order)


def edit(view: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a description, and its digest with it, as one who forges it would."""
    info = load_info(view)
    change(info)
    info.pop("digest", None)
    describe(view, json.dumps(info | {"digest": info_digest(info)}).encode())
