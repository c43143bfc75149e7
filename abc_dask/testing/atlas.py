"""Write the synthetic atlas: plan, matrices (in parallel if asked), tables, manifest."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt

from abc_dask.testing.cells import MATRICES, Cells, draw_cells, plan_matrices
from abc_dask.testing.genes import N_GENES, gene_table
from abc_dask.testing.matrix import Job, Progress, Written, write_matrix
from abc_dask.testing.quirks import Quirks
from abc_dask.testing.tables import (
    METADATA_DIRECTORY,
    TAXONOMY_DIRECTORY,
    ListedFile,
    file_entry,
    manifest,
    metadata_order,
    write_gene_table,
    write_manifest,
    write_metadata,
    write_regions,
    write_taxonomy,
)

MatrixKey = tuple[str, str, str]

_NORMALIZATIONS = ("log2", "raw")


@dataclass(frozen=True, kw_only=True)
class SyntheticAtlas:
    """What `write_atlas` has written.

    Attributes
    ----------
    download_base
        The folder that holds the release.
    release, metadata_directory
        Version of the release, and the directory of its metadata (``WMB-10X``).
    n_cells, n_rows, n_values
        Rows of cell_metadata.csv, rows of all matrices, stored values of one normalization.
    manifest
        Path of manifest.json.
    matrices
        Path of each h5ad file by (dataset_label, feature_matrix_label, normalization).
    cells, rows
        Cells in the metadata (each label once) and rows in the file, by feature_matrix_label.
    unlisted_rows
        Labels of the rows that the metadata does not list, by feature_matrix_label.
    missing_cells
        Labels of the cells in the metadata that their matrices lack.
    duplicate_labels
        Labels that stand twice, in a matrix or in the metadata.
    """

    download_base: Path
    release: str
    metadata_directory: str
    n_cells: int
    n_rows: int
    n_values: int
    manifest: Path
    matrices: Mapping[MatrixKey, Path]
    cells: Mapping[str, int]
    rows: Mapping[str, int]
    unlisted_rows: Mapping[str, tuple[str, ...]]
    missing_cells: tuple[str, ...]
    duplicate_labels: tuple[str, ...]

    @property
    def metadata(self) -> Path:
        """Folder of the tables."""
        return self.download_base / "metadata" / self.metadata_directory / self.release

    @property
    def cell_metadata(self) -> Path:
        """Path of cell_metadata.csv."""
        return self.metadata / "cell_metadata.csv"

    @property
    def annotated(self) -> Path:
        """Path of cell_metadata_with_cluster_annotation.csv."""
        return self.metadata / "views" / "cell_metadata_with_cluster_annotation.csv"


def _run(jobs: list[Job], workers: int, progress: Progress | None) -> list[Written]:
    """Write the matrices, the large ones first where there are several processes."""
    if workers <= 1 or len(jobs) <= 1:
        return [write_matrix(job, progress) for job in jobs]
    written: dict[str, Written] = {}
    # spawned, not forked: the caller may have threads (Dask's, HDF5's)
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
        by_size = sorted(jobs, key=lambda job: job.plan.n_cells * job.plan.mean_values)
        futures = {pool.submit(write_matrix, job): job for job in reversed(by_size)}
        for future in as_completed(futures):
            plan = futures[future].plan
            written[plan.name] = future.result()
            if progress is not None:
                progress(plan.name, plan.n_cells, plan.n_cells)
    return [written[job.plan.name] for job in jobs]


def _chosen_matrices(matrices: int | Collection[str] | None, quirks: Quirks) -> list[int]:
    names = [matrix.name for matrix in MATRICES]
    if isinstance(matrices, int) and not 1 <= matrices <= len(names):
        raise ValueError(f"matrices={matrices}: expected 1 to {len(names)}, or names")
    if matrices is None or isinstance(matrices, int):
        wanted = names[:matrices]
    else:
        wanted = [name for name in names if name in matrices]
    unknown = {*quirks.named_matrices()}.difference(names)
    if matrices is not None and not isinstance(matrices, int):
        unknown |= set(matrices).difference(names)
    if unknown:
        raise ValueError(f"no feature matrix is called {sorted(unknown)}; there are {names}")
    return [names.index(name) for name in wanted]


def _write_tables(
    atlas: Path, release: str, drawn: list[Cells], job: Job
) -> tuple[int, list[ListedFile]]:
    """Write the metadata directory; give the number of rows and the entries of the manifest."""
    directory = atlas / "metadata" / METADATA_DIRECTORY / release
    (directory / "views").mkdir(parents=True, exist_ok=True)
    n_cells = write_metadata(directory, drawn, job.seed, job.quirks)
    write_gene_table(directory, job.n_genes)
    write_regions(directory)
    folders = {METADATA_DIRECTORY: directory}
    if job.quirks.no_annotated_view:
        folders[TAXONOMY_DIRECTORY] = atlas / "metadata" / TAXONOMY_DIRECTORY / release
        write_taxonomy(folders[TAXONOMY_DIRECTORY])
    files: list[ListedFile] = []
    for name, folder in folders.items():
        for path in sorted(folder.rglob("*.csv")):
            place = path.relative_to(atlas).as_posix()
            entry = {"relative_path": place} | file_entry(path, job.quirks)
            files.append((name, "metadata", (path.stem, "csv"), entry))
    return n_cells, files


def _labels(cells: Cells, positions: npt.NDArray[np.int64]) -> tuple[str, ...]:
    return tuple(cells.labels(positions).astype(str).tolist())


def _oddities(
    drawn: list[Cells], seed: int, quirks: Quirks
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...], tuple[str, ...]]:
    """Return the labels that the metadata lacks, that the matrices lack, and that stand twice."""
    unlisted: dict[str, tuple[str, ...]] = {}
    missing: list[str] = []
    duplicates: list[str] = []
    for cells in drawn:
        rows = cells.rows
        unlisted[cells.plan.name] = _labels(cells, rows[~cells.listed[rows]])
        missing += _labels(cells, np.setdiff1d(np.flatnonzero(cells.listed), rows))
        values, counts = np.unique(rows, return_counts=True)
        duplicates += _labels(cells, values[counts > 1])
    if quirks.duplicate_metadata_label:
        owner, position = metadata_order(drawn, seed)
        duplicates += _labels(drawn[owner[0]], position[:1])
    return unlisted, tuple(missing), tuple(duplicates)


def write_atlas(
    download_base: str | Path,
    *,
    scale: float = 0.0025,
    seed: int = 0,
    release: str = "20250531",
    normalizations: Sequence[str] = _NORMALIZATIONS,
    n_genes: int = N_GENES,
    matrices: int | Collection[str] | None = None,
    compression: str | None = None,
    chunk_values: int = 20_000,
    even: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
    quirks: Quirks | None = None,
) -> SyntheticAtlas:
    """Write a release like that of the whole mouse brain, of any size.

    The bytes follow from the arguments, whatever `workers` is; a feature matrix comes out the
    same whichever others are written. Memory stays at some tens of megabytes a worker; the
    labels of the metadata take about 100 bytes a cell.

    Parameters
    ----------
    download_base
        Folder to write into; files of an earlier atlas there are replaced.
    scale
        Share of the 4,042,976 cells of the real release. The matrices keep their proportions and
        have four cells at least.
    seed
        Everything random follows from it.
    release
        Version of the release and of every file.
    normalizations
        Which of ``log2`` and ``raw`` to write. ``raw`` holds integer counts, ``log2`` is
        log2(CPM + 1) of the same.
    n_genes
        Genes a matrix, at least 10. The real release has 32,285, of which a cell shows 4,660.
    matrices
        Names of the feature matrices to write, or how many (the first ones); all 24 if None.
    compression
        HDF5 compression as h5py takes it (``gzip``, ``lzf``), none if None.
    chunk_values
        Elements of an HDF5 chunk.
    even
        Give all matrices the same number of cells and of stored values.
    workers
        Processes to write with. They are spawned, so a script that asks for more than one keeps
        its own doings under ``if __name__ == "__main__"``.
    progress
        Called with (feature_matrix_label, rows done, rows in all): after each block of rows, or
        with several workers after each matrix.
    quirks
        What is odd about the atlas.

    Returns
    -------
    SyntheticAtlas
        What was written where.

    Raises
    ------
    ValueError
        An argument names a matrix, gene or normalization that does not exist, or asks for fewer
        than ten genes or no cells.
    """
    quirks = quirks or Quirks()
    if not normalizations or set(normalizations).difference(_NORMALIZATIONS):
        raise ValueError(f"normalizations={normalizations}: expected some of {_NORMALIZATIONS}")
    numbers = _chosen_matrices(matrices, quirks)
    plans = plan_matrices(numbers, scale=scale, even=even, n_missing=quirks.missing_cells)
    gene_table(n_genes)
    base = Path(download_base)
    jobs = []
    for plan in plans:
        folder = base / "expression_matrices" / plan.matrix.dataset_label / release
        folder.mkdir(parents=True, exist_ok=True)
        paths = {kind: folder / f"{plan.name}-{kind}.h5ad" for kind in normalizations}
        jobs.append(Job(plan, seed, n_genes, quirks, paths, chunk_values, compression))
    written = _run(jobs, workers, progress)

    drawn = [draw_cells(plan, seed, n_genes, quirks) for plan in plans]
    n_cells, files = _write_tables(base, release, drawn, jobs[0])
    keyed = {}
    for job, result in zip(jobs, written, strict=True):
        dataset, name = job.plan.matrix.dataset_label, job.plan.name
        for kind, path in job.paths.items():
            entry = {"relative_path": path.relative_to(base).as_posix(), **result.files[kind]}
            files.append((dataset, "expression_matrices", (name, kind, "h5ad"), entry))
            keyed[dataset, name, kind] = path
    manifest_path = base / "releases" / release / "manifest.json"
    write_manifest(manifest_path, manifest(release, files))

    unlisted, missing, duplicates = _oddities(drawn, seed, quirks)
    return SyntheticAtlas(
        download_base=base,
        release=release,
        metadata_directory=METADATA_DIRECTORY,
        n_cells=n_cells,
        n_rows=sum(len(cells.rows) for cells in drawn),
        n_values=sum(result.n_values for result in written),
        manifest=manifest_path,
        matrices=keyed,
        cells={plan.name: plan.n_cells for plan in plans},
        rows={cells.plan.name: len(cells.rows) for cells in drawn},
        unlisted_rows=unlisted,
        missing_cells=missing,
        duplicate_labels=duplicates,
    )
