"""How a view gets its final form: write, describe, rename."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from abc_dask.base.errors import PathError, ViewError
from abc_dask.disk.checked_parquet import read_seal
from abc_dask.disk.files import cannot_write, sha256, write_by, write_whole
from abc_dask.views.content import Written
from abc_dask.views.description import (
    ORDER,
    VIEW,
    VIEW_FILE,
    naming,
    order_entry,
    provenance_of,
    sealed_info,
    tree,
    write_view_file,
)
from abc_dask.views.formats import EXPORTS, WRITERS, format_of, require_whole
from abc_dask.views.joined import handed_over
from abc_dask.views.overwrite import refuse_existing
from abc_dask.views.reader import Reader, View
from abc_dask.views.staging import SIDECAR, Staging


def commit(
    staging: Staging,
    format: str,
    reader: Reader,
    info: dict[str, Any],
) -> None:
    """Write a view in its final form and publish it.

    Parameters
    ----------
    staging : Staging
        Locked by the caller.
    format : str
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
    source = staging.finished()
    try:
        info = provenance_of(info)
        require_unique(reader.labels(), staging.folder)
        publish(staging, source, format, info, WRITERS[format](source, reader, info))
    except OSError as error:
        raise cannot_write(staging.output, error) from error


def publish(
    staging: Staging,
    source: Path,
    format: str,
    info: dict[str, Any],
    written: Written,
) -> None:
    """Describe a complete view and rename it to its path.

    Parameters
    ----------
    staging : Staging
    source : Path
        The view in its final form.
    format : str
    info : dict
        Provenance.
    written : Written
        What its writer tells of it.

    Raises
    ------
    ViewError
        If the provenance tells of another content.
    """
    content = f"{written.content % 2**64:016x}"
    expected = info.get("content") or content
    if content != expected:
        raise ViewError(
            f"{staging.folder}: what was written has content {content}, expected {expected}; "
            "remove the folder and run the command again"
        )
    if format == "h5ad":
        staging.publish(source)
        return
    names = {staging.output.name: source}
    if source.is_dir():
        names = {name: source / name for name in tree(source) if name not in {VIEW, VIEW_FILE}}
    files = []
    for name in sorted(names):
        digest = written.digests.get(name) or sha256(names[name])
        entry: dict[str, Any] = {"name": name, "size": names[name].stat().st_size, "sha256": digest}
        if name in written.rows:
            with naming(names[name]):
                entry |= {"rows": written.rows[name], "seal": read_seal(names[name])}
        files.append(entry)
    info = info | {"content": content, "format": format, "files": files}
    if format == "parquet":
        described = sealed_info(info | {ORDER: order_entry(written.order)})
        schema = pq.read_schema(source / next(iter(written.rows)))
        write_by(lambda p: write_view_file(p, schema, described, written.order), source / VIEW_FILE)
        staging.publish(source)
    elif source.is_dir():
        write_whole(source / VIEW, sealed_info(info))
        staging.publish(source)
    else:
        sidecar = staging.folder / SIDECAR
        write_whole(sidecar, sealed_info(info))
        staging.publish(source, sidecar)


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
    path = Path(target).expanduser().absolute()
    named = format_of(path, format, known=EXPORTS)
    if path == view.path:
        raise PathError(f"{path} is the view itself; name another target")
    refuse_existing(path, overwrite=overwrite)
    require_whole(view.path, view.info)
    reader, info = handed_over(view, annotate, download_base)
    staging = Staging.beside(path)
    with staging.locked():
        commit(staging, named, reader, info | {"exported_from": str(view.path)})
    return path


def require_unique(labels: pa.Array | pa.ChunkedArray, where: object) -> None:
    """Raise `ViewError` if a label stands twice in what is about to be published."""
    if pc.count_distinct(labels, mode="all").as_py() != len(labels):
        raise ViewError(
            f"{where}: a cell_label stands twice in the parts; remove the folder and run the "
            "command again"
        )
