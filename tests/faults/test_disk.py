"""No room, no right to write, a disk that fails: real ones where the system lets us make them."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from abc_dask import Atlas
from tests.variants import few_of
from tests.waiting import PATIENCE

from .conftest import BLOCK, GENES
from .drivers import (
    FOLDER,
    INJECTED,
    Job,
    Outcome,
    opened,
    require_absent,
    require_equal,
)
from .test_steps import complete


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


@pytest.mark.parametrize(
    ("format", "room"),
    [
        ("parquet", (4, 40, 90, 400, 900)),
        *(
            pytest.param(format, range(0, 2000, 4), marks=pytest.mark.slow)
            for format in ("parquet", "csv", "zarr")
        ),
    ],
)
def test_a_full_disk(warm, job, small, undisturbed, format, room):
    """Whatever room there is: a view, or one line and no view; with room the same command ends."""
    output = small / f"v.{format}"
    ended_well = 0
    for free in room:
        left = os.statvfs(small).f_bavail * os.statvfs(small).f_frsize
        filler = small / "filler"
        filler.write_bytes(bytes(max(0, left - free * 1024)))
        INJECTED["full disk"] += 1
        outcome = warm.run(*job.to(output))
        filler.unlink()
        outcome.require_good_or_typed()
        if outcome.code == 0:
            ended_well += 1
            require_equal(output, undisturbed.content)
            warm.run(*job.to(output, "--overwrite"))
            break
        said = ("not enough space", "No space left on device")  # seen before, or in the work
        assert any(words in outcome.error for words in said)
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


@pytest.mark.parametrize("at", [1, 11])
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
from abc_dask.matrix.codec_loops import unshuffle
source = np.arange(16, dtype=np.uint8)
out = np.empty_like(source)
unshuffle(source, 4, out)
assert out.tolist() == source.reshape(4, 4).T.ravel().tolist()
"""


def test_no_room_for_machine_code():
    """Numba keeps what it compiled; where it cannot, the loops run all the same."""
    subprocess.run([sys.executable, "-c", COMPILE], check=True, cwd=FOLDER)


def strace() -> str:
    """Give strace where it may be used, to have system calls fail in the real command."""
    if not (found := shutil.which("strace")):
        pytest.skip("strace is not installed")
    call = [found, "-f", "-o", os.devnull, "true"]
    if subprocess.run(call, check=False, capture_output=True).returncode:
        pytest.skip("strace may not trace here")
    return found


def traced(
    log: Path,
    inject: str,
    argv: Sequence[object],
    *more: object,
    env: Mapping[str, str] | None = None,
) -> Outcome:
    """Run the real command, in which the system answers calls with an error."""
    call = [strace(), "-f", "-o", str(log), *map(str, more), "-e", f"inject={inject}"]
    done = subprocess.run(
        [*call, sys.executable, "-m", "abc_dask", *map(str, argv)],
        capture_output=True,
        text=True,
        check=False,
        cwd=FOLDER,
        timeout=PATIENCE,
        env={**os.environ, **(env or {})},
    )
    # one line a call that did not return what the system had said
    INJECTED[f"{inject.split(':')[1]} by the system"] += log.read_text().count("(INJECTED)")
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def simple(tiny) -> Job:
    """The job without what would be written beside the atlas."""
    Atlas(tiny.download_base).plan(GENES, block_size=BLOCK)
    return Job.of(tiny.download_base, GENES, BLOCK, "--threads-per-worker", 1)


# A disk that does not answer is asked again, after waits: not for long in these tests.
QUICK = {"DASK_ABC_DASK__READ__BACKOFF": "0.01"}


def of_matrix(kind: str, base: Path) -> Path:
    return next(path for path in base.rglob("*") if path.name.endswith(kind))


def kept_of(kind: str, base: Path) -> Path:
    return next((base / ".abc_dask").glob(f"{kind}-*.parquet"))


READS = {
    "manifest": lambda base: of_matrix("manifest.json", base),
    "cells": lambda base: of_matrix("cell_metadata.csv", base),
    "genes": lambda base: of_matrix("gene.csv", base),
    "matrix": lambda base: of_matrix("MB-log2.h5ad", base),
    "kept rows": lambda base: kept_of("row-table", base),
    "kept chunks": lambda base: kept_of("chunks", base),
    "kept cells": lambda base: kept_of("cell_metadata", base),
}


