"""Listing releases and fetching manifests, from our server and from moto's S3."""

from __future__ import annotations

import re

import pytest

from abc_dask.acquire import remote
from abc_dask.acquire.fetch import fetch
from abc_dask.acquire.remote import (
    fetch_manifest,
    list_remote_releases,
    load_manifest,
    parse_listing,
    read_manifest,
)
from abc_dask.acquire.settings import FetchSettings
from abc_dask.base.errors import AbcDaskError, DownloadError, ManifestError, ReleaseError
from abc_dask.net.settings import HttpSettings
from abc_dask.release.release import Release
from tests import http_server as hs
from tests.small_release import VERSION, content_of, manifest_json

VERSIONS = ["20230630", "20231215", "20240330", "20250531", "20260415"]
FILES = {"metadata/WMB-10X/20250531/gene.csv": content_of(50)}
NOBODY = HttpSettings("http://127.0.0.1:9", retries=0)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def server():
    manifests = {
        f"releases/{version}/manifest.json": manifest_json(FILES, version=version)
        for version in VERSIONS
    }
    with hs.Server(files=manifests | FILES) as server:
        yield server


def quick(server, *, stall_timeout=10.0):
    """Settings with few retries and short waits."""
    return HttpSettings(
        server.url,
        stall_timeout=stall_timeout,
        stall_bytes=1000,
        retries=2,
        backoff=0.01,
        longest_wait=0.05,
    )


@pytest.mark.parametrize("page", [1, 2, 5, 1000])
def test_releases_are_listed_page_by_page(server, page):
    server.page = page
    assert list_remote_releases(settings=quick(server)) == VERSIONS
    assert len(server.requests) == -(-len(VERSIONS) // page)


def test_what_is_no_release_name_is_left_out(server):
    server.files["releases/-odd/x"] = b""
    server.files["releases/index.html"] = b""
    assert list_remote_releases(settings=quick(server)) == VERSIONS


LISTING = '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">%s</ListBucketResult>'
BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>' + LISTING % "&b;"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not answer with a listing"),
        (b"<html>", "does not answer with a listing"),
        (b"<html></html>", "'html' instead of a listing"),
        (b"<Error><Code>AccessDenied</Code></Error>", "'Error' instead of a listing"),
        (BOMB.encode(), "a document type is not accepted"),
        (BOMB.encode("utf-16"), "a document type is not accepted"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "a document type is not accepted"),
        ((LISTING % ("<a>" * 30 + "</a>" * 30)).encode(), "too deep"),
        ((LISTING % "<IsTruncated>true</IsTruncated>").encode(), "not how to list them"),
        (b"\xff\xfe\x00junk", "does not answer with a listing"),
        (b'<?xml version="1.0" encoding="nonsense"?><a/>', "does not answer with a listing"),
    ],
)
def test_what_is_no_listing(content, message):
    with pytest.raises(DownloadError, match=message):
        parse_listing(content, source="here")


def test_a_listing_without_end_is_broken_off(server):
    page = LISTING % (
        "<IsTruncated>true</IsTruncated><NextContinuationToken>same</NextContinuationToken>"
    )
    server.files[""] = page.encode()
    server.listing = lambda _: page.encode()
    with pytest.raises(DownloadError, match="without end"):
        list_remote_releases(settings=quick(server))


def test_a_listing_that_is_too_long_is_broken_off(server, monkeypatch):
    monkeypatch.setattr(remote, "_PAGE_LIMIT", 100)
    with pytest.raises(DownloadError, match="longer than 100 bytes"):
        list_remote_releases(settings=quick(server))


def test_the_manifest_is_saved_and_opened(server, tmp_path):
    base = tmp_path / "new" / "base"
    release = fetch_manifest("20231215", base, settings=quick(server))
    assert release.version == "20231215"
    saved = base / "releases" / "20231215" / "manifest.json"
    assert saved.read_bytes() == server.files["releases/20231215/manifest.json"]
    assert [p.name for p in saved.parent.iterdir()] == ["manifest.json"]
    assert Release.open(base).version == "20231215"


def test_the_newest_release_is_taken_unless_one_is_on_disk(server, tmp_path):
    assert fetch_manifest(None, tmp_path, settings=quick(server)).version == VERSIONS[-1]
    server.forget()
    assert fetch_manifest(None, tmp_path, settings=quick(server)).version == VERSIONS[-1]
    assert not server.requests
    assert fetch_manifest("20230630", tmp_path, settings=quick(server)).version == "20230630"
    assert fetch_manifest(None, tmp_path, settings=quick(server)).version == VERSIONS[-1]


def test_with_a_manifest_on_disk_no_network_is_touched(server, tmp_path):
    fetch_manifest(VERSION, tmp_path, settings=quick(server))
    assert fetch_manifest(VERSION, tmp_path, settings=NOBODY).version == VERSION
    assert load_manifest(VERSION, tmp_path, settings=NOBODY).version == VERSION
    with pytest.raises(DownloadError, match="connection refused"):
        fetch_manifest("20260415", tmp_path, settings=NOBODY)
    with pytest.raises(DownloadError, match="connection refused"):
        fetch_manifest(VERSION, tmp_path, settings=NOBODY, refresh=True)


