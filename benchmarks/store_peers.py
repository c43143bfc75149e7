"""The same cells in this package's store and in other formats: size, making, asking.

    python -m benchmarks.store_peers --folder DIR [--values 300] [--ways store,h5ad-lzf,duckdb]

Read are h5ad files of the synthetic atlas, as many as have `--values` million stored values; what
peers need in memory keeps it from being all of them. Each way makes its files in a process of its
own (CPU seconds of the whole process, from h5ad files in the page cache), and answers in another
one: ten genes, then one, in all cells as a dense array, warm, with `--threads`. The answer to ten
genes must be what anndata reads from the h5ad files, bit for bit; for ways that hold counts, the
store's counts. A way whose library is not installed is left out with the reason. With `--folder`
files are kept, and are not made again by the next run.

`BPCells` and `TileDB-SOMA` are tried where `pip install --pre bpcells`, `pip install tiledbsoma`
worked. Prints the figures; appends one JSON row to `--results`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np

from abc_dask import Atlas, open_store
from abc_dask.testing import REFERENCE_IDENTIFIERS
from benchmarks.measure import Run, atlas_at, prepare_page_cache, run_command, write_row
from benchmarks.store_ways import WAYS, Job

TEN = list(REFERENCE_IDENTIFIERS.values())

# Positions are the same in every file.
NAMES = ("ten genes", "one gene")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=0.05, help="of 4 million cells")
    parser.add_argument("--values", type=float, default=300, help="millions, at most")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="of asking")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--folder", type=Path, help="keep atlas and files here, use them again")
    parser.add_argument("--results", type=Path, default=Path("benchmark-results.jsonl"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.folder or Path(scratch)).resolve()
        atlas = Atlas(atlas_at(folder / f"atlas-{options.scale:g}", scale=options.scale))
        paths = [atlas.download_base / file for file in atlas.feature_matrices["file"]]
        place = folder / f"peers-{options.scale:g}-{options.values:g}"
        measure(place, chosen(paths, options.values * 1e6), options)


def chosen(paths: list[Path], n_values: float) -> list[Path]:
    """Return the first files that together have at most so many stored values."""
    found, total = [], 0
    for path in paths:
        with h5py.File(path) as file:
            total += file["X/data"].size
        if found and total > n_values:
            break
        found.append(path)
    return found


def measure(place: Path, paths: list[Path], options: argparse.Namespace) -> None:
    job, n_values, expected = job_of(place, paths, options.threads)
    print(f"{job['n_cells']:,} cells of {len(paths)} matrices, {n_values:,} values")
    row: dict[str, Any] = {"cells": job["n_cells"], "values": n_values, "ways": {}}
    ways = {}
    for name in options.ways.split(","):
        if why := run(job | {"way": name, "do": "missing"}).output.strip():
            print(f"{name}: left out, {why}")
            row["ways"][name] = why
        else:
            ways[name] = job_for(job, name, place)
            row["ways"][name] = made(ways[name], place, job["files"], n_values)
    for _ in range(options.rounds):
        for name, own in ways.items():
            prepare_page_cache(files_of(Path(own["output"])), cold=False)
            found = json.loads(run(own | {"do": "ask"}).output)
            row["ways"][name].setdefault("asked", []).append(found)
            compare(name, np.load(own["answer"]), expected, own)
    report(row["ways"], list(ways))
    write_row(options.results, "store_peers", row | {"threads": options.threads})


def job_of(place: Path, paths: list[Path], threads: int) -> tuple[Job, int, Any]:
    """Link the h5ad files into a folder; return what all ways are told, and anndata's answer."""
    (place / "h5ad").mkdir(parents=True, exist_ok=True)
    files, columns, n_values = [], [], 0
    for path in sorted(paths):
        link = place / "h5ad" / path.name
        if not link.exists():
            link.symlink_to(path.resolve())
        files.append(str(link))
        data = anndata.read_h5ad(path, backed="r")
        genes = list(data.var_names)
        columns.append(data[:, TEN].to_memory().X.toarray())
        data.file.close()
        with h5py.File(link) as file:
            n_values += file["X/data"].size
    expected = np.ascontiguousarray(np.concatenate(columns).T)
    asked = [genes.index(gene) for gene in TEN]
    job = {"files": files, "genes": genes, "n_cells": expected.shape[1], "threads": threads}
    job["note"] = str(place / "job.json")
    # the ten last: their answer is compared
    return job | {"asked": {"one gene": asked[4:5], "ten genes": asked}}, n_values, expected


