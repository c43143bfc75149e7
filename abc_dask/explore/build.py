"""The folder of the page: made from a view or a store, complete or absent.

::

    DIR/
        index.html, *.js, style.css     the page
        meta.json                       what there is, and where in which file
        xy.bin                          places
        labels.bin                      cell labels
        terms/0.bin, terms/0.json       codes of a column; its terms and colours
        genes.json                      names of the genes
        genes/0.bin, exact/0.bin        a gene in 8 bits a cell; its exact values
        numbers/0.bin                   a column of numbers, as a gene
        explore.json                    provenance, and the digest of every file
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abc_dask._version import __version__
from abc_dask.analysis.plots.colors import distinct_colors
from abc_dask.base.errors import PathError
from abc_dask.disk.files import sha256
from abc_dask.explore.contents import Contents
from abc_dask.explore.encode import (
    exact_file,
    gzipped,
    label_tiles,
    place_tiles,
    term_tiles,
    value_file,
)
from abc_dask.explore.layout import Layout, lay_out
from abc_dask.release.annotation import Annotation
from abc_dask.views.description import tree
from abc_dask.views.staging import Staging

FORMAT = "abc_dask explorer"

FORMAT_VERSION = 1

META, RECORD = "meta.json", "explore.json"

PAGE = "index.html"

_THREADS = 2

_COLOR = re.compile(r"#[0-9A-Fa-f]{6}")

# Labels are near to random: more effort gains nothing.
_LABEL_LEVEL = 1

Progress = Callable[[str, int, int], None]


@dataclass
class Prepared:
    """A folder with all but the genes, and what makes them.

    Attributes
    ----------
    contents : Contents
    layout : Layout
    folder : Path
    meta : dict
        Content of ``meta.json``.
    """

    contents: Contents
    layout: Layout
    folder: Path
    meta: dict[str, Any] = field(repr=False)

    def file(self, kind: str, number: int) -> bytes:
        """Make the file of a gene that is not in the folder, uncompressed.

        Parameters
        ----------
        kind : str
            ``genes`` (8 bits) or ``exact``.
        number : int
            Of the gene.
        """
        values = self.contents.values(number)
        if kind == "genes":
            return value_file(values, self.layout.order, compress=False)
        return exact_file(values[self.layout.order], compress=False)


def build_folder(
    contents: Contents,
    output: str | Path,
    *,
    exact: bool = True,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write the page with all its genes as a folder for any web server, complete or absent.

    Parameters
    ----------
    contents : Contents
        What to show.
    output : path
        The folder.
    exact : bool
        Write exact values of genes beside the 8 bits that pictures need; tables are then
        exact, and the folder some two times as large.
    overwrite : bool
        Replace an explorer's folder that is there.
    progress : callable, optional
        Called with what is being made, how many are done, and of how many.

    Returns
    -------
    Path

    Raises
    ------
    ViewError
        If the folder exists, holds something else, or cannot be written.
    """
    place = Path(output).expanduser().absolute()
    refuse_existing(place, overwrite=overwrite)
    staging = Staging.beside(place)
    with staging.locked():
        folder = staging.finished()
        # where it lay on this machine is nothing for the web
        name = Path(contents.name).name
        prepared = prepare(contents, folder, exact=exact, name=name, progress=progress)
        write_genes(prepared, exact=exact, progress=progress)
        record = {"format": FORMAT, "format_version": FORMAT_VERSION, "abc_dask": __version__}
        record |= {"from": name, "provenance": contents.provenance}
        record["files"] = [
            {"name": name, "size": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
            for name in sorted(tree(folder))
        ]
        (folder / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
        staging.publish(folder)
    return place


def refuse_existing(place: Path, *, overwrite: bool) -> None:
    """Raise `ViewError` unless nothing, an empty folder, or an explorer to replace is there."""
    if place.is_symlink():
        raise PathError(f"{place} is a symbolic link; name the folder it points to")
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    if not overwrite:
        raise PathError(f"{place} exists; pass --overwrite to replace it, or name another folder")
    if provenance_of_folder(place) is None:
        raise PathError(f"{place} is not an explorer's folder, and is not replaced")


def provenance_of_folder(place: Path) -> dict[str, Any] | None:
    """Return what an explorer's folder is of; None where there is no such folder."""
    try:
        record = json.loads((place / RECORD).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        return None
    return dict(record.get("provenance") or {})


def prepare(
    contents: Contents,
    folder: Path,
    *,
    exact: bool,
    name: str,
    served: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Write all but the genes into a new folder.

    Parameters
    ----------
    contents : Contents
    folder : Path
    exact : bool
        Whether exact values of genes can be had.
    name : str
        Of the view or store, as the page's commands name it.
    served : bool
        Whether a process answers that can look for markers in a store.
    progress : callable, optional

    Raises
    ------
    UsageError
        If no cell has a place.
    """
    say = progress or (lambda *_: None)
    steps = len(contents.annotations) + 2
    say("cells", 0, steps)
    layout = lay_out(*contents.places(), contents.sections())
    for kind in ("", "terms", "numbers", "genes", "exact"):
        (folder / kind).mkdir()
    for asset in (files("abc_dask.explore") / "assets").iterdir():
        if asset.is_file():
            (folder / asset.name).write_bytes(asset.read_bytes())
    tiles = layout.tiles
    columns: list[dict[str, Any]] = []
    numbers: list[dict[str, Any]] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        xy = _write_tiles(folder / "xy.bin", place_tiles(layout.places, tiles), pool)
        say("labels", 1, steps)
        labels = contents.labels().take(layout.order)
        named = _write_tiles(folder / "labels.bin", label_tiles(labels, tiles), pool, _LABEL_LEVEL)
        del labels
        for done, annotation in enumerate(contents.annotations):
            say(annotation.name, done + 2, steps)
            values = contents.annotation(annotation)[layout.order]
            if annotation.is_numeric:
                numbers.append(_write_number(folder, len(numbers), annotation, values))
            else:
                place = folder / "terms" / str(len(columns))
                width, cut = term_tiles(values, len(annotation.terms or ()), tiles)
                sizes = _write_tiles(place.with_suffix(".bin"), cut, pool)
                columns.append(_write_terms(place, annotation, values))
                columns[-1] |= {"width": width, "sizes": sizes}
    genes = [[g.column, g.gene_identifier, g.gene_symbol, g.name] for g in contents.genes]
    (folder / "genes.json").write_text(json.dumps(genes), encoding="utf-8")
    meta = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "abc_dask": __version__,
        "from": name,
        "kind": contents.kind,
        "provenance": contents.provenance,
        "cells": contents.n_cells,
        "nowhere": layout.n_nowhere,
        "tiles": list(tiles),
        "layout": layout.describe(contents.unit),
        "xy": xy,
        "labels": named,
        "terms": columns,
        "numbers": numbers,
        "genes": len(genes),
        "exact": exact,
        "where": contents.where,
        "markers": served and contents.kind == "store",
    }
    meta["identity"] = _identity(folder, meta)
    (folder / META).write_text(json.dumps(meta), encoding="utf-8")
    return Prepared(contents, layout, folder, meta)


def _identity(folder: Path, meta: dict[str, Any]) -> str:
    """Return what tells these cells in this order from others: addresses name it."""
    digest = hashlib.sha256((folder / "labels.bin").read_bytes())
    digest.update(json.dumps([meta["cells"], meta["layout"]]).encode())
    return digest.hexdigest()[:16]


def write_genes(prepared: Prepared, *, exact: bool, progress: Progress | None = None) -> None:
    """Write the files of all genes."""
    say = progress or (lambda *_: None)
    total = len(prepared.contents.genes)

    def write(number: int, values: NDArray[Any]) -> None:
        name = f"{number}.bin"
        order = prepared.layout.order
        (prepared.folder / "genes" / name).write_bytes(value_file(values, order))
        if exact:
            (prepared.folder / "exact" / name).write_bytes(exact_file(values[order]))

    with ThreadPoolExecutor(_THREADS) as pool:
        waiting = []
        for done, (number, values) in enumerate(prepared.contents.all_values()):
            say("genes", done, total)
            waiting.append(pool.submit(write, number, values))
            if len(waiting) > _THREADS:  # a column a thread, and one that is being read
                waiting.pop(0).result()
        for one in waiting:
            one.result()
    say("genes", total, total)


def _write_tiles(
    path: Path, tiles: Sequence[memoryview], pool: ThreadPoolExecutor, level: int | None = None
) -> list[int]:
    """Write gzipped tiles end to end; return their sizes."""
    sizes = []
    with path.open("wb") as file:
        options = () if level is None else (level,)
        for packed in pool.map(lambda tile: gzipped(tile, *options), tiles):
            file.write(packed)
            sizes.append(len(packed))
    return sizes


def _write_terms(place: Path, annotation: Annotation, codes: NDArray[Any]) -> dict[str, Any]:
    terms = list(annotation.terms or ())
    counts = np.bincount(codes[codes >= 0], minlength=len(terms))
    about = {
        "terms": terms,
        "colors": _colors(annotation),
        "counts": counts.tolist(),
        "missing": int((codes < 0).sum()),
    }
    place.with_suffix(".json").write_text(json.dumps(about), encoding="utf-8")
    return {"name": annotation.name, "n_terms": len(terms)}


def _colors(annotation: Annotation) -> list[str]:
    """Return the atlas's colour of each term; where it has none, or no such one, our own."""
    terms = annotation.terms or ()
    own = distinct_colors(terms)
    given = [str(annotation.colors.get(term, "")) for term in terms]
    return [
        color if _COLOR.fullmatch(color) else own[term]
        for term, color in zip(terms, given, strict=True)
    ]


def _write_number(
    folder: Path, number: int, annotation: Annotation, values: NDArray[Any]
) -> dict[str, Any]:
    floats = values.astype(np.float64) if values.dtype.kind != "f" else values
    (folder / "numbers" / f"{number}.bin").write_bytes(value_file(floats))
    return {"name": annotation.name}
