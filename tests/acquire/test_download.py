"""Downloads against a real server that misbehaves: the right file or no file."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from email.utils import formatdate
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import abc_dask
from abc_dask.acquire import download, fetch_plan
from abc_dask.acquire import part as partial
from abc_dask.acquire.download import fetch, fetch_each
from abc_dask.acquire.fetch_context import Context
from abc_dask.acquire.fetch_plan import plan_fetch
from abc_dask.acquire.journal import Journal, merged, missing
from abc_dask.acquire.presence import Action, Found, decide, inspect
from abc_dask.acquire.settings import DownloadSettings
from abc_dask.disk.files import Fingerprint, temporary_name
from abc_dask.errors import AbcDaskError, DownloadError, UsageError
from abc_dask.net.redirects import checked_redirect, is_private_host
from abc_dask.net.retries import Attempts, TransientError, UnreachableError, retry_after
from abc_dask.net.settings import HttpSettings
from abc_dask.net.validator import Validator
from abc_dask.release.manifest import FileEntry, Manifest
from abc_dask.release.release import Release
from abc_dask.release.verified import Memory
from tests import http_server as hs
from tests.small_release import content_of, manifest_json, names_under, release_of

MATRIX = "expression_matrices/WMB-10Xv2/20250531/WMB-10Xv2-TH-log2.h5ad"
TABLE = "metadata/WMB-10X/20250531/cell_metadata.csv"
KIB = 1 << 10


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def server():
    with hs.Server() as server:
        yield server


def quick(server, *, range_size=64 * KIB, workers=4, **http):
    """Settings with few retries and short waits.

    A busy machine stands still for a tenth of a second now and then, so only tests of a
    server that stalls are as impatient as `HASTY`.
    """
    defaults = {
        "stall_timeout": 10,
        "stall_bytes": KIB,
        "retries": 2,
        "backoff": 0.01,
        "longest_wait": 0.05,
        "connect_timeout": 2,
    }
    return DownloadSettings(
        HttpSettings(server.url, **(defaults | http)),
        workers=workers,
        range_size=range_size,
        journal_step=16 * KIB,
    )


HASTY = {"stall_timeout": 0.15}


@pytest.fixture
def world(server, tmp_path):
    """A release of one large and two small files on the server, nothing of it on disk."""
    server.files = {
        MATRIX: content_of(300 * KIB + 7, 1),
        TABLE: content_of(10 * KIB, 2),
        "metadata/WMB-10X/20250531/gene.csv": content_of(100, 3),
    }
    return release_of(tmp_path / "base", server.files)


def entry_of(release, path=MATRIX):
    return next(e for e in release.manifest.files if e.relative_path == path)


def finals(release):
    """Files under their final names."""
    hidden = (".part", ".part.json", ".damaged")
    return [n for n in names_under(release.download_base)
            if not n.endswith(hidden) and not n.startswith(".abc_dask")]  # fmt: skip


# -- pure parts


@pytest.mark.parametrize(
    ("size", "done", "expected"),
    [
        (0, [], []),
        (10, [], [(0, 4), (4, 8), (8, 10)]),
        (10, [(0, 10)], []),
        (10, [(4, 6), (0, 2)], [(2, 4), (6, 10)]),
        (10, [(9, 10)], [(0, 4), (4, 8), (8, 9)]),
    ],
)
def test_missing_table(size, done, expected):
    assert missing(size, done, 4) == expected


@given(
    st.integers(0, 200),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=8),
    st.integers(1, 50),
)
def test_missing_and_done_hold_every_byte_once(size, ranges, range_size):
    done = [(min(a, size), min(b, size)) for a, b in ranges]
    pieces = missing(size, done, range_size)
    there = {i for start, stop in done for i in range(start, stop)}
    wanted = [i for start, stop in pieces for i in range(start, stop)]
    assert len(set(wanted)) == len(wanted)
    assert there | set(wanted) == set(range(size))
    assert not there & set(wanted)
    assert all(0 < stop - start <= range_size for start, stop in pieces)
    assert {i for start, stop in merged(done) for i in range(start, stop)} == there


URL = "https://h/f"
HASH = "0" * 32
ENTRY = FileEntry("D", "metadata", "t", None, "csv", "1", "metadata/D/1/t.csv", "", 10, HASH)
NO_HASH = dataclasses.replace(ENTRY, file_hash=None)
SAME, SHORT = Fingerprint(10, 1, 1), Fingerprint(9, 1, 1)
PART = Journal(URL, 10, HASH, Validator('"e"'), ((0, 4),))
OPEN = dataclasses.replace(PART, file_hash=None)


@pytest.mark.parametrize(
    ("entry", "found", "expected"),
    [
        (ENTRY, Found(), Action.FETCH),
        (ENTRY, Found("other"), Action.REFUSE),
        (ENTRY, Found("file", SAME, HASH), Action.ADOPT),
        (ENTRY, Found("link", SAME, HASH), Action.ADOPT),
        (ENTRY, Found("file", SAME), Action.VERIFY),
        (ENTRY, Found("link", SAME), Action.VERIFY),
        (ENTRY, Found("file", SAME, "1" * 32), Action.REPLACE),
        (ENTRY, Found("link", SAME, "1" * 32), Action.REFUSE),
        (ENTRY, Found("file", SHORT), Action.REPLACE),
        (ENTRY, Found("link", SHORT), Action.REFUSE),
        (NO_HASH, Found("file", SAME), Action.ADOPT_UNVERIFIED),
        (NO_HASH, Found("file", SHORT), Action.REPLACE),
        (ENTRY, Found(journal=PART, part_size=4), Action.RESUME),
        (ENTRY, Found(journal=PART, part_size=3), Action.FETCH),
        (ENTRY, Found(journal=dataclasses.replace(PART, url="https://x/f"), part_size=4),
         Action.FETCH),
        (ENTRY, Found(journal=dataclasses.replace(PART, size=11), part_size=4), Action.FETCH),
        (ENTRY, Found(journal=OPEN, part_size=4), Action.FETCH),
        (ENTRY, Found(journal=dataclasses.replace(PART, done=()), part_size=4), Action.FETCH),
        (ENTRY, Found(journal=dataclasses.replace(PART, validator=Validator()), part_size=4),
         Action.RESUME),
        (NO_HASH, Found(journal=OPEN, part_size=4), Action.RESUME),
        (NO_HASH, Found(journal=dataclasses.replace(OPEN, validator=Validator()), part_size=4),
         Action.FETCH),
    ],
)  # fmt: skip
def test_decision_table(entry, found, expected):
    assert decide(entry, found, URL) is expected


def test_decision_rehash_trusts_no_memory():
    assert decide(ENTRY, Found("file", SAME, HASH), URL, rehash=True) is Action.VERIFY


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("0", 0),
        ("5", 5),
        ("1000000", 120),
        ("9" * 5000, None),
        ("-3", None),
        ("junk", None),
        ("", None),
        (formatdate(0, usegmt=True), 0),
        (formatdate(32503680000, usegmt=True), 120),
        ("Mon, 99 Foo 99999999999 99:99:99 GMT", None),
    ],
)
def test_retry_after(value, expected):
    assert retry_after(value, 120) == expected


def private(host):
    return host in {"10.0.0.1", "localhost", "mirror.local"}


@pytest.mark.parametrize(
    ("base", "current", "location", "expected"),
    [
        ("https://a/", "https://a/x", "/y", "https://a/y"),
        ("https://a/", "https://a/x", "https://b/y", "https://b/y"),
        ("https://a/", "https://a/x", "http://a/y", "only https"),
        ("https://a/", "https://a/x", "file:///etc/passwd", "not the address"),
        ("https://a/", "https://a/x", "ftp://a/y", "only https"),
        ("https://a/", "https://a/x", "https://10.0.0.1/", "private address"),
        ("https://a/", "https://a/x", "//localhost/", "private address"),
        ("https://a/", "https://a/x", "https://u:p@b/", "not the address"),
        ("https://a/", "https://a/x", "https://[::1", "not an address"),
        ("https://a/", "https://a/x", "https://b:99999999/", "not an address"),
        ("http://mirror.local/", "http://mirror.local/x", "/y", "http://mirror.local/y"),
        ("http://mirror.local/", "http://mirror.local/x", "https://10.0.0.1/", "https://10.0.0.1/"),
        ("http://mirror.local/", "http://mirror.local/x", "http://10.0.0.1/", "only https"),
        ("http://mirror.local/", "http://mirror.local/x", "http://mirror.local:1/", "only https"),
        ("http://mirror.local/", "https://b/x", "http://mirror.local/", "only https"),
    ],
)
def test_redirect_table(base, current, location, expected):
    if expected.startswith("http"):
        assert checked_redirect(base, current, location, is_private=private) == expected
    else:
        with pytest.raises(DownloadError, match=expected):
            checked_redirect(base, current, location, is_private=private)


def test_private_hosts_are_known_without_a_name_server():
    assert all(map(is_private_host, ["127.0.0.1", "::1", "10.1.2.3", "169.254.169.254"]))
    assert not is_private_host("8.8.8.8")


@pytest.mark.parametrize("base", ["file:///data", "ftp://h/", "https://", "", "https://h/?a=1"])
def test_base_url_must_be_a_server(base):
    with pytest.raises(UsageError, match=r"abc-dask\.base-url"):
        HttpSettings(base)


def test_attempts_say_what_was_tried():
    attempts = Attempts(HttpSettings("https://h", retries=2, backoff=0))
    assert attempts.failed(TransientError("HTTP 503", wait=5.0)) == 5.0
    assert attempts.failed(TransientError("HTTP 503")) == 0
    assert attempts.failed(TransientError("connection dropped")) is None
    assert str(attempts) == "3 tries: HTTP 503 (2 times), connection dropped"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"format": 2}', b"\xff", b"[" * 10000, b'{"format": 1, "done": [[0]]}'],
)
def test_a_journal_of_junk_is_no_journal(content):
    assert Journal.parse(content) is None


def test_a_journal_comes_back_as_it_was():
    assert Journal.parse(PART.dump()) == PART
    beyond = dataclasses.replace(PART, done=((0, 11),))
    overlapping = dataclasses.replace(PART, done=((0, 4), (3, 5)))
    assert Journal.parse(beyond.dump()) is None
    assert Journal.parse(overlapping.dump()) is None


# -- an honest server


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


def test_memory_survives_junk_and_read_only_places(tmp_path):
    memory = Memory(tmp_path)
    memory.put("a", SAME, HASH)
    with (tmp_path / ".abc_dask" / "verified.jsonl").open("ab") as file:
        file.write(b'{"path": "a"}\nnonsense\n\xff\n[1]\n{"path": "b", "size": "x"')
    Memory(tmp_path).put("c", SHORT, HASH)
    again = Memory(tmp_path)
    assert (again.get("a", SAME), again.get("c", SHORT)) == (HASH, HASH)
    assert again.get("a", SHORT) is None
    (tmp_path / "file").touch()
    elsewhere = Memory(tmp_path / "file" / "base")
    elsewhere.put("a", SAME, HASH)
    assert Memory(tmp_path / "file" / "base").get("a", SAME) == HASH


def test_without_a_hash_the_file_is_marked_unverified(server, tmp_path):
    server.files = {MATRIX: content_of(200 * KIB)}
    release = release_of(tmp_path / "base", server.files, hashes=False)
    for adopted in (False, True):
        report = fetch(release, release.manifest.files, settings=quick(server))
        assert [(f.adopted, f.verified) for f in report.unverified] == [(adopted, False)]
        assert "no hash" in download.describe(report)
    assert (release.download_base / MATRIX).read_bytes() == server.files[MATRIX]


def test_an_empty_file_needs_no_server(tmp_path):
    release = release_of(tmp_path / "base", {TABLE: b""})
    offline = DownloadSettings(HttpSettings("http://127.0.0.1:9"))
    report = fetch(release, release.manifest.files, settings=offline)
    assert report.files[0].verified
    assert (release.download_base / TABLE).read_bytes() == b""


# -- a server that misbehaves: in the end the right file


RECOVERING = {
    "drop at once": hs.times(2, hs.drop(0)),
    "drop in the body": hs.times(2, hs.drop(1000)),
    "drop always, but bring something": hs.drop(40 * KIB),
    "stall in the body": hs.times(1, hs.stall(1000)),
    "stall before the headers": hs.times(1, hs.stall_before_headers),
    "drip the body": hs.times(1, hs.drip),
    "drip the headers": hs.times(1, hs.drip_headers),
    "lie about the length once": hs.times(1, hs.lie_about_length),
    "429, 0": hs.times(2, hs.busy(429, "0")),
    "503, 5": hs.times(2, hs.busy(503, "5")),
    "503, date": hs.times(2, hs.busy(503, formatdate(0, usegmt=True))),
    "503, junk": hs.times(2, hs.busy(503, "tomorrow")),
    "429, a million": hs.times(2, hs.busy(429, "1000000")),
    "500": hs.times(2, hs.busy(500, None)),
    "200 to a range": hs.no_ranges,
    "200 to a range, once": hs.times(1, hs.no_ranges),
    "200 to a later range": lambda x: hs.no_ranges(x) if x.number == 2 else x.serve(),
    "another range": hs.other_range,
    "redirect on the same server": lambda x: (
        hs.redirect("/" + x.request.path + "?again")(x) if x.number == 0 else x.serve()
    ),
    "416": hs.times(1, hs.status(416)),
}
STALLING = [fault for name, fault in RECOVERING.items() if name.startswith(("stall", "drip"))]
MANY_TRIES = [*STALLING, RECOVERING["drop always, but bring something"]]


@pytest.mark.parametrize("path", [MATRIX, TABLE])
@pytest.mark.parametrize("fault", RECOVERING.values(), ids=RECOVERING)
def test_the_right_file_in_the_end(server, world, fault, path):
    server.faults[path] = fault
    entry = entry_of(world, path)
    patient = {"retries": 12} if fault in MANY_TRIES else {}
    hasty = HASTY if fault in STALLING else {}
    report = fetch(world, [entry], settings=quick(server, **patient, **hasty))
    assert report.files[0].verified
    assert (world.download_base / path).read_bytes() == server.files[path]
    assert finals(world) == [path]


@pytest.mark.parametrize("etags", [True, False])
@pytest.mark.parametrize("hashes", [True, False])
def test_a_file_that_changes_midway_is_never_mixed(server, tmp_path, etags, hashes):
    old, new = content_of(300 * KIB, 5), content_of(300 * KIB, 6)
    server.etags = etags
    server.files = {MATRIX: new}

    def change(x):
        if x.number < 2:
            x.content = old
            x.__post_init__()
        x.serve()

    server.faults[MATRIX] = change
    release = release_of(tmp_path / "base", {MATRIX: new}, hashes=hashes)
    target = release.download_base / MATRIX
    try:
        fetch(release, release.manifest.files, settings=quick(server))
    except DownloadError:
        assert not target.exists()
    if target.exists():
        # without a hash and a version there is no telling old from new, but never both
        assert target.read_bytes() in ({new} if hashes else {old, new})
    if etags or not hashes:
        assert target.exists()


def test_waits_as_long_as_it_is_told_up_to_the_limit(server, world, monkeypatch):
    waited = []
    monkeypatch.setattr(Context, "pause", lambda _, seconds: waited.append(seconds))
    answers = ["0", "5", "junk", "1000000"]
    server.faults[TABLE] = lambda x: (
        hs.busy(503, answers[x.number])(x) if x.number < 4 else x.serve()
    )
    fetch(world, [entry_of(world, TABLE)],
          settings=quick(server, longest_wait=120, retries=5))  # fmt: skip
    assert waited[:2] == [0, 5]
    assert waited[3] == 120
    assert 0 < waited[2] < 1


# -- a server that misbehaves: no file and a clear error


FAILING = {
    "drop": (hs.drop(0), r"3 tries: .*connection dropped \(3 times\)"),
    "stall": (hs.stall(10), r"3 tries: less than 1,024 bytes in 0\.15 s \(3 times\)"),
    "stall before headers": (hs.stall_before_headers, "less than 1,024 bytes in 0.15 s"),
    "drip": (hs.drip, "less than 1,024 bytes in 0.15 s"),
    "drip headers": (hs.drip_headers, "less than 1,024 bytes in 0.15 s"),
    "truncated": (hs.truncate, r"has [\d,]+ bytes, the manifest says"),
    "longer": (hs.longer, r"has [\d,]+ bytes, the manifest says"),
    "overrun": (hs.overrun, "has more bytes, the manifest says"),
    "503": (hs.busy(503, "0"), r"3 tries: HTTP 503 \(3 times\)"),
    "404": (hs.status(404), "HTTP 404: not there; check abc-dask.base-url"),
    "403": (hs.status(403), "HTTP 403: not allowed"),
    "204": (hs.status(204), "HTTP 204, expected 200 or 206"),
    "416": (hs.status(416), "gave up after 3 fresh starts: the server has no such range"),
    "redirect loop": (lambda x: hs.redirect("/" + x.request.path)(x), "redirects more than 3"),
    "redirect to http": (hs.redirect("http://127.0.0.2:1/x"), "only https is followed"),
    "redirect to file": (hs.redirect("file:///etc/passwd"), "not the address of a public file"),
    "redirect to private": (hs.redirect("http://10.0.0.1/x"), "only https is followed"),
    "redirect nowhere": (
        lambda x: x.head(302, {"Content-Length": 0}), "HTTP 302 without an address"),
    "wrong bytes": (hs.wrong_bytes, r"has MD5 \w{32}, the manifest says \w{32}"),
    "html": (hs.html, "a web page, expected"),
    "gzip": (hs.gzipped, "in encoding 'gzip', expected plain bytes"),
}  # fmt: skip


@pytest.mark.parametrize("path", [MATRIX, TABLE])
@pytest.mark.parametrize(("fault", "message"), FAILING.values(), ids=FAILING)
def test_no_file_and_a_clear_error(server, world, fault, message, path):
    server.faults[path] = fault
    hasty = HASTY if "in 0" in message else {}
    with pytest.raises(DownloadError, match=message) as caught:
        fetch(world, [entry_of(world, path)], settings=quick(server, **hasty))
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)
    assert finals(world) == []


def test_other_files_are_fetched_all_the_same(server, world):
    server.faults[TABLE] = hs.status(404)
    with pytest.raises(DownloadError, match="cell_metadata"):
        fetch(world, world.manifest.files, settings=quick(server))
    assert finals(world) == sorted(set(server.files) - {TABLE})
    (world.download_base / MATRIX).unlink()
    server.faults[MATRIX] = hs.status(404)
    with pytest.raises(DownloadError, match="2 of 3 files could not be fetched, the others are"):
        fetch(world, world.manifest.files, settings=quick(server))


def test_no_server_at_all_ends_the_fetch_at_once(world):
    nobody = DownloadSettings(HttpSettings("http://127.0.0.1:9", retries=2, backoff=0.01))
    with pytest.raises(UnreachableError, match=r"3 tries: connection refused \(3 times\)"):
        fetch(world, world.manifest.files, settings=nobody)
    assert finals(world) == []


@pytest.mark.parametrize("remove", [False, True])
def test_damaged_bytes_are_kept_aside_or_removed(server, world, remove):
    server.faults[MATRIX] = hs.wrong_bytes
    with pytest.raises(DownloadError, match="removed" if remove else "kept as"):
        fetch(world, [entry_of(world)], settings=quick(server), remove_damaged=remove)
    aside = world.download_base / (MATRIX + ".damaged")
    assert aside.exists() is not remove
    assert not list(world.download_base.rglob("*.part*"))
    server.faults.clear()
    fetch(world, [entry_of(world)], settings=quick(server))
    assert finals(world) == [MATRIX]


@pytest.mark.parametrize("change", [b"x", b""])
def test_a_wrong_file_is_replaced_and_kept_aside(server, world, change):
    target = world.download_base / TABLE
    target.parent.mkdir(parents=True)
    wrong = change + server.files[TABLE][1:]
    target.write_bytes(wrong)
    fetch(world, [entry_of(world, TABLE)], settings=quick(server))
    assert target.read_bytes() == server.files[TABLE]
    assert target.with_name(target.name + ".damaged").read_bytes() == wrong


# -- interruption


SCRIPT = """
import sys
from pathlib import Path
from abc_dask.acquire.download import fetch
from abc_dask.acquire.settings import DownloadSettings
from abc_dask.net.settings import HttpSettings
from abc_dask.release.manifest import Manifest
from abc_dask.release.release import Release
base, url, manifest = sys.argv[1:]
settings = DownloadSettings(HttpSettings(url), workers=2, range_size=1 << 20, journal_step=1 << 16)
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
            killed.wait(60)
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
    settings = DownloadSettings(HttpSettings(server.url), range_size=1 << 20)
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
    journal = Journal(url, entry.size, entry.file_hash, Validator(etag), ((0, half),))
    part.write_bytes(
        {"bytes": b"x" * half, "shorter": content[: half - 1]}.get(harm, content[:half])
        + (b"y" * len(content) if harm == "longer" else b"")
    )
    journal_path = part.with_name(part.name + ".json")
    journal_path.write_bytes(b"{" if harm == "journal" else journal.dump())
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
            while not part.exists() or not part.stat().st_blocks:
                time.sleep(0.002)  # sent is not yet written
            raise KeyboardInterrupt
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starting)
    with pytest.raises(KeyboardInterrupt):
        fetch(world, [entry_of(world)], settings=quick(server))
    monkeypatch.undo()
    assert not [t for t in threading.enumerate() if t.name.startswith("abc_dask")]
    planned = plan_fetch(world, [entry_of(world)], settings=quick(server).http)
    assert planned.bytes_to_fetch < entry_of(world).size


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


