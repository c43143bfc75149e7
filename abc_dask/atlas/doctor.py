"""Whether this installation and this machine are fit for the work, and what to do where not."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from abc_dask._version import build
from abc_dask.atlas.atlas import Atlas
from abc_dask.base.config import setting
from abc_dask.base.errors import AbcDaskError
from abc_dask.base.extras import EXTRAS, install_line, requirements
from abc_dask.base.messages import format_bytes, plural
from abc_dask.run.cluster.queues import COMMANDS
from abc_dask.run.costs import bytes_read, free_bytes, free_text, keep_rate, rates_file
from abc_dask.run.read_block import read_block, tasks_of

# Less memory, or room for kept tables, than that is worth a word: planning four million cells
# takes about the first, their tables about the second.
_LITTLE_MEMORY, _LITTLE_ROOM = 2e9, 1e9

# The matrix of the reading test: cells, genes, and the share of values that are stored.
_CELLS, _GENES, _STEP = 4000, 4000, 4


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    name : str
    found : str
        What is so.
    advice : str
        What to do about it; "" where all is well.
    is_needed : bool
        Whether the work cannot be done as it is.
    """

    name: str
    found: str
    advice: str = ""
    is_needed: bool = False

    def __str__(self) -> str:
        """Return it as a line."""
        mark = "wrong" if self.is_needed else "note" if self.advice else "ok"
        return f"{mark:<6}{self.name:<13}{self.found}{self.advice and '; ' + self.advice}"


def examine(output: str | Path | None = None, *, network: bool = False) -> Iterator[Finding]:
    """Look at the installation and the machine.

    Parameters
    ----------
    output : path, optional
        Where results will be: its free space.
    network : bool
        Also ask the server for its releases.

    Yields
    ------
    Finding
        What was found, as soon as it is known.
    """
    yield Finding("abc_dask", f"{build()}, {Path(__file__).parent}")
    yield Finding("Python", f"{platform.python_version()}, {platform.platform()}")
    yield _libraries()
    yield from map(_extra, EXTRAS)
    yield _cores()
    yield _memory()
    yield _cache()
    if output is not None:
        yield _output(Path(output).expanduser().absolute())
    yield _temporary()
    yield _batch_systems()
    if network:
        yield _network()
    yield _tried("reading", read_test)


def _tried(name: str, look: Callable[[], str]) -> Finding:
    """Return what a look finds; an error is something that is wrong."""
    try:
        return Finding(name, look())
    except (AbcDaskError, OSError) as error:
        return Finding(name, "does not work", str(error), is_needed=True)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _lacking(extra: str = "") -> tuple[list[str], list[str]]:
    """Return the libraries with their versions, and those that are absent or too old."""
    found, lacking = [], []
    for requirement in requirements(extra):
        there = _installed(requirement.name)
        found.append(f"{requirement.name} {there}")
        if there is None or not requirement.specifier.contains(there, prereleases=True):
            lacking.append(str(requirement))
    return found, lacking


def _libraries() -> Finding:
    found, lacking = _lacking()
    if not lacking:
        return Finding("libraries", ", ".join(found))
    names = " ".join(f"'{name}'" for name in lacking)
    said = f"{plural(len(lacking), 'library').replace('librarys', 'libraries')} absent or too old"
    return Finding("libraries", said, f"pip install {names}", is_needed=True)


def _extra(extra: str) -> Finding:
    found, lacking = _lacking(extra)
    if lacking:
        return Finding(
            extra, f"not installed ({EXTRAS[extra]})", f"for them: {install_line(extra)}"
        )
    return Finding(extra, f"{', '.join(found)} ({EXTRAS[extra]})")


def _cores() -> Finding:
    from dask.system import CPU_COUNT

    return Finding("cores", f"{CPU_COUNT} of {os.cpu_count()} may be used")


def _memory() -> Finding:
    from distributed.system import MEMORY_LIMIT

    advice = ""
    if MEMORY_LIMIT < _LITTLE_MEMORY:
        advice = "little for an atlas of millions of cells; give the job or container more"
    return Finding("memory", f"{format_bytes(MEMORY_LIMIT)} may be used", advice)


