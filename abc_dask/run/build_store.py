"""Which way a store is made: of files on disk, while they are fetched, or behind another store."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from abc_dask.base.errors import UsageError
from abc_dask.plan.inputs import Inputs
from abc_dask.plan.row_table import Looking
from abc_dask.run.cluster.connect import ClusterOptions, connected
from abc_dask.run.costs import keep_rate, rate_kind
from abc_dask.run.fetch_store import build_while_fetching
from abc_dask.run.fetched_files import require_fetch
from abc_dask.run.make_store import Precompute, require_place, run_store, store_made
from abc_dask.run.store_addition import plan_addition
from abc_dask.run.store_plan import StoreOptions, StorePlan, plan_store
from abc_dask.store.description import BLOCK_CELLS
from abc_dask.store.folder import folder_of, is_store
from abc_dask.store.gene_store import GeneStore, open_store

if TYPE_CHECKING:
    from distributed import Client


def plan_of_store(
    inputs: Inputs, options: StoreOptions, add_to: str | Path | None, progress: Looking | None
) -> StorePlan:
    """Plan a store, of its own or behind the cells of another; as `Atlas.plan_store`."""
    if add_to is None:
        return plan_store(inputs, options, progress=progress)
    older = open_store(Path(add_to).expanduser().absolute())
    options = options.with_blocks_of(older.info.block_cells)
    return plan_addition(inputs, options, older, progress=progress)


def build_store(
    inputs: Inputs,
    output: Path,
    options: StoreOptions,
    cluster: ClusterOptions,
    precompute: Callable[[Client], Precompute],
    *,
    overwrite: bool,
    fetch: bool,
    add_to: str | Path | None,
    discard: bool,
    looking: Looking | None,
) -> None:
    """Make a store; parameters and errors as `Atlas.build_store`.

    `precompute` returns what adds statistics, on a client.
    """
    require_fetch(discard=discard, fetch=fetch)
    if fetch and add_to is not None:
        raise UsageError("what is added to a store must be on disk; fetch it before")
    if not is_store(output):  # whether that is of the same request is known once there is a plan
        require_place(output, overwrite=overwrite)
    shown = looking is not None

    def connect() -> AbstractContextManager[Client]:
        return connected(output=output, **cluster)

    if fetch:
        build_while_fetching(
            inputs,
            options.with_blocks_of(BLOCK_CELLS),
            output,
            connect,
            precompute=precompute,
            overwrite=overwrite,
            discard=discard,
            progress=shown,
        )
        return
    plan = plan_of_store(inputs, options, add_to, looking)
    columns = options.precompute
    if store_made(output, plan.digest, columns, overwrite=overwrite, progress=shown):
        return
    plan.room.require(output, progress=shown)
    began = time.perf_counter()
    run_store(plan, output, connect, precompute=precompute, overwrite=overwrite, progress=shown)
    said = GeneStore(folder_of(output)).info.provenance
    if not said["run"]["pieces_kept_from_earlier_run"]:
        keep_rate(store_kind(plan), plan.bytes_to_read, time.perf_counter() - began)


def store_kind(plan: StorePlan) -> str:
    """Return the kind of a run that makes a store, as rates are kept."""
    return rate_kind("store", plan.files)