def job_for(job: Job, name: str, place: Path) -> Job:
    output = place / WAYS[name][1]
    own = {"way": name, "output": str(output), "store": str(place / WAYS["store"][1])}
    return job | own | {"answer": str(place / "answer.npy")}


def made(job: Job, place: Path, files: list[str], n_values: int) -> dict[str, Any]:
    """Make the files of a way where no earlier run kept them; what it cost is kept beside them."""
    output = Path(job["output"])
    note = place / f"{output.name}.json"
    if not (output.exists() and note.exists()):
        shutil.rmtree(output) if output.is_dir() else output.unlink(missing_ok=True)
        print(f"making {output.name}", file=sys.stderr)
        prepare_page_cache([Path(file) for file in files], cold=False)
        done = run(job | {"do": "build"})
        size = sum(path.stat().st_size for path in files_of(output))
        cost = {"cpu": done.cpu, "seconds": done.seconds, "peak_mb": done.peak_bytes / 1e6}
        note.write_text(json.dumps(cost | {"bytes a value": size / n_values}), "utf-8")
    found: dict[str, Any] = json.loads(note.read_text("utf-8"))
    return found


def files_of(output: Path) -> list[Path]:
    return [p for p in output.rglob("*") if p.is_file()] if output.is_dir() else [output]


def run(job: Job) -> Run:
    note = Path(job["note"])  # longer than an argument may be
    note.write_text(json.dumps(job), "utf-8")
    return run_command([sys.executable, "-m", "benchmarks.store_ways", note])


def compare(name: str, answer: Any, expected: Any, job: Job) -> None:
    """The answer to ten genes is anndata's, or the store's counts."""
    if WAYS[name][0].values == "counts":
        store = open_store(job["store"])
        expected = np.stack([store.counts(gene) for gene in store.find_genes(TEN)])
    if not np.array_equal(answer, expected):
        raise SystemExit(f"{name} answers with other values than anndata reads")


def report(rows: dict[str, Any], names: list[str]) -> None:
    """Print a line a way; ratios are to the store that answers in the same kind of values."""
    print(
        f"{'':12} {'bytes':>6} {'made: CPU s':>11} {'MB':>6} "
        f"{'ten genes: ms':>13} {'CPU ms':>7} {'x store, CPU':>22} {'one gene: ms':>12} {'MB':>6}"
    )
    for name in names:
        row = rows[name]
        base = "store" if WAYS[name][0].values == "log2" else "store-counts"
        ten, one = (best(row["asked"], what) for what in NAMES)
        ratios = [float("nan")]
        if base in names:
            pairs = zip(ten, best(rows[base]["asked"], NAMES[0]), strict=True)
            ratios = sorted(mine[1] / other[1] for mine, other in pairs)
        row["ratios"] = ratios
        spread = f"{statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})"
        print(
            f"{name:12} {row['bytes a value']:6.2f} {row['cpu']:11.0f} {row['peak_mb']:6.0f} "
            f"{middle(ten, 0):13.1f} {middle(ten, 1):7.1f} {spread:>22} {middle(one, 0):12.1f} "
            f"{max(asked['peak_mb'] for asked in row['asked']):6.0f}"
        )


def best(asked: list[dict[str, Any]], what: str) -> list[list[float]]:
    """Return the least milliseconds of each round, wall and CPU."""
    return [[min(times) * 1e3 for times in zip(*one[what], strict=True)] for one in asked]


def middle(rounds: list[list[float]], which: int) -> float:
    return statistics.median(one[which] for one in rounds)


if __name__ == "__main__":
    main()
