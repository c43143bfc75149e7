"""Fetching from an honest server, all files or one by one."""

from __future__ import annotations

import hashlib
import os
import re

from abc_dask.acquire.fetch import describe, fetch, fetch_each
from abc_dask.acquire.fetch_plan import plan_fetch
from abc_dask.acquire.journal import missing
from abc_dask.acquire.presence import Action
from abc_dask.acquire.settings import FetchSettings
from abc_dask.net.settings import HttpSettings
from abc_dask.release.release import Release
from tests.acquire.worlds import KIB, MATRIX, TABLE, entry_of, finals, quick
from tests.small_release import content_of, names_under, release_of


def test_all_files_arrive_and_are_verified(server, world):
    report = fetch(world, world.manifest.files, settings=quick(server))
    assert [f.entry for f in report.files] == list(world.manifest.files)
    assert all(f.verified and not f.adopted for f in report.files)
    assert finals(world) == sorted(server.files)
    for path, content in server.files.items():
        assert (world.download_base / path).read_bytes() == content
    assert server.total == report.bytes_fetched == sum(map(len, server.files.values()))
    assert not list(world.download_base.rglob("*.part*"))


def test_a_large_file_comes_in_ranges_tied_to_one_version(server, world):
    fetch(world, [entry_of(world)], settings=quick(server))
    ranges = sorted(r.range for r in server.requests)
    assert ranges == missing(300 * KIB + 7, [], 64 * KIB)
    etag = f'"{hashlib.md5(server.files[MATRIX]).hexdigest()}"'
    assert {r.if_range for r in server.requests if r.range[0] > 0} == {etag}
    assert {r.headers["Accept-Encoding"] for r in server.requests} == {"identity"}


def test_connections_are_used_again(server, world):
    ports = set()

    def note(x):
        ports.add(x.handler.client_address[1])
        x.serve()

    server.faults["*"] = note
    fetch(world, world.manifest.files, settings=quick(server, workers=1))
    assert len(ports) == 1
    assert len(server.requests) > 3


def test_what_is_there_is_adopted_without_network(server, world):
    for path, content in server.files.items():
        target = world.download_base / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    report = fetch(world, world.manifest.files, settings=quick(server))
    assert len(report.adopted) == 3
    assert all(f.verified for f in report.files)
    assert not server.requests


def test_a_hash_is_taken_once_and_again_after_a_change(server, world, monkeypatch):
    fetch(world, world.manifest.files, settings=quick(server))
    server.forget()
    taken = []
    monkeypatch.setattr(
        "abc_dask.acquire.transfer.take_hash", lambda *a: taken.append(a) or real(*a)
    )
    from abc_dask.acquire.presence import take_hash as real

    fetch(world, world.manifest.files, settings=quick(server))
    assert not taken
    os.utime(world.download_base / TABLE, ns=(1, 1))
    fetch(world, world.manifest.files, settings=quick(server))
    assert [entry.relative_path for _, entry, *_ in taken] == [TABLE]
    assert not server.requests


def test_moving_the_folder_changes_nothing(server, world, tmp_path):
    fetch(world, world.manifest.files, settings=quick(server))
    server.forget()
    moved = tmp_path / "elsewhere"
    world.download_base.rename(moved)
    again = Release(moved, world.manifest)
    assert all(p.action is Action.ADOPT for p in plan_fetch(again, again.manifest.files).files)
    import shutil

    copied = tmp_path / "copy"
    shutil.copytree(moved, copied)
    report = fetch(Release(copied, world.manifest), world.manifest.files, settings=quick(server))
    assert len(report.adopted) == 3
    assert not server.requests


def test_without_a_hash_the_file_is_marked_unverified(server, tmp_path):
    server.files = {MATRIX: content_of(200 * KIB)}
    release = release_of(tmp_path / "base", server.files, hashes=False)
    for adopted in (False, True):
        report = fetch(release, release.manifest.files, settings=quick(server))
        assert [(f.adopted, f.verified) for f in report.unverified] == [(adopted, False)]
        assert "no hash" in describe(report)
    assert (release.download_base / MATRIX).read_bytes() == server.files[MATRIX]


def test_an_empty_file_needs_no_server(tmp_path):
    release = release_of(tmp_path / "base", {TABLE: b""})
    offline = FetchSettings(HttpSettings("http://127.0.0.1:9"))
    report = fetch(release, release.manifest.files, settings=offline)
    assert report.files[0].verified
    assert (release.download_base / TABLE).read_bytes() == b""


def test_files_come_one_by_one_with_room_for_few(server, tmp_path):
    names = [MATRIX.replace("TH", f"M{i}") for i in range(5)]
    server.files = {name: content_of(50 * KIB, i) for i, name in enumerate(names)}
    release = release_of(tmp_path / "base", server.files)
    most = 0
    given = []
    for fetched in fetch_each(release, release.manifest.files, settings=quick(server), ahead=1):
        there = [n for n in names_under(release.download_base) if n.startswith("expr")]
        # a file, its part, its journal and that one's temporary name are one
        most = max(most, len({re.search(r"M\d", name)[0] for name in there}))
        assert fetched.path.read_bytes() == server.files[fetched.entry.relative_path]
        given.append(fetched.entry.relative_path)
        fetched.path.unlink()
    assert most <= 2
    assert sorted(given) == names
