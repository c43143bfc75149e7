"""Reading a finished view: what its checks cost against the plain libraries on the same files.

    python -m benchmarks.reading [--scale 0.25] [--rounds 5] [--folder DIR] [--cold]

A view of ten genes is made as Parquet, Zarr and CSV. In turn, round after round, processes of their
own read all of it into one pandas frame, with ``open_view(...).to_pandas()``, which compares every
byte that it reads with a checksum and gives the rows in the order of cell_metadata, and with
``pandas.read_parquet``, ``anndata.read_zarr(...).to_df()`` and ``pandas.read_csv``, which do not.

Times are those of the reading alone, the libraries being loaded. Values are compared. Prints a
table of medians for each format; appends one JSON row to `--results`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from abc_dask import Atlas
from abc_dask.testing import REFERENCE_GENES
from benchmarks.measure import atlas_at, in_turn, table, write_row

CODE = """
import hashlib, sys, time
import anndata, numcodecs, pyarrow.csv, pyarrow.parquet, zarr.codecs
import pandas as pd
import abc_dask.views.parquet_view
from abc_dask import open_view
path, way = sys.argv[1:]
if way == "package":
    read = lambda: open_view(path).to_pandas()
elif path.endswith(".parquet"):
    read = lambda: pd.read_parquet(path)
elif path.endswith(".zarr"):
    read = lambda: anndata.read_zarr(path).to_df()
else:
    read = lambda: pd.read_csv(path, index_col="cell_label", dtype={"cell_label": str})
began = time.perf_counter()
frame = read()
seconds = time.perf_counter() - began
genes = [name for name in frame.columns if not name.endswith("_label")]
frame = frame[sorted(genes)].sort_index().astype("float32")
values = frame.to_numpy().tobytes() + "\\n".join(frame.index).encode()
print(seconds, hashlib.sha256(values).hexdigest())
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=0.25, help="of 4 million cells")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keep the atlas here and use it again")
    parser.add_argument("--cold", action="store_true", help="drop the page cache before each run")
    parser.add_argument("--results", type=Path, default=Path("benchmark-results.jsonl"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        base = (options.folder or Path(scratch)) / f"few-genes-{options.scale:g}"
        atlas = Atlas(atlas_at(base, scale=options.scale, n_genes=40))
        formats = {}
        for name in ("parquet", "zarr", "csv"):
            path = atlas.extract(REFERENCE_GENES, Path(scratch) / f"view.{name}").path
            formats[name] = measure(path, options)
        about = {"cells": len(atlas.cells), "cold": options.cold}
        write_row(options.results, "reading", about | {"formats": formats})


def measure(path: Path, options: argparse.Namespace) -> dict[str, dict[str, object]]:
    """Read one view in both ways, in turn."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    ways = ("package", "plain")
    runs = in_turn(CODE, path, files, ways, options.rounds, cold=options.cold)
    size = sum(file.stat().st_size for file in files)
    print(f"{path.suffix[1:]}, {size / 1e6:.0f} MB, same values")
    return table(runs, "plain")


if __name__ == "__main__":
    main()
