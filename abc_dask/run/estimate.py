"""What a request will read, write and take, before anything is read but the kept tables."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from abc_dask.base.callers import in_words_of_caller
from abc_dask.base.messages import enumerate_names, format_bytes, html_table, plural
from abc_dask.plan.inputs import Inputs
from abc_dask.plan.plan import Plan
from abc_dask.plan.request import Request, prepare
from abc_dask.plan.subset import plan_subset
from abc_dask.release.cell_table import Assignment
from abc_dask.release.manifest import FileEntry
from abc_dask.run.costs import Rate, Room, bytes_read, free_bytes, free_text, kept_rate, rate_kind
from abc_dask.views.overwrite import held_info, is_same

# The process with its libraries and compiled loops, what a task holds beside its result (of whole
# rows, pieces of a bounded number of values), and what is known of each row as blocks are planned.
PROCESS, _TASK, ROW = 300e6, {"extract": 20e6, "cells": 180e6}, 40

# Copies of its result that a task holds: as read, in order, as Arrow has it.
_COPIES = 3

# Bytes of a stored value and its index in a file without filters.
_STORED = 8

_NOT_KNOWN = "not known before all files are there"


@dataclass(frozen=True)
class Estimate:
    """What a request will read, write and take.

    Attributes
    ----------
    output : Path
    n_cells, n_genes, n_matrices, n_blocks : int
        Of the result; where files are missing, cells are those that the metadata says, and
        blocks are 0.
    bytes_to_read : int
        Stored values and indices that tasks decode; where files are missing, the bytes of all
        files.
    bytes_out : int
        About what the output takes on disk.
    bytes_at_once : int
        About what it takes together with what lies beside it until the end.
    bytes_least : int
        What both surely take.
    bytes_free : int or None
        Of the output's file system, where that tells.
    bytes_of_memory : int
        About what this process takes with a thread a core.
    seconds : float or None
        About how long it takes, by an earlier run; None where there was none.
    measured : Rate or None
        That run.
    missing : tuple of str
        Files under download_base that are not there.
    bytes_missing : int
        Their bytes.
    is_there : bool
        Whether the output is there already, made for the same request.
    """

    output: Path
    n_cells: int
    n_genes: int
    n_matrices: int
    n_blocks: int
    bytes_to_read: int
    bytes_out: int
    bytes_at_once: int
    bytes_least: int
    bytes_free: int | None
    bytes_of_memory: int
    seconds: float | None
    measured: Rate | None = None
    missing: tuple[str, ...] = field(default=(), repr=False)
    bytes_missing: int = 0
    is_there: bool = False

    @property
    def lines(self) -> dict[str, str]:
        """What there is to say, by its name."""
        is_partial = bool(self.missing)
        there = "; is there already, made for the same request" if self.is_there else ""
        if not there and os.path.lexists(self.output):
            there = "; exists, of another request: --overwrite replaces it"
        blocks = "" if is_partial else f" in {plural(self.n_blocks, 'block')}"
        read = f"about {format_bytes(self.bytes_to_read)} of "
        free = free_text(self.bytes_free)
        lines = {
            "output": f"{self.output}{in_words_of_caller(there)}",
            "cells": f"{self.n_cells:,}",
            "genes": f"{self.n_genes:,}" if self.n_genes else "all",
            "matrices": f"{plural(self.n_matrices, 'feature matrix')}{blocks}",
            "read": read + ("files" if is_partial else "stored values, decoded"),
            "write": f"about {format_bytes(self.bytes_out)}, with what lies beside it until the "
            f"end {format_bytes(self.bytes_at_once)}; {free}",
            "memory": f"about {format_bytes(self.bytes_of_memory)}",
            "time": self._time,
        }
        if is_partial and not self.n_matrices:  # tables are missing, not matrices alone
            lines |= dict.fromkeys(("cells", "genes", "matrices", "write", "memory"), _NOT_KNOWN)
        if is_partial:
            names = enumerate_names(self.missing, most=5)
            size = format_bytes(self.bytes_missing)
            lines["missing"] = f"{plural(len(self.missing), 'file')}, {size}: {names}"
        return lines

    @property
    def _time(self) -> str:
        if self.missing:
            return _NOT_KNOWN
        if self.measured is None or self.seconds is None:
            return self._unmeasured
        what = "a reading test" if self.measured.kind == "test" else "a run"
        return (
            f"about {self.seconds:.1f} s, an estimate: {what} of "
            f"{format_bytes(self.measured.n_bytes)} took {self.measured.seconds:.1f} s here"
        )

    @property
    def _unmeasured(self) -> str:
        return "not known: nothing like it was measured on this machine yet (abc-dask doctor)"

    def to_json(self) -> dict[str, Any]:
        """Return the numbers as JSON-serialisable values."""
        return dataclasses.asdict(self) | {"output": str(self.output)}

    def __str__(self) -> str:
        """Return a line for each number."""
        return "\n".join(f"{name:<9}{text}" for name, text in self.lines.items())

    def _repr_html_(self) -> str:
        return html_table(self.lines)


def estimate_view(inputs: Inputs, request: Request, output: Path, format: str) -> Estimate:
    """Return what an extraction will read, write and take.

    Parameters
    ----------
    inputs : Inputs
    request : Request
    output, format
        As `abc_dask.run.extraction.check_output` returns them.

    Raises
    ------
    AbcDaskError
        As `abc_dask.plan.request.prepare`; matrices and tables that are missing are no error.
    """
    asked = Asked("extract", inputs, request, output, format)
    if asked.missing:
        return asked.without_files()
    plan = prepare(inputs, request)
    room = Room.of_view(plan, format)
    of_cell = len(plan.genes) * np.dtype(plan.dtype).itemsize
    return asked.estimate(plan, room, bytes_read(plan, all_genes=False), of_cell)


def estimate_subset(
    inputs: Inputs, request: Request, output: Path, format: str, *, in_common: bool
) -> Estimate:
    """Return what chosen cells with their genes will read, write and take; as `estimate_view`."""
    asked = Asked("cells", inputs, request, output, format)
    if asked.missing:
        return asked.without_files()
    subset = plan_subset(inputs, request, in_common=in_common)
    n_read = bytes_read(subset.plan, all_genes=True)
    # rows are read and written in pieces, however many there are
    return asked.estimate(subset.plan, Room.of_subset(subset), n_read, 0)


def missing_files(inputs: Inputs, request: Request) -> list[FileEntry]:
    """Return the files that a request reads and that are not there.

    Where tables of the cells are among them, nobody knows of the matrices yet.
    """
    release = inputs.release
    tables = [entry for entry in inputs.tables if not release.is_present(entry)]
    if tables:
        return tables
    assigned = inputs.assignments(request.normalization, inputs.choose(request.cells))
    files = [a.feature_matrix.file for a in assigned]
    return [entry for entry in files if not release.is_present(entry)]


class Asked:
    """A request, and what of its files is missing."""

    estimate_class: type[Estimate] = Estimate

    def __init__(
        self, kind: str, inputs: Inputs, request: Request, output: Path, format: str
    ) -> None:
        self.kind, self.inputs, self.request = kind, inputs, request
        self.output, self.format = output, format
        self.missing = missing_files(inputs, request)

    def estimate(self, plan: Plan, room: Room, n_read: int, of_cell: int) -> Estimate:
        """Return what a plan will take; `of_cell` is the bytes of a cell in a task's memory."""
        from dask.system import CPU_COUNT

        rate = kept_rate(rate_kind(self.kind, [m.matrix for m in plan.matrices]), n_read)
        held = held_info(self.output, self.format) or {}
        n_rows = sum(matrix.matrix.n_rows for matrix in plan.matrices)
        task = _TASK[self.kind] + _COPIES * of_cell * max(
            (b.n_cells for b in plan.blocks), default=0
        )
        return self.told(
            room,
            n_cells=plan.n_cells,
            n_genes=len(plan.genes),
            n_matrices=len(plan.matrices),
            n_blocks=len(plan.blocks),
            bytes_to_read=n_read,
            bytes_of_memory=int(PROCESS + CPU_COUNT * task + ROW * n_rows),
            seconds=None if rate is None else rate.seconds_for(n_read),
            measured=rate,
            is_there=is_same(held, plan.provenance),
        )

    def without_files(self) -> Estimate:
        """Return what can be said by the tables that are there and the sizes of files."""
        inputs, request = self.inputs, self.request
        n_cells = n_matrices = n_genes = 0
        assigned: Sequence[Assignment] = ()
        files = {entry.relative_path: entry for entry in self.missing}
        if not any(entry in inputs.tables for entry in self.missing):
            selection = inputs.choose(request.cells)
            n_cells = inputs.cells.n_cells if selection is None else selection.n_chosen
            assigned = inputs.assignments(request.normalization, selection)
            files |= {a.feature_matrix.file.relative_path: a.feature_matrix.file for a in assigned}
            n_matrices = len(assigned)
            if request.genes is not None and inputs.gene_tables:
                n_genes = len(inputs.choose_genes(request.genes).genes)
        n_annotations = len(request.annotate)
        if self.kind == "extract":
            room = Room.of_genes(self.format, n_cells, n_genes, n_annotations)
        else:
            n_stored = 0
            if self.kind == "store":  # all that the matrices hold, by the bytes of plain files
                n_stored = sum(a.feature_matrix.file.size for a in assigned) // _STORED
            room = replace(Room.of_rows(self.kind, n_cells, n_stored, n_annotations), least=0)
        return self.told(
            room,
            n_cells=n_cells,
            n_genes=n_genes,
            n_matrices=n_matrices,
            n_blocks=0,
            bytes_to_read=sum(entry.size for entry in files.values()),
            bytes_of_memory=int(PROCESS + ROW * n_cells),
            seconds=None,
            missing=tuple(entry.relative_path for entry in self.missing),
            bytes_missing=sum(entry.size for entry in self.missing),
        )

    def told(self, room: Room, **found: Any) -> Estimate:
        """Return an estimate of this request with what was found out."""
        return self.estimate_class(
            output=self.output,
            bytes_out=room.out,
            bytes_at_once=room.at_once,
            bytes_least=room.least,
            bytes_free=free_bytes(self.output),
            **found,
        )
