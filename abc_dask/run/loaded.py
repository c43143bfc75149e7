"""Nothing but imports: all that tasks run, for the process that workers are forked from."""

# ruff: noqa: F401
from __future__ import annotations

import contextlib
import gc

import numcodecs.blosc
import pandas as pd
import zarr.codecs

import abc_dask.run.cluster.nodes
import abc_dask.run.part
import abc_dask.run.store_tasks
from abc_dask.matrix import search_loops
from abc_dask.store import packing_loops, plane_loops, read_back, recover_loops

# Numba's own share of the first call of a loop, the larger one.
with contextlib.suppress(ImportError, AttributeError):
    from numba.core.registry import cpu_target

    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()

# Else each worker's first search for garbage would touch, and so copy, all of it.
gc.freeze()
