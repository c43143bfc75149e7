"""What is told while files are fetched."""

from __future__ import annotations

import io

import pytest

from abc_dask.acquire.fetch import fetch
from abc_dask.acquire.progress import FetchProgress
from abc_dask.acquire.settings import FetchSettings
from abc_dask.net.settings import HttpSettings
from tests.small_release import FILES, MANIFEST, release_of


@pytest.fixture
def server(server):
    server.files = dict(FILES)
    return server


def test_lines_now_and_then():
    now = [0.0]
    stream = io.StringIO()
    lines = FetchProgress(stream=stream, interval=10, clock=lambda: now[0])
    entry = MANIFEST.files[0]
    lines.begin(2, 1000)
    lines.start(entry, 100)
    lines.advance(entry, 200)
    now[0] = 11
    lines.advance(entry, 300)
    lines.finish(entry, "fetched")
    assert stream.getvalue().splitlines() == [
        f"fetch: 600 B of 1.0 kB; 0 of 2 files: {entry.relative_path}",
        f"fetch: 600 B of 1.0 kB; 1 of 2 files: {entry.relative_path} fetched",
    ]
    lines.begin(1, 100)
    lines.finish(entry, "there already")
    assert "0 B of 100 B; 1 of 1 file: " in stream.getvalue()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_bars_on_a_terminal(server, tmp_path):
    stream = Terminal()
    bars = FetchProgress(stream=stream)
    release = release_of(tmp_path, FILES, hashes=False)
    settings = FetchSettings(HttpSettings(server.url))
    fetch(release, release.manifest.files, settings=settings, progress=bars)
    shown = stream.getvalue()
    assert "11 of 11 files" in shown
    assert "100%" in shown
    assert "gene.csv fetched, unverified: the manifest has no hash" in shown
    assert "gene.csv: " in shown, "each file on its way has a bar"


def test_a_terminal_that_goes_away_does_not_hang_the_fetch(server, tmp_path):
    stream = io.StringIO()
    lines = FetchProgress(stream=stream)
    stream.close()
    release = release_of(tmp_path, FILES)
    report = fetch(
        release,
        release.manifest.files,
        settings=FetchSettings(HttpSettings(server.url)),
        progress=lines,
    )
    assert len(report.files) == len(FILES)
