"""Damaged matrix files: read as others read them, or refused in one line; never a signal.

Damage that was thought of is in tests/matrix/test_damaged.py; here it is drawn at random, for
each way of storing (`tests.faults.fuzz_h5ad` goes on for as long as one likes), and given to the
command.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from abc_dask.disk.files import Fingerprint
from abc_dask.release.release import Memory
from tests.waiting import wait_until

from .conftest import BLOCK, GENES
from .drivers import (
    FOLDER,
    INJECTED,
    Job,
    abc_dask,
    command,
    ended,
    n_receipts,
    require_absent,
    require_equal,
)
from .mutations import Regions, mutate

CORPUS = Path(__file__).parent / "corpus"


def fuzzed(*arguments: object) -> list[str]:
    """Run the fuzzer in a process of its own, which forks: pytest has threads."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.faults.fuzz_h5ad", *map(str, arguments)],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    is_count = lines[-1].partition(" ")[2].startswith("files")
    INJECTED["damaged matrix files"] += int(lines[-1].split(" ")[0]) if is_count else len(lines)
    return lines


@pytest.mark.parametrize("each", [1, pytest.param(100, marks=pytest.mark.slow)])
def test_one_bit_in_each_region_of_each_way_of_storing(tmp_path, each):
    """Values, indices, pointers, labels, genes, chunk table, the rest; each filter and layout."""
    *bad, last = fuzzed("--flips", each, "--keep", tmp_path)
    assert [line for line in bad if not line.startswith("{")] == [], last
    assert int(last.split(" ")[0]) == 93 * each
    assert "refused" in last
    assert "same as undamaged" in last


def test_files_damaged_at_random(tmp_path):
    """30 files, always the same ones, stored in fourteen ways."""
    *bad, last = fuzzed("--files", 30, "--seed", 1, "--keep", tmp_path)
    assert last.startswith("30 files")
    assert bad == []


@pytest.mark.slow
def test_more_files_damaged_at_random(tmp_path):
    *bad, last = fuzzed("--files", 5000, "--seed", time.time_ns() % 10**6, "--keep", tmp_path)
    assert [line for line in bad if not line.startswith("{")] == [], last


def test_what_was_found_once_stays_mended():
    """HDF5 walked without end, gave what its memory held, or zeros for a chunk not found."""
    verdicts = fuzzed("--judge", *sorted(CORPUS.glob("*.h5ad.xz")))
    assert len(verdicts) >= 9
    for line in verdicts:
        assert " refused " in line, line


@pytest.fixture
def base(tiny, tmp_path: Path) -> Path:
    """A copy of the atlas, whose files may be damaged; what was looked at before is known."""
    return Path(shutil.copytree(tiny.download_base, tmp_path / "base"))


@pytest.fixture
def matrix(base: Path) -> Path:
    return next(base.rglob("WMB-10Xv3-MB-log2.h5ad"))


def rewritten(path: Path, content: bytes) -> None:
    """Give a file another content, and the manifest the size that goes with it."""
    path.write_bytes(content)
    manifest = next(path.parents[3].glob("releases/*/manifest.json"))
    text = json.loads(manifest.read_text())
    for record in _records(text):
        if record["relative_path"].endswith(path.name):
            record |= {"size": len(content), "file_hash": hashlib.md5(content).hexdigest()}
    manifest.write_text(json.dumps(text))


def _records(node):
    if isinstance(node, dict):
        if "relative_path" in node:
            yield node
        else:
            for child in node.values():
                yield from _records(child)


def test_the_command_on_damaged_files(warm, base, matrix, tmp_path, undisturbed):
    """The whole way: a view or one line; and with the file healed, the view."""
    whole = matrix.read_bytes()
    where = Regions.of(matrix)
    job = Job.of(base, GENES, BLOCK)
    refused = 0
    for number in range(4):
        rng = np.random.default_rng([12, number])
        output = tmp_path / f"{number}" / "v.parquet"
        output.parent.mkdir()
        rewritten(matrix, mutate(whole, where, rng)[1])
        INJECTED["damaged matrix files"] += 1
        outcome = warm.run(*job.to(output))
        outcome.require_good_or_typed()
        if outcome.code:
            refused += 1
            assert matrix.name in outcome.error
            require_absent(output)
        rewritten(matrix, whole)
        outcome = warm.run(*job.to(output, "--overwrite"))
        assert outcome.code == 0, outcome.err
        require_equal(output, undisturbed.content)
    assert 0 < refused < 4


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _missing(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [_directory, _fifo, _loop, _cut, _missing])
def test_something_else_in_the_file_s_place(warm, base, matrix, tmp_path, undisturbed, damage):
    job, output = Job.of(base, GENES, BLOCK), tmp_path / "out" / "v.parquet"
    output.parent.mkdir()
    kept = matrix.read_bytes()
    damage(matrix)
    INJECTED["something else in a file's place"] += 1
    assert matrix.name in warm.run(*job.to(output)).error
    require_absent(output)
    (shutil.rmtree if matrix.is_dir() and not matrix.is_symlink() else os.unlink)(
        matrix
    ) if os.path.lexists(matrix) else None
    matrix.write_bytes(kept)
    assert warm.run(*job.to(output)).code == 0
    require_equal(output, undisturbed.content)


