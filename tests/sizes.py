"""All constants that decide how much is done at a time, lowered for tests.

What is right for forty rows of one batch may be wrong from the second batch on. Values of
thousands of rows are far too slow for every test; constants that are small are not.
"""

from __future__ import annotations

import ast
import functools
import importlib
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import abc_dask

PACKAGE = Path(abc_dask.__file__).parent

# Each by its room and module, with a value that a few hundred cells exceed many times.
LOWERED = {
    "analysis.count_sums._CELLS": 128,
    "analysis.count_sums._FRAME_BYTES": 400,
    "analysis.count_sums._SUM_BYTES": 1 << 12,
    "analysis.histograms._FAN_IN": 2,
    "analysis.marker_table._BATCH_ROWS": 16,
    "analysis.moments._FAN_IN": 2,
    "analysis.report.columns._BATCH_BYTES": 1 << 12,
    "disk.files._READ": 64,
    "disk.kept_table.ROW_GROUP": 16,
    "matrix.chunk_index._BATCH_BYTES": 1 << 10,
    "matrix.chunk_rows._GAP": 64,
    "matrix.index._CONTIGUOUS": 64,
    "matrix.chunk_guard._REMEMBERED": 2,
    "matrix.kernels.PIECE_VALUES": 64,
    "matrix.kernels._SKIPPED": 16,
    "matrix.plain_rows._BUFFER": 1 << 10,
    "matrix.plain_rows._DISK_GAP": 32,
    "matrix.plain_rows._GAP": 16,
    "matrix.source._LONGEST_READ": 100,
    "release.csv_blocks.CSV_BLOCK": 1 << 12,
    "release.csv_table._AHEAD": 1,
    "release.csv_table._ROW_GROUP": 16,
    "release.h5ad_files._ROW_GROUP": 16,
    "release.user_file._STEP": 64,
    "release.user_list._CHUNK": 4,
    "run.cell_rows._PARTITION": 16,
    "run.csr_anndata._CHUNK": 16,
    "run.csr_anndata._SHARD": 64,
    "run.part._CARRIED": 64,
    "run.read_rows._PIECE": 64,
    "run.store_export._CHUNK": 16,
    "run.store_export._SHARD": 64,
    "run.store_tasks._MOST_SHARDS": 2,
    "run.store_tasks._SHARD_BYTES": 1 << 20,
    "run.tasks._WINDOW": 2,
    "views.as_anndata.CHUNK_CELLS": 16,
    "views.as_anndata.CHUNK_VALUES": 32,
    "views.as_anndata.MOST_SHARDS": 2,
    "views.as_anndata.SHARD_VALUES": 128,
    "views.as_anndata._CHUNKS_AT_ONCE": 2,
    "views.csv_view._CSV_BYTES": 400,
    "views.csv_view._CSV_CELLS": 16,
    "views.csv_view._CSV_VALUES": 64,
    "views.csv_view._LOOK": 100,
    "views.frame._HEAD": 2,
    "views.parquet_view.ROW_GROUP": 32,
    "views.parquet_view._COLUMNS": 2,
    "views.formats._PART_BYTES": 400,
    "views.reader._BATCH_BYTES": 1 << 12,
    "views.staging.READERS": 1,
}

