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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from abc_dask._version import FORMAT_VERSION
from abc_dask.acquire.columns import fetch_columns, require_columns
from abc_dask.acquire.fetch import fetch, fetch_each
from abc_dask.acquire.progress import FetchProgress
from abc_dask.base.errors import AbcDaskError, GeneError, ReleaseError, TableError
from abc_dask.base.messages import plural
from abc_dask.disk.files import cannot_write, remove, write_whole
from abc_dask.plan.inputs import Inputs
from abc_dask.plan.plan import annotations_identity
from abc_dask.plan.request import (
    Request,
    column_names,
    find_annotations,
    prepare,
    require_somewhere,
)
from abc_dask.release.annotation import Annotation
from abc_dask.release.cell_table import Assignment
from abc_dask.release.gene_names import Gene
from abc_dask.release.manifest import FileEntry
from abc_dask.run.cluster.connect import ClusterOptions, connected
from abc_dask.run.extraction import made_before, run, run_info
from abc_dask.run.fetched_files import FetchedFiles
from abc_dask.views.description import load_info, part_paths
from abc_dask.views.formats import problems
from abc_dask.views.overwrite import refuse_existing
from abc_dask.views.parquet_view import PartsReader
from abc_dask.views.publish import commit
from abc_dask.views.reader import load_order
from abc_dask.views.staging import MATRICES, Staging

if TYPE_CHECKING:
    from distributed import Client


def fetch_tables(inputs: Inputs, columns: Sequence[str], progress: FetchProgress) -> None:
    """Fetch the tables that say which cells and genes there are, and those of some annotations.

    Raises
    ------
    GeneError
        If there is no gene table to look genes up in before matrices are there.
    UsageError
        If no table has a column.
    DownloadError
        If they cannot be fetched.
    """
    if not inputs.gene_tables:
        raise GeneError(
            f"{inputs.metadata} has no gene table of its own to look genes up in before its "
            "matrices are fetched; name one with --gene-directory"
        )
    require_columns(inputs, columns, progress)
    fetch(inputs.release, inputs.tables, progress=progress)
    fetch_columns(inputs, columns, progress)


def _identity(
    inputs: Inputs, request: Request, genes: Sequence[Gene], assignments: list[Assignment]
) -> dict[str, Any]:
    """Return what tells this request from another; files count by size and hash."""
    names = column_names(genes, request.columns)
    annotations = find_annotations(inputs, request.annotate, names)
    selection = inputs.choose(request.cells)
    files = [a.feature_matrix.file for a in assignments]
    return {
        "format_version": FORMAT_VERSION,
        "release": inputs.release.version,
        "metadata": inputs.metadata,
        "normalization": request.normalization,
        "genes": [gene.key for gene in genes],
        "columns": list(names),
        "cell_selection": list(inputs.cells.state),
        "block_size": request.block_size,
        "inputs": {file.relative_path: [file.size, file.file_hash] for file in files},
        "matrix by matrix": True,
    } | (annotations_identity(annotations) | ({"selection": selection.digest} if selection else {}))


def fetch_and_extract(
    inputs: Inputs,
    request: Request,
    output: Path,
    cluster: ClusterOptions,
    *,
    shown: bool,
    **options: Any,
) -> None:
    """Fetch the tables that a request needs, then extract while its matrices are fetched.

    Parameters
    ----------
    inputs : Inputs
    request : Request
    output : Path
    cluster : ClusterOptions
        Where tasks run.
    shown : bool
        Show progress on stderr.
    **options
        format, overwrite, discard: as `extract_while_fetching`.
    """
    progress = FetchProgress(quiet=not shown)
    columns = [*request.annotate, *(request.cells.columns if request.cells else ())]
    fetch_tables(inputs, columns, progress)
    with connected(output=output, **cluster) as client:
        extract_while_fetching(inputs, request, output, client, progress=progress, **options)


