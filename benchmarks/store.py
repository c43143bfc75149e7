"""The gene-major store: its size, how fast it is made, and what a question costs.

    python -m benchmarks.store [--scale 0.2] [--cells 4042976] [--folder DIR]
    python -m benchmarks.store --atlas DIR [--before TREE] [--rounds 3] [--folder DIR]

Made is a store of one synthetic matrix with all its genes. Its size and its rate count stored
values, CPU time from the h5ad file in the page cache to the metadata that is written last, stage by
stage; a first block, for which loops are compiled, is not counted.

Asked is a store with `--cells` cells of 256 genes, the ten reference genes among them: the blocks
of one packed matrix stand in it again and again, so that it is made in a minute. Answers are
timed in a process of its own, with two threads, the first call not counted; memory is the most that
process had. Over HTTP, each answer comes `--latency` seconds late.

With `--atlas`, whole commands are measured instead: `abc-dask store build` of an atlas on this disk
with one worker process of one thread, the whole command confined to one core and to two, with two
workers on two cores, with one thread in the command's own process on one core, with two on two, and
with `--before` one worker by another checkout; one after the other, round after round. CPU
time is that of all processes, imports and loops kept from earlier runs included, memory that of the
largest process. Seconds tell something on an idle machine alone.

Prints the figures; appends one JSON row to `--results`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from abc_dask.disk.kept_table import Cache
from abc_dask.matrix.index import MatrixIndex
from abc_dask.store import build
from abc_dask.store.assemble import assemble_shard, gather
from abc_dask.store.description import BLOCK_CELLS, StoreMatrix
from abc_dask.store.gene_store import open_store
from abc_dask.store.layout import Cells, create_values, write_metadata
from abc_dask.store.packing import pack_block
from abc_dask.store.tasks import blocks_of
from abc_dask.testing import REFERENCE_IDENTIFIERS
from benchmarks.measure import (
    adopting,
    atlas_at,
    confined,
    prepare_page_cache,
    usage_of_orphans,
    write_row,
)

GENES = 256

TEN = list(REFERENCE_IDENTIFIERS.values())

ASK = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
began = time.perf_counter()
from abc_dask.store.gene_store import open_store
store, genes = open_store(sys.argv[1]), sys.argv[2].split(",")
at = store.find_genes(genes)
found = {"import and open": time.perf_counter() - began}
pool = ThreadPoolExecutor(int(sys.argv[3]))
began = time.perf_counter()
store.labels, store.totals
found["labels and totals"] = time.perf_counter() - began
ways = {
    "one gene, counts": lambda: store.counts(at[0]),
    "one gene, log2": lambda: store.values(at[0]),
    "ten genes, counts": lambda: list(pool.map(store.counts, at)),
    "ten genes, log2": lambda: list(pool.map(store.values, at)),
    "ten genes, pandas": lambda: store.read(genes),
}
for name, ask in ways.items():
    ask()
    times = []
    for _ in range(7):
        began, cpu = time.perf_counter(), time.process_time()
        ask()
        times.append((time.perf_counter() - began, time.process_time() - cpu))
    found[name] = [min(t) for t in zip(*times)]
with open("/proc/self/status") as file:  # ru_maxrss begins with what the parent had
    (peak,) = (line.split()[1] for line in file if line.startswith("VmHWM"))
found["peak MB"] = int(peak) / 1000
print(json.dumps(found))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=0.2, help="of one matrix's cells")
    parser.add_argument("--cells", type=int, default=4_042_976, help="of the store that is asked")
    parser.add_argument("--folder", type=Path, help="keep the atlas here and use it again")
    parser.add_argument("--latency", type=float, default=0.06)
    parser.add_argument("--results", type=Path, default=Path("benchmark-results.jsonl"))
    parser.add_argument("--atlas", type=Path, help="build a store of it by whole commands")
    parser.add_argument("--before", type=Path, help="another checkout, for comparison")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.atlas:
        write_row(options.results, "store build", commands(options))
        return
    with tempfile.TemporaryDirectory() as scratch:
        base = (options.folder or Path(scratch)) / f"one-matrix-{options.scale:g}"
        atlas_at(base, scale=options.scale, matrices=["WMB-10Xv3-CB"])
        (path,) = base.rglob("*-log2.h5ad")
        index = MatrixIndex.of(path, Cache((Path(scratch) / "cache",)))
        prepare_page_cache([path], cold=False)
        row: dict[str, Any] = {"made": make(index, Path(scratch) / "made")}
        large = Path(scratch) / "large"
        row["put together"] = make_large(index, large, options.cells)
        row["asked"] = ask(large / "store.zarr", 2)
        row["http"] = ask_http(large / "store.zarr", options.latency)
    write_row(options.results, "store", row | {"cells": options.cells})


def commands(options: argparse.Namespace) -> dict[str, Any]:
    """Build a store by one and by two workers, by one and two threads, and by another checkout."""
    here = Path(__file__).parents[1]
    processes, threads = "--threads-per-worker 1 --workers {}", "--threads-per-worker {}"
    ways = {
        "one core, one worker": (here, processes.format(1), 1),
        "one worker": (here, processes.format(1), 2),
        "two workers": (here, processes.format(2), 2),
        "one core, one thread": (here, threads.format(1), 1),
        "two threads": (here, threads.format(2), 2),
    }
    if options.before:
        ways["one worker, before"] = (options.before, processes.format(1), 2)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    files = sorted(options.atlas.rglob("*-log2.h5ad"))
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        for number in range(options.rounds + 1):
            for name, (tree, more, cores) in ways.items():
                prepare_page_cache(files, cold=False)
                store = Path(scratch) / "store.zarr"
                run = command(tree, options.atlas, store, more, cores)
                shutil.rmtree(store)
                if number:  # the first one compiles loops and keeps tables
                    runs[name].append(run)
    print(f"{'':20} {'s':>18} {'s of CPU':>18} {'M values/s of CPU':>18} {'peak MB':>8}")
    for name, own in runs.items():
        rates = [{"rate": run["values"] / run["cpu"] / 1e6} for run in own]
        spread = [_spread(own, "seconds"), _spread(own, "cpu"), _spread(rates, "rate")]
        print(f"{name:20} {' '.join(f'{text:>18}' for text in spread)} {own[0]['MB']:8.0f}")
    for key, name, base in (
        ("seconds", "one core, one worker", "two workers"),
        ("seconds", "one worker", "two workers"),
        ("seconds", "one core, one thread", "two threads"),
        ("cpu", "one worker, before", "one worker"),
    ):
        if name in runs:
            pairs = zip(runs[name], runs[base], strict=True)
            ratios = sorted(round(a[key] / b[key], 2) for a, b in pairs)
            print(f"{key} of {name}, times those of {base}:", ratios)
    return {"atlas": str(options.atlas), "runs": runs}


def _spread(runs: list[dict[str, float]], key: str) -> str:
    found = sorted(run[key] for run in runs)
    return f"{found[len(found) // 2]:.1f} ({found[0]:.1f}-{found[-1]:.1f})"


def command(tree: Path, atlas: Path, store: Path, more: str, cores: int) -> dict[str, float]:
    """Run one command by the code of a checkout, and look at what it took and made."""
    tree, atlas, store = tree.absolute(), atlas.absolute(), store.absolute()
    words = f"-m abc_dask store build {store} --download-base {atlas} --quiet {more}"
    own = adopting()
    began = time.perf_counter()
    with confined(cores):
        process = subprocess.Popen(
            [sys.executable, *words.split()],
            env=os.environ | {"PYTHONPATH": str(tree)},
            cwd=tree,  # where Python looks first
        )
    _, status, usage = os.wait4(process.pid, 0)  # what its children took is in it
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    usages = [usage, *usage_of_orphans(own)]
    if status:
        raise SystemExit(f"{tree}: {words} failed")
    return {
        "seconds": seconds,
        "cpu": sum(one.ru_utime + one.ru_stime for one in usages),
        "MB": max(one.ru_maxrss for one in usages) / 1e3,
        "values": open_store(store).info.n_values,
    }


def make(index: MatrixIndex, folder: Path) -> dict[str, Any]:
    """Make a store of all genes; CPU nanoseconds a stored value, stage by stage."""
    folder.mkdir()
    n_genes = index.matrix.n_columns
    # whole blocks of cells, as all but the last one of a large store are
    n_cells = index.matrix.n_rows // BLOCK_CELLS * BLOCK_CELLS or index.matrix.n_rows
    kept = np.arange(index.matrix.n_rows) < n_cells
    one = build.Input("d", "m", index.matrix, np.arange(n_genes, dtype=np.int32), kept)
    values = build.values_of([index.matrix], "log2")
    tasks = list(blocks_of(build.segments_of([one], folder), BLOCK_CELLS, n_genes, values))
    pack_block(tasks[-1], folder / "compiled")
    seconds, counts = {}, []
    began = time.process_time()
    blocks = [folder / f"block-{task.number}" for task in tasks]
    counts = [pack_block(task, target) for task, target in zip(tasks, blocks, strict=True)]
    seconds["pack"] = time.process_time() - began
    info, more = put_together(folder, tasks, blocks, index.genes.to_pandas())
    seconds |= more
    n_values = sum(count.n_values for count in counts)
    stored = sum(path.stat().st_size for path in (folder / "store.zarr").rglob("X/c/0/*"))
    found: dict[str, Any] = {name: s / n_values * 1e9 for name, s in seconds.items()}
    found |= {"values": n_values, "bytes a value": stored / n_values, "patches": info.n_patches}
    found["million values a second and core"] = n_values / sum(seconds.values()) / 1e6
    print(json.dumps(found, indent=1))
    shutil.rmtree(folder)
    return found


def put_together(
    folder: Path, tasks: list[Any], blocks: list[Path], genes: pd.DataFrame
) -> tuple[Any, dict[str, float]]:
    store, seconds = folder / "store.zarr", {}
    began = time.process_time()
    n_cells, task = sum(t.n_cells for t in tasks), tasks[0]
    layout = {"block_cells": BLOCK_CELLS, "layout": "sharded"}
    create_values(store, (n_cells, task.n_genes), task.values, **layout)
    gathered = gather(blocks, BLOCK_CELLS, folder)
    todo = build.shard_tasks(
        blocks, task.n_genes, task.values, **layout, n_cells=n_cells, folder=folder, store=store
    )
    shards = [assemble_shard(t) for t in todo]
    seconds["assemble and read back"] = time.process_time() - began
    began = time.process_time()
    matrices = (StoreMatrix("d", "m", 0, n_cells),)
    info = build.described(task.values, matrices, gathered, **layout, provenance={})
    labels = np.array([f"GCGAGAAGTTAAGGGC-{k:07d}_B05" for k in range(n_cells)], object)
    absent = np.zeros((task.n_genes, 1), bool)
    write_metadata(
        store, info, cells=Cells(labels, info.matrices, {}), genes=genes, absent=absent,
        gathered=gathered, shards=shards,
    )  # fmt: skip
    seconds["metadata"] = time.process_time() - began
    return info, seconds


def make_large(index: MatrixIndex, folder: Path, n_cells: int) -> dict[str, float]:
    """Make a store of many cells out of one packed block, which stands in it again and again.

    What a gene costs beside its values is little here, as in a store of all genes.
    """
    folder.mkdir()
    identifiers = np.array(index.genes["gene_identifier"].to_pylist(), object)
    rng = np.random.default_rng(0)
    others = rng.permutation(np.setdiff1d(identifiers, TEN))
    names = rng.permutation([*TEN, *others[: GENES - len(TEN)]])
    slots = np.full(len(identifiers), -1, np.int32)
    slots[list(index.positions(names.tolist()))] = np.arange(GENES)
    one = build.Input("d", "m", index.matrix, slots)
    values = build.values_of([index.matrix], "log2")
    (segment,) = build.segments_of([one], folder)
    whole, rest = divmod(n_cells, BLOCK_CELLS)
    tasks, blocks = [], []
    for name, n, times in (("whole", BLOCK_CELLS, whole), ("rest", rest, 1)):
        part = [replace(segment, stop=n, n_cells=n)]
        (task,) = blocks_of(part, BLOCK_CELLS, GENES, values)
        pack_block(task, folder / name)
        tasks += [task] * times
        blocks += [folder / name] * times
    genes = pd.DataFrame({"gene_identifier": names, "gene_symbol": names})
    info, seconds = put_together(folder, tasks, blocks, genes)
    found = seconds["assemble and read back"] / info.n_values * 1e9
    print(f"assemble and read back {n_cells:,} cells: {found:.1f} ns of CPU a value")
    return {"assemble and read back": found}


def ask(store: str | Path, threads: int) -> dict[str, Any]:
    """Ask in a process of its own."""
    genes = ",".join(TEN)
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(store), genes, str(threads)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    for name, value in found.items():
        if isinstance(value, list):
            print(f"{name:20} {value[0] * 1e3:7.1f} ms, {value[1] * 1e3:7.1f} ms of CPU")
        else:
            print(f"{name:20} {value:7.3f}")
    return found


def ask_http(store: Path, latency: float) -> dict[str, Any]:
    """Ask a server on loopback whose answers come late."""
    from tests.http_server import Exchange, Server

    files = {f"s/{p.relative_to(store)}": p.read_bytes() for p in store.rglob("*") if p.is_file()}

    def late(exchange: Exchange) -> None:
        time.sleep(latency)
        exchange.serve(chunk=1 << 20)

    # an ETag of its own for each request would be a hash of 50 MB
    with Server(files, faults={"*": late}, etags=False) as server:
        found = ask(f"{server.url}s", 16)
        found["requests"], found["MB"] = len(server.requests), server.total / 1e6
    return found


if __name__ == "__main__":
    main()