# What is no amount of work at a time, by the reason.
LEFT = {
    "a limit that is refused, or cut, beyond it": """
        acquire.headers.HEADER_BYTES acquire.part._JOURNAL_LIMIT
        acquire.presence._LONGEST_JOURNAL acquire.remote._PAGE_LIMIT
        acquire.remote._MOST_PAGES acquire.remote._MANIFEST_LIMIT acquire.settings._MOST_WORKERS
        analysis.plots.figures._MOST_PANELS analysis.plots.groups.MOST_GROUPS
        analysis.markers._MOST_PAIRS analysis.markers._MOST_ROWS
        analysis.histograms.MOST_FIELDS
        analysis.plots.legends.MOST_TERMS analysis.plots.map_labels._MOST_LABELLED
        analysis.plots.map_labels.MOST_LISTED analysis.report.page._MOST_PICTURES
        disk.files._LONGEST_STEM
        matrix.chunk_index._LARGEST_HEADER matrix.h5py_reader._LARGEST_CHUNK_CACHE
        matrix.hdf5._LARGEST_RATIO matrix.hdf5._LARGEST_CHUNK matrix.inflation._OVERHEAD
        matrix.inflation.HARMLESS matrix.inflation._LZF_RATIO matrix.chunk_guard._RATIO
        release.annotation.MOST_TERMS
        release.condition._LONGEST release.condition._DEEPEST release.manifest._LARGEST_SIZE
        release.gene_names._MOST_TOLD release.gene_names._FEW run.costs._MOST run.costs._LARGER
        release.selection._MOST_TOLD release.user_file._HEAD
        run.cluster.connect._LEAST_MEMORY run.tasks._FETCH
        release.user_list._HEAD views.parquet_view._DICTIONARY_BYTES views.overwrite._HEAD
    """,
    "what decides in which order files are looked at, or names are compared": """
        release.atlas_tables._SMALL release.gene_names._FEW release.selection._SAME_START
    """,
    "a number of a format, of mathematics or of a picture": """
        analysis.summary._SHOWN analysis.count_sums._FEW_GROUPS analysis.count_sums._LANES
        analysis.histograms.STEPS analysis.plots.violins._POINTS
        analysis.plots.canvas.DPI analysis.plots.legends._LINES
        analysis.plots.map_labels._GRID analysis.plots.map_labels._MOST_CELLS
        analysis.plots.map_labels._LETTERS
        analysis.report.legends._STOPS analysis.report.legends._COLORS analysis.report.page._STOPS
        analysis.report.dots.STEP analysis.order_loops._BITS matrix.chunk_index._USUAL_K
        analysis.store_loops.SUMS analysis.gene_values._SAMPLE analysis.group_tests._FEW
        matrix.index._HEAD matrix.hdf5._HEAP_LEAST matrix.hdf5._REFERENCE
        matrix.kernels.SEARCH_COST matrix.kernels._EXACT plan.blocks._LABEL_BYTES
        plan.blocks.MOST_BLOCKS run.estimate._STORED atlas.atlas._MANY_COLUMNS
        plan.subset._NAN_BYTES
        release.column_types._EXACT release.column_types._LONG store.description._FEW_CELLS
        run.estimate._STORED store.counts_loops._SOME_CELLS views.parquet_view._STEP
    """,
    "jobs of a batch system that are asked for or looked at in one call": """
        run.cluster.guard._BATCH run.cluster.jobs._BATCH
    """,
    "what h5py may keep, or is read of a file on the first look": """
        matrix.h5py_reader._CHUNK_CACHE matrix.hdf5._START matrix.source._PROBES
    """,
}

# Rooms whose sizes are lowered by tests of their own, or that read no matrix and no view.
ROOMS_APART = {"acquire", "cli", "explore", "net", "store", "testing"}

# An integer below it is a count of tries, a level, a version or a code.
_LEAST = 8


def constants() -> dict[str, int]:
    """All integers of modules, written in capitals, that may be sizes."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for node in ast.parse(path.read_text("utf-8")).body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
            for target in targets:
                value = _integer(node.value) if isinstance(target, ast.Name) else None
                if value is not None and target.id.isupper() and abs(value) >= _LEAST:
                    found[f"{name}.{target.id}"] = value
    return found


def _integer(node: ast.expr | None) -> int | None:
    """The value of an expression of numbers alone, such as ``64 << 20``."""
    allowed = (ast.Constant, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop)
    if node is None or not all(isinstance(part, allowed) for part in ast.walk(node)):
        return None
    value = eval(compile(ast.Expression(node), "", "eval"))
    return value if type(value) is int else None


def lower(patch: pytest.MonkeyPatch) -> None:
    """Lower every size, also where another module has imported it or has it as a default."""
    modules = [importlib.import_module(name) for name in _modules()]
    for full, value in LOWERED.items():
        home, _, name = full.rpartition(".")
        old = getattr(importlib.import_module(f"abc_dask.{home}"), name)
        for module in modules:
            if module.__name__ == f"abc_dask.{home}" or f"abc_dask.{home}.{name}" in _imported(
                module.__name__
            ):
                patch.setattr(module, name, value)
                for function in _functions(module):
                    defaults = function.__defaults__ or ()
                    if any(default is old for default in defaults):
                        changed = tuple(value if d is old else d for d in defaults)
                        patch.setattr(function, "__defaults__", changed)


@functools.cache
def _modules() -> list[str]:
    rooms = [path for path in PACKAGE.rglob("*.py") if path.name != "__main__.py"]
    names = {".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts) for p in rooms}
    return sorted(name.removesuffix(".__init__") for name in names)


@functools.cache
def _imported(module: str) -> set[str]:
    path = importlib.import_module(module).__file__
    nodes = ast.walk(ast.parse(Path(str(path)).read_text("utf-8")))
    imports = (node for node in nodes if isinstance(node, ast.ImportFrom))
    return {f"{node.module}.{alias.name}" for node in imports for alias in node.names}


def _functions(module: types.ModuleType) -> Iterator[types.FunctionType]:
    for one in vars(module).values():
        members = vars(one).values() if isinstance(one, type) else [one]
        for member in members:
            if isinstance(member, types.FunctionType) and member.__module__ == module.__name__:
                yield member
