"""No room, no right to write, a disk that fails: real ones where the system lets us make them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from abc_dask import Atlas

from .conftest import BLOCK, GENES
from .drivers import FOLDER, Job, command, opened, require_absent, require_equal


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB of its own."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = sys.platform == "linux" and os.geteuid() == 0 and shutil.which("mount")
    call = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(place)]
    if not mounted or subprocess.run(call, check=False, capture_output=True).returncode:
        pytest.skip("a file system can be mounted by root alone")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


@pytest.mark.parametrize("format", ["parquet", "csv", "zarr"])
def test_a_full_disk(warm, job, small, undisturbed, format):
    """Whatever room there is: a view, or one line and no view; with room the same command ends."""
    output = small / f"v.{format}"
    ended_well = 0
    for free in (4, 40, 90, 400, 900):
        left = os.statvfs(small).f_bavail * os.statvfs(small).f_frsize
        filler = small / "filler"
        filler.write_bytes(bytes(max(0, left - free * 1024)))
        outcome = warm.run(*job.to(output))
        filler.unlink()
        outcome.require_good_or_typed()
        if outcome.code == 0:
            ended_well += 1
            require_equal(output, undisturbed.content)
            warm.run(*job.to(output, "--overwrite"))
            break
        assert "No space left on device" in outcome.error
        require_absent(output)
    outcome = warm.run(*job.to(output, *(["--overwrite"] if ended_well else [])))
    assert outcome.code == 0, outcome.err
    require_equal(output, undisturbed.content)


def test_output_that_becomes_read_only(warm, job, small, undisturbed):
    output = small / "v.parquet"
    output.with_name("v.parquet.partial").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    assert "Read-only file system" in warm.run(*job.to(output)).error
    require_absent(output)
    subprocess.run(["mount", "-o", "remount,rw", str(small)], check=True)
    assert warm.run(*job.to(output)).code == 0
    require_equal(output, undisturbed.content)


@pytest.mark.parametrize("at", [1, 4, 11, 17])
def test_no_room_for_the_tables_beside_the_atlas(warm, tiny, tmp_path, undisturbed, at):
    """What is read once of a file is kept beside it; without room that is said."""
    base = shutil.copytree(
        tiny.download_base, tmp_path / "base", ignore=shutil.ignore_patterns(".abc_dask")
    )
    output = tmp_path / "out" / "v.parquet"
    output.parent.mkdir()
    job = Job.of(base, GENES, BLOCK)
    fault = {"under": str(base), "act": "ENOSPC", "at": at, "stays": True}
    outcome = warm.run(*job.to(output), fault=fault)
    outcome.require_good_or_typed()
    if outcome.code != 0:
        assert "No space left on device" in outcome.error
        require_absent(output)
        assert warm.run(*job.to(output)).code == 0
    require_equal(output, undisturbed.content)


COMPILE = """
import errno, sys
import numba.core.caching as caching
def full(*_arguments):
    raise OSError(errno.ENOSPC, "No space left on device")
caching.IndexDataCacheFile.save = full
caching.IndexDataCacheFile.load = lambda *_: None
import numpy as np
from abc_dask.loops import unshuffle
source = np.arange(16, dtype=np.uint8)
out = np.empty_like(source)
unshuffle(source, 4, out)
assert out.tolist() == source.reshape(4, 4).T.ravel().tolist()
"""


def test_no_room_for_machine_code():
    """Numba keeps what it compiled; where it cannot, the loops run all the same."""
    subprocess.run([sys.executable, "-c", COMPILE], check=True, cwd=FOLDER)


def strace() -> list[str]:
    """Give strace where it may be used, to have system calls fail in the real command."""
    if not (found := shutil.which("strace")):
        pytest.skip("strace is not installed")
    call = [found, "-f", "-o", os.devnull]
    if subprocess.run([*call, "true"], check=False, capture_output=True).returncode:
        pytest.skip("strace may not trace here")
    return call


@pytest.mark.parametrize("at", [1, 3])
def test_the_disk_fails_under_the_loops(tiny, tmp_path, undisturbed, at):
    """The compiled loops call the C library by themselves: EIO in their `pread` is seen."""
    call = strace()
    Atlas(tiny.download_base).plan(GENES, block_size=BLOCK)  # its tables are there
    output = tmp_path / "v.parquet"
    (matrix,) = tiny.download_base.rglob("WMB-10Xv3-MB-log2.h5ad")
    job = Job.of(tiny.download_base, GENES, BLOCK, "--threads-per-worker", 1)
    inject = f"inject=pread64:error=EIO:when={at}+"
    done = subprocess.run(
        [*call, "-P", str(matrix), "-e", inject, sys.executable, "-m", "abc_dask", *job.to(output)],
        capture_output=True,
        text=True,
        check=False,
        cwd=FOLDER,
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"abc-dask: error: {matrix}"), line
    require_absent(output)
    assert command(*job.to(output)).code == 0
    assert opened(output).provenance["content"] == undisturbed.content