@pytest.mark.parametrize("error", ["EIO", pytest.param("ESTALE", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", few_of(READS, "manifest", "matrix", "kept rows"))
def test_a_disk_that_does_not_answer(warm, tiny, tmp_path, undisturbed, name, error):
    """Python, Arrow, HDF5 or the loops read: one line that names the file, and says why."""
    base = Path(shutil.copytree(tiny.download_base, tmp_path / "base"))
    shutil.rmtree(base / ".abc_dask", ignore_errors=True)
    if name.startswith("kept"):
        Atlas(base).plan(GENES, block_size=BLOCK)
    path = READS[name](base)
    job = Job.of(base, GENES, BLOCK, "--threads-per-worker", 1)
    output = tmp_path / "out" / "v.parquet"
    output.parent.mkdir()
    log = tmp_path / "log"
    inject = f"read,pread64,preadv,preadv2:error={error}:when=1+"
    outcome = traced(log, inject, job.to(output), "-P", path, env=QUICK)
    assert "(INJECTED)" in log.read_text()
    assert outcome.code == 1, outcome
    assert str(path) in outcome.error
    assert os.strerror(getattr(errno, error)) in outcome.error
    assert path.exists()
    require_absent(output)
    assert warm.run(*job.to(output)).code == 0
    require_equal(output, undisturbed.content)


@pytest.mark.parametrize(
    ("format", "name"),
    [
        ("parquet", "00000.*.parquet"),
        pytest.param("parquet", "_view.parquet", marks=pytest.mark.slow),
        pytest.param("zarr", "X/c/0/0", marks=pytest.mark.slow),
        pytest.param("csv", "", marks=pytest.mark.slow),
    ],
)
def test_a_disk_that_does_not_answer_for_a_view(tiny, tmp_path, format, name):
    view = Atlas(tiny.download_base).extract(GENES, tmp_path / f"v.{format}", block_size=BLOCK)
    file = next(view.path.glob(name)) if name else view.path
    annotated = ["--by", "region_of_interest_acronym", "--missing", "drop"]
    for argv in (
        ["view", "verify", view.path],
        ["view", "export", view.path, tmp_path / "v.h5ad"],
        ["summarize", view.path, *annotated, "--download-base", tiny.download_base],
    ):
        log = tmp_path / "log"
        inject = "read,pread64,preadv:error=EIO:when=1+"
        outcome = traced(log, inject, argv, "-P", file)
        if "(INJECTED)" not in log.read_text():
            assert outcome.code == 0
            continue
        assert outcome.code == 1
        assert f"{view.path}" in outcome.error
        assert "Input/output error" in outcome.error
        assert not (tmp_path / "v.h5ad").exists()


@pytest.mark.parametrize("at", few_of([1, 2, 3], 1))
def test_a_disk_that_answers_in_the_end(tiny, simple, tmp_path, undisturbed, at):
    """One failed read of a matrix, wherever it comes, costs a little time and nothing else."""
    output = tmp_path / "out" / "v.parquet"
    output.parent.mkdir()
    path = READS["matrix"](tiny.download_base)
    log = tmp_path / "log"
    inject = f"read,pread64,preadv:error=EIO:when={at}"
    outcome = traced(log, inject, simple.to(output), "-P", path, env=QUICK)
    assert "(INJECTED)" in log.read_text()
    assert (outcome.code, outcome.err) == (0, "")
    require_equal(output, undisturbed.content)


@pytest.mark.parametrize(
    ("call", "error", "format", "only"),
    [
        ("fsync", "EIO", "parquet", 9),
        pytest.param("rename", "ENOSPC", "parquet", 4, marks=pytest.mark.slow),
        *(
            pytest.param(call, error, format, 0, marks=pytest.mark.slow)
            for format in ("parquet", "csv", "zarr")
            for call, error in [
                ("fsync", "EIO"),
                ("rename", "ENOSPC"),
                ("mkdir", "EDQUOT"),
                ("unlink,unlinkat,rmdir", "EIO"),
            ]
        ),
    ],
)
def test_each_call_that_the_system_refuses(
    warm, job, simple, tmp_path, undisturbed, call, error, format, only
):
    """The n-th call of each thread fails, once, whoever makes it: Python, Arrow, or zarr."""
    log = tmp_path / "log"
    at = only
    while True:
        at = only or at + 1
        output = tmp_path / f"{at}" / f"v.{format}"
        output.parent.mkdir()
        outcome = traced(log, f"{call}:error={error}:when={at}", simple.to(output))
        outcome.require_good_or_typed()
        if "(INJECTED)" not in log.read_text():
            assert at > 3
            break
        if outcome.code:
            assert os.strerror(getattr(errno, error)) in outcome.error, (at, outcome)
            complete(warm, job, output, undisturbed)
        else:
            assert opened(output).provenance["content"] == undisturbed.content
            # what could not be removed behind the commit is removed by the next run
            assert warm.run(*job.to(output, "--overwrite")).code == 0
        require_equal(output, undisturbed.content)
        if only:
            break
