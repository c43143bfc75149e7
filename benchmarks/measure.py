"""What benchmarks share: run a command, watch its memory, write a row of results."""

from __future__ import annotations

import contextlib
import ctypes
import datetime as dt
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from abc_dask.testing import write_atlas

PACKAGES = (
    "abc_dask",
    "anndata",
    "dask",
    "distributed",
    "h5py",
    "numba",
    "numpy",
    "pandas",
    "pyarrow",
)

# Of <linux/prctl.h>.
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Run:
    """Wall seconds, peak memory and CPU seconds of a command.

    Memory is the proportional set size summed over the command and its children: a page
    that several processes share counts once, and pages of mapped files count too.
    """

    seconds: float
    peak_bytes: int
    output: str
    cpu: float = 0


def run_command(command: Sequence[str | Path], interval: float = 0.02) -> Run:
    """Run a command to its end, sampling the memory of all its processes."""
    own = adopting()
    began, before = time.perf_counter(), _cpu_of_children()
    with subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        peak = [0]

        def watch() -> None:
            root = psutil.Process(process.pid)
            while process.poll() is None:
                looked = time.perf_counter()
                total = 0
                for one in _family(root):
                    try:
                        total += one.memory_full_info().pss
                    except psutil.Error:
                        continue
                peak[0] = max(peak[0], total)
                # the kernel walks through all pages, on a core that a contestant may want
                time.sleep(max(interval, 20 * (time.perf_counter() - looked)))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        output, errors = process.communicate()
        seconds = time.perf_counter() - began
        watcher.join()
    usage_of_orphans(own)
    if process.returncode:
        raise SystemExit(f"{command[0]} failed with {process.returncode}: {errors[-2000:]}")
    return Run(seconds, peak[0], output, _cpu_of_children() - before)


def adopting() -> set[int]:
    """Become the parent of processes that lose theirs, where Linux is; return who are there.

    Worker processes of a command may be those of a process that ends a moment after it, and what
    they took counts for it only when somebody has waited for that one.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    return {child.pid for child in psutil.Process().children()}


@contextlib.contextmanager
def confined(cores: int) -> Iterator[None]:
    """Confine what is started to some cores, where the system can."""
    here = psutil.Process()
    if not hasattr(here, "cpu_affinity"):
        yield
        return
    every = here.cpu_affinity()
    here.cpu_affinity(every[:cores])
    try:
        yield
    finally:
        here.cpu_affinity(every)


def usage_of_orphans(own: set[int]) -> list[resource.struct_rusage]:
    """Wait for the processes that a command left behind, and return what they took."""
    left = [child.pid for child in psutil.Process().children() if child.pid not in own]
    return [os.wait4(pid, 0)[2] for pid in left]


def _cpu_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _family(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def prepare_page_cache(paths: Sequence[Path], *, cold: bool) -> None:
    """Read files into the page cache, or have the kernel forget them."""
    if not cold:
        for path in paths:
            with path.open("rb", buffering=0) as file:
                while file.read(1 << 24):
                    pass
        return
    os.sync()
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def atlas_at(base: Path, **how: Any) -> Path:
    """Make an atlas (`abc_dask.testing.write_atlas`) where no earlier run kept one; log2 alone."""
    if not (base / "releases").is_dir():
        print(f"making {base}", file=sys.stderr)
        write_atlas(base, normalizations=("log2",), **how)
    return base


def in_turn(
    code: str, path: Path, files: Sequence[Path], ways: Sequence[str], rounds: int, *, cold: bool
) -> dict[str, list[Run]]:
    """Run Python code in processes of its own, one way after the other, round after round.

    The code gets `path` and the way as arguments, and prints the seconds that it measured
    itself and a digest of its result, which must be the same for all ways. `files` are what
    it reads: into the page cache, or out of it, each time.
    """
    runs: dict[str, list[Run]] = {way: [] for way in ways}
    digests = set()
    for _ in range(rounds):
        for way, own in runs.items():
            prepare_page_cache(files, cold=cold)
            run = run_command([sys.executable, "-c", code, path, way])
            seconds, digest = run.output.split()
            digests.add(digest)
            own.append(replace(run, seconds=float(seconds)))
    if len(digests) != 1:
        raise SystemExit(f"{path.name}: the results differ")
    return runs


def table(runs: Mapping[str, Sequence[Run]], base: str) -> dict[str, dict[str, object]]:
    """Print medians, how many times as long each takes as one of them, round by round, and memory.

    Returns
    -------
    dict
        The same, all values, for `write_row`.
    """
    print(f"{'':12} {'median s':>9} {'min':>7} {'max':>7} {'x ' + base:>24} {'peak MB':>8}")
    rows: dict[str, dict[str, object]] = {}
    for name, own in runs.items():
        seconds = [run.seconds for run in own]
        pairs = zip(seconds, runs[base], strict=True)
        ratios = sorted(mine / other.seconds for mine, other in pairs)
        peak = max(run.peak_bytes for run in own)
        rows[name] = {"seconds": seconds, "ratios": ratios, "peak_bytes": peak}
        spread = f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
        print(
            f"{name:12} {statistics.median(seconds):9.3f} {min(seconds):7.3f} {max(seconds):7.3f} "
            f"{spread:>24} {peak / 1e6:8.0f}"
        )
    return rows


def write_row(path: Path, name: str, row: dict[str, object]) -> None:
    """Append one JSON row with versions, machine and date."""
    about = {
        "benchmark": name,
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
        "argv": sys.argv[1:],
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(about | row) + "\n")
