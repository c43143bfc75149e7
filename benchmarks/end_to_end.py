"""The whole command, from start to committed view, against the reference workflow as a script.

    python -m benchmarks.end_to_end [--scale 0.05] [--rounds 3] [--folder DIR] [--cold]

Contestants, each a process of its own, in turn, a number of rounds:

- reference: the reference workflow with anndata's backed slices, and its CSV;
- first: ``abc-dask extract`` to Parquet with no tables kept from an earlier run;
- again: the same once the tables are kept;
- csv: the same to CSV;
- cat: all bytes of the matrices read once, one after the other (the raw read).

Results are compared value for value before anything is printed. Unless --cold is given,
the files are read into the page cache before each run. Then, once more a round, when each
phase of a run with kept tables ends (`benchmarks.timeline`).
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from abc_dask import Atlas, open_view
from abc_dask.testing import REFERENCE_GENES, REFERENCE_IDENTIFIERS
from benchmarks.measure import Run, atlas_at, prepare_page_cache, run_command, table, write_row

REFERENCE = """
import json, sys
from abc_dask.testing import reference_table
job = json.loads(sys.argv[1])
table = reference_table(job["cells"], job["matrices"], job["genes"])
table.to_csv(job["output"])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=0.05, help="of 4 million cells")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep the atlas here and use it again")
    parser.add_argument("--cold", action="store_true", help="drop the page cache before each run")
    parser.add_argument("--results", type=Path, default=Path("benchmark-results.jsonl"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        base = (options.folder or Path(scratch)) / f"atlas-{options.scale:g}"
        measure(Atlas(atlas_at(base, scale=options.scale)), Path(scratch), options)


def measure(atlas: Atlas, scratch: Path, options: argparse.Namespace) -> None:
    base = atlas.download_base
    files = [base / file for file in atlas.feature_matrices["file"]]
    job = {
        "cells": str(next(base.rglob("cell_metadata.csv"))),
        "matrices": {f.name.removesuffix("-log2.h5ad"): str(f) for f in files},
        "genes": [REFERENCE_IDENTIFIERS[gene] for gene in REFERENCE_GENES],
        "output": str(scratch / "reference.csv"),
    }
    extract = [sys.executable, "-m", "abc_dask", "extract", *REFERENCE_GENES, "--overwrite"]
    extract += ["--download-base", str(base), "--output"]
    commands = {
        "reference": [sys.executable, "-c", REFERENCE, json.dumps(job)],
        "first": [*extract, str(scratch / "view.parquet")],
        "again": [*extract, str(scratch / "view.parquet")],
        "csv": [*extract, str(scratch / "view.csv")],
        "cat": ["sh", "-c", 'cat "$@" > /dev/null', "cat", *map(str, files)],
    }
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for number in range(options.rounds):
        for name, command in commands.items():
            if name == "first":
                shutil.rmtree(base / ".abc_dask", ignore_errors=True)
            prepare_page_cache(files, cold=options.cold)
            runs[name].append(run_command(command))
            print(f"round {number + 1} {name}: {runs[name][-1].seconds:.2f} s", file=sys.stderr)
    compare(scratch)
    phases = [sys.executable, "-m", "benchmarks.timeline", *commands["again"][3:], "--quiet"]
    timelines = []
    for _ in range(options.rounds):
        prepare_page_cache(files, cold=options.cold)
        timelines.append(json.loads(run_command(phases).output.splitlines()[-1]))
    report(atlas, runs, timelines, options)


def compare(scratch: Path) -> None:
    """All contestants' results are the same table."""
    reference = pd.read_csv(scratch / "reference.csv", index_col=0, dtype={0: str})
    for name in ("view.parquet", "view.csv"):
        got = open_view(scratch / name).to_pandas()
        if list(got.index) != list(reference.index) or not np.array_equal(
            got.to_numpy(), reference.to_numpy(dtype=np.float32), equal_nan=True
        ):
            raise SystemExit(f"{name} differs from the reference workflow's table")


def report(
    atlas: Atlas,
    runs: dict[str, list[Run]],
    timelines: list[dict[str, float]],
    options: argparse.Namespace,
) -> None:
    size = int(atlas.feature_matrices["size"].sum())
    about = {"cells": len(atlas.cells), "bytes": size, "cold": options.cold}
    print(json.dumps(about))
    rows = table(runs, "reference")
    print("seconds from the start of the command, medians:")
    phases = {name: statistics.median(t[name] for t in timelines) for name in timelines[0]}
    for name, seconds in phases.items():
        print(f"  {seconds:6.2f} {name}")
    write_row(options.results, "end_to_end", about | {"contestants": rows, "phases": phases})


if __name__ == "__main__":
    main()
