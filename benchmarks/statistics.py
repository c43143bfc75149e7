"""Statistics and markers of all genes from a store, beside scanpy on the same cells.

    python -m benchmarks.statistics --store STORE.zarr [--by subclass] [--genes 8000]

Each contestant is a process of its own with one thread, round after round; seconds are CPU time of
the statistics alone: not of imports, of compiling, or of reading the matrix, which scanpy needs in
memory. This package reads the store within them. Where scanpy can be given its cells by an
uncompressed h5ad file, the time of reading it is measured too, and a second ratio has it. scanpy
counts no values above 1: it is asked for a sum of `X > 1`; `without gt1` is the same without.

The answers are compared. Both are given some of the genes, evenly spaced (`--genes`, for
Wilcoxon's test `--few-genes`): the whole matrix would take scanpy hours, or more memory than there
is. This package alone then takes all genes. Memory is the most that each process had.

`--large STORE.zarr` is a store of many cells and few genes, for memory and rate at full size, with
338 groups drawn at random.

Prints the figures; appends one JSON row to `--results`.
"""

from __future__ import annotations

import argparse
import json
import os
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
began = 0.0
def begin():
    global began
    began = time.process_time()
def end(values, **more):
    seconds = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "values": int(values), "peak_mb": peak, **more}))
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

# Groups are in the order of their names: other packages know no order of the taxonomy.
SUMMARIZE = (
    OURS
    + """
names = ["n", "mean", "fraction", "std", "gt1"]
summarize_store(store, by, names, compute=here, genes=genes[:2], missing="drop")  # compiles
begin()
found = summarize_store(store, by, names, compute=here, genes=genes, missing="drop")
tables = {name: found[name] for name in names[1:]}
end(values)
order = tables["mean"].index.astype(str).argsort()
np.savez(out, **{name: table.to_numpy()[order] for name, table in tables.items()})
"""
)
# What scanpy can compute in one pass.
SUMMARIZE_FOUR = SUMMARIZE.replace(', "gt1"]', "]")

MARKERS = (
    OURS
    + """
options = dict(compute=here, groups=[group], method="METHOD", missing="drop")
find_markers(store, by, genes=genes[:2], **options)  # compiles
begin()
found = find_markers(store, by, genes=genes, **options)
end(values)
data = found.row(group)
np.savez(out, score=data["scores"], p=data["pvals"])
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
begin()
for task in tasks:
    gene_tasks.compute_task(task)
end(store.genes["n_cells"].sum())
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
sc.get.aggregate(data[:100].copy(), by, "mean")  # warms up
data.write_h5ad(out + ".h5ad")
del data
begin()
data = anndata.read_h5ad(out + ".h5ad")
reading = time.process_time() - began
begin()
found = sc.get.aggregate(data, by, ["mean", "var", "count_nonzero"])
mean, std = found.layers["mean"], np.sqrt(found.layers["var"])
n = data.obs[by].value_counts().loc[found.obs_names].to_numpy()
fraction = found.layers["count_nonzero"] / n[:, np.newaxis]
results = {"mean": mean, "std": std, "fraction": fraction}
ABOVE_ONE
end(values, reading=reading)
order = found.obs_names.astype(str).argsort()
np.savez(out, **{name: array[order] for name, array in results.items()})
"""
)
AGGREGATE_FOUR = AGGREGATE.replace("ABOVE_ONE", "")
AGGREGATE = AGGREGATE.replace(
    "ABOVE_ONE",
    """
data.layers["gt1"] = data.X > 1
results["gt1"] = sc.get.aggregate(data, by, "sum", layer="gt1").layers["sum"]
""",
)

RANK = (
    THEIRS
    + """
sizes = data.obs[by].value_counts()
begin()
sc.tl.rank_genes_groups(data, by, groups=[group], method="METHOD", tie_correct=True)
end(values)
table = sc.get.rank_genes_groups_df(data, group).set_index("names").loc[data.var_names]
np.savez(out, score=table["scores"], p=table["pvals"])
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
    parser.add_argument("--only", help="some of its contests, with commas")
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
        "without gt1": (SUMMARIZE_FOUR, AGGREGATE_FOUR, some),
        "t": (MARKERS.replace("METHOD", "t"), RANK.replace("METHOD", "t-test"), some),
        "wilcoxon": (
            MARKERS.replace("METHOD", "wilcoxon"), RANK.replace("METHOD", "wilcoxon"), few
        ),
        UNLIKE: (MARKERS.replace("METHOD", "t"), RANK.replace("METHOD", "wilcoxon"), few),
    }  # fmt: skip
    wanted = options.only.split(",") if options.only else list(contests)
    if unknown := set(wanted) - set(contests):
        parser.error(f"{min(unknown)!r} is none of {', '.join(map(repr, contests))}")
    for name, (ours, theirs, step) in contests.items():
        if name not in wanted:
            continue
        arguments = [options.store, options.by, group]
        row[name] = contest(name, ours, theirs, [*arguments, step], options.rounds)
        if step > 1 and name not in (UNLIKE, "without gt1"):
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
    reading = [b.get("reading", 0) for b in runs["scanpy"]]
    whole = sorted(
        (b["seconds"] + more) / a["seconds"]
        for a, b, more in zip(*runs.values(), reading, strict=True)
    )
    print(
        f"{name}: scanpy takes {median_of(ratios)} times as long, "
        + (f"{median_of(whole)} times with reading, " if any(reading) else "")
        + f"and {memory:.1f} times the memory; largest differences: {apart}"
    )
    return {"runs": runs, "ratios": ratios, "whole": whole, "memory": memory, "apart": apart}


def median_of(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})"


def run(code: str, arguments: list[Any], out: Path) -> dict[str, Any]:
    """Run a contestant with one thread in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments), str(out)]
    threads = dict.fromkeys(("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
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
