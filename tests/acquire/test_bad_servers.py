"""Servers that misbehave: the right file, or no file and a clear error."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from abc_dask.acquire.fetch import fetch
from abc_dask.acquire.fetch_context import Context
from abc_dask.acquire.settings import FetchSettings
from abc_dask.base.errors import DownloadError
from abc_dask.net.retries import UnreachableError
from abc_dask.net.settings import HttpSettings
from tests import http_server as hs
from tests.acquire.worlds import HASTY, KIB, MATRIX, TABLE, entry_of, finals, quick
from tests.small_release import content_of, release_of

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
    # a machine that stands still for a moment takes an honest answer for a stalling one
    patient = {"retries": 100} if fault in MANY_TRIES else {}
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
    nobody = FetchSettings(HttpSettings("http://127.0.0.1:9", retries=2, backoff=0.01))
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
