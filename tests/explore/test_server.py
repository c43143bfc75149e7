"""The server: this machine alone, by its secret alone, reading alone."""

from __future__ import annotations

import gzip
import http.client
import os
import re
import signal
import subprocess
import sys
import urllib.parse
from pathlib import Path

import numpy as np
import pytest

from abc_dask.base.errors import UsageError
from abc_dask.explore.contents import view_contents
from abc_dask.explore.encode import exact_file, value_file
from abc_dask.explore.server import Explorer


@pytest.fixture(scope="module")
def served(shown_view):
    made = Explorer(view_contents(shown_view)).start()
    yield made
    made.close()


def ask(explorer, name, *, method="GET", host=None, headers=None, path=None):
    where = urllib.parse.urlsplit(explorer.url)
    line = http.client.HTTPConnection("127.0.0.1", where.port, timeout=20)
    line.request(
        method,
        where.path + name if path is None else path,
        headers={"Host": host or where.netloc} | (headers or {}),
    )
    answer = line.getresponse()
    content = answer.read()
    line.close()
    return answer, content


def test_the_page_and_its_header_fields(served):
    answer, content = ask(served, "")
    assert answer.status == 200
    assert b'src="app.js"' in content
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in answer.headers
    meta = re.search(rb'Content-Security-Policy" content="([^"]*)"', content)[1].decode()
    assert policy.startswith(meta)


def test_the_policy_of_a_frame_in_a_notebook(shown_view):
    made = shown_view.explore(genes=["Tac2"], annotate=["class"])
    try:
        answer, _ = ask(made, "meta.json")
        policy = answer.headers["Content-Security-Policy"]
        allowed = policy.partition("frame-ancestors ")[2].split()
        assert "http://localhost:*" in allowed
        assert not set(allowed) & {"*", "http:", "https:", "'self'", "http://*", "https://*"}
        assert f'src="{made.url}"' in made._repr_html_()
        assert made.url in repr(made)
    finally:
        made.close()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "[::1]:80"])
def test_other_names_of_this_machine_are_refused(served, host):
    answer, content = ask(served, "meta.json", host=host)
    assert answer.status == 403
    assert b"cells" not in content


def test_localhost_is_a_name_of_it(served):
    port = urllib.parse.urlsplit(served.url).port
    assert ask(served, "meta.json", host=f"localhost:{port}")[0].status == 200


@pytest.mark.parametrize(
    "path", ["/", "/meta.json", "/wrong-token/meta.json", "//meta.json", "/../../etc/passwd"]
)
def test_without_the_secret_there_is_nothing(served, path):
    assert ask(served, "", path=path)[0].status == 404


@pytest.mark.parametrize(
    "name",
    [
        "../meta.json",
        "terms/../../meta.json",
        "%2e%2e/meta.json",
        "genes/../meta.json",
        "genes/3.bin",
        "genes/-1.bin",
        "genes/0",
        "terms",
        "/etc/passwd",
        "genes/99999999999999999999.bin",
    ],
)
def test_only_files_of_the_page(served, name):
    assert ask(served, name)[0].status == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "HEAD"])
def test_reading_and_nothing_else(served, method):
    assert ask(served, "meta.json", method=method)[0].status == 501


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "http://127.0.0.1"])
def test_work_is_begun_by_the_page_alone(served, origin):
    sent = {} if origin is None else {"Origin": origin}
    assert ask(served, "markers/t", method="POST", headers=sent)[0].status == 403
    own = {"Origin": served.url.rpartition("/")[0].rpartition("/")[0]}
    # a view has nothing that could be asked
    assert ask(served, "markers/t", method="POST", headers=own)[0].status == 405
    assert ask(served, "markers/t", method="POST", headers=own, path="/wrong/")[0].status == 404


def test_ranges(served):
    _, whole = ask(served, "xy.bin")
    answer, part = ask(served, "xy.bin", headers={"Range": "bytes=3-10"})
    assert (answer.status, part) == (206, whole[3:11])
    assert answer.headers["Content-Range"] == f"bytes 3-10/{len(whole)}"
    answer, _ = ask(served, "xy.bin", headers={"Range": f"bytes={len(whole)}-{len(whole) + 9}"})
    assert answer.status == 416
    for odd in ("bytes=10-3", "bytes=a-b", "bytes=-5", "bytes=0-1,3-4", "rows=0-1"):
        answer, content = ask(served, "xy.bin", headers={"Range": odd})
        assert (answer.status, content) == (200, whole)


@pytest.mark.parametrize("name", ["", "app.js", "style.css", "meta.json", "terms/0.json"])
def test_text_is_sent_packed_to_those_who_take_it(served, name):
    plain, whole = ask(served, name)
    packed, sent = ask(served, name, headers={"Accept-Encoding": "br, GZIP;q=0.5"})
    assert (plain.headers["Content-Encoding"], packed.headers["Content-Encoding"]) == (None, "gzip")
    assert plain.headers["Vary"] == packed.headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(sent) == whole
    assert int(packed.headers["Content-Length"]) == len(sent) < len(whole)
    assert ask(served, name, headers={"Accept-Encoding": "*"})[1] == sent
    kept = "max-age" if name.endswith((".js", ".css")) else "no-store"
    assert kept in plain.headers["Cache-Control"]
    both = {"Accept-Encoding": "gzip", "Range": "bytes=2-9"}
    part, content = ask(served, name, headers=both)
    assert (part.status, content) == (206, whole[2:10])
    assert part.headers["Content-Encoding"] is None


@pytest.mark.parametrize(
    "accepted", ["", "identity", "br", "gzip;q=0", "*, gzip; q=0.00", "gzipped"]
)
def test_text_is_sent_as_it_is_to_those_who_do_not(served, accepted):
    answer, content = ask(served, "app.js", headers={"Accept-Encoding": accepted})
    assert answer.headers["Content-Encoding"] is None
    assert content == (served._prepared.folder / "app.js").read_bytes()


def test_tiles_are_not_packed_again(served):
    answer, content = ask(served, "xy.bin", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] is None
    assert answer.headers["Vary"] is None
    assert content == (served._prepared.folder / "xy.bin").read_bytes()


def test_genes_are_made_when_asked_for(served, shown_view):
    order = served._prepared.layout.order
    values = shown_view.to_pandas()["Tac2"].to_numpy()[order]
    assert ask(served, "genes/2.bin")[1] == value_file(values, compress=False)
    assert ask(served, "exact/2.bin")[1] == exact_file(values, compress=False)
    assert not list((served._prepared.folder / "genes").iterdir())
    assert np.isfinite(values).all()


def test_a_port_in_use_is_told(served, shown_view):
    port = urllib.parse.urlsplit(served.url).port
    with pytest.raises(UsageError, match=f"port {port} cannot be used"):
        Explorer(view_contents(shown_view), port=port)


def test_a_page_that_never_answered_is_closed(shown_view):
    made = Explorer(view_contents(shown_view))
    port = urllib.parse.urlsplit(made.url).port
    made.close()
    assert not made._prepared.folder.exists()
    Explorer(view_contents(shown_view), port=port).close()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_the_command_says_where_and_ends(shown_view, tmp_path, number, code):
    command = [sys.executable, "-m", "abc_dask", "explore", str(shown_view.path), "--no-browser"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        cwd=Path(__file__).parents[2],
    ) as process:
        url = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{20,}/", url)
        assert list(tmp_path.glob("abc-dask-explore-*"))
        process.send_signal(number)
        rest = process.stdout.read()
        assert process.wait(30) == code
    assert ("stopped" in rest) == (code == 0)
    assert not list(tmp_path.glob("abc-dask-explore-*"))
