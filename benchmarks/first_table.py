"""A first `abc-dask table` of ten annotations on a release of 4 million cells, beside pandas.

    python -m benchmarks.first_table [--times 20] [--rounds 3] [--folder DIR]

The tables are those of the synthetic atlas at 202,149 cells, repeated with labels of their own: two
CSV files, 2.2 GB, in the page cache. Each round begins with no kept table. The command is timed
whole, then once more with its tables kept; pandas reads only the columns that it needs (`usecols`),
merges by label and writes Parquet. Both results are compared, all labels and values.

Prints the figures; appends one JSON row to `--results`.
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

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from abc_dask.testing import write_atlas
from benchmarks.measure import Run, prepare_page_cache, run_command, write_row

# Of cell_metadata, and of the table beside it.
CELLS = ["region_of_interest_acronym", "library_method", "donor_sex", "x", "y"]
CLUSTERS = ["class", "subclass", "supertype", "cluster", "neurotransmitter"]

PANDAS = """
import json, sys
import pandas as pd
job = json.loads(sys.argv[1])
one, two = (
    pd.read_csv(job[name], usecols=["cell_label", *job[columns]], dtype={"cell_label": str})
    for name, columns in (("metadata", "cells"), ("annotated", "clusters"))
)
table = one.merge(two, on="cell_label", how="left", validate="one_to_one")
table.to_parquet(job["output"])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=0.05, help="of 4 million cells, drawn")
    parser.add_argument("--times", type=int, default=20, help="how often these are repeated")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep the tables here and use them again")
    parser.add_argument("--results", type=Path, default=Path("benchmark-results.jsonl"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        base = (options.folder or Path(scratch)) / f"tables-{options.scale:g}x{options.times}"
        measure(made(base, options.scale, options.times), Path(scratch), options)


def made(base: Path, scale: float, times: int) -> Path:
    """Make a release of tables, without matrices, where no earlier run kept one."""
    if base.is_dir():
        return base
    print(f"making {base}", file=sys.stderr)
    unfinished = base.with_name(f"{base.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    atlas = write_atlas(unfinished, scale=scale, n_genes=20, normalizations=("log2",))
    for path in (atlas.cell_metadata, atlas.annotated):
        repeat(path, times)
    for path in atlas.matrices.values():
        path.unlink()
    listed = json.loads(atlas.manifest.read_text("utf-8"))
    correct_sizes(listed, unfinished)
    atlas.manifest.write_text(json.dumps(listed), "utf-8")
    unfinished.rename(base)
    return base


def repeat(path: Path, times: int) -> None:
    """Repeat the rows of a CSV table, each time with another letter before their labels."""
    header, _, rows = path.read_bytes().partition(b"\n")
    rows = rows.rstrip(b"\n")
    with path.open("wb") as file:
        file.write(header + b"\n")
        for number in range(times):
            name = b"K%02d" % number
            file.write(name + rows.replace(b"\n", b"\n" + name) + b"\n")


def correct_sizes(listed: Any, base: Path) -> None:
    """Write the sizes that tables have now into a manifest; their hashes are not known."""
    if not isinstance(listed, dict):
        return
    path = str(listed.get("relative_path", ""))
    if path.endswith(".csv"):
        listed |= {"size": (base / path).stat().st_size, "file_hash": ""}
    for value in listed.values():
        correct_sizes(value, base)


def measure(base: Path, scratch: Path, options: argparse.Namespace) -> None:
    metadata, annotated = (
        next(base.rglob(f"{name}.csv"))
        for name in ("cell_metadata", "cell_metadata_with_cluster_annotation")
    )
    cache = scratch / "kept"
    table = [
        *("env", f"DASK_ABC_DASK__CACHE_DIRECTORY={cache}"),
        *(sys.executable, "-m", "abc_dask", "table", *CLUSTERS, *CELLS, "--overwrite"),
        *("--download-base", str(base), "--output", str(scratch / "first.parquet")),
    ]
    job = {"metadata": str(metadata), "annotated": str(annotated), "cells": CELLS}
    job |= {"clusters": CLUSTERS, "output": str(scratch / "pandas.parquet")}
    commands = {
        "first": table,
        "again": table,
        "pandas": [sys.executable, "-c", PANDAS, json.dumps(job)],
    }
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for _ in range(options.rounds):
        for name, command in commands.items():
            if name == "first":
                shutil.rmtree(cache, ignore_errors=True)
            prepare_page_cache([metadata, annotated], cold=False)
            runs[name].append(run_command(command))
    kept = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    n_cells = compare(scratch / "first.parquet", scratch / "pandas.parquet")
    print(f"{n_cells:,} cells, the same labels and values; {kept / 1e6:,.0f} MB of kept tables")
    row: dict[str, Any] = {"cells": n_cells, "kept_bytes": kept}
    for name, own in runs.items():
        row[name] = [vars(run) | {"output": ""} for run in own]
        wall, cpu = ([getattr(run, what) for run in own] for what in ("seconds", "cpu"))
        print(
            f"{name:7} {statistics.median(wall):6.1f} s ({min(wall):.1f} to {max(wall):.1f}), "
            f"{statistics.median(cpu):6.1f} s of CPU ({min(cpu):.1f} to {max(cpu):.1f}), "
            f"{max(run.peak_bytes for run in own) / 1e6:6.0f} MB"
        )
    pairs = zip(runs["pandas"], runs["first"], strict=True)
    ratios = sorted(other.cpu / mine.cpu for other, mine in pairs)
    print(
        f"CPU of pandas / of the first run: {statistics.median(ratios):.2f} "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )
    write_row(options.results, "first_table", row | {"ratios": ratios})


def compare(mine: Path, other: Path) -> int:
    """Both tables have the same rows in the same order, column for column."""
    n_rows = {pq.read_metadata(path).num_rows for path in (mine, other)}
    for name in ["cell_label", *CELLS, *CLUSTERS]:
        one, two = (pq.read_table(path, columns=[name])[name] for path in (mine, other))
        if pa.types.is_floating(two.type):
            same = np.array_equal(one.to_numpy(), two.to_numpy(), equal_nan=True)
        else:
            texts = [column.cast(pa.string()).combine_chunks() for column in (one, two)]
            same = pc.all(pc.equal(*(text.fill_null("\0") for text in texts))).as_py()
        if len(n_rows) > 1 or not same:
            raise SystemExit(f"the tables differ in {name}")
    return n_rows.pop()


if __name__ == "__main__":
    main()
