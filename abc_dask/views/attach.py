"""Annotations beside the rows of a finished view, aligned by label.

A view knows where in cell_metadata its rows stood when it was made, or has them in that
order. That place is believed only where the label there is the row's own; all other
labels are looked up. The result is kept in the atlas's cache, a column at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from abc_dask.base.config import default_base
from abc_dask.base.errors import TableError, UsageError, ViewError
from abc_dask.base.messages import names_of, plural
from abc_dask.release.annotation import Annotation, is_missing, read_values, write_values
from abc_dask.release.annotations import Annotations
from abc_dask.release.join_rows import align
from abc_dask.release.several import annotations_of_view
from abc_dask.views.reader import Reader, View, load_order


def open_annotations(info: dict[str, Any], download_base: str | Path | None) -> Annotations:
    """Open the tables of the atlas that a view is from.

    Parameters
    ----------
    info : dict
        Description of the view.
    download_base : path, optional
        Where the atlas lies now; where it lay when the view was made if not given, or where
        it is no longer there, the folder of the environment or the settings
        (``abc-dask.download-base``).

    Raises
    ------
    ViewError
        If the view does not say where, or nothing is there any more.
    """
    atlas = info.get("atlas", {})
    base = atlas.get("download_base") if download_base is None else download_base
    if download_base is None and (base is None or not Path(base).is_dir()):
        base = default_base() or base
    if base is None:
        raise ViewError("the view does not say where its atlas lies; name it with --download-base")
    if download_base is None and not Path(base).expanduser().is_dir():
        raise ViewError(f"the view's atlas is no longer at {base}; name it with --download-base")
    return annotations_of_view(info | {"atlas": {**atlas, "download_base": str(base)}})


def find_annotations(
    view: View, columns: Iterable[str], *, download_base: str | Path | None = None
) -> tuple[Annotation, ...]:
    """Find columns of annotations: the view's own, else those of its atlas.

    Parameters are those of `View.annotate`.

    Returns
    -------
    tuple of Annotation
        Terms, colours and the number of the view's cells without a value; those of
        the atlas are kept in its cache in the order of the view's rows.
    """
    names = names_of(columns)
    found = {annotation.name: annotation for annotation in view.annotations}
    others = [name for name in names if name not in found]
    if others:
        tables = open_annotations(view.info, download_base)
        order = load_order(view.path, view.info) if view.format == "parquet" else None
        on_disk = None if order is None else order.astype(np.int64)
        reader = view.open_reader()
        attached = attach(reader, on_disk, view_key(view.info), others, tables)
        found |= {annotation.name: annotation for annotation in attached}
    return tuple(found[name] for name in names)


def attach(
    reader: Reader,
    on_disk: NDArray[np.int64] | None,
    key: str,
    columns: Sequence[str],
    tables: Annotations,
) -> tuple[Annotation, ...]:
    """Bring columns into the order of a view's rows on disk.

    Parameters
    ----------
    reader : Reader
        Of the view.
    on_disk : array of int64 or None
        For each row on disk its place in cell_metadata, as the view has it; None where
        rows are in the order of cell_metadata.
    key : str
        What tells this view from any other.
    columns : sequence of str
        Columns that the view lacks.
    tables : Annotations
        Of the view's atlas.

    Returns
    -------
    tuple of Annotation
        In the order asked; missing values counted among the view's cells.

    Raises
    ------
    UsageError, MissingFileError, TableError
        As `Annotations.find`; if the view's cells are not in cell_metadata.
    """
    found = tables.find(columns)
    clash = next((a.name for a in found if a.name in reader.columns), None)
    if clash is not None:
        raise UsageError(f"annotation {clash!r} has the name of a gene's column of the view")
    state = [key, list(tables.cells.state)]
    places = tables.cache.get(
        "view-cells",
        state,
        lambda target: write_values(_places(reader, on_disk, tables), target, "places"),
    )
    rows = read_values(places, 0, reader.n_cells)
    attached = []
    for annotation in found:

        def make(target: Path, annotation: Annotation = annotation) -> None:
            values = annotation.values()[rows]
            missing = int(is_missing(values).sum())
            annotation.counted(missing).save(values, target)

        path = tables.cache.get("view-annotation", [*state, annotation.table], make)
        attached.append(Annotation.load(path))
    return tuple(attached)


def _places(
    reader: Reader, on_disk: NDArray[np.int64] | None, tables: Annotations
) -> NDArray[np.int64]:
    """Return the place in cell_metadata of every row on disk, by label."""
    labels = tables.cells.labels()
    order = np.arange(reader.n_cells) if on_disk is None else on_disk
    own = reader.labels()  # in the order of cell_metadata
    if on_disk is not None:
        rank = np.empty(len(order), np.int64)
        rank[np.argsort(order, kind="stable")] = np.arange(len(order))
        own = own.take(pa.array(rank))
    if len(order) == 0 or int(order.max()) < len(labels):
        believed = labels.take(pa.array(order)) if on_disk is not None else labels[: len(own)]
        if len(believed) == len(own) and pc.all(pc.equal(believed, own)).as_py() is not False:
            return order.astype(np.int64)
    places = align(own, labels, tables.cells.source)
    lost = int((places < 0).sum())
    if lost:
        label = own[int(np.flatnonzero(places < 0)[0])].as_py()
        raise TableError(
            f"{plural(lost, 'cell')} of the view, such as {label!r}, not in "
            f"{tables.cells.source} of release {tables.release.version}; "
            "name the atlas that the view is from"
        )
    return places


def view_key(info: dict[str, Any]) -> str:
    """Return what tells a view from any other: the digests of its files."""
    return json.dumps([info["content"], [[f["name"], f["sha256"]] for f in info["files"]]])
