"""What an output may replace: what this package made, and nothing else."""

from __future__ import annotations

import csv
import json
import stat
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from abc_dask.base.errors import PathError
from abc_dask.disk.files import cannot_read
from abc_dask.views.description import CELLS, is_view, partial_path, sidecar_path
from abc_dask.views.staging import REPLACED, SIDECAR

# What all outputs say of themselves.
_MARK = b"abc_dask"

# Where a page says what made it.
_HEAD = 1 << 12


def refuse_existing(output: Path, *, overwrite: bool, header: Sequence[str] = ()) -> None:
    """Refuse an output that must not be written, or not replaced.

    With `overwrite` only what this package made is replaced, which is known by its
    description or metadata, and an empty folder.

    Parameters
    ----------
    output : Path
    overwrite : bool
    header : sequence of str, optional
        A CSV table with these columns is the same table, made before.

    Raises
    ------
    ViewError
        If the output lies within a view, a release lists it, or something is there that may
        not be replaced.
    """
    for folder in output.parents:
        if is_view(folder):
            raise PathError(f"{output} lies within the view {folder}; name another output")
        if manifest := _listing(folder, output):
            raise PathError(f"{output} is a file of the atlas ({manifest}); name another output")
    try:
        mode = output.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise cannot_read(output, error) from None
    if not overwrite:
        raise PathError(f"{output} exists; pass --overwrite to replace it, or name another output")
    if reason := _why_not(output, mode, list(header)):
        raise PathError(f"{output} {reason}")


def _why_not(output: Path, mode: int, header: list[str]) -> str:
    """Return why something may not be replaced; "" where it may."""
    if stat.S_ISLNK(mode):
        return "is a symbolic link; name the path that it points to"
    if stat.S_ISDIR(mode):
        ours = is_view(output) or (output / CELLS).is_file() or not any(output.iterdir())
        return "" if ours else "is a folder that is not a view, and is not replaced"
    if not stat.S_ISREG(mode):
        return "is not a regular file, and is not replaced"
    if _is_ours(output, header):
        return ""
    return (
        "was not made by abc-dask, and is not replaced; name another output, or remove it yourself"
    )


def _listing(base: Path, output: Path) -> Path | None:
    """Return the manifest under a download_base that lists a file."""
    relative = output.relative_to(base).as_posix()
    names = {json.dumps(relative).encode(), json.dumps(relative).replace("/", "\\/").encode()}
    for manifest in (base / "releases").glob("*/manifest.json"):
        try:
            content = manifest.read_bytes()
        except OSError:
            continue
        if output == manifest or any(name in content for name in names):
            return manifest
    return None


def _is_ours(path: Path, header: list[str]) -> bool:
    """Tell whether a file says that this package made it."""
    our_csv = partial(_is_our_csv, header=header)
    look: dict[str, Callable[[Path], bool]] = {
        ".csv": our_csv,
        ".h5": _is_our_h5ad,
        ".h5ad": _is_our_h5ad,
        ".parquet": _is_our_parquet,
        ".html": _is_our_page,
        ".htm": _is_our_page,
    }
    try:
        if not path.stat().st_size:
            return True
        kind = look.get(path.suffix.lower())
        return kind(path) if kind else our_csv(path) or _is_our_h5ad(path)
    except (OSError, ValueError, LookupError, RuntimeError, pa.ArrowException):
        return False


def _is_our_csv(path: Path, header: list[str]) -> bool:
    """Look for the description of a view, also one that was killed between two renames.

    A table of statistics or markers has no description: it is known by its columns.
    """
    unfinished = partial_path(path)
    for described in (sidecar_path(path), unfinished / SIDECAR, unfinished / REPLACED):
        if described.is_file():
            info: Any = json.loads(described.read_bytes())
            (file,) = info["files"]
            if file["name"] == path.name and file["size"] == path.stat().st_size:
                return True
    with path.open(encoding="utf-8", newline="") as file:
        names = next(csv.reader(file), [])
    if header and names == header:
        return True
    is_markers = names[:3] == ["group", "names", "scores"]
    return is_markers or ("cells" in names[1:] and "cell_label" not in names)


def _is_our_h5ad(path: Path) -> bool:
    import h5py

    with h5py.File(path) as file:
        return "uns/abc_dask" in file or _MARK.decode() in file.attrs


def _is_our_parquet(path: Path) -> bool:
    return _MARK in (pq.read_metadata(path).metadata or {})


def _is_our_page(path: Path) -> bool:
    with path.open("rb") as file:
        return b'name="generator" content="abc_dask' in file.read(_HEAD)
