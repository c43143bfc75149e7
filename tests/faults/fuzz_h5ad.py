"""Damage h5ad files for as long as asked: ``python -m tests.faults.fuzz_h5ad MINUTES SEED``.

Prints counts of what became of them; keeps the files that were not read well in FOLDER.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .judge import judged, warm_up
from .mutations import STORED, Regions, mutate, write_base

Base = tuple[str, bytes, Regions]


def bases(folder: Path) -> list[Base]:
    """One good file a way of storing."""
    kinds = [(name, {}) for name in STORED]
    kinds += [("plain", {"contiguous": True}), ("plain", {"latest": True})]
    kinds += [("gzip", {"latest": True}), ("gzip", {"layout": "csc"})]
    kinds += [("plain", {"layout": "dense"}), ("gzip", {"layout": "dense"})]
    made = []
    for number, (name, options) in enumerate(kinds):
        path = write_base(folder / f"{number}.h5ad", name, **options)
        title = "-".join([name, *(f"{value}" for value in options.values())])
        made.append((title, path.read_bytes(), Regions.of(path)))
    return made


def damaged(files: list[Base], seed: int) -> Iterator[tuple[str, bytes]]:
    """Damaged files without end, the same for the same seed."""
    for number in itertools.count():
        rng = np.random.default_rng([seed, number])
        title, whole, where = files[int(rng.integers(len(files)))]
        name, content = mutate(whole, where, rng)
        yield f"{title} {name} {seed}/{number}", content


def main(minutes: float, seed: int, folder: Path) -> None:
    end = time.monotonic() + 60 * minutes
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as work:
        warm_up(write_base(Path(work) / "warm.h5ad", "gzip+shuffle"), Path(work))
        warm_up(write_base(Path(work) / "warm.h5ad", "plain"), Path(work))
        files = damaged(bases(Path(work)), seed)
        for name, content, verdict in judged(files, Path(work)):
            counts[verdict.word] += 1
            if not verdict.is_good:
                print(name, verdict.word, verdict.detail, flush=True)
                folder.mkdir(parents=True, exist_ok=True)
                place = folder / f"{name.replace(' ', '_').replace('/', '-')}.h5ad"
                place.write_bytes(content)
            if counts.total() % 1000 == 0:
                print(dict(counts), flush=True)
            if time.monotonic() > end:
                break
    print(counts.total(), "files", dict(counts), flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
