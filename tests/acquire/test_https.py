"""Fetching over https, with passwords, and from servers that are slow but alive."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import threading

import dask.config
import pytest

from abc_dask.acquire.fetch import fetch
from abc_dask.base.errors import AbcDaskError, DownloadError, UsageError
from abc_dask.net.settings import HttpSettings
from tests import http_server as hs
from tests.acquire.worlds import HASTY, KIB, MATRIX, TABLE, finals, quick
from tests.command_line import run_cli
from tests.small_release import content_of, manifest_json, names_under, release_of
from tests.waiting import wait_until


def write_certificate(path, *, days):
    """A key and a certificate of 127.0.0.1 that signs itself, good from `days` before now."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mirror")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=days))
        .not_valid_after(now - dt.timedelta(days=days - 10))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return write_certificate(tmp_path_factory.mktemp("tls") / "server.pem", days=1)


@pytest.fixture
def server(certificate, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with hs.Server(certificate=certificate) as server:
        yield server


def test_https_brings_every_byte(server, world):
    assert server.url.startswith("https://")
    fetch(world, world.manifest.files, settings=quick(server))
    for path, content in server.files.items():
        assert (world.download_base / path).read_bytes() == content


@pytest.mark.parametrize("fault", [hs.stall(1000), hs.stall_before_headers, hs.drip, hs.drop(5)])
def test_https_that_stalls_or_drops_is_tried_again(server, world, fault):
    server.faults["*"] = hs.times(1, fault)
    fetch(world, world.manifest.files, settings=quick(server, retries=20, **HASTY))
    assert len(finals(world)) == 3


def test_https_that_always_stalls_ends_in_a_word(server, world):
    server.faults["*"] = hs.stall(10)
    with pytest.raises(DownloadError, match=r"less than 1,024 bytes in 0\.15 s"):
        fetch(world, world.manifest.files[:1], settings=quick(server, **HASTY))


def test_a_fetch_over_https_stops_at_once(server, world):
    """A request that hangs in TLS is broken off from another thread."""
    from abc_dask.net.client import Client

    server.faults["*"] = hs.stall(10)
    client = Client(quick(server, stall_timeout=600).http)
    ended = []

    def read():
        with client.get(server.url + MATRIX) as body:
            while body.read():
                pass

    def work():
        try:
            read()
        except AbcDaskError as error:
            ended.append(error)
        except Exception as error:  # noqa: BLE001 - what the net raises is seen below
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: server.sent[MATRIX] >= 10)
    client.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert type(ended[0]).__name__ == "TransientError"
    client.close()


def test_a_certificate_that_is_not_trusted_is_refused_at_once(certificate, tmp_path):
    with hs.Server(certificate=certificate, files={TABLE: content_of(100, 1)}) as server:
        release = release_of(tmp_path / "base", server.files)
        with pytest.raises(DownloadError, match="the server's certificate is not valid"):
            fetch(release, release.manifest.files, settings=quick(server))
        assert not server.requests, "no request was sent"
        assert finals(release) == []


def test_a_certificate_that_expired_is_refused(tmp_path, monkeypatch):
    expired = write_certificate(tmp_path / "old.pem", days=30)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(expired))
    with hs.Server(certificate=expired, files={TABLE: content_of(100, 1)}) as server:
        release = release_of(tmp_path / "base", server.files)
        with pytest.raises(DownloadError, match="the server's certificate is not valid"):
            fetch(release, release.manifest.files, settings=quick(server))


def test_https_does_not_lead_to_http(server, world):
    server.faults[TABLE] = hs.redirect("http://127.0.0.1:1/elsewhere")
    entry = next(e for e in world.manifest.files if e.relative_path == TABLE)
    with pytest.raises(DownloadError, match="only https is followed"):
        fetch(world, [entry], settings=quick(server))


def test_a_server_that_is_slow_but_alive_is_waited_for(world, server):
    """It takes several times the patience, but never brings too little within it."""
    server.faults[TABLE] = hs.slow(0.05, chunk=KIB // 2)
    settings = quick(server, stall_timeout=1.0, stall_bytes=KIB, retries=0)
    entry = next(e for e in world.manifest.files if e.relative_path == TABLE)
    fetch(world, [entry], settings=settings)
    assert [r.path for r in server.requests] == [TABLE], "in one request"


# -- passwords

SECRET = "pa:ss@w/ord"
LOGIN = "reader:pa%3Ass%40w%2Ford"


def with_login(url):
    return url.replace("://", f"://{LOGIN}@")


def assert_secret(text):
    for part in (SECRET, LOGIN, "pa%3Ass", "w%2Ford", "reader"):
        assert part not in str(text)


def test_a_password_is_sent_to_its_server_and_shown_nowhere(server, world, tmp_path):
    settings = quick(server)
    http = HttpSettings(with_login(server.url), backoff=0.01, retries=1)
    assert http.base_url == settings.http.base_url
    assert_secret(repr(http))
    server.faults["*"] = hs.status(403)
    with (
        dask.config.set({"abc-dask.base-url": with_login(server.url)}),
        pytest.raises(DownloadError) as caught,
    ):
        fetch(world, world.manifest.files)
    assert_secret(caught.value)
    expected = "Basic " + base64.b64encode(f"reader:{SECRET}".encode()).decode()
    assert {r.headers.get("Authorization") for r in server.requests} == {expected}
    server.faults.clear()
    server.files["releases/20250531/manifest.json"] = manifest_json(server.files)
    with dask.config.set({"abc-dask.base-url": with_login(server.url)}):
        for words in (["fetch", "WMB-10X"], ["check"], ["releases"]):
            result = run_cli(*words, "--download-base", tmp_path / "new")
            assert_secret(result.output)
    for name in names_under(tmp_path):
        if (tmp_path / name).is_file():
            assert_secret((tmp_path / name).read_bytes())


def test_a_password_stays_with_its_server(server, world, certificate):
    with hs.Server(certificate=certificate, files=dict(server.files)) as other:
        server.faults["*"] = lambda x: hs.redirect(other.url + x.request.path)(x)
        http = HttpSettings(with_login(server.url), backoff=0.01)
        settings = quick(server)
        object.__setattr__(settings, "http", http)
        fetch(world, world.manifest.files, settings=settings)
        assert all("Authorization" in r.headers for r in server.requests)
        assert other.requests
        assert not any("Authorization" in r.headers for r in other.requests)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://reader:secret@host/",
        "https://reader:sec/ret@host/",
        "https://reader:12/secret@host/",
        "https://reader:sec?ret@host/",
        "https://reader:sec#ret@host/",
        "https://reader:secret@/",
        "reader:secret@host",
        "https://reader:secret@host:port/",
        "https://reader:" + 300 * "secret" + "@host:port/",
    ],
)
def test_an_address_that_is_refused_does_not_show_its_password(url):
    with pytest.raises(UsageError, match="is not the address of a server") as caught:
        HttpSettings(url)
    for part in ("secret", "ret", "sec", "reader"):
        assert part not in str(caught.value).partition(" is not the address")[0]
    with dask.config.set({"abc-dask.base-url": [url]}), pytest.raises(UsageError) as caught:
        HttpSettings.from_config()
    assert str(caught.value) == "abc-dask.base-url <class 'list'> is not the address of a server"
