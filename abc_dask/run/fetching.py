"""Extract while fetching: matrix by matrix, one being read while the next one comes.

Each matrix becomes a small view of its own in ``OUT.partial/matrices``, complete or
absent like any other; a matrix file can be removed once its view is there. At the end
the small views are put together and published as one. So a run that was stopped goes on
with the matrices whose views are missing, whether their files are still there or not.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from abc_dask._version import FORMAT_VERSION
from abc_dask.acquire.fetch import fetch, fetch_each
from abc_dask.acquire.progress import FetchProgress
from abc_dask.disk.files import Fingerprint, remove, write_whole
from abc_dask.errors import AbcDaskError, GeneError, ReleaseError, TableError, ViewError
from abc_dask.messages import plural
from abc_dask.plan.inputs import Source
from abc_dask.plan.plan import annotations_identity
from abc_dask.plan.prepare import (
    column_names,
    find_annotations,
    prepare,
    provenance,
    require_somewhere,
)
from abc_dask.release.annotation import Annotation
from abc_dask.release.genes import Gene, choose_gene_table
from abc_dask.release.manifest import FileEntry
from abc_dask.release.matrices import Assignment
from abc_dask.release.release import Release
from abc_dask.release.selection import CellChoice, Selection
from abc_dask.run.extraction import run, run_info
from abc_dask.views.description import load_info, part_paths
from abc_dask.views.integrity import problems
from abc_dask.views.parquet_view import PartsReader
from abc_dask.views.publish import commit, refuse_existing
from abc_dask.views.reader import load_order
from abc_dask.views.staging import MATRICES, Staging

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes
    ----------
    source : Source
        Release, tables and cache.
    genes : tuple of str
        Symbols or identifiers.
    normalization : str
        ``log2`` or ``raw``.
    columns : str
        ``gene_symbol`` or ``gene_identifier``.
    block_size : int
        Bytes of stored values that one task reads.
    annotate : tuple of str
        Columns of annotations.
    cells : CellChoice or None
        Which cells; None: all.
    """

    source: Source
    genes: tuple[str, ...]
    normalization: str
    columns: str
    block_size: int
    annotate: tuple[str, ...] = ()
    cells: CellChoice | None = None

    def fetch_tables(self, progress: FetchProgress) -> None:
        """Bring the tables that say which cells and genes there are.

        Raises
        ------
        GeneError
            If there is no gene table to look genes up in before matrices are there.
        DownloadError
            If they cannot be brought.
        """
        source = self.source
        manifest = source.release.manifest
        if choose_gene_table(manifest, source.metadata, source.gene_directory) is None:
            raise GeneError(
                f"{source.metadata} has no gene table of its own to look genes up in before its "
                "matrices are fetched; name one with --gene-directory"
            )
        fetch(source.release, source.tables, progress=progress)
        needed = [*self.annotate, *(self.cells.columns if self.cells else ())]
        fetch(source.release, source.annotations.entries(needed), progress=progress)

    @property
    def selection(self) -> Selection | None:
        """The chosen cells; None: all."""
        return self.source.choose(self.cells)

    def assignments(self) -> list[Assignment]:
        """Group the chosen cells by feature matrix."""
        return self.source.assignments(self.normalization, self.selection)

    def matrix_files(self) -> list[FileEntry]:
        """Give the matrix files, in the order in which they are read."""
        return [a.feature_matrix.file for a in self.assignments()]

    def identity(self, genes: list[Gene]) -> dict[str, Any]:
        """Give what tells this request from another; files count by size and hash."""
        names = column_names(genes, self.columns)
        annotations = find_annotations(self.source, self.annotate, names)
        chosen = {"selection": self.selection.digest} if self.selection else {}
        return {
            "format_version": FORMAT_VERSION,
            "release": self.source.release.version,
            "metadata": self.source.metadata,
            "normalization": self.normalization,
            "genes": [gene.identifier for gene in genes],
            "columns": list(names),
            "cell_selection": list(self.source.cells.state),
            "block_size": self.block_size,
            "inputs": {e.relative_path: [e.size, e.file_hash] for e in self.matrix_files()},
            "matrix by matrix": True,
        } | (annotations_identity(annotations) | chosen)


