"""The making of a store while its matrices are fetched: two or three of them lie on disk.

Blocks are packed as soon as all their rows are there; a block may hold the last rows of one
matrix and the first ones of the next. A matrix file can be removed once all blocks that need it
have receipts. What else a store must know of a matrix is written down when it arrives, so that
a run that was stopped goes on without fetching again what is packed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abc_dask.acquire.fetch import fetch_each
from abc_dask.acquire.fetch_plan import plan_fetch
from abc_dask.acquire.progress import FetchProgress
from abc_dask.base.columns import GENE_IDENTIFIER
from abc_dask.base.errors import StoreError, TableError
from abc_dask.base.messages import plural
from abc_dask.plan.inputs import Inputs
from abc_dask.plan.request import find_annotations
from abc_dask.plan.row_table import align_rows
from abc_dask.run.fetched_files import FetchedFiles
from abc_dask.run.fetching import fetch_tables
from abc_dask.run.make_store import (
    Making,
    Precompute,
    Runner,
    on_cluster,
    require_place,
    store_made,
)
from abc_dask.run.store_plan import (
    StoreOptions,
    digest_of,
    gene_frame,
    identity_of,
    nowhere,
    provenance_of,
    require_terms,
)
from abc_dask.run.store_tasks import StoreTask
from abc_dask.run.store_values import start_again, values_held
from abc_dask.run.store_work import (
    StoreWork,
    TakenMatrix,
    load_matrix,
    matrix_path,
    save_genes,
    take_matrix,
)
from abc_dask.store.build import require_layout, values_of
from abc_dask.store.packing import WideCountsError
from abc_dask.store.tasks import Values
from abc_dask.views.staging import MATRICES, Staging

if TYPE_CHECKING:
    from distributed import Client

# Matrices that lie on disk beside the one that is being packed: the one before, whose last
# rows wait for others to fill their block, and the one that comes. Where they arrive out of
# order there may be one more.
_BESIDE = 2


def build_while_fetching(
    inputs: Inputs,
    options: StoreOptions,
    output: Path,
    connect: Callable[[], AbstractContextManager[Client]],
    *,
    precompute: Callable[[Client], Precompute],
    overwrite: bool,
    discard: bool,
    progress: bool,
) -> Path:
    """Make a store whose matrices are fetched on the way.

    Parameters
    ----------
    inputs : Inputs
        The gene table says which genes there are; those that no matrix has are left out in
        the end.
    options : StoreOptions
    output : Path
        Where the store will be.
    connect : callable
        Returns a context with the `distributed.Client` where tasks run.
    precompute : callable
        Returns what adds statistics, on a client.
    overwrite : bool
        Replace a finished store at `output`, or another request's unfinished one.
    discard : bool
        Remove each matrix file that was fetched for this store once its rows are packed.
    progress : bool
        Show progress on stderr.

    Returns
    -------
    Path
        `output`.

    Raises
    ------
    StoreError
        If a matrix has a gene that the gene table lacks, or values of another kind than those
        before it.
    AbcDaskError
        As `run_store` and `fetch`; the same call goes on where this one stopped.
    """
    began = time.perf_counter()
    require_layout(options.layout, options.block_cells)
    told = FetchProgress(quiet=not progress)
    fetch_tables(inputs, options.annotate, told)
    annotations = find_annotations(inputs, options.annotate, ())
    require_terms(options.precompute, annotations)
    assignments = inputs.assignments(options.normalization)
    genes = gene_frame(inputs, list(inputs.gene_names().by_identifier.values()))
    entries = [a.feature_matrix.file for a in assignments]
    files = {entry.relative_path: [entry.size, entry.file_hash] for entry in entries}
    identity = identity_of(inputs, options, genes, annotations, files) | {"matrix by matrix": True}
    work = StoreWork(
        identity=identity,
        digest=digest_of(identity),
        matrices=(),
        n_genes=len(genes),
        annotations=annotations,
        normalization=options.normalization,
        layout=options.layout,
        block_cells=options.block_cells,
        provenance={},
        precompute=options.precompute,
    )
    if store_made(output, work.digest, work.precompute, overwrite=overwrite, progress=progress):
        return output
    staging = Staging.beside(output)
    with connect() as client, staging.locked():
        require_place(output, overwrite=overwrite)
        staging.begin(identity, work.digest, overwrite=overwrite)
        staging.begin_parts({})
        folder = staging.folder / MATRICES
        folder.mkdir(exist_ok=True)
        save_genes(genes, folder)
        run = on_cluster(client, staging)
        while True:
            packing = _Packing(inputs, work, staging, run, discard=discard, progress=told)
            try:
                kept = packing.pack_all()
                break
            except WideCountsError:
                told.note("a count needs four bytes: all matrices are read once more")
                start_again(packing.values, staging)
        making = packing.whole(options)
        kept += making.assemble(run, show=progress)
        making.finish(precompute(client), kept=kept, seconds=time.perf_counter() - began)
    return output


class _Packing:
    """Matrices that arrive, and the blocks that can be packed of them."""

    def __init__(
        self,
        inputs: Inputs,
        work: StoreWork,
        staging: Staging,
        run: Runner,
        *,
        discard: bool,
        progress: FetchProgress,
    ) -> None:
        self._inputs, self._work, self._staging, self._run = inputs, work, staging, run
        self._progress = progress
        self._assignments = inputs.assignments(work.normalization)
        self._entries = [a.feature_matrix.file for a in self._assignments]
        self._folder = staging.folder / MATRICES
        self._taken = [load_matrix(self._folder, k) for k in range(len(self._entries))]
        notes = {e: matrix_path(self._folder, k, "fetched") for k, e in enumerate(self._entries)}
        self._fetched = FetchedFiles(inputs.release, notes) if discard else None
        # matrices whose file was found to be there, and blocks that are packed
        self._arrived: set[int] = set()
        self._done: set[int] = set()

    @property
    def values(self) -> Values:
        """What the store holds, as the first matrix that arrived shows."""
        held = [m.planned.matrix for m in self._taken if m is not None and m.n_cells]
        return values_held(held[:1], self._work.normalization, self._staging)

    def pack_all(self) -> int:
        """Fetch what is missing and pack all blocks; return how many were there before."""
        if self._placed():
            making = self._making(self._placed())
            self._done |= making.trusted(self._whole_blocks(making))
        kept = len(self._done)
        self._discard()
        whole_round = True
        while todo := [k for k in range(len(self._entries)) if self._is_missing(k)]:
            whole_round = self._fetch(todo if whole_round else todo[:1])
        return kept

    def whole(self, options: StoreOptions) -> Making:
        """Return what puts the store together when all blocks are packed."""
        taken = [matrix for matrix in self._taken if matrix is not None]
        held = [matrix for matrix in taken if matrix.n_cells]
        if not held:
            raise nowhere(self._inputs)
        order = np.concatenate([matrix.cells()[1] for matrix in held])
        if len(np.unique(order)) != len(order):
            raise TableError("a cell is in more than one feature matrix")
        planned = [matrix.planned for matrix in taken]
        provenance = provenance_of(self._inputs, options, planned)
        making = self._making(held)
        return replace(making, work=replace(making.work, provenance=provenance))

    def _making(self, held: Sequence[TakenMatrix]) -> Making:
        return Making(replace(self._work, matrices=tuple(held)), self.values, self._staging)

    def _placed(self) -> list[TakenMatrix]:
        """Return the matrices whose cells are known to have their place, those without left out."""
        placed = takewhile(lambda matrix: matrix is not None, self._taken)
        return [matrix for matrix in placed if matrix is not None and matrix.n_cells]

    def _whole_blocks(self, making: Making) -> list[StoreTask]:
        """Return the blocks that no further matrix adds a cell to."""
        is_last = all(matrix is not None for matrix in self._taken)
        most = self._work.block_cells
        return [task for task in making.blocks() if is_last or task.amount == most]

    def _is_missing(self, number: int) -> bool:
        """Return whether a file is needed that was not seen yet."""
        return number not in self._arrived and self._is_needed(number)

    def _is_needed(self, number: int) -> bool:
        """Return whether a block is to be packed of a matrix, or may be."""
        matrix = self._taken[number]
        if matrix is None:
            return True
        if not matrix.n_cells:
            return False
        before = self._taken[:number]
        if any(other is None for other in before):
            return True
        first = sum(other.n_cells for other in before if other is not None)
        most = self._work.block_cells
        blocks = range(first // most, -(-(first + matrix.n_cells) // most))
        return not self._done.issuperset(blocks)

    def _fetch(self, numbers: Sequence[int]) -> bool:
        """Fetch some matrices and pack their blocks; False if an early one did not come."""
        release = self._inputs.release
        entries = [self._entries[k] for k in numbers]
        ahead, placing = None, None
        if self._fetched is not None:
            ahead, placing = 1, self._fetched.note
            plan_fetch(release, entries).require_room(release.download_base, _BESIDE)
        arriving = fetch_each(
            release, entries, progress=self._progress, ahead=ahead, placing=placing
        )
        with contextlib.closing(arriving):
            for fetched in arriving:
                self._take(self._entries.index(fetched.entry))
                self._pack()
                self._discard()
                if self._fetched is not None and self._n_waiting() >= _BESIDE:
                    return False
        return True

    def _n_waiting(self) -> int:
        """Return how many files lie on disk that wait for one before them."""
        first = next((k for k, matrix in enumerate(self._taken) if matrix is None), None)
        return 0 if first is None else sum(k > first for k in self._arrived)

    def _take(self, number: int) -> None:
        """Write down what the store must know of a matrix whose file is there."""
        assignment = self._assignments[number]
        (rows,) = align_rows(self._inputs, [assignment], None, (), None)
        before = self._taken[number]
        if before is not None and before.n_cells != int(rows.wanted.sum()):
            raise StoreError(
                f"{rows.index.matrix.path} has {plural(int(rows.wanted.sum()), 'cell')}, but "
                f"{before.n_cells:,} when it was read before; remove {self._staging.folder} and "
                "run the command again"
            )
        genes = pd.Index(self._work.genes(self._folder)[GENE_IDENTIFIER])
        taken = take_matrix(rows, genes, self._folder, number)
        self._taken[number] = taken
        self._arrived.add(number)
        if not taken.n_cells:
            return
        matrix, expected = taken.planned.matrix, self.values
        found = values_of([matrix], self._work.normalization)
        if (found.kind, found.source_dtype) != (expected.kind, expected.source_dtype):
            raise StoreError(
                f"{matrix.path} holds {found.kind} of {found.source_dtype}, others hold "
                f"{expected.kind} of {expected.source_dtype}: fetch all matrices first and build "
                "without --fetch"
            )

    def _pack(self) -> None:
        """Pack the blocks whose files are all there."""
        placed = self._placed()
        if not placed:
            return
        making = self._making(placed)
        there = {
            matrix.planned.matrix.path
            for number, matrix in enumerate(self._taken)
            if matrix is not None and number in self._arrived
        }
        ready = [
            task
            for task in self._whole_blocks(making)
            if task.number not in self._done
            and all(segment.matrix.path in there for segment in task.segments)
        ]
        if ready:
            making.pack(self._run, show=False, tasks=ready)
            self._done |= {task.number for task in ready}
            n_cells = sum(task.amount for task in ready)
            self._progress.note(f"{plural(n_cells, 'cell')} packed")

    def _discard(self) -> None:
        """Remove the files that were fetched and that no block needs any more."""
        if self._fetched is not None:
            for number, entry in enumerate(self._entries):
                if not self._is_needed(number):
                    self._fetched.discard(entry)
