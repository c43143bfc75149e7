"""What has an output's name already: only what this package made is kept or replaced."""

from __future__ import annotations

import csv
import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from abc_dask.base.errors import AbcDaskError, PathError, ViewError
from abc_dask.base.messages import shortened
from abc_dask.disk.failures import cannot_read
from abc_dask.views.description import CELLS, is_view, load_info, partial_path, sidecar_path
from abc_dask.views.formats import problems
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


_DESCRIPTION = "uns/abc_dask"


# Of a description: what tells a request from others. Two that choose the same cells have one plan.
_OF_REQUEST = ("plan", "selection", "gene_list")


def is_made(output: Path, format: str, told: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Return whether an output is there, whole and made for a request.

    Parameters
    ----------
    output : Path
    format : str
    told : dict
        What the description of the request's result will tell: digest of its plan, which holds
        the state of the files that it reads, choice of cells, list of genes.
    overwrite : bool
        It is made anew whatever is there.

    Raises
    ------
    ViewError
        If something else is there and may not be replaced.
    """
    if overwrite or not os.path.lexists(output):
        return False
    held = held_info(output, format)
    if held is not None and is_same(held, told):
        return True
    refuse_existing(output, overwrite=False)
    return False


def is_same(held: Mapping[str, Any], told: Mapping[str, Any]) -> bool:
    """Return whether two descriptions are those of one request of the same files."""
    pairs = [(held.get(key), told.get(key)) for key in _OF_REQUEST]
    return all(one == json.loads(json.dumps(other)) for one, other in pairs)


def held_info(output: Path, format: str) -> dict[str, Any] | None:
    """Return the description of a whole result in a format; None where there is none.

    Sizes of files are compared with the description, their bytes are not read again.
    """
    try:
        if is_view(output) or format == "csv":
            info = load_info(output)
            is_whole = info["format"] == format and not any(problems(output, info, rehash=False))
            return info if is_whole else None
        return anndata_info(output) if _format_of(output) == format else None
    except AbcDaskError:
        return None


def _format_of(output: Path) -> str:
    """Return in which of AnnData's formats a path can be."""
    return "zarr" if output.is_dir() else "h5ad"


def anndata_info(path: Path) -> dict[str, Any]:
    """Read the provenance in the ``uns`` of an AnnData that this package made.

    Raises
    ------
    ViewError
        If it is not one, or X has not as many cells as it says.
    """
    try:
        if _format_of(path) == "zarr":
            import zarr

            group: Any = zarr.open_group(path, mode="r")
            return _read_info(group)
        import h5py

        with h5py.File(path) as file:
            return _read_info(file)
    except (OSError, ValueError, LookupError, RuntimeError, TypeError, AttributeError) as error:
        raise ViewError(
            f"{path} is not what abc-dask makes: {shortened(str(error))}; make it again"
        ) from None


def _read_info(root: Any) -> dict[str, Any]:
    text = root[_DESCRIPTION][()]
    info: dict[str, Any] = json.loads(text if isinstance(text, bytes | str) else str(text))
    x = root["X"]
    n_cells = x.shape[0] if hasattr(x, "shape") else x["indptr"].shape[0] - 1
    if n_cells != info["counts"]["cells"]:
        raise ValueError(f"X has {n_cells:,} cells, expected {info['counts']['cells']:,}")
    return info
