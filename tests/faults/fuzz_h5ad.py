"""Damage h5ad files for as long as asked: ``python -m tests.faults.fuzz_h5ad --minutes 60``.

Prints counts of what became of them, and keeps the files that were not read well.
"""

from __future__ import annotations

import argparse
import itertools
import lzma
import math
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .judge import Verdict, judged, warm_up
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
        words = (key if value is True else str(value) for key, value in options.items())
        title = "-".join([name, *words])
        made.append((title, path.read_bytes(), Regions.of(path)))
    return made


def damaged(files: list[Base], seed: int) -> Iterator[tuple[str, bytes]]:
    """Damaged files without end, the same for the same seed."""
    for number in itertools.count():
        rng = np.random.default_rng([seed, number])
        title, whole, where = files[int(rng.integers(len(files)))]
        name, content = mutate(whole, where, rng)
        yield f"{title} {name} {seed}/{number}", content


def flipped(files: list[Base], each: int) -> Iterator[tuple[str, bytes]]:
    """One bit of each region of each way of storing, so many times; always the same ones."""
    for title, whole, where in files:
        for region in where.places:
            rng = np.random.default_rng(list(f"{title} {region}".encode()))
            for number in range(each):
                raw = bytearray(whole)
                raw[where.place(rng, region)] ^= 1 << int(rng.integers(8))
                yield f"{title} {region} {number}", bytes(raw)


def _say(name: str, verdict: Verdict) -> None:
    print(name, verdict.word, verdict.detail, flush=True)


def fuzz(
    files: Iterator[tuple[str, bytes]], work: Path, *, minutes: float, most: float, keep: Path
) -> None:
    """Judge damaged files, and keep those that were not read well."""
    end = time.monotonic() + 60 * minutes
    counts: Counter[str] = Counter()
    for name, content, verdict in judged(files, work):
        counts[verdict.word] += 1
        if not verdict.is_good:
            _say(name, verdict)
            keep.mkdir(parents=True, exist_ok=True)
            place = keep / f"{name.replace(' ', '_').replace('/', '-')}.h5ad"
            place.write_bytes(content)
        if counts.total() % 1000 == 0:
            print(dict(counts), flush=True)
        if time.monotonic() > end or counts.total() >= most:
            break
    print(counts.total(), "files", dict(counts), flush=True)


def judge_again(paths: list[Path], work: Path) -> None:
    """Judge files that were kept."""
    files = ((path.name, lzma.decompress(path.read_bytes())) for path in paths)
    for name, _, verdict in judged(files, work):
        _say(name, verdict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--files", type=float, default=math.inf)
    parser.add_argument("--flips", type=int, help="so many bits of each region of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzzed"))
    parser.add_argument("--judge", type=Path, nargs="+", metavar="FILE.h5ad.xz")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for stored in ("gzip+shuffle", "plain"):
            warm_up(write_base(work / "warm.h5ad", stored), work)
        if asked.judge:
            judge_again(asked.judge, work)
            return
        good = bases(work)
        drawn = flipped(good, asked.flips) if asked.flips else damaged(good, asked.seed)
        fuzz(drawn, work, minutes=asked.minutes, most=asked.files, keep=asked.keep)


if __name__ == "__main__":
    main()
