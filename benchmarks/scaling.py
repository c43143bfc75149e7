"""How the main job grows: threads and processes, uneven matrices, tasks, size of a matrix.

    python -m benchmarks.scaling [--parts threads,processes,balance,tasks,memory,limit]
        [--scale 0.05] [--rounds 3] [--sizes 1,4] [--limit-size 10] [--folder DIR]

Each run is the whole command ``abc-dask extract`` for ten genes with its tables kept; *tasks s*
is the time from the first task to the committed view, as the view's provenance has it. The
files are read into the page cache before each run.

- threads, processes: 1, 2 and 4 of them (and one process);
- balance: the 24 matrices in their real proportions against as many cells in 24 even ones;
- tasks: the same atlas cut into more and more blocks; what more blocks cost, a task;
- memory: peak of one matrix of several sizes (``--sizes``, GB), one thread and all;
- limit: a worker that may have 2 GB reads one matrix of ``--limit-size`` GB.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from abc_dask import Atlas, open_view
from abc_dask.testing import REFERENCE_GENES
from benchmarks.measure import Run, atlas_at, prepare_page_cache, run_command, table, write_row

# Cells and bytes of the largest matrix at scale 1, as `write_atlas` makes it.
_LARGEST = "WMB-10Xv3-MB"
_LARGEST_GB = 13.7


def matrix_files(base: Path) -> list[Path]:
    return [base / file for file in Atlas(base).feature_matrices["file"]]


class Bench:
    """Atlases that are made once, and runs on them."""

    def __init__(self, scratch: Path, options: argparse.Namespace) -> None:
        self.scratch = scratch
        self.options = options
        self._contents: dict[Path, str] = {}

    def atlas(self, name: str, **how: object) -> Path:
        """Make an atlas, or find it where an earlier run kept it."""
        base = atlas_at((self.options.folder or self.scratch) / f"atlas-{name}", **how)
        Atlas(base).plan(REFERENCE_GENES)  # tables are kept
        return base

    def run(self, base: Path, *more: str) -> tuple[Run, dict[str, object]]:
        """Run the command; its seconds are those of the tasks and the commit."""
        for other in self._contents.keys() - {base}:  # what it holds of the memory is not free
            prepare_page_cache(matrix_files(other), cold=True)
        prepare_page_cache(matrix_files(base), cold=False)
        out = self.scratch / "view.parquet"
        command = [sys.executable, "-m", "abc_dask", "extract", *REFERENCE_GENES, "--overwrite"]
        run = run_command([*command, "--download-base", base, "--output", out, *more])
        info = open_view(out).provenance
        content = self._contents.setdefault(base, str(info["content"]))
        if content != info["content"]:
            raise SystemExit(f"{more} gives another table: {info['content']}, not {content}")
        return replace(run, seconds=float(info["run"]["seconds"])), info

    def in_turn(self, jobs: dict[str, Callable[[], Run]], base: str) -> dict[str, object]:
        """Run jobs in turn, and print their times as multiples of one of them."""
        runs: dict[str, list[Run]] = {name: [] for name in jobs}
        for number in range(self.options.rounds):
            for name, job in jobs.items():
                runs[name].append(job())
                print(f"round {number + 1} {name}: {runs[name][-1].seconds:.2f}", file=sys.stderr)
        return dict(table(runs, base))


def threads(bench: Bench) -> dict[str, object]:
    base = bench.atlas(f"{bench.options.scale:g}-none", scale=bench.options.scale)
    counts = [n for n in (1, 2, 4) if n <= max(2, os.cpu_count() or 1)]
    return bench.in_turn(
        {
            f"{n} threads": lambda n=n: bench.run(base, "--threads-per-worker", str(n))[0]
            for n in counts
        },
        "1 threads",
    )


def processes(bench: Bench) -> dict[str, object]:
    base = bench.atlas(f"{bench.options.scale:g}-none", scale=bench.options.scale)
    counts = [n for n in (1, 2, 4) if n <= max(2, os.cpu_count() or 1)]
    one = ("--threads-per-worker", "1")
    return bench.in_turn(
        {f"{n} workers": lambda n=n: bench.run(base, "--workers", str(n), *one)[0] for n in counts},
        "1 workers",
    )


def balance(bench: Bench) -> dict[str, object]:
    scale = bench.options.scale
    real = bench.atlas(f"{scale:g}-none", scale=scale)
    even = bench.atlas(f"{scale:g}-even", scale=scale, even=True)
    return bench.in_turn(
        {"even": lambda: bench.run(even)[0], "real-sized": lambda: bench.run(real)[0]}, "even"
    )


def tasks(bench: Bench) -> dict[str, object]:
    """Cut one atlas finer and finer: what a task costs beside its reading."""
    base = bench.atlas(f"{bench.options.scale:g}-none", scale=bench.options.scale)
    n_bytes = int(Atlas(base).feature_matrices["size"].sum())
    seconds: dict[int, list[float]] = {}
    for _ in range(bench.options.rounds):
        for wanted in (100, 1000, 10_000):
            run, info = bench.run(base, "--block-size", str(n_bytes // wanted))
            counts = info["counts"]
            seconds.setdefault(counts["blocks"], []).append(run.seconds)  # type: ignore[index]
    medians = {blocks: statistics.median(own) for blocks, own in seconds.items()}
    fewest = min(medians)
    for blocks, median in medians.items():
        more = (median - medians[fewest]) / max(1, blocks - fewest) * 1e3
        print(f"{blocks:7,} blocks {median:8.2f} s {more:8.2f} ms for each more")
    return {str(blocks): own for blocks, own in seconds.items()}


def memory(bench: Bench) -> dict[str, object]:
    jobs: dict[str, Callable[[], Run]] = {}
    for size in map(float, bench.options.sizes.split(",")):
        how = {"scale": size / _LARGEST_GB, "matrices": [_LARGEST]}
        base = bench.atlas(f"one-{size:g}GB", **how)
        for more in (("--threads-per-worker", "1"), ()):
            name = f"{size:g} GB" + (", 1 thr" if more else "")
            jobs[name] = lambda base=base, more=more: bench.run(base, *more)[0]
    return bench.in_turn(jobs, next(iter(jobs)))


def limit(bench: Bench) -> dict[str, object]:
    size = bench.options.limit_size
    base = bench.atlas(f"one-{size:g}GB", scale=size / _LARGEST_GB, matrices=[_LARGEST])
    run, info = bench.run(base, "--workers", "1", "--memory-limit", "2 GB")
    counts = info["counts"]
    print(f"{size:g} GB under a limit of 2 GB: exit 0, {json.dumps(counts)}")
    print(f"{run.seconds:.1f} s, peak of all processes {run.peak_bytes / 1e6:.0f} MB")
    return {"seconds": run.seconds, "peak_bytes": run.peak_bytes, "counts": counts}


PARTS = {part.__name__: part for part in (threads, processes, balance, tasks, memory, limit)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parts", default=",".join(PARTS), help="some of them")
    parser.add_argument("--scale", type=float, default=0.05, help="of 4 million cells")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", default="1,4", help="GB of one matrix")
    parser.add_argument("--limit-size", type=float, default=10, help="GB of one matrix")
    parser.add_argument("--folder", type=Path, help="keep the atlases here and use them again")
    parser.add_argument("--results", type=Path, default=Path("benchmark-results.jsonl"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch), options)
        for name in options.parts.split(","):
            print(f"== {name}", flush=True)
            result = PARTS[name](bench)
            about = {"part": name, "scale": options.scale, "rounds": options.rounds}
            write_row(options.results, "scaling", about | {"result": result})


if __name__ == "__main__":
    main()