def extract_while_fetching(
    request: Request,
    output: Path,
    chosen: str,
    client: Client,
    *,
    overwrite: bool,
    discard: bool,
    progress: FetchProgress,
) -> Path:
    """Make a view whose inputs are fetched on the way.

    Parameters
    ----------
    request : Request
        Its tables are on disk.
    output, chosen, client, overwrite
        As in `abc_dask.run.extraction.run`.
    discard : bool
        Remove each matrix file that this call fetched, or one before it that was stopped,
        once its values are safe. At most two of them lie on disk at a time.
    progress : FetchProgress
        Told what is fetched.

    Returns
    -------
    Path
        `output`.

    Raises
    ------
    AbcDaskError
        As `run` and `fetch`; the same call goes on where this one stopped.
    """
    began = time.perf_counter()
    genes = request.source.gene_names().find(request.genes)
    identity = request.identity(genes)
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    staging = Staging.beside(output)
    with staging.locked():
        refuse_existing(output, overwrite=overwrite)
        try:
            staging.begin(identity, digest, overwrite=overwrite)
            (staging.folder / MATRICES).mkdir(exist_ok=True)
        except OSError as error:
            raise ViewError(f"{staging.folder} cannot be written: {error.strerror}") from None
        assignments = request.assignments()
        places = {
            a.feature_matrix.file: staging.folder / MATRICES / f"{number:05d}.parquet"
            for number, a in enumerate(assignments)
        }
        brought = _Brought(request.source.release, places) if discard else None
        todo = []
        for assignment in assignments:
            file = assignment.feature_matrix.file
            if _load(places[file]) is None:
                todo.append(assignment)
            elif brought is not None:
                brought.discard(file)
        kept = len(assignments) - len(todo)
        _extract_each(request, todo, places, client, brought, progress=progress)
        parts = [_load(places[a.feature_matrix.file]) for a in assignments]
        _publish(
            staging,
            chosen,
            [part for part in parts if part is not None],
            genes,
            described={
                "plan": digest,
                "block_size": request.block_size,
                "cells_asked": request.selection.n_chosen
                if request.selection
                else request.source.cells.n_cells,
                "kept": kept,
                "seconds": time.perf_counter() - began,
            },
        )
    return output


def _extract_each(
    request: Request,
    todo: list[Assignment],
    places: dict[FileEntry, Path],
    client: Client,
    brought: _Brought | None,
    *,
    progress: FetchProgress,
) -> None:
    """Make the views of the matrices that have none; with `brought`, discard what came."""
    assigned = {a.feature_matrix.file: a for a in todo}
    release = request.source.release
    arriving = fetch_each(
        release,
        list(assigned),
        progress=progress,
        ahead=None if brought is None else 1,
        placing=None if brought is None else brought.note,
    )
    with contextlib.closing(arriving):
        for fetched in arriving:
            place = places[fetched.entry]
            remove(place)
            plan = prepare(
                request.source,
                request.genes,
                normalization=request.normalization,
                columns=request.columns,
                block_size=request.block_size,
                annotate=request.annotate,
                cells=request.cells,
                only=assigned[fetched.entry],
            )
            if plan.blocks:
                run(plan, place, "parquet", client, overwrite=True)
            else:
                write_whole(_without_cells(place), json.dumps(provenance(plan)).encode())
            cells = plural(plan.n_cells, "cell")
            progress.note(f"{plan.matrices[0].feature_matrix_label}: {cells} extracted")
            if brought is not None:
                brought.discard(fetched.entry)


class _Brought:
    """Which matrix files were fetched for this view, by this run or one that was stopped.

    What lay there before, or was put there by somebody else, is never discarded: a file
    counts as brought only while it is the very one that was noted as it got its name.
    """

    def __init__(self, release: Release, places: dict[FileEntry, Path]) -> None:
        self._release = release
        self._notes = {e: place.with_suffix(".fetched.json") for e, place in places.items()}

    def note(self, entry: FileEntry, fingerprint: Fingerprint) -> None:
        """Remember a file that is about to get its name."""
        place = self._notes[entry]
        try:
            write_whole(place, json.dumps(asdict(fingerprint)).encode())
        except OSError as error:
            raise ViewError(f"{place} cannot be written: {error.strerror}") from None

    def discard(self, entry: FileEntry) -> None:
        """Remove a file if it was brought."""
        path, place = self._release.path(entry), self._notes[entry]
        try:
            noted = Fingerprint(**json.loads(place.read_bytes()))
            is_it = not path.is_symlink() and Fingerprint.of(path) == noted
        except (OSError, ValueError, TypeError, AbcDaskError):
            return
        if is_it:
            try:
                path.unlink()
            except OSError as error:
                raise ViewError(f"{path} cannot be removed: {error.strerror}") from None