def without_root_s_rights() -> list[str]:
    """Give what to put before a command so that modes of files count, for root too."""
    if os.geteuid() != 0:
        return []
    if not (found := shutil.which("setpriv")):
        pytest.skip("root may read all files, and there is no setpriv to give that up")
    return [found, "--bounding-set=-dac_override,-dac_read_search"]


def test_a_file_that_may_not_be_read(base, matrix, tmp_path, undisturbed):
    before = without_root_s_rights()
    matrix.chmod(0)
    INJECTED["file of mode 000"] += 1
    output = tmp_path / "out" / "v.parquet"
    output.parent.mkdir()
    job = Job.of(base, GENES, BLOCK)
    error = ended(abc_dask(*job.to(output), before=before)).error
    assert f"{matrix} cannot be read: Permission denied" in error
    require_absent(output)
    matrix.chmod(0o600)
    assert ended(abc_dask(*job.to(output), before=before)).code == 0
    require_equal(output, undisturbed.content)


def test_a_foreign_lock(warm, base, matrix, tmp_path, undisturbed):
    """Another program holds the file for writing: that is said; a while later it is read."""
    output = tmp_path / "out" / "v.parquet"
    output.parent.mkdir()
    shutil.rmtree(base / ".abc_dask", ignore_errors=True)
    job = Job.of(base, GENES, BLOCK)
    with matrix.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        INJECTED["foreign lock"] += 1
        outcome = warm.run(*job.to(output), env={"DASK_ABC_DASK__READ__BACKOFF": "0.01"})
        assert f"{matrix} is locked by another program" in outcome.error
        require_absent(output)
    assert warm.run(*job.to(output)).code == 0
    require_equal(output, undisturbed.content)


@pytest.mark.parametrize("change", [pytest.param("replaced", marks=pytest.mark.slow), "cut"])
def test_a_file_that_changes_while_its_blocks_run(base, matrix, tmp_path, undisturbed, change):
    """The first block of the matrix waits; meanwhile the file becomes another."""
    output = tmp_path / "out" / "v.parquet"
    output.parent.mkdir()
    job = Job.of(base, GENES, BLOCK, "--threads-per-worker", 1)
    kept, status = matrix.read_bytes(), matrix.stat()
    once = tmp_path / "once"
    env = {
        "DASK_DISTRIBUTED__WORKER__PRELOAD": "tests.faults.preload",
        "FAULT": "wait:2",
        "FAULT_ONCE": str(once),
    }
    process = abc_dask(*job.to(output), env=env)
    wait_until(once.exists, process)
    if change == "replaced":
        (base / "new").write_bytes(kept[::-1])
        (base / "new").replace(matrix)
    else:
        _cut(matrix)
    (tmp_path / "once.over").touch()
    INJECTED[f"file {change} while it is read"] += 1
    error = ended(process).error
    assert matrix.name in error
    assert "changed" in error or "cut short" in error
    require_absent(output)
    matrix.write_bytes(kept)
    os.utime(matrix, ns=(status.st_atime_ns, status.st_mtime_ns))
    # a block that was read before the change, by the other worker, is right and may be kept
    outcome = command(*job.to(output))
    assert outcome.code == 0, outcome.err
    require_equal(output, undisturbed.content)


def _renumber(base: Path) -> None:
    """Let every file be as it was, under another inode number."""
    numbers = {}
    for path in [path for path in base.rglob("*") if path.is_file()]:
        copy = path.with_name(path.name + ".copy")
        shutil.copy2(path, copy)
        numbers[path] = path.stat().st_ino
        copy.replace(path)
    assert all(path.stat().st_ino != number for path, number in numbers.items())


def test_inode_numbers_that_do_not_last(base, matrix, tmp_path, undisturbed):
    """On sshfs, exFAT and others a file gets another number after a while: it is the same."""
    output = tmp_path / "out" / "v.parquet"
    output.parent.mkdir()
    job = Job.of(base, GENES, BLOCK)
    assert command("check", "--download-base", base, "--rehash").code == 0
    assert command(*job.to(output, "--plan-only")).code == 0
    kept = {path.name for path in (base / ".abc_dask").iterdir()}
    assert command("extract-part", output, "--index", 0, "--of", 2).code == 0
    n_made = n_receipts(output)
    assert 0 < n_made < undisturbed.n_blocks
    # between two runs, and again in the midst of the second one
    once = tmp_path / "once"
    env = {
        "DASK_DISTRIBUTED__WORKER__PRELOAD": "tests.faults.preload",
        "FAULT": "wait:1",
        "FAULT_ONCE": str(once),
    }
    _renumber(base)
    process = abc_dask(*job.to(output, "--threads-per-worker", 1), env=env)
    wait_until(once.exists, process)
    _renumber(base)
    (tmp_path / "once.over").touch()
    outcome = ended(process)
    INJECTED["every inode number changed"] += 2
    assert outcome.code == 0, outcome.err
    view = require_equal(output, undisturbed.content)
    assert view.provenance["run"]["blocks_kept_from_earlier_run"] == n_made
    assert {path.name for path in (base / ".abc_dask").iterdir()} == kept
    verified = Memory(base).get(str(matrix.relative_to(base)), Fingerprint.of(matrix))
    assert verified == hashlib.md5(matrix.read_bytes()).hexdigest()
