"""Where the chunks of an array lie: HDF5's index read by this package, and by HDF5.

    python -m benchmarks.chunkindex [--chunks 300000] [--chunk-bytes 64] [--rounds 5] [--cold]

One array is written with h5py, chunk by chunk. In turn, round after round, processes of their own
give place, offset, size and filter mask of every chunk as arrays:

- ``package``: `abc_dask.matrix.chunk_index`, which also makes sure that each chunk is found
  by its place;
- ``chunk_iter``: h5py's list of all chunks, which does not;
- ``and search``: the same, and HDF5 searches for each chunk.

Times are those of the reading alone, the file being open. Results are compared. Prints a table of
medians; appends one JSON row to `--results`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import h5py
import numpy as np

from benchmarks.measure import in_turn, table, write_row

CODE = """
import hashlib, sys, time
import h5py
import numpy as np
from abc_dask.disk.files import Fingerprint
from abc_dask.matrix import chunk_index as chunkindex
from abc_dask.matrix.source import FileSource
with h5py.File(sys.argv[1]) as file:
    array = file["a"]
    began = time.perf_counter()
    if sys.argv[2] == "package":
        with FileSource(sys.argv[1], Fingerprint.of(sys.argv[1])) as source:
            index = chunkindex.read_chunk_index(array, source)
    elif sys.argv[2] == "and search":
        index = chunkindex._ask_for_all(array)
    else:
        listed = []
        array.id.chunk_iter(listed.append)
        rows = [(c.chunk_offset[0], c.byte_offset, c.size, c.filter_mask) for c in listed]
        columns = np.array(rows, np.int64).T
        index = chunkindex.ChunkIndex(columns[0][:, None], *columns[1:])
    seconds = time.perf_counter() - began
columns = (index.origins, index.offsets, index.sizes, index.masks)
digest = hashlib.sha256(b"".join(np.ascontiguousarray(c).tobytes() for c in columns))
print(seconds, digest.hexdigest())
"""


def write_array(path: Path, n_chunks: int, chunk_bytes: int) -> None:
    """Write an array of so many chunks, some thousand at a time."""
    chunk = chunk_bytes // 4
    with h5py.File(path, "w") as file:
        array = file.create_dataset("a", (n_chunks * chunk,), "i4", chunks=(chunk,))
        step = chunk * max(1, (16 << 20) // chunk_bytes)
        for start in range(0, len(array), step):
            stop = min(start + step, len(array))
            array[start:stop] = np.arange(start, stop, dtype="i4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chunks", type=int, default=300_000)
    parser.add_argument("--chunk-bytes", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--folder", help="where to write; a temporary folder where not given")
    parser.add_argument("--results", type=Path, default=Path("benchmark-results.jsonl"))
    options = parser.parse_args()
    ways = ("package", "chunk_iter", "and search")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "array.h5"
        write_array(path, options.chunks, options.chunk_bytes)
        runs = in_turn(CODE, path, [path], ways, options.rounds, cold=options.cold)
    state = "cold" if options.cold else "warm"
    print(f"{options.chunks:,} chunks of {options.chunk_bytes:,} bytes, {state}, same results")
    rows = table(runs, "package")
    write_row(
        options.results,
        "chunkindex",
        {
            "chunks": options.chunks,
            "chunk_bytes": options.chunk_bytes,
            "cold": options.cold,
            "ways": rows,
        },
    )


if __name__ == "__main__":
    main()
