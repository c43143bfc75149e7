"""Statistics of all groups and genes from a store, beside cell_type_mapper's precomputed ones.

    python -m benchmarks.mapper_peer --store STORE.zarr [--by subclass] [--genes 2000]

cell_type_mapper (MapMyCells; not on PyPI: a checkout of github.com/AllenInstitute/cell_type_mapper
with its requirements on PYTHONPATH) reads the same cells and genes from an uncompressed h5ad file
that is written first. Each is a process of its own with one worker and one thread, round after
round; seconds are CPU time from the files in the page cache to the statistics: n, mean, fraction,
std, gt1 here, its own n_cells, sum, sumsq, gt0, gt1, ge1 there. Counts must be equal, means and
deviations within what float32 sums allow (largest differences are printed).

Prints the figures; appends one JSON row to `--results`.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tempfile
from pathlib import Path
from typing import Any

from abc_dask import open_store
from benchmarks.measure import prepare_page_cache, write_row
from benchmarks.statistics import SUMMARIZE, THEIRS, compare, run, said

WRITE = (
    THEIRS
    + """
names = [str(g) for g in store.genes.index[::step]]
data.var_names = names
data.obs[by] = data.obs[by].astype(str)
data.write_h5ad(group)
end(values)
"""
)

MAPPER = """
import json, resource, sys, tempfile, time
import h5py, numpy as np
from cell_type_mapper.diff_exp.precompute_from_anndata import precompute_summary_stats_from_h5ad
store_path, by, h5ad, step, out = sys.argv[1:6]
def cpu():
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)
with tempfile.TemporaryDirectory() as scratch:
    began = cpu()
    precompute_summary_stats_from_h5ad(
        data_path=h5ad, column_hierarchy=[by], taxonomy_tree=None, output_path=out + ".h5",
        normalization="log2CPM", tmp_dir=scratch, n_processors=1,
    )
    seconds = cpu() - began
with h5py.File(out + ".h5") as f, h5py.File(h5ad) as h:
    rows = json.loads(f["cluster_to_row"][()])
    at = [rows[name] for name in sorted(rows)]
    n, s, q, gt0, gt1 = (f[k][()][at] for k in ("n_cells", "sum", "sumsq", "gt0", "gt1"))
    values = h["X/data"].size
n = n[:, np.newaxis].astype(float)
with np.errstate(divide="ignore", invalid="ignore"):
    std = np.sqrt(np.maximum(q - s * s / n, 0) / (n - 1))
np.savez(out, mean=s / n, std=std, fraction=gt0 / n, gt1=gt1)
both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
peak = max(one.ru_maxrss for one in both) / 1024
print(json.dumps({"seconds": seconds, "values": int(values), "peak_mb": peak}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", type=Path, required=True, help="made with --annotate")
    parser.add_argument("--by", default="subclass")
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=Path("benchmark-results.jsonl"))
    options = parser.parse_args()
    if importlib.util.find_spec("cell_type_mapper") is None:
        raise SystemExit("cell_type_mapper is not installed; see this benchmark's description")
    store = open_store(options.store)
    step = max(1, store.n_genes // options.genes)
    contestants = {"this package": SUMMARIZE, "cell_type_mapper": MAPPER}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
    with tempfile.TemporaryDirectory() as scratch:
        h5ad, out = Path(scratch) / "cells.h5ad", Path(scratch) / "out.npz"
        arguments = [options.store, options.by, h5ad, step]
        run(WRITE, arguments, out)
        prepare_page_cache(
            [h5ad, *(p for p in options.store.rglob("*") if p.is_file())], cold=False
        )
        for _ in range(options.rounds):
            for name, code in contestants.items():
                runs[name].append(run(code, arguments, Path(scratch) / f"{name}.npz"))
        apart = compare(*(Path(scratch) / f"{name}.npz" for name in contestants))
    if apart["gt1"] or apart["fraction"] > 1e-12 or apart["mean"] > 1e-5:
        raise SystemExit(f"the statistics differ: {apart}")
    for name, own in runs.items():
        print(f"{name}: {said(sorted(own, key=lambda one: one['seconds'])[len(own) // 2])}")
    ratios = sorted(b["seconds"] / a["seconds"] for a, b in zip(*runs.values(), strict=True))
    print(
        f"cell_type_mapper takes {statistics.median(ratios):.1f} times as long "
        f"({ratios[0]:.1f} to {ratios[-1]:.1f}); largest differences: {apart}"
    )
    row = {"cells": store.n_cells, "by": options.by, "runs": runs, "ratios": ratios, "apart": apart}
    write_row(options.results, "mapper_peer", row)


if __name__ == "__main__":
    main()