@dataclass(frozen=True)
class _Part:
    """The finished view of one matrix; without paths where the matrix holds no cell."""

    info: dict[str, Any]
    paths: tuple[Path, ...]
    order: np.ndarray[Any, np.dtype[Any]]


def _without_cells(place: Path) -> Path:
    return place.with_suffix(".empty.json")


def _load(place: Path) -> _Part | None:
    """Open the view of one matrix; None where it is not there, whole and undamaged."""
    nothing = np.empty(0, np.uint32)
    with contextlib.suppress(OSError, ValueError):
        info: dict[str, Any] = json.loads(_without_cells(place).read_bytes())
        for matrix in info["matrices"]:
            matrix |= {"task_seconds": 0.0, "bytes_read": 0}
        return _Part(info, (), nothing)
    try:
        info = load_info(place)
        if any(problems(place, info, rehash=True)):
            return None
        return _Part(info, part_paths(place, info), load_order(place))
    except AbcDaskError:
        return None


def _publish(
    staging: Staging,
    chosen: str,
    parts: list[_Part],
    genes: list[Gene],
    described: dict[str, Any],
) -> None:
    """Put the views of single matrices together."""
    infos = [part.info for part in parts]
    absent = [[bool(info["genes"][k]["absent_in"]) for info in infos] for k in range(len(genes))]
    require_somewhere(genes, absent)
    order = np.concatenate([part.order for part in parts])
    if len(np.unique(order)) != len(order):
        raise TableError("a cell is in more than one feature matrix")
    if not len(order):
        raise ReleaseError(f"none of the {described['cells_asked']:,} cells is in a feature matrix")
    columns = tuple(gene["column"] for gene in infos[0]["genes"])
    dtype = np.result_type(*(np.dtype(info["dtype"]) for info in infos))
    annotations = _annotations([part.info for part in parts if part.paths])
    paths = tuple(p for part in parts for p in part.paths)
    reader = PartsReader(paths, order, columns, dtype, annotations)
    content = sum(int(part.info["content"], 16) for part in parts if part.paths)
    matrices = [matrix for info in infos for matrix in info["matrices"]]
    info = _together(infos, matrices, described, len(order))
    info |= {"dtype": dtype.name}
    if annotations:
        info["annotations"] = [annotation.describe() for annotation in annotations]
    info |= run_info(matrices, content, described["kept"], described["seconds"])
    commit(staging, chosen, reader, info)


def _annotations(infos: list[dict[str, Any]]) -> tuple[Annotation, ...]:
    """Give the columns of annotations of all matrices, their missing values added up."""
    described = [info.get("annotations", []) for info in infos]
    return tuple(
        Annotation.from_description(same[0]).counted(sum(one["cells_missing"] for one in same))
        for same in zip(*described, strict=True)
    )


def _together(
    infos: list[dict[str, Any]],
    matrices: list[dict[str, Any]],
    described: dict[str, Any],
    n_cells: int,
) -> dict[str, Any]:
    """Add up the provenance of single matrices."""
    first = infos[0]
    asked = described["cells_asked"]
    genes = [
        gene | {"absent_in": [m for info in infos for m in info["genes"][k]["absent_in"]]}
        for k, gene in enumerate(first["genes"])
    ]
    counts = {
        "cells_asked": asked,
        "cells": n_cells,
        "cells_missing": asked - n_cells,
        "cells_without_matrix": asked - sum(matrix["cells_asked"] for matrix in matrices),
        "rows_without_metadata": sum(matrix["rows_without_metadata"] for matrix in matrices),
        "blocks": sum(info["counts"]["blocks"] for info in infos),
    }
    kept = ("release", "metadata", "normalization", "atlas", "selection")
    return {name: first[name] for name in kept if name in first} | {
        "genes": genes,
        "counts": counts,
        "plan": described["plan"],
        "block_size": described["block_size"],
    }
