"""Many nodes: batch jobs on a Slurm, the scheduler's share, a plan of 10^9 cells.

    python -m benchmarks.jobs slurm [--scale 0.01] [--jobs 1,2,4] [--config FILE]
    python -m benchmarks.jobs scheduler [--blocks 100,1000,10000] [--workers 200] [--seconds 1]
    python -m benchmarks.jobs plan [--cells 1e9]

`slurm` runs the whole command with so many jobs (single-core ones, unless FILE says
otherwise); `cluster/dev/start_slurm` starts a Slurm on this machine. `scheduler` runs
tasks that only sleep, in workers that are all in one process: whatever goes beyond the
sleeping is the scheduler's, the workers' and the client's share, on this one core. It ends
with what that means for 10, 100 and 1,000 nodes. `plan` makes a plan of so many cells,
pretends that all parts are there, though empty, and commits it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from abc_dask import open_view
from abc_dask._version import build
from abc_dask.base.progress import Progress
from abc_dask.disk.files import Fingerprint
from abc_dask.matrix.h5ad import MatrixFile
from abc_dask.plan.blocks import RowBlock
from abc_dask.plan.plan import Plan, PlannedMatrix
from abc_dask.release.gene_names import Gene
from abc_dask.run.extraction import begin, complete
from abc_dask.run.part import Receipt, part_content, receipt_path, trusted_receipts
from abc_dask.run.read_block import BlockTask, Partition, tasks_of
from abc_dask.run.tasks import run_tasks
from abc_dask.testing import write_atlas
from abc_dask.views.description import VIEW_FILE
from abc_dask.views.parquet_view import part_file_name, write_part
from abc_dask.views.staging import PARTS, RECEIPTS, Staging
from benchmarks.measure import write_row

CONFIG = """\
jobqueue:
  slurm: {cores: 1, memory: 1 GB, interface: lo, walltime: "01:00:00"}