def _cache() -> Finding:
    folder = rates_file().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding(
            "cache",
            f"{folder} cannot be written ({error.strerror})",
            "set abc-dask.cache-directory to a folder of yours",
            is_needed=setting("cache-directory") is not None,
        )
    free = free_bytes(folder / "table")
    advice = "little for kept tables; make room" if _is_little(free) else ""
    return Finding("cache", f"{folder}, {free_text(free)}", advice)


def _is_little(free: int | None) -> bool:
    return free is not None and free < _LITTLE_ROOM


def _output(output: Path) -> Finding:
    folder = next(folder for folder in output.parents if folder.exists())
    found = f"{folder}, {free_text(free_bytes(output))}"
    if os.access(folder, os.W_OK | os.X_OK):
        return Finding("output", found)
    return Finding(
        "output", f"{folder} cannot be written", "name an output elsewhere", is_needed=True
    )


def _temporary() -> Finding:
    import dask

    folder = Path(dask.config.get("temporary-directory", None) or tempfile.gettempdir())
    free = free_bytes(folder / "file")
    advice = "worker processes keep files there; make room" if _is_little(free) else ""
    return Finding("temporary", f"{folder}, {free_text(free)}", advice)


def _batch_systems() -> Finding:
    found = [kind for kind, command in COMMANDS.items() if shutil.which(command)]
    if not found:
        return Finding("batch system", "none found: work is done on this machine")
    advice = install_line("jobqueue") if _lacking("jobqueue")[1] else ""
    return Finding("batch system", f"{', '.join(found)} found", advice)


def _network() -> Finding:
    from abc_dask.acquire.remote import list_remote_releases

    def ask() -> str:
        releases = list_remote_releases()
        return f"{setting('base-url')} has {plural(len(releases), 'release')}, up to {releases[-1]}"

    try:
        return _tried("network", ask)
    except LookupError:
        return Finding("network", f"{setting('base-url')} has no release", "see abc-dask.base-url")


def read_test() -> str:
    """Read genes of a small matrix that is written for it, and keep the rate for estimates.

    Raises
    ------
    AbcDaskError, OSError
        If it cannot be written or read, or a value is not the one that was written.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "test.h5ad"
        _write_matrix(path)
        plan = Atlas.from_h5ad(path).plan(["G0", "G5"], block_size="8 MiB")
        tasks, n_bytes = tasks_of(plan), bytes_read(plan, all_genes=False)
        read_block(tasks[0])  # loops are compiled or loaded on first use
        with ThreadPoolExecutor() as pool:
            began = time.perf_counter()
            parts = list(pool.map(read_block, tasks))
            seconds = time.perf_counter() - began
    values = np.concatenate([part.values for part in parts], axis=1)
    if not (values[0] == 1.0).all() or not (values[1] == 0.0).all():
        raise AbcDaskError("values were read that were not written; please report this")
    keep_rate("test", n_bytes, seconds)
    rate = format_bytes(n_bytes / seconds)
    return f"{rate}/s of stored values, from the page cache (a test of {format_bytes(n_bytes)})"


def _write_matrix(path: Path) -> None:
    """Write every fourth gene of every cell as 1."""
    import h5py

    per_row = _GENES // _STEP
    columns = np.tile(np.arange(0, _GENES, _STEP, dtype=np.int32), _CELLS)
    text = h5py.string_dtype()
    with h5py.File(path, "w") as file:
        x = file.create_group("X")
        x.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        x.attrs["shape"] = (_CELLS, _GENES)
        x["indices"] = columns
        x["data"] = np.ones(len(columns), np.float32)
        x["indptr"] = np.arange(_CELLS + 1, dtype=np.int64) * per_row
        for name, letter, count in (("obs", "C", _CELLS), ("var", "G", _GENES)):
            frame = file.create_group(name)
            frame.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0"})
            frame.attrs.update({"_index": "_index", "column-order": np.array([], text)})
            frame.create_dataset("_index", data=[f"{letter}{i}" for i in range(count)], dtype=text)
