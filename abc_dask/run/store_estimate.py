"""What the making of a store will read, write and take; as `abc_dask.run.estimate` of a view."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from abc_dask.plan.inputs import Inputs
from abc_dask.plan.request import Request
from abc_dask.run.build_store import plan_of_store, store_kind
from abc_dask.run.costs import Room, kept_rate
from abc_dask.run.estimate import PROCESS, ROW, Asked, Estimate
from abc_dask.run.make_store import is_made
from abc_dask.run.store_plan import StoreOptions, StorePlan
from abc_dask.store.arena import arena_bytes
from abc_dask.store.build import values_of

# What a task holds beside its arena: pieces of rows, or a shard and what is read back of it.
_TASK = 150e6


@dataclass(frozen=True)
class StoreEstimate(Estimate):
    """What the making of a store will read, write and take.

    Attributes
    ----------
    n_values : int
        Stored values that are read; 0 where files are missing. `n_matrices`, `n_blocks` and
        `bytes_to_read` are those of this work, `n_cells` those of the store.
    """

    n_values: int = 0

    @property
    def lines(self) -> dict[str, str]:
        """What there is to say, by its name."""
        lines = super().lines
        if self.n_values:
            lines["read"] = f"{self.n_values:,} stored values, {lines['read']}".replace(
                " of stored values, decoded", " decoded"
            )
        return lines

    @property
    def _unmeasured(self) -> str:
        return "not known: no store like it was built on this machine yet"


class _AskedStore(Asked):
    estimate_class = StoreEstimate


def estimate_store(
    inputs: Inputs, options: StoreOptions, output: Path, add_to: str | Path | None
) -> Estimate:
    """Return what the making of a store will read, write and take.

    Parameters
    ----------
    inputs : Inputs
    options : StoreOptions
    output : Path
    add_to : path or None
        Store whose cells come first; the matrices that it holds need not be there.

    Raises
    ------
    AbcDaskError
        As `abc_dask.run.build_store.plan_of_store`; where there is no `add_to`, matrices and
        tables that are missing are no error.
    """
    request = Request.of(None, options.normalization, annotate=options.annotate)
    asked = _AskedStore("store", inputs, request, output, "store")
    if asked.missing and add_to is None:
        return asked.without_files()
    plan = plan_of_store(inputs, options, add_to, None)
    return _of_plan(plan, asked)


def _of_plan(plan: StorePlan, asked: Asked) -> Estimate:
    from dask.system import CPU_COUNT

    n_read, options = plan.bytes_to_read, plan.options
    rate = kept_rate(store_kind(plan), n_read)
    if rate is not None and rate.kind == "test":  # packing takes many times what reading does
        rate = None
    n_genes, n_rows = len(plan.genes), sum(file.n_rows for file in plan.files)
    task = _TASK + arena_bytes(options.block_cells, n_genes)
    return asked.told(
        _room(plan),
        n_cells=plan.n_cells,
        n_genes=n_genes,
        n_matrices=len(plan.rows),
        n_blocks=plan.n_blocks,
        n_values=plan.n_stored,
        bytes_to_read=n_read,
        bytes_of_memory=int(PROCESS + min(CPU_COUNT, plan.n_blocks) * task + ROW * n_rows),
        seconds=None if rate is None else rate.seconds_for(n_read),
        measured=rate,
        is_there=is_made(asked.output, plan.digest, options.precompute),
    )


def _room(plan: StorePlan) -> Room:
    """Return what a store takes, whatever its values are."""
    values = values_of(plan.files, plan.options.normalization)
    if values.kind == "counts":
        return plan.room
    n_bytes = plan.n_stored * np.dtype(values.dtype).itemsize  # which hardly become smaller
    return Room(n_bytes + plan.bytes_before, 2 * n_bytes + plan.bytes_before, 0)
