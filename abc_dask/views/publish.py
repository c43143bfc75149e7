"""How a view gets its final form and its place: write, describe, rename."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from abc_dask.disk.checked_parquet import read_seal
from abc_dask.disk.files import sha256, write_whole
from abc_dask.errors import ViewError
from abc_dask.views.description import CELLS, VIEW, sealed_info, tree
from abc_dask.views.formats import EXPORTS, WRITERS, format_of
from abc_dask.views.integrity import require_whole
from abc_dask.views.joined import handed_over
from abc_dask.views.reader import Reader, View, naming
from abc_dask.views.staging import Staging


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
        parts = WRITERS[chosen](place, reader, info)
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
    content = sealed_info(info | {"format": chosen, "files": files})
    if place.is_dir():
        write_whole(place / VIEW, content)
        staging.publish(place)
    else:
        sidecar = staging.folder / VIEW
        write_whole(sidecar, content)
        staging.publish(place, sidecar)


def export(
    view: View,
    target: str | Path,
    format: str | None = None,
    *,
    annotate: Iterable[str] = (),
    download_base: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a view in another format, complete or absent; parameters as `View.export`."""
    place = Path(target).expanduser().absolute()
    chosen = format_of(place, format, known=EXPORTS)
    if place == view.path:
        raise ViewError(f"{place} is the view itself; name another target")
    refuse_existing(place, overwrite=overwrite)
    require_whole(view.path, view.info)
    reader, info = handed_over(view, annotate, download_base)
    staging = Staging.beside(place)
    with staging.locked():
        commit(staging, chosen, reader, info | {"exported_from": str(view.path)})
    return place
