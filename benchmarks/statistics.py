"""Statistics and markers of all genes from a store, beside scanpy on the same cells.

    python -m benchmarks.statistics --store STORE.zarr [--by subclass] [--genes 8000]

Each contestant is a process of its own with one thread, round after round; seconds are CPU time of
the statistics alone: not of imports, of compiling, or of reading the matrix, which scanpy needs in
memory. The answers are compared. Both are given some of the genes, evenly spaced (`--genes`, for
Wilcoxon's test `--few-genes`): the whole matrix would take scanpy hours, or more memory than there
is. This package alone then takes all genes. Memory is the most that each process had.

`--large STORE.zarr` is a store of many cells and few genes, for memory and rate at full size, with
338 groups drawn at random.

Prints the figures; appends one JSON row to `--results`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from abc_dask import open_store
from benchmarks.measure import prepare_page_cache, write_row

# What all contestants begin with: the store, its groups, peak memory.
BEGIN = """
import json, resource, sys, time
import numpy as np
import pandas as pd
store_path, by, group, step, out = sys.argv[1:6]
step = int(step)
def done(seconds, values, **arrays):
    np.savez(out, **arrays)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "values": int(values), "peak_mb": peak}))
"""

OURS = (
    BEGIN
    + """
from abc_dask import open_store
from abc_dask.analysis.gene_tasks import compute_task
from abc_dask.analysis.markers import find_markers
from abc_dask.analysis.store_statistics import summarize_store
store = open_store(store_path)
genes = [str(g) for g in store.genes.index[::step]]
values = store.genes["n_cells"].to_numpy()[::step].sum()
here = lambda tasks: [compute_task(task) for task in tasks]
"""
)

SUMMARIZE = (
    OURS
    + """
names = ["n", "mean", "fraction", "std", "gt1"]
summarize_store(store, by, names, compute=here, genes=genes[:2], missing="drop")  # compiles
began = time.process_time()
found = summarize_store(store, by, names, compute=here, genes=genes, missing="drop")
seconds = time.process_time() - began
done(seconds, values, mean=found["mean"].to_numpy(), std=found["std"].to_numpy())
"""
)

MARKERS = (
    OURS
    + """
options = dict(compute=here, groups=[group], method="METHOD", missing="drop")
find_markers(store, by, genes=genes[:2], **options)  # compiles
began = time.process_time()
found = find_markers(store, by, genes=genes, **options)
seconds = time.process_time() - began
data = found.row(group)
done(seconds, values, score=data["scores"], p=data["pvals"])
"""
)

LARGE = (
    BEGIN
    + """
from abc_dask import open_store
from abc_dask.analysis import gene_tasks, gene_values
from abc_dask.analysis.cell_groups import CellGroups, Grouping
from abc_dask.analysis.group_tests import Tests
from abc_dask.analysis.store_statistics import Statistics
store, n_groups = open_store(store_path), int(group)
codes = np.random.default_rng(0).integers(0, n_groups, store.n_cells).astype(np.int32)
cells = np.bincount(codes, minlength=n_groups)
drawn = CellGroups((), np.arange(n_groups), codes, cells, cells[np.newaxis], 0, 0)
gene_values._grouped = lambda *_: drawn  # the store has no such column
names = ("n", "mean", "fraction", "std", "gt1")
work = Statistics(names) if by == "summarize" else Tests(by, tuple(range(n_groups)))
grouping = Grouping(("drawn",))
(first, *_) = gene_tasks.tasks_of(store, [0], grouping, "log2", work)
gene_tasks.compute_task(first)  # compiles
tasks = gene_tasks.tasks_of(store, range(store.n_genes), grouping, "log2", work)
began = time.process_time()
for task in tasks:
    gene_tasks.compute_task(task)
done(time.process_time() - began, store.genes["n_cells"].sum())
"""
)

THEIRS = (
    BEGIN
    + """
import warnings
warnings.simplefilter("ignore")
import anndata, scanpy as sc, scipy.sparse
from abc_dask import open_store
store = open_store(store_path)
genes = np.arange(store.n_genes)[::step]
columns = []
for gene in genes:
    column = store.values(int(gene))
    cells = np.flatnonzero(column)
    columns.append((column[cells], cells.astype(np.int32)))
indptr = np.append(0, np.cumsum([len(cells) for _, cells in columns]))
parts = (np.concatenate([c[0] for c in columns]), np.concatenate([c[1] for c in columns]), indptr)
matrix = scipy.sparse.csc_matrix(parts, shape=(store.n_cells, len(genes))).tocsr()
del columns, parts
obs = pd.DataFrame({by: store.annotation(by)}, index=[str(k) for k in range(store.n_cells)])
data = anndata.AnnData(matrix, obs=obs, uns={"log1p": {"base": 2}})
data = data[data.obs[by].notna()].copy()
data.obs[by] = data.obs[by].cat.remove_unused_categories()
values = matrix.nnz
del matrix
"""
)

AGGREGATE = (
    THEIRS
    + """
began = time.process_time()
found = sc.get.aggregate(data, by, ["mean", "var", "count_nonzero", "sum"])
seconds = time.process_time() - began
done(seconds, values, mean=found.layers["mean"], std=np.sqrt(found.layers["var"]))
"""
)

RANK = (
    THEIRS
    + """
