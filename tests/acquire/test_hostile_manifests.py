"""Fetching what a stranger's manifest lists: nothing outside of the folder is touched."""

from __future__ import annotations

import hashlib
import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from abc_dask.acquire.fetch import fetch
from abc_dask.base.errors import AbcDaskError
from abc_dask.release.manifest import Manifest
from abc_dask.release.release import Release
from tests.acquire.worlds import quick

NAMES = st.sampled_from(
    [
        "a",
        "b",
        "..",
        ".",
        "",
        "link",
        "A",
        "x.part",
        "C:",
        "a\\b",
        "nul\0",
        "é",
        "n" * 300,
        "%2e%2e",
    ]
)
PATHS = st.lists(NAMES, max_size=6).map("/".join) | st.sampled_from(
    [
        "/etc/passwd",
        "a/" * 3000 + "b",
        ".abc_dask/verified.jsonl",
        "a/b.part",
        "a/b",
        "a/b.part.json",
    ]
)
ANYTHING = st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.just({}) | st.just([])
SIZES = st.integers(0, 40) | st.sampled_from([-1, 2**50, 2**70]) | ANYTHING
RECORDS = st.fixed_dictionaries(
    {"relative_path": PATHS | ANYTHING, "size": SIZES},
    optional={"file_hash": ANYTHING | st.just(hashlib.md5(b"").hexdigest())},
)
FILES = st.dictionaries(st.sampled_from(["csv", "h5ad"]), RECORDS | ANYTHING, max_size=2)
TAGS = st.dictionaries(
    st.sampled_from(["t", "u"]), st.fixed_dictionaries({"files": FILES}) | ANYTHING
)
LISTINGS = st.dictionaries(
    st.sampled_from(["D", "E"]),
    st.dictionaries(st.sampled_from(["metadata", "k"]), TAGS) | ANYTHING,
)


def state_of(folder):
    return {
        str(p): (p.lstat().st_mtime_ns, p.read_bytes() if p.is_file() else None)
        for p in folder.rglob("*")
    }


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(listing=LISTINGS | ANYTHING)
def test_a_hostile_manifest_touches_nothing_outside(server, tmp_path_factory, listing):
    around = tmp_path_factory.mktemp("around")
    base = around / "base"
    outside = around / "outside"
    outside.mkdir()
    (outside / "a").write_bytes(b"precious")
    base.mkdir()
    (base / "link").symlink_to(outside)
    before = state_of(outside)
    content = json.dumps({"version": "1", "file_listing": listing})
    try:
        manifest = Manifest.from_json(content)
    except AbcDaskError:
        return
    release = Release(base.resolve(), manifest)
    # the server has whatever is asked for, in the size that the manifest says
    server.files = {e.relative_path: b"0" * e.size for e in manifest.files if e.size < 100}
    for entry in manifest.files:
        try:
            fetch(release, [entry], settings=quick(server, retries=0))
        except AbcDaskError:
            pass
        else:
            path = release.path(entry)
            assert path.resolve().is_relative_to(base.resolve())
            assert path.stat().st_size == entry.size
    assert state_of(outside) == before
    assert sorted(p.name for p in around.iterdir()) == ["base", "outside"]
