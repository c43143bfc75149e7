"""Fetches that end halfway: what is there is kept, what was left over is removed."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import abc_dask
from abc_dask.acquire.fetch import fetch, fetch_each
from abc_dask.acquire.fetch_plan import plan_fetch
from abc_dask.acquire.journal import Journal, merged
from abc_dask.acquire.settings import FetchSettings
from abc_dask.base.errors import DownloadError
from abc_dask.base.records import dumps
from abc_dask.disk.files import temporary_name
from abc_dask.net.settings import HttpSettings
from tests import http_server as hs
from tests.acquire.worlds import KIB, MATRIX, TABLE, entry_of, finals, quick
from tests.small_release import content_of, manifest_json, names_under, release_of
from tests.waiting import PATIENCE, wait_until

SCRIPT = """
import sys
from pathlib import Path
from abc_dask.acquire.fetch import fetch
from abc_dask.acquire.settings import FetchSettings
from abc_dask.net.settings import HttpSettings
from abc_dask.release.manifest import Manifest
from abc_dask.release.release import Release
base, url, manifest = sys.argv[1:]
settings = FetchSettings(HttpSettings(url), workers=2, range_size=1 << 20, journal_step=1 << 16)
release = Release(Path(base), Manifest.from_json(Path(manifest).read_bytes()))
fetch(release, release.manifest.files, settings=settings)
"""


def start_process(release, server, files, folder):
    manifest = folder / "manifest-for-process.json"
    manifest.write_bytes(manifest_json(files))
    root = str(Path(abc_dask.__file__).parents[1])
    arguments = [str(release.download_base), server.url, str(manifest)]
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        env=os.environ | {"PYTHONPATH": root},
        stderr=subprocess.PIPE,
    )


def test_bytes_that_a_killed_run_brought_are_not_fetched_again(server, tmp_path):
    size = 6 << 20
    server.files = {MATRIX: content_of(size)}
    release = release_of(tmp_path / "base", server.files)
    killed = threading.Event()

    def held(x):
        """Beyond 4 MiB nothing comes: however slow this machine is, it is killed half way."""
        if server.sent[MATRIX] >= 4 << 20:
            killed.wait(PATIENCE)
        x.serve(pause=0.01)

    server.faults[MATRIX] = held
    with start_process(release, server, server.files, tmp_path) as process:
        server.wait_until_sent(MATRIX, 3 << 20, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    killed.set()
    assert process.returncode == -signal.SIGKILL
    assert not (release.download_base / MATRIX).exists()
    journal = Journal.parse((release.download_base / (MATRIX + ".part.json")).read_bytes())
    there = sum(stop - start for start, stop in journal.done)
    assert 0 < there < size
    # the journal lags behind the bytes by its step and by what was being written
    on_disk = (release.download_base / (MATRIX + ".part")).stat().st_blocks * 512
    assert on_disk - there < (1 << 16) + 3 * (1 << 20)
    server.faults.clear()
    server.wait_until_left_alone()
    server.forget()
    settings = FetchSettings(HttpSettings(server.url), range_size=1 << 20)
    report = fetch(release, release.manifest.files, settings=settings)
    asked = [r.range for r in server.requests]
    assert sum(stop - start for start, stop in asked) == report.bytes_fetched == size - there
    assert merged([*asked, *journal.done]) == [(0, size)]
    assert (release.download_base / MATRIX).read_bytes() == server.files[MATRIX]
    assert names_under(release.download_base) == [".abc_dask/verified.jsonl", MATRIX]


@pytest.mark.parametrize("left", ["journal", "part", "all"])
def test_what_a_killed_run_left_beside_a_file_is_removed(server, world, left):
    """The file may have got its name just before, or have been copied into its place since."""
    fetch(world, [entry_of(world)], settings=quick(server))
    there = names_under(world.download_base)
    path = world.download_base / MATRIX
    part, journal = path.with_name(path.name + ".part"), path.with_name(path.name + ".part.json")
    leftovers = {"journal": [journal], "part": [part], "all": [part, journal]}[left]
    if left == "all":
        leftovers += [temporary_name(journal), temporary_name(journal)]
    neighbour = part.with_name("other.h5ad.part")
    for place in [*leftovers, neighbour]:
        place.write_bytes(b"left")
    assert fetch(world, [entry_of(world)], settings=quick(server)).adopted
    neighbour.unlink()
    assert names_under(world.download_base) == there


def test_a_part_that_another_process_holds_is_left_to_it(server, world):
    fetch(world, [entry_of(world)], settings=quick(server))
    path = world.download_base / MATRIX
    part = path.with_name(path.name + ".part")
    with part.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert fetch(world, [entry_of(world)], settings=quick(server)).adopted
        assert part.exists()
    assert fetch(world, [entry_of(world)], settings=quick(server)).adopted
    assert not part.exists()


def test_two_processes_on_one_file_do_not_harm_each_other(server, tmp_path):
    size = 3 << 20
    server.files = {MATRIX: content_of(size)}
    server.faults[MATRIX] = hs.slow(0.002)
    release = release_of(tmp_path / "base", server.files)
    with (
        start_process(release, server, server.files, tmp_path) as one,
        start_process(release, server, server.files, tmp_path) as two,
    ):
        errors = one.communicate()[1], two.communicate()[1]
    assert (one.returncode, two.returncode) == (0, 0), errors
    assert (release.download_base / MATRIX).read_bytes() == server.files[MATRIX]
    # one of the two fetched, the other waited for it
    assert server.sent[MATRIX] == size
    assert finals(release) == [MATRIX]


@pytest.mark.parametrize("harm", ["bytes", "journal", "shorter", "longer", "url", "link"])
def test_a_part_that_lies_costs_time_only(server, world, harm):
    target = world.download_base / MATRIX
    target.parent.mkdir(parents=True)
    content, entry = server.files[MATRIX], entry_of(world)
    part, half = target.with_name(target.name + ".part"), 100 * KIB
    etag = f'"{hashlib.md5(content).hexdigest()}"'
    url = server.url + MATRIX + ("?" if harm == "url" else "")
    journal = Journal(url, entry.size, entry.file_hash, etag, None, ((0, half),))
    part.write_bytes(
        {"bytes": b"x" * half, "shorter": content[: half - 1]}.get(harm, content[:half])
        + (b"y" * len(content) if harm == "longer" else b"")
    )
    journal_path = part.with_name(part.name + ".json")
    journal_path.write_bytes(b"{" if harm == "journal" else dumps(journal))
    if harm == "link":
        outside = world.download_base.parent / "outside"
        outside.write_bytes(b"precious")
        part.unlink()
        part.symlink_to(outside)
        with pytest.raises(DownloadError, match="not a regular file"):
            fetch(world, [entry], settings=quick(server))
        assert outside.read_bytes() == b"precious"
        part.unlink()
    fetch(world, [entry], settings=quick(server)) if harm != "longer" else None
    if harm == "longer":
        with pytest.raises(DownloadError, match="something else writes to it"):
            fetch(world, [entry], settings=quick(server))
    else:
        assert target.read_bytes() == content


def test_breaking_off_keeps_what_is_there(server, world):
    server.faults[MATRIX] = hs.times(2, hs.stall(30 * KIB))
    files = fetch_each(world, [entry_of(world, TABLE), entry_of(world)], settings=quick(server))
    assert next(files).path.name == "cell_metadata.csv"
    server.wait_until_sent(MATRIX, 30 * KIB)
    files.close()
    assert finals(world) == [TABLE]
    assert not [t for t in threading.enumerate() if t.name.startswith("abc_dask")]
    planned = plan_fetch(world, [entry_of(world)], settings=quick(server).http)
    server.faults.clear()
    server.forget()
    fetch(world, [entry_of(world)], settings=quick(server))
    assert server.sent[MATRIX] == planned.bytes_to_fetch


def test_a_signal_while_threads_are_started(server, world, monkeypatch):
    """The first thread has fetched something before the second one is there."""
    server.faults[MATRIX] = hs.times(2, hs.stall(30 * KIB))
    start = threading.Thread.start
    part = world.download_base / (MATRIX + ".part")

    def starting(thread):
        if thread.name == "abc_dask-fetch-1":
            server.wait_until_sent(MATRIX, 30 * KIB)
            # sent is not yet written
            wait_until(lambda: part.exists() and part.stat().st_blocks)
            raise KeyboardInterrupt
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starting)
    with pytest.raises(KeyboardInterrupt):
        fetch(world, [entry_of(world)], settings=quick(server))
    monkeypatch.undo()
    assert not [t for t in threading.enumerate() if t.name.startswith("abc_dask")]
    planned = plan_fetch(world, [entry_of(world)], settings=quick(server).http)
    assert planned.bytes_to_fetch < entry_of(world).size
