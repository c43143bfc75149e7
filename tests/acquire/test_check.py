"""Whether files on disk are what the manifest says."""

from __future__ import annotations

import os

import pytest

from abc_dask.acquire.check import State, check
from abc_dask.acquire.fetch import fetch
from abc_dask.acquire.settings import FetchSettings
from abc_dask.base.errors import AbcDaskError
from abc_dask.net.settings import HttpSettings
from tests import http_server as hs
from tests.small_release import FILES, release_of


@pytest.fixture
def server(server):
    server.files = dict(FILES)
    return server


def test_check_tells_all_states(server, tmp_path):
    release = release_of(tmp_path / "base", FILES)
    entries = list(release.manifest.files)
    settings = FetchSettings(HttpSettings(server.url, retries=0))
    fetch(release, entries[:2], settings=settings)
    server.faults[entries[2].relative_path] = hs.drop(10)
    with pytest.raises(AbcDaskError):
        fetch(release, [entries[2]], settings=settings)
    for entry, content in zip(entries[3:6], [b"short", None, b"x"], strict=True):
        path = release.path(entry)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(FILES[entry.relative_path] if content is None
                         else content.ljust(entry.size if content == b"x" else 0))  # fmt: skip
    release.path(entries[6]).mkdir(parents=True)
    expected = ["complete"] * 2 + ["partial", "damaged", "unverified", "unverified", "damaged"]
    report = check(release)
    assert [f.state.value for f in report.files] == expected + ["missing"] * (len(entries) - 7)
    reasons = [f.reason for f in report.files]
    assert reasons[2] == "10 B of 30 B are there"
    assert reasons[3] == "5 bytes, the manifest says 40"
    assert reasons[4] == "its hash was not taken yet; --rehash takes it"
    assert reasons[6] == "not a regular file"
    again = check(release, rehash=True)
    assert [f.state.value for f in again.files][:7] == [
        "complete", "complete", "partial", "damaged", "complete", "damaged", "damaged"]  # fmt: skip
    assert "MD5" in again.files[5].reason
    # what was found is remembered
    assert [f.state for f in check(release).files] == [f.state for f in again.files]


def test_check_finds_a_flipped_bit_only_by_reading(server, tmp_path):
    release = release_of(tmp_path / "base", FILES)
    entry = release.manifest.files[0]
    fetch(release, [entry], settings=FetchSettings(HttpSettings(server.url)))
    path = release.path(entry)
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"X")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert check(release, [entry]).files[0].state is State.COMPLETE
    assert check(release, [entry], rehash=True).files[0].state is State.DAMAGED


def test_check_without_hashes_says_so(tmp_path):
    release = release_of(tmp_path, {"metadata/D/1/a.csv": b"a"}, hashes=False)
    path = tmp_path / "metadata/D/1/a.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a")
    for rehash in (False, True):
        checked = check(release, rehash=rehash).files[0]
        assert (checked.state, checked.reason) == (State.UNVERIFIED, "the manifest has no hash")