def extract_while_fetching(
    inputs: Inputs,
    request: Request,
    output: Path,
    client: Client,
    *,
    format: str,
    overwrite: bool,
    discard: bool,
    progress: FetchProgress,
) -> Path:
    """Make a view whose inputs are fetched on the way.

    Parameters
    ----------
    inputs : Inputs
        Their tables are on disk.
    request : Request
    output, client, format, overwrite
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
    chosen = inputs.choose_genes(request.genes)
    genes = chosen.genes
    selection = inputs.choose(request.cells)
    assignments = inputs.assignments(request.normalization, selection)
    identity = _identity(inputs, request, genes, assignments)
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    told = {"plan": digest, "selection": selection and selection.report, "gene_list": chosen.report}
    if made_before(output, format, told, overwrite=overwrite, progress=not progress.quiet):
        return output
    staging = Staging.beside(output)
    with staging.locked():
        refuse_existing(output, overwrite=overwrite)
        try:
            staging.begin(identity, digest, overwrite=overwrite)
            (staging.folder / MATRICES).mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(staging.folder, error) from None
        places = {
            a.feature_matrix.file: staging.folder / MATRICES / f"{number:05d}.parquet"
            for number, a in enumerate(assignments)
        }
        notes = {entry: place.with_suffix(".fetched.json") for entry, place in places.items()}
        arrived = FetchedFiles(inputs.release, notes) if discard else None
        todo = []
        for assignment in assignments:
            file = assignment.feature_matrix.file
            if _load(places[file]) is None:
                todo.append(assignment)
            elif arrived is not None:
                arrived.discard(file)
        kept = len(assignments) - len(todo)
        _extract_each(inputs, request, todo, places, client, arrived=arrived, progress=progress)
        parts = [_load(places[a.feature_matrix.file]) for a in assignments]
        _publish(
            staging,
            format,
            [part for part in parts if part is not None],
            genes,
            described={
                "plan": digest,
                "block_size": request.block_size,
                "cells_asked": selection.n_chosen if selection else inputs.cells.n_cells,
                "kept": kept,
                "seconds": time.perf_counter() - began,
            },
        )
    return output


def _extract_each(
    inputs: Inputs,
    request: Request,
    todo: list[Assignment],
    places: dict[FileEntry, Path],
    client: Client,
    *,
    arrived: FetchedFiles | None,
    progress: FetchProgress,
) -> None:
    """Make the views of the matrices that have none; with `arrived`, discard their files."""
    assigned = {a.feature_matrix.file: a for a in todo}
    release = inputs.release
    arriving = fetch_each(
        release,
        list(assigned),
        progress=progress,
        ahead=None if arrived is None else 1,
        placing=None if arrived is None else arrived.note,
    )
    with contextlib.closing(arriving):
        for fetched in arriving:
            place = places[fetched.entry]
            remove(place)
            plan = prepare(inputs, request, only=assigned[fetched.entry])
            if plan.blocks:
                run(plan, place, "parquet", client, overwrite=True)
            else:
                write_whole(_without_cells(place), json.dumps(plan.provenance).encode())
            cells = plural(plan.n_cells, "cell")
            progress.note(f"{plan.matrices[0].feature_matrix_label}: {cells} extracted")
            if arrived is not None:
                arrived.discard(fetched.entry)


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
        return _Part(info, part_paths(place, info), load_order(place, info))
    except AbcDaskError:
        return None


def _publish(
    staging: Staging,
    format: str,
    parts: list[_Part],
    genes: Sequence[Gene],
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
    commit(staging, format, reader, info)


def _annotations(infos: list[dict[str, Any]]) -> tuple[Annotation, ...]:
    """Return the columns of annotations of all matrices, their missing values added up."""
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
    kept = ("release", "synthetic", "metadata", "normalization", "atlas", "selection", "gene_list")
    return {name: first[name] for name in (*kept, "places") if name in first} | {
        "genes": genes,
        "counts": counts,
        "plan": described["plan"],
        "block_size": described["block_size"],
    }
