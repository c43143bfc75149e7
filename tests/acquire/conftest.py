"""A server, a release that it serves, and a cache of the test's own."""

from __future__ import annotations

import pytest

from tests import http_server as hs
from tests.acquire.worlds import KIB, MATRIX, TABLE
from tests.small_release import content_of, release_of


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def server():
    with hs.Server() as server:
        yield server


@pytest.fixture
def world(server, tmp_path):
    """A release of one large and two small files on the server, nothing of it on disk."""
    server.files = {
        MATRIX: content_of(300 * KIB + 7, 1),
        TABLE: content_of(10 * KIB, 2),
        "metadata/WMB-10X/20250531/gene.csv": content_of(100, 3),
    }
    return release_of(tmp_path / "base", server.files)