# -- the disk


def test_space_is_checked_before_the_first_byte(server, world, monkeypatch):
    monkeypatch.setattr(fetch_plan, "bytes_free", lambda _: 1000)
    message = r"not enough space under .*: 317\.5 kB \(317,547 bytes\) needed, 1\.0 kB \(1,000"
    with pytest.raises(DownloadError, match=message):
        fetch(world, world.manifest.files, settings=quick(server))
    assert not server.requests
    assert not world.download_base.exists()


def test_room_for_files_that_are_removed_after_use(server, world):
    plan = plan_fetch(world, world.manifest.files, settings=quick(server).http)
    assert plan.bytes_needed() == 317547
    assert plan.bytes_needed(ahead=0) == 300 * KIB + 7
    assert plan.bytes_needed(ahead=1) == 310 * KIB + 7


def test_a_full_disk_is_said_and_what_is_there_is_kept(server, world, monkeypatch):
    real, left = os.pwrite, [150 * KIB]

    def pwrite(descriptor, data, offset):
        if left[0] < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left[0] -= len(data)
        return real(descriptor, data, offset)

    monkeypatch.setattr(partial.os, "pwrite", pwrite)
    with pytest.raises(DownloadError, match=r"No space left on device; make room"):
        fetch(world, [entry_of(world)], settings=quick(server))
    monkeypatch.undo()
    planned = plan_fetch(world, [entry_of(world)], settings=quick(server).http)
    assert 0 < planned.bytes_to_fetch < 300 * KIB
    fetch(world, [entry_of(world)], settings=quick(server))
    assert finals(world) == [MATRIX]


