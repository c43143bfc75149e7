"""How a view gets its final form and its place: write, describe, rename."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from abc_dask import writers
from abc_dask.errors import UsageError, ViewError
from abc_dask.files import sha256, write_whole
from abc_dask.handover import placed
from abc_dask.reading import Reader, naming
from abc_dask.sealed import read_seal
from abc_dask.staging import VIEW, Staging
from abc_dask.words import enumerate_names

CELLS = "_cells.json"
FORMATS = ("parquet", "zarr", "csv")
EXPORTS = (*FORMATS, "h5ad")


def format_of(path: Path, named: str | None = None, *, known: tuple[str, ...] = FORMATS) -> str:
    """Choose a format: the named one, else by suffix, else Parquet.

    Raises
    ------
    UsageError
        If it is not a known format.
    """
    chosen = named or path.suffix.lower().removeprefix(".") or "parquet"
    if chosen not in known:
        raise UsageError(
            f"unknown format {chosen!r} for {str(path)!r}; there are: {enumerate_names(known)}"
        )
    return chosen


def refuse_existing(output: Path, *, overwrite: bool) -> None:
    """Raise `ViewError` if something is there and may not be replaced.

    With `overwrite`, only a view (or an empty folder, or a single file in the place of
    a file) is replaced: a folder of other things is never removed.
    """
    if not (output.exists() or output.is_symlink()):
        return
    if not overwrite:
        raise ViewError(f"{output} exists; pass --overwrite to replace it, or name another output")
    if output.is_symlink():
        raise ViewError(f"{output} is a symbolic link; name the place it points to")
    ours = (output / VIEW).is_file() or (output / CELLS).is_file()
    if output.is_dir() and not ours and any(output.iterdir()):
        raise ViewError(f"{output} is a folder that is not a view, and is not replaced")


def commit(staging: Staging, chosen: str, reader: Reader, info: dict[str, Any]) -> None:
    """Write a view in its final form and publish it.

    Parameters
    ----------
    staging : Staging
        Locked by the caller.
    chosen : str
        ``parquet``, ``zarr``, ``csv`` or ``h5ad``.
    reader : Reader
        What to write.
    info : dict
        Provenance; format and files are added.

    Raises
    ------
    ViewError
        If it cannot be written.
    """
    place = staging.finished()
    try:
        info = placed(reader, info)
        parts = _WRITERS[chosen](place, reader, info)
        publish(staging, place, chosen, info, rows=parts)
    except OSError as error:
        raise ViewError(
            f"{staging.output} cannot be written: {error.strerror or error}; "
            "run the command again when that is mended"
        ) from error


def publish(
    staging: Staging,
    place: Path,
    chosen: str,
    info: dict[str, Any],
    *,
    rows: dict[str, int] | None = None,
    digests: dict[str, str] | None = None,
) -> None:
    """Describe a complete view and rename it to its place.

    Parameters
    ----------
    staging : Staging
    place : Path
        The view in its final form.
    chosen : str
        Its format.
    info : dict
        Provenance.
    rows, digests : dict, optional
        Rows of Parquet parts by name; digests that are known already.
    """
    if chosen == "h5ad":
        staging.publish(place, sidecar=None)
        return
    if place.is_dir():
        names = {name: place / name for name in tree(place) if name != VIEW}
    else:
        names = {staging.output.name: place}
    files = []
    for name in sorted(names):
        digest = (digests or {}).get(name) or sha256(names[name])
        size = names[name].stat().st_size
        entry: dict[str, Any] = {"name": name, "size": size, "sha256": digest}
        if rows and name in rows:
            with naming(names[name]):
                entry |= {"rows": rows[name], "seal": read_seal(names[name])}
        files.append(entry)
    content = _sealed(info | {"format": chosen, "files": files})
    if place.is_dir():
        write_whole(place / VIEW, content)
        staging.publish(place)
    else:
        sidecar = staging.folder / VIEW
        write_whole(sidecar, content)
        staging.publish(place, sidecar)


def _write_parts(place: Path, reader: Reader, info: dict[str, Any]) -> dict[str, int]:
    return {part["name"]: part["rows"] for part in writers.write_parts(place, reader, info)}


_WRITERS: dict[str, Callable[[Path, Reader, dict[str, Any]], dict[str, int] | None]] = {
    "parquet": _write_parts,
    "zarr": writers.write_zarr,
    "csv": writers.write_csv,
    "h5ad": writers.write_h5ad,
}


def tree(root: Path) -> list[str]:
    """List all files under a folder, relative, with forward slashes."""
    return [p.relative_to(root).as_posix() for p in root.rglob("*") if not p.is_dir()]


def _sealed(info: dict[str, Any]) -> bytes:
    """Give the content of ``_view.json`` with a digest over itself."""
    return json.dumps(info | {"digest": info_digest(info)}, indent=1).encode()


def info_digest(info: dict[str, Any]) -> str:
    """Give the digest that ``_view.json`` carries over the rest of itself."""
    text = json.dumps(info, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
