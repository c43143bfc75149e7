"""`abc-dask extract` of ten genes from a store, beside the same from the h5ad files.

    python -m benchmarks.store_extract --folder DIR [--rounds 3] [--cells 4042976]

Whole commands on the synthetic atlas, log2 values of the ten reference genes to a Parquet view
without annotations, files in the page cache, tables kept; both views must have the same `content`.
Then the reading alone, in processes of their own, the first time not counted: the lazy DataFrame of
the files with threads, and `GeneStore.read`. Last, `GeneStore.read` of a store of `--cells` cells
(`benchmarks.store` makes it out of one block); h5ad files of that size are not made: their time is
the measured one times the cells, which is said where it is printed.

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

from abc_dask import Atlas, open_view
from abc_dask.disk.kept_table import Cache
from abc_dask.matrix.index import MatrixIndex
from benchmarks.measure import Run, atlas_at, prepare_page_cache, run_command, write_row
from benchmarks.store import TEN, make_large

ASK = """
import json, sys, time
kind, path, genes, threads = sys.argv[1], sys.argv[2], sys.argv[3].split(","), int(sys.argv[4])
if kind == "files":
    import contextlib
    import dask.dataframe
    from abc_dask import Atlas
    from abc_dask.run.cluster.connect import connected
    atlas, stack = Atlas(path), contextlib.ExitStack()
    client = stack.enter_context(connected(threads_per_worker=threads))
    ask = lambda: client.compute(atlas.expression(genes, columns="gene_identifier")).result()
else:
    from abc_dask import open_store
    store = open_store(path)
    ask = lambda: store.read(genes)
times, cells = [], len(ask())
for _ in range(5):
    began, cpu = time.perf_counter(), time.process_time()
    ask()
    times.append((time.perf_counter() - began, time.process_time() - cpu))
with open("/proc/self/status") as file:  # ru_maxrss begins with what the parent had
    (peak,) = (int(line.split()[1]) / 1000 for line in file if line.startswith("VmHWM"))
seconds, cpu = map(min, zip(*times))
print(json.dumps({"cells": cells, "seconds": seconds, "cpu": cpu, "peak_mb": peak}), flush=True)
import os
os._exit(0)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=0.05, help="of 4 million cells")
    parser.add_argument("--cells", type=int, default=4_042_976, help="of the large store")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="keep atlas and stores here, use them again")
    parser.add_argument("--results", type=Path, default=Path("benchmark-results.jsonl"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.folder or Path(scratch)).resolve()
        base = atlas_at(folder / f"atlas-{options.scale:g}", scale=options.scale)
        store = folder / f"store-{options.scale:g}.zarr"
        if not store.exists():
            abc_dask("store", "build", store, "--download-base", base, "--quiet")
        row = {"commands": commands(base, store, Path(scratch), options.rounds)}
        large = large_store(folder, options.cells)
        row["reading"] = reading(base, store, large, options)
        write_row(options.results, "store_extract", row)


def abc_dask(*words: str | Path) -> Run:
    return run_command([sys.executable, "-m", "abc_dask", *words])


def commands(base: Path, store: Path, scratch: Path, rounds: int) -> dict[str, Any]:
    """Run both commands in turn."""
    atlas = Atlas(base)
    files = [base / file for file in atlas.feature_matrices["file"]]
    read = [*files, *(path for path in store.rglob("*") if path.is_file())]
    sources = {"files": ["--download-base", base], "store": ["--store", store]}
    outputs = {name: scratch / f"{name}.parquet" for name in sources}
    runs: dict[str, list[Run]] = {name: [] for name in sources}
    for number in range(rounds + 1):
        for name, source in sources.items():
            prepare_page_cache(read, cold=False)
            run = abc_dask("extract", *TEN, *source, "-o", outputs[name], "--overwrite", "--quiet")
            if number:  # tables are kept from the first time on
                runs[name].append(run)
    digests = {open_view(path).info["content"] for path in outputs.values()}
    if len(digests) > 1:
        raise SystemExit("the views differ")
    for name, own in runs.items():
        wall = statistics.median(run.seconds for run in own)
        cpu = statistics.median(run.cpu for run in own)
        peak = max(run.peak_bytes for run in own) / 1e6
        print(f"extract from {name:6} {wall:7.2f} s, {cpu:6.2f} s of CPU, {peak:5.0f} MB")
    files, stored = ([run.cpu for run in own] for own in runs.values())
    print(f"  CPU: files / store {spread(files, stored)}")
    return {name: [vars(run) | {"output": ""} for run in own] for name, own in runs.items()}


def large_store(folder: Path, n_cells: int) -> Path:
    """Make a store of many cells and 256 genes out of one matrix's first block."""
    place = folder / f"large-{n_cells}"
    if not (place / "store.zarr" / "zarr.json").exists():
        one = folder / "one-matrix-0.2"  # more rows than a block, as `benchmarks.store` has it
        (path,) = atlas_at(one, scale=0.2, matrices=["WMB-10Xv3-CB"]).rglob("*-log2.h5ad")
        make_large(MatrixIndex.of(path, Cache((folder / "cache",))), place, n_cells)
    return place / "store.zarr"


def reading(
    base: Path, store: Path, large: Path, options: argparse.Namespace
) -> dict[str, list[dict[str, float]]]:
    """Read into a pandas DataFrame, round after round."""
    contestants = {"files": ("files", base), "store": ("store", store), "large": ("store", large)}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    for _ in range(options.rounds):
        for name, (kind, path) in contestants.items():
            done = subprocess.run(
                [sys.executable, "-c", ASK, kind, path, ",".join(TEN), str(options.threads)],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    for name, own in found.items():
        middle = {key: statistics.median(one[key] for one in own) for key in own[0]}
        print(
            f"reading {name:6} {middle['cells']:10,.0f} cells: {middle['seconds'] * 1e3:7.0f} ms, "
            f"{middle['cpu'] * 1e3:6.0f} ms of CPU, {middle['peak_mb']:5.0f} MB"
        )
    times = found["large"][0]["cells"] / found["files"][0]["cells"]
    files, small, huge = ([one["cpu"] for one in found[name]] for name in contestants)
    print(f"  CPU: files / store {spread(files, small)}")
    scaled = [cpu * times for cpu in files]
    print(
        f"  CPU: files at that size, by arithmetic (x {times:.1f}) / store {spread(scaled, huge)}"
    )
    return found


def spread(theirs: list[float], mine: list[float]) -> str:
    ratios = sorted(other / one for other, one in zip(theirs, mine, strict=True))
    return f"{statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})"


if __name__ == "__main__":
    main()