def test_a_folder_that_cannot_be_written(server, world, monkeypatch):
    world.download_base.mkdir()
    monkeypatch.setattr(fetch_plan.os, "access", lambda *_: False)
    with pytest.raises(DownloadError, match=r"cannot be written, .* belongs into it"):
        fetch(world, world.manifest.files, settings=quick(server))
    assert not server.requests
    monkeypatch.undo()
    (world.download_base / "metadata").touch()
    with pytest.raises(DownloadError, match=r"metadata is not a folder|cannot be written"):
        fetch(world, [entry_of(world, TABLE)], settings=quick(server))


@pytest.mark.parametrize("where", ["folder", "file", "dangling", "directory", "fifo"])
def test_nothing_is_written_through_what_lies_in_the_way(server, world, tmp_path, where):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"precious")
    target = world.download_base / TABLE
    if where == "folder":
        world.download_base.mkdir()
        (world.download_base / "metadata").symlink_to(outside)
    else:
        target.parent.mkdir(parents=True)
        match where:
            case "file":
                target.symlink_to(outside / "precious")
            case "dangling":
                target.symlink_to(outside / "new")
            case "directory":
                target.mkdir()
            case "fifo":
                os.mkfifo(target)
    with pytest.raises(DownloadError, match=r"symbolic link|not a regular file"):
        fetch(world, [entry_of(world, TABLE)], settings=quick(server))
    assert names_under(outside) == ["precious"]
    assert (outside / "precious").read_bytes() == b"precious"


def test_a_link_to_the_right_bytes_is_adopted(server, world, tmp_path):
    target = world.download_base / TABLE
    target.parent.mkdir(parents=True)
    (tmp_path / "store").write_bytes(server.files[TABLE])
    target.symlink_to(tmp_path / "store")
    report = fetch(world, [entry_of(world, TABLE)], settings=quick(server))
    assert report.files[0].adopted
    assert not server.requests


def test_a_second_name_of_the_part_is_not_written_to(server, world, tmp_path):
    target = world.download_base / TABLE
    target.parent.mkdir(parents=True)
    (tmp_path / "precious").write_bytes(b"precious")
    os.link(tmp_path / "precious", target.with_name(target.name + ".part"))
    with pytest.raises(DownloadError, match="second name"):
        fetch(world, [entry_of(world, TABLE)], settings=quick(server))
    assert (tmp_path / "precious").read_bytes() == b"precious"


# -- manifests of strangers


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


def test_inspect_reads_nothing_for_a_missing_file(tmp_path):
    assert inspect(tmp_path, ENTRY, Memory(tmp_path)) == Found()