sizes = data.obs[by].value_counts()
began = time.process_time()
sc.tl.rank_genes_groups(data, by, groups=[group], method="METHOD", tie_correct=True)
seconds = time.process_time() - began
table = sc.get.rank_genes_groups_df(data, group).set_index("names").loc[data.var_names]
done(seconds, values, score=table["scores"], p=table["pvals"])
"""
)


# The one contest of two tests that answer differently.
UNLIKE = "t beside wilcoxon"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", type=Path, required=True, help="made with --annotate")
    parser.add_argument("--by", default="subclass")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--genes", type=int, default=8000)
    parser.add_argument("--few-genes", type=int, default=2000)
    parser.add_argument("--only", help="some of summarize,t,wilcoxon and 't beside wilcoxon'")
    parser.add_argument("--large", type=Path, help="a store of many cells, of few genes")
    parser.add_argument("--results", type=Path, default=Path("benchmark-results.jsonl"))
    options = parser.parse_args()
    store = open_store(options.store)
    column = store.annotation(options.by)
    group = str(column.categories[np.bincount(column.codes[column.codes >= 0]).argmax()])
    some, few = (max(1, store.n_genes // n) for n in (options.genes, options.few_genes))
    print(f"{store!r}; {len(column.categories)} terms of {options.by}; {group} versus rest")
    row: dict[str, Any] = {"cells": store.n_cells, "genes": store.n_genes, "group": group}
    contests = {
        "summarize": (SUMMARIZE, AGGREGATE, some),
        "t": (MARKERS.replace("METHOD", "t"), RANK.replace("METHOD", "t-test"), some),
        "wilcoxon": (
            MARKERS.replace("METHOD", "wilcoxon"), RANK.replace("METHOD", "wilcoxon"), few
        ),
        UNLIKE: (MARKERS.replace("METHOD", "t"), RANK.replace("METHOD", "wilcoxon"), few),
    }  # fmt: skip
    for name, (ours, theirs, step) in contests.items():
        if options.only and name not in options.only.split(","):
            continue
        arguments = [options.store, options.by, group]
        row[name] = contest(name, ours, theirs, [*arguments, step], options.rounds)
        if step > 1 and name != UNLIKE:
            alone = run(ours, [*arguments, 1], Path(tempfile.mkdtemp()) / "a.npz")
            row[f"{name}, all genes"] = alone
            print(f"{name}, all genes: {said(alone)}")
    if options.large:
        for work in ("summarize", "t", "wilcoxon"):
            found = run(LARGE, [options.large, work, 338, 1], Path(tempfile.mkdtemp()) / "a.npz")
            row[f"large, {work}"] = found
            print(f"large, {work} of 338 groups: {said(found)}")
    write_row(options.results, "statistics", row)


def contest(name: str, ours: str, theirs: str, arguments: list[Any], rounds: int) -> dict[str, Any]:
    """Run both in turn; compare, print, and return their figures."""
    prepare_page_cache([p for p in Path(arguments[0]).rglob("*") if p.is_file()], cold=False)
    runs: dict[str, list[dict[str, Any]]] = {"this package": [], "scanpy": []}
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(rounds):
            for who, code in (("this package", ours), ("scanpy", theirs)):
                runs[who].append(run(code, arguments, Path(scratch) / f"{who}.npz"))
        files = [Path(scratch) / f"{who}.npz" for who in runs]
        apart = {} if name == UNLIKE else compare(*files)
    ratios = sorted(
        b["seconds"] / a["seconds"] for a, b in zip(*runs.values(), strict=True)
    )  # fmt: skip
    for who, own in runs.items():
        middle = sorted(own, key=lambda one: one["seconds"])[len(own) // 2]
        print(f"{name}, {who}: {said(middle)}")
    memory = max(r["peak_mb"] for r in runs["scanpy"]) / max(
        r["peak_mb"] for r in runs["this package"]
    )
    print(
        f"{name}: scanpy takes {statistics.median(ratios):.1f} times as long "
        f"({ratios[0]:.1f} to {ratios[-1]:.1f}) and {memory:.1f} times the memory; "
        f"largest differences: {apart}"
    )
    return {"runs": runs, "ratios": ratios, "memory": memory, "apart": apart}


def run(code: str, arguments: list[Any], out: Path) -> dict[str, Any]:
    """Run a contestant with one thread in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments), str(out)]
    threads = dict.fromkeys(("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    import os

    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **threads}
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def said(one: dict[str, Any]) -> str:
    rate = one["values"] / one["seconds"] / 1e6
    return (
        f"{one['seconds']:.1f} s of CPU, {one['values'] / 1e6:.0f} million values, "
        f"{rate:.1f} million a second, {one['peak_mb']:.0f} MB"
    )


def compare(one: Path, two: Path) -> dict[str, float]:
    """Return the largest relative difference of each array."""
    found = {}
    with np.load(one) as a, np.load(two) as b:
        for name in a:
            mine, other = a[name].astype(np.float64), b[name].astype(np.float64)
            known = np.isfinite(mine) & np.isfinite(other) & (np.abs(other) > 1e-12)
            apart = np.abs(mine - other)[known] / np.abs(other)[known]
            found[name] = float(f"{apart.max(initial=0):.2g}")
    return found


if __name__ == "__main__":
    main()