abc-dask: {cluster: {queue-interval: 1, lost-worker-timeout: 2 s}}
"""
GENES = ["Slc17a7", "Slc32a1", "Tac2"]

# The whole mouse brain: cells of a matrix and stored values of a cell, on average.
CELLS_OF_A_MATRIX = 168_000
VALUES_OF_A_CELL = 4_660
BLOCK_BYTES = 256 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["slurm", "scheduler", "plan"])
    parser.add_argument("--scale", type=float, default=0.01, help="slurm: of 4 million cells")
    parser.add_argument("--jobs", default="1,2,4", help="slurm: at most so many at a time")
    parser.add_argument("--config", type=Path, help="slurm: what a job is")
    parser.add_argument("--blocks", default="100,1000,10000", help="scheduler")
    parser.add_argument("--workers", type=int, default=200, help="scheduler: in one process")
    parser.add_argument("--seconds", type=float, default=1, help="scheduler: of each task")
    parser.add_argument("--cells", type=float, default=1e9, help="plan")
    parser.add_argument("--results", type=Path, default=Path("benchmark-results.jsonl"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        measured = {"slurm": on_slurm, "scheduler": of_scheduler, "plan": of_plan}[options.what](
            options, Path(scratch)
        )
    write_row(options.results, f"jobs {options.what}", {"measured": measured})


def on_slurm(options: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    """Time the whole command with 1, 2, 4 jobs, and what of it is the queue and the start."""
    made = write_atlas(scratch / "atlas", scale=options.scale, normalizations=("log2",))
    config = options.config or scratch / "cluster.yaml"
    if options.config is None:
        config.write_text(CONFIG)
    words = [
        sys.executable,
        "-m",
        "abc_dask",
        "extract",
        *GENES,
        "--quiet",
        "--block-size",
        "8 MiB",
    ]
    words += ["--download-base", str(made.download_base), "--output"]
    local = [[*words, str(scratch / f"local-{n}.parquet")] for n in range(2)]
    rows = []
    for name, command in (("tables read first", local[0]), ("one process", local[1])):
        rows.append(timed(name, command))
    for jobs in options.jobs.split(","):
        output = str(scratch / f"jobs-{jobs}.parquet")
        batch = ["--cluster", "slurm", "--cluster-config", str(config), "--jobs", jobs]
        rows.append(timed(f"{jobs} jobs", [*words, output, *batch]))
    assert len({row["content"] for row in rows}) == 1
    print("\n| | command s | first block to last s | blocks |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row['name']} | {row['seconds']:.1f} | {row['span']:.1f} | {row['blocks']} |")
    return rows


def timed(name: str, command: list[str]) -> dict[str, Any]:
    """Run a command; its blocks are timed by when their parts were written."""
    began = time.time()
    subprocess.run(command, check=True)
    view = open_view(command[command.index("--output") + 1])
    written = sorted(path.stat().st_mtime for path in view.parts)
    return {
        "name": name,
        "seconds": time.time() - began,
        "span": written[-1] - written[0],
        "blocks": len(view.parts),
        "content": view.info["content"],
    }


def of_scheduler(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Run sleeping tasks through the package's own loop."""
    from distributed import Client, LocalCluster

    from abc_dask.run.cluster.local import PrivateCluster

    counts = [int(n) for n in options.blocks.split(",")]
    (scratch / RECEIPTS).mkdir()
    rows = []
    with (
        LocalCluster(
            n_workers=options.workers,
            threads_per_worker=1,
            processes=False,
            protocol="inproc://",
            dashboard_address=None,
            memory_limit=0,
            silence_logs="ERROR",
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        for seconds in (options.seconds, 0.0):
            rows += [sleep_through(client, n, seconds, options.workers, scratch) for n in counts]
    with (
        PrivateCluster(n_workers=2, threads_per_worker=8, memory_limit="2 GB") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        sleep_through(client, 100, 0.0, 16, scratch)
        tls = sleep_through(client, 2000, 0.0, 16, scratch)
    print("\n| blocks | workers | a task s | all s | at best s | ms a block beyond |")
    print("|---|---|---|---|---|---|")
    for row in [*rows, tls | {"workers": "16, TLS"}]:
        print(
            f"| {row['blocks']:,} | {row['workers']} | {row['seconds']:g} | {row['all']:.2f} "
            f"| {row['best']:.2f} | {row['beyond'] * 1e3:.2f} |"
        )
    rate = max(row["blocks"] / row["all"] for row in rows if not row["seconds"])
    rate_tls = tls["blocks"] / tls["all"]
    limits(rate, rate_tls)
    return {"rows": rows, "tls": tls, "blocks_a_second": rate, "blocks_a_second_tls": rate_tls}


def sleep_through(
    client: Any, count: int, seconds: float, workers: int, folder: Path
) -> dict[str, Any]:
    plan = replace(
        imagined(count * BLOCK_BYTES // (VALUES_OF_A_CELL * 8) + CELLS_OF_A_MATRIX), columns=("a",)
    )
    todo = tasks_of(plan)[:count]
    assert len(todo) == count
    progress = Progress(plan.n_cells, "sleep", unit="cell", enabled=False)
    began = time.perf_counter()
    work, digest = Sleeping(seconds), f"{time.time_ns():x}"
    done = run_tasks(work, todo, str(folder), digest, client, progress=progress)
    took = time.perf_counter() - began
    assert len(done) == count
    best = -(-count // workers) * seconds
    return {
        "blocks": count,
        "workers": workers,
        "seconds": seconds,
        "all": took,
        "best": best,
        "beyond": (took - best) / count,
    }


class Sleeping:
    """Takes the place of `make_part`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, task: BlockTask, staging: str, plan: str) -> Receipt:
        time.sleep(self.seconds)
        receipt = receipt_of(task.block, task.matrix.fingerprint, plan, "part", 0, "0" * 64)
        leave(receipt, Path(staging))
        return receipt


def limits(rate: float, rate_tls: float) -> None:
    """Say what comes to its end first, where each node reads a gigabyte a second."""
    print(f"\nThe scheduler does {rate:,.0f} blocks/s in one process, {rate_tls:,.0f} over TLS.\n")
    print("| nodes | read GB/s | blocks/s of 256 MiB | what limits | blocks it keeps up with |")
    print("|---|---|---|---|---|")
    for nodes in (10, 100, 1000):
        wanted = nodes * 1e9 / BLOCK_BYTES
        limit = "the file system" if wanted < rate_tls else "the scheduler"
        least = max(256, nodes * 1e9 / rate_tls / (1 << 20))
        print(f"| {nodes:,} | {nodes:,} | {wanted:,.0f} | {limit} | {least:,.0f} MiB |")


def imagined(cells: float, rows: str = "") -> Plan:
    """Give a plan of the shape that so many cells would have; no block wants a cell."""
    n_matrices = max(1, round(cells / CELLS_OF_A_MATRIX))
    n_rows = CELLS_OF_A_MATRIX
    of_a_block = BLOCK_BYTES // (VALUES_OF_A_CELL * 8)
    matrices, blocks = [], []
    for number in range(n_matrices):
        name = f"Imagined-10Xv3-{number:05d}"
        file = MatrixFile(
            path=f"/shared/atlas/expression_matrices/Imagined/20250531/{name}-log2.h5ad",
            fingerprint=Fingerprint(n_rows * VALUES_OF_A_CELL * 8, 1_700_000_000, number),
            layout="csr",
            n_rows=n_rows,
            n_columns=32_285,
            n_values=n_rows * VALUES_OF_A_CELL,
            dtype="float32",
            index_dtype="int32",
            chunk_bytes=0,
            filters=(),
            chunks=f"/shared/atlas/.abc_dask/chunks-{number:024x}.npy",
        )
        matrices.append(
            PlannedMatrix(
                dataset_label="Imagined",
                feature_matrix_label=name,
                relative_path=f"expression_matrices/Imagined/20250531/{name}-log2.h5ad",
                file_hash=f"{number:032x}",
                verified=True,
                matrix=file,
                rows=rows,
                positions=tuple(range(10)),
                value_dtype="float32",
                n_asked=0,
                n_found=0,
                n_extra=0,
            )
        )
        for start in range(0, n_rows, of_a_block):
            stop = min(start + of_a_block, n_rows)
            blocks.append(RowBlock(len(blocks), number, start, stop, 0))
    genes = tuple(Gene(f"ENSMUSG{n:011d}", f"Gene{n}") for n in range(10))
    return Plan(
        release="20250531",
        metadata="Imagined",
        normalization="log2",
        genes=genes,
        columns=tuple(gene.symbol for gene in genes),
        dtype="float32",
        cell_selection="0" * 64,
        n_asked=0,
        block_size=BLOCK_BYTES,
        matrices=tuple(matrices),
        blocks=tuple(blocks),
    )


def of_plan(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Make, resume and commit a plan whose parts are there, though empty."""
    took: dict[str, float] = {}

    def step(name: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = work()
        took[name] = time.perf_counter() - began
        return result

    rows = scratch / "rows.parquet"
    pq.write_table(pa.table({"cell": pa.array([], pa.int32())}), rows)
    plan = step("make the plan", lambda: imagined(options.cells, str(rows)))
    step("its digest", lambda: plan.digest)
    staging = Staging.beside(scratch / "view.parquet")
    with staging.locked():
        step("write it", lambda: begin(plan, staging, "parquet", overwrite=False))
        sizes = {p.name: p.stat().st_size for p in staging.folder.glob("*.json")}
        part = step("pretend parts and receipts", lambda: pretend(plan, staging))
        held = step("look at all receipts and parts", lambda: trusted_receipts(staging, plan))
        assert len(held) == len(plan.blocks)
        began = time.perf_counter()
        step(
            "commit",
            lambda: complete(plan, held, staging, "parquet", kept=len(held), began=began),
        )
    view = step("open the view", lambda: open_view(staging.output))
    pickled = len(json.dumps([replace_path(task) for task in tasks_of(plan)[:1]]))
    described = (staging.output / VIEW_FILE).stat().st_size - options.cells * 4
    facts = {
        "cells": options.cells,
        "matrices": len(plan.matrices),
        "tasks": len(plan.blocks),
        "stored values read GB": options.cells * VALUES_OF_A_CELL * 8 / 1e9,
        "plan.json MB": sizes["plan.json"] / 1e6,
        "tasks.json MB": sizes["tasks.json"] / 1e6,
        "provenance.json MB": sizes["provenance.json"] / 1e6,
        "an empty part kB": part / 1e3,
        "a task, as text kB": pickled / 1e3,
        "files while it runs": 2 * len(plan.blocks),
        "files of the view": len(view.info["files"]) + 1,
        "description MB": described / 1e6,
        "order of the cells GB": options.cells * 4 / 1e9,
    }
    print("\n| | |\n|---|---|")
    for name, value in facts.items():
        print(
            f"| {name} | {value:,.4g} |" if isinstance(value, float) else f"| {name} | {value:,} |"
        )
    print("\n| | seconds |\n|---|---|")
    for name, seconds in took.items():
        print(f"| {name} | {seconds:.1f} |")
    return facts | {"seconds": took}


def replace_path(task: BlockTask) -> str:
    return str(task)


def pretend(plan: Plan, staging: Staging) -> int:
    """Leave an empty part and a receipt for each block, without the fsync of real ones."""
    import hashlib

    template = staging.folder / "template"
    labels, values = pa.array([], pa.string()), np.zeros((10, 0), np.float32)
    nothing = Partition(labels, values, 0)
    content = part_content(tasks_of(plan)[0], nothing, staging.folder)
    write_part(content, template, plan.columns)
    written = template.read_bytes()
    template.unlink()
    digest = hashlib.sha256(written).hexdigest()
    for block in plan.blocks:
        matrix = plan.matrices[block.matrix]
        name = part_file_name(
            block.number, matrix.feature_matrix_label, f"{block.start}-{block.stop}"
        )
        (staging.folder / PARTS / name).write_bytes(written)
        receipt = receipt_of(
            block, matrix.matrix.fingerprint, plan.digest, name, len(written), digest
        )
        leave(receipt, staging.folder)
    os.sync()
    return len(content)


def leave(receipt: Receipt, folder: Path) -> None:
    """Leave a receipt where it is looked for, without the fsync of real ones."""
    text = json.dumps(receipt.__dict__ | {"fingerprint": receipt.fingerprint.__dict__})
    receipt_path(folder, receipt.block).write_text(text)


def receipt_of(
    block: RowBlock, fingerprint: Fingerprint, plan: str, name: str, size: int, digest: str
) -> Receipt:
    return Receipt(
        build=build(),
        plan=plan,
        block=block.number,
        name=name,
        size=size,
        sha256=digest,
        rows=block.n_cells,
        content="0" * 16,
        fingerprint=fingerprint,
        bytes_read=0,
        seconds=0.0,
    )


if __name__ == "__main__":
    main()
