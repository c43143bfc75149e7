"""Chosen genes of all cells: this package, its peers, and the raw read of the same bytes.

    python -m benchmarks.extraction [--scale 0.05] [--genes 1,10,100,reference] [--threads 1,2,4]
        [--compression none,gzip] [--cold] [--rounds 3] [--folder DIR]

Contestants, each a process of its own, in turn, a number of rounds; seconds are those behind
imports, the loading of compiled code and the start of a cluster (`benchmarks.contestants`).
Unless --cold is given, the files are read into the page cache before each run. Genes are taken
evenly from the rarest to the most frequent, or are the ten of the reference workflow:

- reference: the reference workflow, a backed slice of each matrix;
- chunked: one process, chunked_X(8192), made dense, placed by label;
- lazy-N: anndata's read_elem_lazy with N rows a chunk, a LocalCluster of as many processes;
- package: this package, its tables kept from an earlier run;
- sequential, parallel, indices: raw reads of all bytes and of the indices alone.

Results are compared value for value.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from abc_dask import Atlas
from abc_dask.testing import REFERENCE_GENES, REFERENCE_IDENTIFIERS
from benchmarks.measure import Run, atlas_at, prepare_page_cache, run_command, table, write_row

RAW = ("sequential", "parallel", "indices")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=0.05, help="of 4 million cells")
    parser.add_argument("--genes", default="10", help="how many, such as 1,10,100,reference")
    parser.add_argument("--compression", default="none", help="none,gzip")
    parser.add_argument("--threads", default="2", help="such as 1,2,4")
    parser.add_argument(
        "--lazy-rows", default="4000,8192", help="chunk sizes of anndata's lazy reading"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--leave-out", default="", help="contestants, such as reference,chunked")
    parser.add_argument("--folder", type=Path, help="keep the atlases here and use them again")
    parser.add_argument("--cold", action="store_true", help="drop the page cache before each run")
    parser.add_argument("--results", type=Path, default=Path("benchmark-results.jsonl"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for compression in options.compression.split(","):
            base = (options.folder or Path(scratch)) / f"atlas-{options.scale:g}-{compression}"
            packed = None if compression == "none" else compression
            atlas = Atlas(atlas_at(base, scale=options.scale, compression=packed))
            for threads in options.threads.split(","):
                for genes in options.genes.split(","):
                    measure(atlas, compression, genes, int(threads), Path(scratch), options)


def chosen_genes(path: Path, number: int) -> list[str]:
    """Take genes evenly from the rarest to the most frequent of a matrix."""
    with h5py.File(path) as file:
        seen = np.bincount(file["X/indices"][: 10**7], minlength=file["X"].attrs["shape"][1])
        names = file["var/gene_identifier"].asstr()[:]
    order = np.argsort(seen, kind="stable")
    order = order[seen[order] > 0]
    return [names[i] for i in order[np.linspace(0, len(order) - 1, number).astype(int)]]


def measure(
    atlas: Atlas,
    compression: str,
    asked: str,
    threads: int,
    scratch: Path,
    options: argparse.Namespace,
) -> None:
    base = atlas.download_base
    files = [base / file for file in atlas.feature_matrices["file"]]
    largest = max(files, key=lambda f: f.stat().st_size)
    genes = [REFERENCE_IDENTIFIERS[gene] for gene in REFERENCE_GENES]
    if asked != "reference":
        genes = chosen_genes(largest, int(asked))
    atlas.plan(genes)  # tables are kept
    job = {
        "base": str(base),
        "cells": str(next(base.rglob("cell_metadata.csv"))),
        "matrices": {f.name.removesuffix("-log2.h5ad"): str(f) for f in files},
        "genes": genes,
        "threads": threads,
    }
    jobs: dict[str, dict[str, Any]] = {"reference": {}, "chunked": {}}
    for rows in options.lazy_rows.split(","):
        jobs[f"lazy-{rows}"] = {"way": "lazy", "rows": int(rows)}
    jobs |= {name: {} for name in ("package", *RAW)}
    for name in filter(None, options.leave_out.split(",")):
        del jobs[name]
    runs: dict[str, list[Run]] = {name: [] for name in jobs}
    for turn in range(options.rounds):
        for name, more in jobs.items():
            prepare_page_cache(files, cold=options.cold)
            whole = {"way": name, **job, **more, "output": str(scratch / f"{name}.npz")}
            run = run_command([sys.executable, "-m", "benchmarks.contestants", json.dumps(whole)])
            seconds = json.loads(run.output.splitlines()[-1])["seconds"]
            runs[name].append(replace(run, seconds=seconds))
            print(f"round {turn + 1} {name}: {seconds:.2f} s", file=sys.stderr)
    compare(scratch, [name for name in jobs if name not in RAW])
    about = {
        "cells": len(atlas.cells),
        "bytes": sum(f.stat().st_size for f in files),
        "compression": compression,
        "genes": asked,
        "threads": threads,
        "cold": options.cold,
    }
    print(json.dumps(about))
    rows = table(runs, "package")
    write_row(options.results, "extraction", about | {"contestants": rows})


def compare(scratch: Path, names: list[str]) -> None:
    """All contestants' labels and values are the same."""
    first, *others = (np.load(scratch / f"{name}.npz") for name in names)
    for name, other in zip(names[1:], others, strict=True):
        same = np.array_equal(first["labels"], other["labels"])
        if not same or not np.array_equal(first["values"], other["values"], equal_nan=True):
            raise SystemExit(f"{name} differs from {names[0]}")


if __name__ == "__main__":
    main()