def test_load_manifest_writes_nothing(server, tmp_path):
    assert load_manifest(None, tmp_path / "no", settings=quick(server)).version == VERSIONS[-1]
    assert load_manifest("20240330", settings=quick(server)).version == "20240330"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [403, 404])
def test_an_unknown_release_names_the_known_ones(server, code):
    server.faults["releases/20250530/manifest.json"] = hs.status(code)
    with pytest.raises(ReleaseError, match=r"no release '20250530'; nearest: 20250531"):
        read_manifest("20250530", settings=quick(server))


@pytest.mark.parametrize("version", ["../x", "", "a/b", "-1", "x" * 100, "\n"])
def test_a_name_that_is_none_is_not_asked_for(server, version):
    with pytest.raises(ReleaseError, match="is not a release name"):
        read_manifest(version, settings=quick(server))
    assert not server.requests


MANIFEST = f"releases/{VERSION}/manifest.json"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (hs.drop(10), "3 tries: connection dropped"),
        (hs.stall(10), "less than 1,000 bytes in 0.15 s"),
        (hs.drip_headers, "less than 1,000 bytes in 0.15 s"),
        (hs.busy(503, "0"), r"HTTP 503 \(3 times\)"),
        (hs.status(500), r"HTTP 500 \(3 times\)"),
        (hs.status(302), "without an address"),
        (hs.status(418), "HTTP 418, expected 200"),
        (hs.html, "is not JSON"),
        (hs.truncate, "is not JSON"),
        (hs.redirect("file:///etc/passwd"), "not the address of a public file"),
    ],
)
def test_a_manifest_that_does_not_come(server, tmp_path, fault, message):
    server.faults[MANIFEST] = fault
    settings = quick(server, stall_timeout=0.15 if "in 0.15 s" in message else 10.0)
    with pytest.raises(AbcDaskError, match=message):
        fetch_manifest(VERSION, tmp_path, settings=settings)
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_of_another_release_is_refused(server, tmp_path):
    server.files[MANIFEST] = manifest_json(FILES, version="20990101")
    with pytest.raises(ManifestError, match="says it is release '20990101'"):
        fetch_manifest(VERSION, tmp_path, settings=quick(server))


def test_a_manifest_without_end_is_broken_off(server, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "_MANIFEST_LIMIT", 10_000)
    server.faults[MANIFEST] = hs.overrun
    with pytest.raises(DownloadError, match="longer than 10,000 bytes"):
        fetch_manifest(VERSION, tmp_path, settings=quick(server))


def test_a_manifest_is_not_written_through_a_link(server, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    base = tmp_path / "base"
    base.mkdir()
    (base / "releases").symlink_to(outside)
    with pytest.raises(DownloadError, match="is a symbolic link"):
        fetch_manifest(VERSION, base, settings=quick(server))
    assert list(outside.iterdir()) == []


# -- an S3 server of others' making


@pytest.fixture(scope="module")
def bucket():
    """A bucket of moto's server: its address, and what lies in it."""
    pytest.importorskip("moto", reason="moto[s3,server] is not installed")
    boto3 = pytest.importorskip("boto3", reason="moto[s3,server] is not installed")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-west-2",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.create_bucket(
        Bucket="atlas",
        ACL="public-read",
        CreateBucketConfiguration={"LocationConstraint": "us-west-2"},
    )
    matrix = "expression_matrices/WMB-10Xv2/20250531/WMB-10Xv2-TH-log2.h5ad"
    files = {matrix: content_of(2_000_003, 9), **FILES}
    versions = [f"2025{month:02}{day:02}" for month in range(1, 13) for day in range(1, 8)]
    objects = files | {
        f"releases/{v}/manifest.json": manifest_json(files, version=v) for v in versions
    }
    for key, content in objects.items():
        client.put_object(Bucket="atlas", Key=key, Body=content, ACL="public-read")
    yield f"{url}/atlas/", files, versions
    client.close()
    server.stop()


@pytest.mark.filterwarnings("ignore")
def test_moto_lists_releases(bucket, monkeypatch):
    url, _, versions = bucket
    settings = HttpSettings(url)
    assert list_remote_releases(settings=settings) == versions
    # with small pages, the continuation tokens are moto's own
    real = remote.urlencode
    monkeypatch.setattr(remote, "urlencode", lambda query: real(query | {"max-keys": "10"}))
    assert list_remote_releases(settings=settings) == versions


@pytest.mark.filterwarnings("ignore")
def test_moto_serves_manifest_and_ranges(bucket, tmp_path):
    url, files, versions = bucket
    http = HttpSettings(url, retries=1)
    release = fetch_manifest(None, tmp_path / "base", settings=http)
    assert release.version == versions[-1]
    settings = FetchSettings(http, range_size=300_000)
    report = fetch(release, release.manifest.files, settings=settings)
    assert all(f.verified for f in report.files)
    for path, content in files.items():
        assert (release.download_base / path).read_bytes() == content
    with pytest.raises(ReleaseError, match=re.escape("no release '20251301'")):
        read_manifest("20251301", settings=http)
